"""Jobs that nobody can do: skipped with the reason, never started; the rest goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bench import schedule
from bench.cli.wiring import prepare_data
from bench.data import catalog
from bench.plan.spec import JobGraph
from bench.schedule import Event
from bench.specs import JobResult, PlannedJob, Resources
from bench.store import Store

WHY = "JFT-300M is not public: internal to Google"


class Executor:
    """Does every job at once, and notes which."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.started: list[str] = []
        self.waiting: list[PlannedJob] = []

    def fits(self, resources: Resources) -> bool:
        return not self.waiting

    def submit(self, job: PlannedJob) -> None:
        self.started.append(job.name)
        self.waiting.append(job)

    def next(self, timeout_s: float) -> tuple[str, JobResult | Exception] | None:
        job = self.waiting.pop()
        result = JobResult(job_id=job.job_id, status="done")
        with self.store.claim(job.spec) as claim:
            claim.commit(result)
        return job.job_id, result

    def close(self) -> None: ...


@pytest.fixture
def graph(make_job: Callable[..., PlannedJob], make_graph: Callable[..., JobGraph]) -> JobGraph:
    refused = make_job("refused", seed=1).model_copy(update={"refused": WHY})
    user = make_job("user of it", seed=2, needs=(refused,)).model_copy(update={"refused": WHY})
    unmarked = make_job("unmarked user", seed=3, needs=(user,))
    free = make_job("free", seed=4)
    return make_graph((refused, user, unmarked, free))


def test_refused_jobs_are_skipped_and_never_started(graph: JobGraph, tmp_path: Path) -> None:
    store, events = Store(tmp_path), list[Event]()
    executor = Executor(store)
    store.create()
    outcomes = schedule.run(graph, executor, store=store, on_event=events.append)
    assert executor.started == ["free"]
    found = {job.name: outcomes[job.job_id] for job in graph.jobs}
    assert [found[name].status for name in ("refused", "user of it")] == ["skipped"] * 2
    assert {found[name].error for name in ("refused", "user of it")} == {WHY}
    assert found["unmarked user"].status == "skipped"
    assert WHY in found["unmarked user"].error
    assert found["free"].status == "done"
    assert [event.job.name for event in events if event.what == "skipped"] == [
        "refused", "user of it", "unmarked user",
    ]  # fmt: skip
    kept = store.outcomes(job.job_id for job in graph.jobs)
    assert kept[graph.jobs[0].job_id].error == WHY


def test_refusing_again_says_the_same(graph: JobGraph, tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert schedule.refuse(graph, store) == schedule.refuse(graph, store)
    assert len(schedule.refuse(graph, store)) == 2


def test_no_data_are_prepared_for_weights(
    make_job: Callable[..., PlannedJob], make_graph: Callable[..., JobGraph], tmp_path: Path
) -> None:
    """A weights job names the data that its weights were trained on: they are not needed."""
    job = make_job("weights", seed=0)
    spec = job.spec.model_copy(update={"kind": "weights"})
    job = job.model_copy(update={"spec": spec, "dataset": "imagenet-21k"})
    cards = {"imagenet-21k": catalog.dataset("imagenet-21k")}
    graph = make_graph((job,)).model_copy(update={"datasets": cards})
    prepare_data(graph, graph.jobs, Store(tmp_path / "runs"))
    assert not (tmp_path / "runs").exists()
