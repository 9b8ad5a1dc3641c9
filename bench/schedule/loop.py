"""The loop that starts jobs whose inputs are there, and takes in what comes of them."""

from __future__ import annotations

import socket
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field

from bench.errors import BenchError, JobError, JobHeld, Preempted, StaleAttempt
from bench.plan import learned, rehearsed
from bench.plan.spec import JobGraph
from bench.schedule.executors import SHARE, Executor, Lost, first_line
from bench.schedule.order import Estimates, remaining_paths
from bench.specs import JobResult, PlannedJob
from bench.store import Holder, Store

POLL_S = 0.2
LOOK_S = 1.0
"""Seconds between two looks at a job that another driver works on."""
MAX_PREEMPTIONS = 5
"""Times in a row that a job is preempted without a new checkpoint before it is given up."""
PAUSES_S = (0.0, *(0.1 * 2**power for power in range(8)))
"""Pauses before each look for a record that is said to be there: a network file system may take
half a minute to show what another node wrote."""


@dataclass
class Event:
    """Something that happened to a job.

    `started`, `done`, `failed`, `skipped`, `retried`, or `waiting` where another driver has it.
    """

    what: str
    job: PlannedJob
    result: JobResult | None = None
    words: str = ""


@dataclass
class _State:
    """What the loop knows: outcomes so far, what waits and what runs."""

    outcomes: dict[str, JobResult]
    waiting: dict[str, PlannedJob]
    running: dict[str, PlannedJob] = field(default_factory=dict)
    attempts: dict[str, int] = field(default_factory=dict)
    saved: dict[str, list[int]] = field(default_factory=dict)
    """Of each preempted job its saved steps, one number per preemption."""
    held: dict[str, _Held] = field(default_factory=dict)

    def is_stalled(self, job: PlannedJob, num_saved: int) -> bool:
        """Note a preemption; tell whether the last ones all found the same steps saved."""
        seen = self.saved.setdefault(job.job_id, [])
        seen.append(num_saved)
        return seen[-MAX_PREEMPTIONS:].count(num_saved) == MAX_PREEMPTIONS


@dataclass
class _Held:
    """A waiting job that another driver works on."""

    holder: Holder
    look_again_s: float


def run(
    graph: JobGraph,
    executor: Executor,
    *,
    store: Store,
    only: Callable[[PlannedJob], bool] = lambda job: True,
    on_event: Callable[[Event], None] = lambda event: None,
    on_poll: Callable[[], None] = lambda: None,
) -> dict[str, JobResult]:
    """Do every job of the graph that is not done and that `only` admits; return all outcomes.

    A job outside `only` is left alone, and so are the jobs that need it while it is not done.
    """
    state = _begin(graph, store, on_event)
    done = dict(state.outcomes)
    _leave_out(state, only)
    rehearsed_s = rehearsed.seconds(graph, store.paths.cache)
    estimates = Estimates(graph, done, rehearsed_s=rehearsed_s)
    while state.waiting or state.running:
        _skip_dependents(state, store, on_event)
        paths = remaining_paths(graph, estimates.seconds)
        ready = [
            job
            for job in state.waiting.values()
            if all(need in state.outcomes for need in job.spec.needs.values())
        ]
        for job in sorted(ready, key=lambda job: -paths[job.job_id]):
            if executor.fits(job.resources) and _is_free(state, store, job, on_event):
                state.running[job.job_id] = state.waiting.pop(job.job_id)
                executor.submit(job)
                on_event(Event("started", job))
        finished = None
        if state.running:
            finished = executor.next(POLL_S)
        elif state.held:
            time.sleep(POLL_S)  # there is nothing to do but wait for other drivers
        on_poll()
        if finished is not None:
            job = state.running.pop(finished[0])
            _settle(state, graph, store, job, finished[1], on_event)
            if job.job_id in state.outcomes:
                estimates.learn(job, state.outcomes[job.job_id])
    return state.outcomes


def _is_free(
    state: _State, store: Store, job: PlannedJob, on_event: Callable[[Event], None]
) -> bool:
    """Tell whether a ready job is free to be done; one that another driver did is taken in."""
    held = state.held.get(job.job_id)
    if held is not None and time.monotonic() < held.look_again_s:
        return False
    holder = store.holder(job.job_id)
    if holder is not None:
        if held is None or held.holder != holder:
            on_event(Event("waiting", job, words=f"being worked on by {holder}"))
        state.held[job.job_id] = _Held(holder, time.monotonic() + LOOK_S)
        return False
    state.held.pop(job.job_id, None)
    done = store.result(job.job_id)
    if done is None:
        return True
    state.outcomes[job.job_id] = done
    del state.waiting[job.job_id]
    on_event(Event("done", job, done))
    return False


def _begin(graph: JobGraph, store: Store, on_event: Callable[[Event], None]) -> _State:
    """Return the state before the first job: what is done or refused, and what waits."""
    done = store.results(job.job_id for job in graph.jobs)
    outcomes = {**done, **refuse(graph, store)}
    for job in graph.jobs:
        if job.refused:
            on_event(Event("skipped", job, outcomes[job.job_id]))
    waiting = {job.job_id: job for job in graph.jobs if job.job_id not in outcomes}
    return _State(outcomes=outcomes, waiting=waiting)


def refuse(graph: JobGraph, store: Store) -> dict[str, JobResult]:
    """Note for every job that nobody can do why it is skipped; return these outcomes."""
    refused = {
        job.job_id: JobResult(job_id=job.job_id, status="skipped", error=job.refused)
        for job in graph.jobs
        if job.refused
    }
    for result in refused.values():
        store.record_failure(result)
    return refused


def _leave_out(state: _State, only: Callable[[PlannedJob], bool]) -> None:
    """Drop jobs that were not asked for, and those that could never become ready without them."""
    for job_id, job in list(state.waiting.items()):  # inputs come before their users
        reachable = all(
            need in state.outcomes or need in state.waiting for need in job.spec.needs.values()
        )
        if not (only(job) and reachable):
            del state.waiting[job_id]


def _skip_dependents(state: _State, store: Store, on_event: Callable[[Event], None]) -> None:
    for job_id, job in list(state.waiting.items()):
        failed = [
            need
            for need in job.spec.needs.values()
            if need in state.outcomes and state.outcomes[need].status != "done"
        ]
        if failed:
            result = JobResult(
                job_id=job_id,
                status="skipped",
                error=f"its input {failed[0]} {state.outcomes[failed[0]].status}: "
                f"{_root_cause(state.outcomes[failed[0]])}",
            )
            store.record_failure(result)
            state.outcomes[job_id] = result
            del state.waiting[job_id]
            on_event(Event("skipped", job, result))


def _root_cause(result: JobResult) -> str:
    return result.error.rpartition(" failed: ")[2] if result.status == "skipped" else result.error


def _settle(
    state: _State,
    graph: JobGraph,
    store: Store,
    job: PlannedJob,
    outcome: JobResult | Exception,
    on_event: Callable[[Event], None],
) -> None:
    """Take in what came of a job: done, another's by now, to be tried again, or failed for good."""
    if isinstance(outcome, JobHeld | StaleAttempt):
        state.waiting[job.job_id] = job  # the next look at it says whose it is
        return
    done = _committed(store, job.job_id, patient=isinstance(outcome, JobResult))
    if done is not None:
        state.outcomes[job.job_id] = done
        if done.cost is not None:
            learned.note(job.spec, job.resources, done.cost, store.paths.cache)
        on_event(Event("done", job, done))
        return
    if isinstance(outcome, JobResult):
        outcome = _not_shared(store, outcome)
    lost = isinstance(outcome, Lost) and store.preempted(job.job_id)
    if lost or isinstance(outcome, Preempted):
        stalled = _preempted(state, store, job, on_event)
        if stalled is None:
            return
        outcome = stalled
    attempt = state.attempts.get(job.job_id, 0) + 1
    state.attempts[job.job_id] = attempt
    # An error that a job raises on purpose comes back the same; a lost process need not.
    if attempt < graph.suite.max_attempts and not isinstance(outcome, BenchError):
        time.sleep(min(0.2 * 2**attempt, 5.0))
        _try_again(state, job, first_line(outcome), on_event)
        return
    _fail(state, store, job, outcome, on_event)


def _preempted(
    state: _State, store: Store, job: PlannedJob, on_event: Callable[[Event], None]
) -> JobError | None:
    """Try a preempted job again; return the error of one that comes no further."""
    saved = store.num_saved_steps(job.job_id)
    if state.is_stalled(job, saved):
        return JobError(
            f"preempted {MAX_PREEMPTIONS} times at step {saved} without coming further",
            hint="Use machines that stay for longer; then run again to continue",
        )
    from_where = f"continues from step {saved}" if saved else "begins again"
    _try_again(state, job, f"preempted, {from_where}", on_event)
    return None


def _try_again(
    state: _State, job: PlannedJob, words: str, on_event: Callable[[Event], None]
) -> None:
    state.waiting[job.job_id] = job
    on_event(Event("retried", job, words=words))


def _fail(
    state: _State,
    store: Store,
    job: PlannedJob,
    error: Exception,
    on_event: Callable[[Event], None],
) -> None:
    """Note why a job failed for good."""
    words = first_line(error)
    result = JobResult(
        job_id=job.job_id,
        status="failed",
        attempt=state.attempts[job.job_id],
        error=words if isinstance(error, BenchError) else f"{type(error).__name__}: {words}",
    )
    store.record_failure(result, traceback="".join(traceback.format_exception(error)))
    state.outcomes[job.job_id] = result
    on_event(Event("failed", job, result))


def _committed(store: Store, job_id: str, *, patient: bool) -> JobResult | None:
    """Return the record of a job in the driver's own store: nothing else is believed."""
    for pause_s in PAUSES_S if patient else PAUSES_S[:1]:
        time.sleep(pause_s)
        done = store.result(job_id)
        if done is not None:
            return done
    return None


def _not_shared(store: Store, said: JobResult) -> JobError:
    """Return the error of a job that is done on its node and not here."""
    node = said.cost.worker.partition(":")[0] if said.cost else "its node"
    return JobError(
        f"{node} says that job {said.job_id} is done, and {store.folder(said.job_id)} on "
        f"{socket.gethostname()} has no record of it: they do not share the folder",
        hint=SHARE,
    )
