"""Two drivers on one work folder: who waits, for whom, and what a driver believes."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from bench import schedule
from bench.errors import JobError, JobHeld, StaleAttempt
from bench.plan.spec import JobGraph
from bench.schedule import Event, executors, loop
from bench.specs import Cost, JobResult, PlannedJob, Resources
from bench.store import Store

FORK = multiprocessing.get_context("fork")
Make = Callable[..., PlannedJob]
MakeGraph = Callable[..., JobGraph]


class Executor:
    """Does one job at a time at once, and asks `outcome` where a test has something to say."""

    def __init__(self, store: Store, outcome: Callable[[PlannedJob], Any] | None = None) -> None:
        self.store = store
        self.outcome = outcome or self.commit
        self.jobs: list[PlannedJob] = []
        self.started: list[str] = []

    def fits(self, resources: Resources) -> bool:
        return not self.jobs

    def submit(self, job: PlannedJob) -> None:
        self.started.append(job.name)
        self.jobs.append(job)

    def next(self, timeout_s: float) -> tuple[str, JobResult | Exception] | None:
        job = self.jobs.pop()
        try:
            return job.job_id, self.outcome(job)
        except Exception as error:
            return job.job_id, error

    def commit(self, job: PlannedJob) -> JobResult:
        result = JobResult(job_id=job.job_id, status="done")
        with self.store.claim(job.spec) as claim:
            claim.commit(result)
        return result

    def close(self) -> None: ...


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path)
    made.create()
    return made


def work(workdir: Path, job: PlannedJob, error: str) -> None:
    """Work on a job until told to go on, then commit it, or leave it with an error."""
    with Store(workdir).claim(job.spec) as claim:
        (workdir / "held").touch()
        while not (workdir / "go on").exists():
            time.sleep(0.01)
        if not error:
            claim.commit(JobResult(job_id=job.job_id, status="done", attempt=claim.attempt))


@pytest.fixture
def other(store: Store) -> Iterator[Callable[..., BaseProcess]]:
    """Start another process that works on a job."""
    started: list[BaseProcess] = []

    def start(job: PlannedJob, error: str = "") -> BaseProcess:
        process = FORK.Process(target=work, args=(store.workdir, job, error))
        process.start()
        started.append(process)
        while not (store.workdir / "held").exists():
            time.sleep(0.01)
        return process

    yield start
    for process in started:
        process.kill()
        process.join()


@pytest.mark.parametrize("end", ["done", "left", "killed"])
def test_a_job_of_another_driver_is_waited_for_and_taken_over_when_that_one_ends(
    store: Store,
    make_job: Make,
    make_graph: MakeGraph,
    other: Callable[..., BaseProcess],
    monkeypatch: pytest.MonkeyPatch,
    end: str,
) -> None:
    monkeypatch.setattr(loop, "LOOK_S", 0.05)
    held = make_job("held", seed=1, exaflops=9e-9)  # it would be the first
    user = make_job("user", seed=2, needs=(held,))
    free = make_job("free", seed=3)
    process = other(held, "out of memory" if end == "left" else "")
    events: list[Event] = []
    waited_s = time.monotonic()

    def on_poll() -> None:
        if executor.started and time.monotonic() - waited_s > 1:  # free is done long since
            if end == "killed":
                process.kill()
            (store.workdir / "go on").touch()
        assert store.failure(held.job_id) is None
        assert store.failure(user.job_id) is None

    executor = Executor(store)
    outcomes = schedule.run(
        make_graph((held, user, free)), executor, store=store,
        on_event=events.append, on_poll=on_poll,
    )  # fmt: skip
    assert {result.status for result in outcomes.values()} == {"done"}
    ours = ["user"] if end == "done" else ["held", "user"]
    assert executor.started == ["free", *ours]
    told = [(event.job.name, event.words) for event in events if event.what == "waiting"]
    ((name, words),) = told  # once, however long it takes
    assert name == "held"
    assert f", process {process.pid}, since 20" in words
    assert [e.job.name for e in events if e.what == "done"] == ["free", "held", "user"]
    assert len(list(store.paths.job(held.job_id).attempts.iterdir())) == (1 if end == "done" else 2)


@pytest.mark.parametrize("error", [JobHeld("held by vm"), StaleAttempt("attempt 1 is over")])
def test_a_job_that_another_driver_took_meanwhile_is_no_failure(
    store: Store, make_job: Make, make_graph: MakeGraph, error: Exception
) -> None:
    """Between the look at it and its start, or from a process that hung too long."""
    job = make_job("a", seed=1)
    refusals = [error] * 5  # more than there are attempts

    def outcome(job: PlannedJob) -> JobResult:
        if refusals:
            raise refusals.pop()
        return executor.commit(job)

    executor, events = Executor(store, outcome), list[Event]()
    outcomes = schedule.run(
        make_graph((job,), max_attempts=2), executor, store=store, on_event=events.append
    )
    assert outcomes[job.job_id].status == "done"
    assert [event.what for event in events] == ["started"] * 6 + ["done"]


def test_no_failure_is_written_into_a_job_that_another_driver_works_on(
    store: Store, make_job: Make, make_graph: MakeGraph, other: Callable[..., BaseProcess]
) -> None:
    job = make_job("a", seed=1)

    def outcome(job: PlannedJob) -> JobResult:
        other(job)  # who waited for it begins where ours ends
        raise JobError("out of memory")

    outcomes = schedule.run(make_graph((job,)), Executor(store, outcome), store=store)
    assert outcomes[job.job_id].error == "out of memory"
    assert store.failure(job.job_id) is None
    assert not store.paths.job(job.job_id).error.exists()


# --- belief ---------------------------------------------------------------------------------


def told(job: PlannedJob) -> JobResult:
    cost = Cost(
        device="cpu", device_kind="cpu", wall_s=1, worker="node-7:4711", core_s=1, examples=1,
        images_per_s=None, peak_memory_gib=1,
    )  # fmt: skip
    return JobResult(job_id=job.job_id, status="done", cost=cost)


def test_a_job_that_left_no_record_here_has_failed(
    store: Store,
    make_job: Make,
    make_graph: MakeGraph,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    monkeypatch.setattr(loop, "PAUSES_S", (0.0, 0.01))
    monkeypatch.setattr(loop.socket, "gethostname", lambda: "driver-1")
    job = make_job("a", seed=1)
    user = make_job("user", seed=2, needs=(job,))
    elsewhere = Executor(Store(tmp_path_factory.mktemp("of the node")))

    def outcome(job: PlannedJob) -> JobResult:
        elsewhere.commit(job)
        return told(job)

    executor = Executor(store, outcome)
    outcomes = schedule.run(make_graph((job, user)), executor, store=store)
    assert outcomes[job.job_id].status == "failed"
    assert outcomes[job.job_id].error == (
        f"node-7 says that job {job.job_id} is done, and {store.folder(job.job_id)} on driver-1 "
        f"has no record of it: they do not share the folder. {executors.SHARE}"
    )
    assert outcomes[user.job_id].status == "skipped"
    assert executor.started == ["a"]  # it would be told the same again
    assert store.outcomes([job.job_id]) == {job.job_id: outcomes[job.job_id]}


def test_a_record_that_arrives_late_is_believed(
    store: Store, make_job: Make, make_graph: MakeGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job("a", seed=1)
    executor = Executor(store, told)
    looks = []

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 4:
            executor.commit(job)

    monkeypatch.setattr(time, "sleep", sleep)
    outcomes = schedule.run(make_graph((job,)), executor, store=store)
    assert outcomes[job.job_id].status == "done"
    assert looks == list(loop.PAUSES_S[:4])
    assert 20 < sum(loop.PAUSES_S) < 30


def test_a_job_whose_process_died_after_its_record_is_done(
    store: Store, make_job: Make, make_graph: MakeGraph
) -> None:
    def outcome(job: PlannedJob) -> JobResult:
        executor.commit(job)
        raise schedule.Lost("the worker died")

    job = make_job("a", seed=1)
    executor = Executor(store, outcome)
    outcomes = schedule.run(make_graph((job,), max_attempts=1), executor, store=store)
    assert outcomes[job.job_id].status == "done"
    assert executor.started == ["a"]


def test_a_node_without_the_work_folder_is_told_before_it_works(
    tmp_path: Path, make_job: Make
) -> None:
    spec = make_job("a", seed=1).spec.model_dump_json()
    with pytest.raises(JobError, match=r"^node \S+ has no .*/runs\. Give --workdir"):
        executors._ray_task(spec, "", str(tmp_path / "runs"), "{}")
    assert not (tmp_path / "runs").exists()
