"""The loop: order, retries, dependents of failed jobs, and what is never done twice."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench import schedule
from bench.errors import JobError
from bench.files import write_text
from bench.plan.spec import JobGraph
from bench.schedule import Event, Lost, remaining_paths
from bench.specs import JobResult, PlannedJob, Resources
from bench.store import Store

Make = Callable[..., PlannedJob]


class Simulated:
    """An executor with a clock of its own: `slots` jobs at a time, each of known length."""

    def __init__(
        self,
        slots: int,
        store: Store,
        *,
        seconds: Callable[[PlannedJob], float] = lambda job: 1.0,
        outcome: Callable[[PlannedJob], JobResult | Exception] | None = None,
    ) -> None:
        self.slots = slots
        self.seconds = seconds
        self.outcome = outcome or self.commit
        self.store = store
        self.now_s = 0.0
        self.running: list[tuple[float, int, PlannedJob]] = []
        self.started: list[str] = []
        self.count = itertools.count()

    def fits(self, resources: Resources) -> bool:
        return len(self.running) < self.slots

    def submit(self, job: PlannedJob) -> None:
        self.started.append(job.name)
        self.running.append((self.now_s + self.seconds(job), next(self.count), job))

    def next(self, timeout_s: float) -> tuple[str, JobResult | Exception] | None:
        self.running.sort(key=lambda entry: entry[:2])
        self.now_s, _, job = self.running.pop(0)
        return job.job_id, self.outcome(job)

    def commit(self, job: PlannedJob) -> JobResult:
        result = JobResult(job_id=job.job_id, status="done")
        write_text(self.store.paths.job(job.job_id).result, result.model_dump_json(), sync=False)
        return result

    def close(self) -> None: ...


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path)
    made.create()
    return made


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)


def test_the_longest_remaining_path_starts_first(
    store: Store, make_job: Make, make_graph: Callable[..., JobGraph]
) -> None:
    short = make_job("short", seed=1, exaflops=2e-9)
    head = make_job("head of a long chain", seed=2, exaflops=1e-9)
    tail = make_job("tail", seed=3, needs=(head,), exaflops=9e-9)
    executor = Simulated(1, store)
    outcomes = schedule.run(make_graph((short, head, tail)), executor, store=store)
    assert executor.started == ["head of a long chain", "tail", "short"]
    assert all(result.status == "done" for result in outcomes.values())


def test_remaining_paths_are_sums_along_the_longest_chain(
    make_job: Make, make_graph: Callable[..., JobGraph]
) -> None:
    a = make_job("a", seed=1)
    b = make_job("b", seed=2, needs=(a,))
    c = make_job("c", seed=3, needs=(a, b))
    d = make_job("d", seed=4, needs=(a,))
    seconds = {a.job_id: 1.0, b.job_id: 10.0, c.job_id: 100.0, d.job_id: 50.0}
    paths = remaining_paths(make_graph((a, b, c, d)), lambda job: seconds[job.job_id])
    assert paths == {a.job_id: 111.0, b.job_id: 110.0, c.job_id: 100.0, d.job_id: 50.0}


def test_a_failed_job_skips_its_dependents_and_the_rest_goes_on(
    store: Store, make_job: Make, make_graph: Callable[..., JobGraph]
) -> None:
    bad = make_job("bad", seed=1)
    child = make_job("child", seed=2, needs=(bad,))
    grandchild = make_job("grandchild", seed=3, needs=(child,))
    good = make_job("good", seed=4)

    def outcome(job: PlannedJob) -> JobResult | Exception:
        if job.name == "bad":
            return JobError("diverged at step 3")
        return executor.commit(job)

    events: list[Event] = []
    executor = Simulated(2, store, outcome=outcome)
    outcomes = schedule.run(
        make_graph((bad, child, grandchild, good)), executor, store=store, on_event=events.append
    )
    assert {job.name: outcomes[job.job_id].status for job in (bad, child, grandchild, good)} == {
        "bad": "failed",
        "child": "skipped",
        "grandchild": "skipped",
        "good": "done",
    }
    assert "diverged at step 3" in outcomes[grandchild.job_id].error
    assert executor.started.count("bad") == 1  # it would fail the same way again
    assert (store.folder(bad.job_id) / "error.txt").read_text().count("diverged") == 1


def test_a_lost_process_is_tried_again_and_then_given_up(
    store: Store, make_job: Make, make_graph: Callable[..., JobGraph]
) -> None:
    flaky = make_job("flaky", seed=1)
    doomed = make_job("doomed", seed=2)
    deaths = {"flaky": 2, "doomed": 99}

    def outcome(job: PlannedJob) -> JobResult | Exception:
        deaths[job.name] -= 1
        if deaths[job.name] >= 0:
            return Lost("the worker died")
        return executor.commit(job)

    executor = Simulated(1, store, outcome=outcome)
    outcomes = schedule.run(make_graph((flaky, doomed), max_attempts=3), executor, store=store)
    assert outcomes[flaky.job_id].status == "done"
    assert outcomes[doomed.job_id].status == "failed"
    assert executor.started.count("flaky") == executor.started.count("doomed") == 3


def test_what_is_done_is_not_done_again(
    store: Store,
    make_job: Make,
    make_graph: Callable[..., JobGraph],
    make_result: Callable[..., JobResult],
) -> None:
    first = make_job("first", seed=1)
    second = make_job("second", seed=2, needs=(first,))
    with store.claim(first.spec) as claim:
        claim.commit(make_result(first))
    executor = Simulated(1, store)
    outcomes = schedule.run(make_graph((first, second)), executor, store=store)
    assert executor.started == ["second"]
    assert outcomes[first.job_id] == make_result(first)


def test_only_leaves_the_rest_alone(
    store: Store, make_job: Make, make_graph: Callable[..., JobGraph]
) -> None:
    first = make_job("first", seed=1)
    second = make_job("second", seed=2, needs=(first,))
    executor = Simulated(1, store)
    outcomes = schedule.run(
        make_graph((first, second)), executor, store=store, only=lambda job: job.name == "second"
    )
    assert executor.started == []
    assert outcomes == {}


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_no_schedule_is_longer_than_grahams_bound(
    data: st.DataObject,
    tmp_path_factory: pytest.TempPathFactory,
    make_job: Make,
    make_graph: Callable[..., JobGraph],
) -> None:
    """List scheduling takes at most (2 - 1/m) of the lower bound max(path, work / m)."""
    jobs: list[PlannedJob] = []
    seconds: dict[str, float] = {}
    for seed in range(data.draw(st.integers(1, 12))):
        needs = tuple(job for job in jobs if data.draw(st.integers(0, 3)) == 0)
        job = make_job(f"j{seed}", seed=seed, needs=needs)
        jobs.append(job)
        seconds[job.job_id] = data.draw(st.floats(0.1, 10))
    slots = data.draw(st.integers(1, 4))
    graph = make_graph(tuple(jobs))
    store = Store(tmp_path_factory.mktemp("bound"))
    executor = Simulated(slots, store, seconds=lambda job: seconds[job.job_id])
    outcomes = schedule.run(graph, executor, store=store)
    assert len(outcomes) == len(jobs)
    path = max(remaining_paths(graph, lambda job: seconds[job.job_id]).values())
    bound = max(path, sum(seconds.values()) / slots)
    assert executor.now_s <= (2 - 1 / slots) * bound + 1e-6
