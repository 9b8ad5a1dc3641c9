"""Jobs whose processes are told to end: tried again, uncounted, as long as they come further."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bench import schedule
from bench.errors import Preempted
from bench.plan.spec import JobGraph
from bench.schedule import Event, Lost
from bench.schedule.loop import MAX_PREEMPTIONS
from bench.specs import JobResult, PlannedJob, Resources
from bench.store import Store

Make = Callable[..., PlannedJob]
MakeGraph = Callable[..., JobGraph]


class Spot:
    """An executor of spot machines: each entry of `fates` is the steps saved when one leaves.

    None stands for a process that dies by itself, and an empty list for a job that is done.
    """

    def __init__(self, store: Store, fates: list[int | None], *, notice: bool = True) -> None:
        self.store = store
        self.fates = fates
        self.notice = notice
        self.jobs: list[PlannedJob] = []

    def fits(self, resources: Resources) -> bool:
        return not self.jobs

    def submit(self, job: PlannedJob) -> None:
        self.jobs.append(job)

    def next(self, timeout_s: float) -> tuple[str, JobResult | Exception] | None:
        job = self.jobs.pop()
        return job.job_id, self.outcome(job)

    def outcome(self, job: PlannedJob) -> JobResult | Exception:
        if not self.fates:
            result = JobResult(job_id=job.job_id, status="done")
            with self.store.claim(job.spec) as claim:
                claim.commit(result)
            return result
        saved = self.fates.pop(0)
        try:
            with self.store.claim(job.spec) as claim:
                if saved is None:
                    return Lost("the worker died")
                folder = claim.paths.checkpoints
                folder.mkdir(exist_ok=True)
                (folder / f"step-{saved:09d}.json").touch()
                if self.notice:
                    raise Preempted("the process was told to end")
        except Preempted:
            return Lost("the worker died")  # all that Ray knows of it
        return Preempted("its node left")

    def close(self) -> None: ...


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path)
    made.create()
    return made


def run(graph: JobGraph, executor: Spot) -> tuple[JobResult, list[str]]:
    events = list[Event]()
    (result,) = schedule.run(
        graph, executor, store=executor.store, on_event=events.append
    ).values()  # fmt: skip
    return result, [event.words for event in events if event.what == "retried"]


@pytest.mark.parametrize("notice", [True, False], ids=["told to end", "node lost"])
def test_preemptions_are_not_counted_while_the_job_comes_further(
    store: Store, make_job: Make, make_graph: MakeGraph, notice: bool
) -> None:
    steps = [0, 10, 10, 20, 30, 40, 40, 50]
    executor = Spot(store, [*steps], notice=notice)
    result, words = run(make_graph((make_job("a", seed=1),), max_attempts=1), executor)
    assert result.status == "done"
    assert words == [
        "preempted, begins again",
        *(f"preempted, continues from step {step}" for step in steps[1:]),
    ]


def test_a_job_that_never_comes_further_is_given_up(
    store: Store, make_job: Make, make_graph: MakeGraph
) -> None:
    executor = Spot(store, [10, *[20] * 99])
    result, words = run(make_graph((make_job("a", seed=1),)), executor)
    assert result.status == "failed"
    assert result.error == (
        f"preempted {MAX_PREEMPTIONS} times at step 20 without coming further. "
        "Use machines that stay for longer; then run again to continue"
    )
    assert len(words) == MAX_PREEMPTIONS


def test_deaths_are_counted_between_preemptions(
    store: Store, make_job: Make, make_graph: MakeGraph
) -> None:
    executor = Spot(store, [None, 10, 20, None, 30, None, 40])
    result, words = run(make_graph((make_job("a", seed=1),), max_attempts=3), executor)
    assert result.status == "failed"
    assert result.error == "Lost: the worker died"
    assert [word for word in words if "preempted" not in word] == ["the worker died"] * 2


def test_saved_steps_are_those_of_every_run_of_a_job(store: Store, make_job: Make) -> None:
    job = make_job("a", seed=1)
    assert store.num_saved_steps(job.job_id) == 0
    folder = store.paths.job(job.job_id).checkpoints
    for name in ("step-000000010", "step-000000020", "trial-0/step-000000005", "trial-1/step-7"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.json").touch()
        (folder / f"{name}.safetensors").touch()
    assert store.num_saved_steps(job.job_id) == 20 + 5 + 7
