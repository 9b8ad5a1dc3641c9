"""A graph of jobs on the cores, GPUs and TPUs there are.

`run` is a loop of our own over Ray core tasks (not a Tune searcher: trial dependencies are no
feature of Tune, and its state cannot be resumed after the driver is killed). What is done is
known from the job folders alone, so resuming is running again. Ready jobs start longest
remaining path first, which keeps the makespan within a few per cent of its lower bound.

Attempts are counted here: a job whose process dies is tried again and resumes from its
checkpoint; one that fails by itself marks its dependents skipped, and the rest goes on.
"""

from __future__ import annotations

import os
import secrets
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from bench.errors import BenchError, JobError, UserError
from bench.plan.spec import JobGraph
from bench.specs import DatasetCard, JobResult, JobSpec, PlannedJob, Resources
from bench.store.folders import Store

POLL_S = 0.2
DEFAULT_FLOPS_PER_S = {"cpu": 2e10, "cuda": 1e14, "tpu": 1e14}
"""Assumed speed of one job before any was measured: one laptop core, one data-centre device."""
JOB_OVERHEAD_S = 0.3
"""Assumed time of a job beside its arithmetic."""


# --- one job --------------------------------------------------------------------------------


def perform(spec: JobSpec, card: DatasetCard | None, *, workdir: Path, device: str) -> JobResult:
    """Do one job in this process, under its claim, and commit its result.

    Returns the result that is there when another process finished the job first.
    """
    from bench import jobs

    store = Store(workdir)
    with store.claim(spec) as claim:
        done = store.result(spec.job_id)
        if done is not None:
            return done
        inputs = {}
        for role, needed in spec.needs.items():
            result = store.result(needed)
            if result is None:
                raise JobError(f"input {role} ({needed}) of job {spec.job_id} is not there")
            inputs[role] = (result, store.folder(needed))
        result = jobs.run(
            jobs.JobContext(
                spec=spec,
                folder=claim.folder,
                inputs=inputs,
                dataset=card,
                cache_dir=store.cache,
                device=device,
                attempt=claim.attempt,
                report=claim.report,
            )
        )
        claim.commit(result)
        return result


def device_of(resources: Resources) -> str:
    """Return the kind of device that a job with these resources computes on."""
    if resources.tpus:
        return "tpu"
    return "cuda" if resources.gpus else "cpu"


# --- where jobs run -------------------------------------------------------------------------


class Lost(Exception):
    """The process of a job died before it answered."""


class Executor(Protocol):
    """Where jobs run: in this process, or on Ray."""

    def fits(self, resources: Resources) -> bool:
        """Tell whether a job with these resources can start now."""

    def submit(self, job: PlannedJob) -> None:
        """Start a job."""

    def next(self, timeout_s: float) -> tuple[str, JobResult | Exception] | None:
        """Return one finished job and its result or error; None after `timeout_s`."""

    def close(self) -> None:
        """Stop everything that was started."""


class LocalExecutor:
    """One job at a time in this process: for debugging, and where one core is all there is."""

    def __init__(self, datasets: Mapping[str, DatasetCard], workdir: Path) -> None:
        self._datasets = datasets
        self._workdir = workdir
        self._waiting: list[PlannedJob] = []

    def fits(self, resources: Resources) -> bool:
        """Tell whether no job is waiting."""
        return not self._waiting

    def submit(self, job: PlannedJob) -> None:
        """Take the job; `next` does it."""
        self._waiting.append(job)

    def next(self, timeout_s: float) -> tuple[str, JobResult | Exception] | None:
        """Do the waiting job and return what came of it."""
        if not self._waiting:
            return None
        job = self._waiting.pop()
        try:
            return job.job_id, perform(
                job.spec,
                self._datasets.get(job.dataset),
                workdir=self._workdir,
                device=device_of(job.resources),
            )
        except Exception as error:
            return job.job_id, error

    def close(self) -> None:
        """Nothing was started."""


class RayExecutor:
    """Ray core tasks on this machine, or on the cluster at `address`.

    A local Ray opens ports on every interface even when told to use 127.0.0.1, so a token of this
    run's own guards them; usage statistics and the dashboard are off.
    """

    def __init__(
        self, datasets: Mapping[str, DatasetCard], workdir: Path, *, address: str | None = None
    ) -> None:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        if address is None:
            os.environ["RAY_AUTH_MODE"] = "token"
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # read once a process
        import ray

        self._ray = ray
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if address is None:
            options |= {
                "include_dashboard": False,
                "_node_ip_address": "127.0.0.1",
                "object_store_memory": 128 * 2**20,
            }
        try:
            ray.init(address=address or "local", **options)
        except ConnectionError as error:
            raise UserError(
                f"--address {address}: no Ray cluster answers there",
                hint="Start one with `ray start --head`, or leave --address out",
            ) from error
        self._datasets = datasets
        self._workdir = workdir
        self._free = self._capacity()
        self._total = self._free
        self._running: dict[Any, PlannedJob] = {}

    def _capacity(self) -> Resources:
        there = self._ray.cluster_resources()
        return Resources(
            cpus=there.get("CPU", 0), gpus=there.get("GPU", 0), tpus=int(there.get("TPU", 0))
        )

    def check(self, jobs: Sequence[PlannedJob]) -> None:
        """Raise UserError when a job asks for more than the cluster has: it would wait for ever."""
        for job in jobs:
            if not _within(job.resources, self._total):
                raise UserError(
                    f"{job.name} asks for {_words(job.resources)}; there are {_words(self._total)}",
                    hint="Set num_threads, gpus or tpus of the suite lower, or use --address",
                )

    def fits(self, resources: Resources) -> bool:
        """Tell whether the free cores and devices are enough."""
        return _within(resources, self._free)

    def submit(self, job: PlannedJob) -> None:
        """Start the job as a Ray task; attempts are counted by the loop, not by Ray."""
        options: dict[str, Any] = {
            "num_cpus": job.resources.cpus,
            "num_gpus": job.resources.gpus,
            "max_retries": 0,
            "name": job.name,
        }
        if job.resources.tpus:
            options["resources"] = {"TPU": job.resources.tpus}
        if job.resources.gpus or job.resources.tpus:
            options["max_calls"] = 1  # a reused process would keep the device's memory
        card = self._datasets.get(job.dataset)
        task = self._ray.remote(_ray_task).options(**options)
        reference = task.remote(
            job.spec.model_dump_json(),
            card.model_dump_json() if card else "",
            str(self._workdir),
            device_of(job.resources),
        )
        self._running[reference] = job
        self._free = _minus(self._free, job.resources)

    def next(self, timeout_s: float) -> tuple[str, JobResult | Exception] | None:
        """Return one finished task."""
        ready, _ = self._ray.wait(list(self._running), num_returns=1, timeout=timeout_s)
        if not ready:
            return None
        job = self._running.pop(ready[0])
        self._free = _minus(self._free, job.resources, sign=-1)
        try:
            return job.job_id, JobResult.model_validate_json(self._ray.get(ready[0]))
        except self._ray.exceptions.LocalRayletDiedError as error:
            raise BenchError(
                "Ray itself died on this machine; finished jobs are kept",
                hint="Run the same command again to go on",
            ) from error
        except self._ray.exceptions.RayTaskError as error:
            return job.job_id, error.cause if isinstance(error.cause, Exception) else error
        except self._ray.exceptions.RayError as error:
            return job.job_id, Lost(_first_line(error))

    def close(self) -> None:
        """End the tasks and Ray itself."""
        for reference in self._running:
            self._ray.cancel(reference, force=True)
        self._ray.shutdown()


def _ray_task(spec: str, card: str, workdir: str, device: str) -> str:
    """Do one job in a Ray worker; records travel as JSON."""
    return perform(
        JobSpec.model_validate_json(spec),
        DatasetCard.model_validate_json(card) if card else None,
        workdir=Path(workdir),
        device=device,
    ).model_dump_json()


def _within(asked: Resources, there: Resources) -> bool:
    slack = 1e-9
    return (
        asked.cpus <= there.cpus + slack
        and asked.gpus <= there.gpus + slack
        and asked.tpus <= there.tpus
    )


def _minus(there: Resources, asked: Resources, *, sign: int = 1) -> Resources:
    return Resources(
        cpus=max(0.0, there.cpus - sign * asked.cpus),
        gpus=max(0.0, there.gpus - sign * asked.gpus),
        tpus=there.tpus - sign * asked.tpus,
    )


def _words(resources: Resources) -> str:
    return f"{resources.cpus:g} CPUs, {resources.gpus:g} GPUs, {resources.tpus} TPU chips"


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


# --- how long -------------------------------------------------------------------------------


class Estimates:
    """Seconds a job will take: closed-form FLOPs over the speed measured so far."""

    def __init__(self, graph: JobGraph, outcomes: Mapping[str, JobResult]) -> None:
        self._seconds: dict[tuple[str, str], float] = {}
        self._flops: dict[tuple[str, str], float] = {}
        by_id = {job.job_id: job for job in graph.jobs}
        for job_id, result in outcomes.items():
            if job_id in by_id:
                self.learn(by_id[job_id], result)

    def learn(self, job: PlannedJob, result: JobResult) -> None:
        """Take the time of a finished job into account."""
        if result.cost is None or job.exaflops == 0:
            return
        for key in ((job.labels.system, job.spec.kind), ("", "")):
            self._seconds[key] = self._seconds.get(key, 0.0) + result.cost.wall_s
            self._flops[key] = self._flops.get(key, 0.0) + job.exaflops * 1e18

    def seconds(self, job: PlannedJob) -> float:
        """Return the expected seconds of a job."""
        if job.exaflops == 0:
            return 0.05
        for key in ((job.labels.system, job.spec.kind), ("", "")):
            if self._seconds.get(key):
                return job.exaflops * 1e18 * self._seconds[key] / self._flops[key]
        speed = DEFAULT_FLOPS_PER_S[device_of(job.resources)]
        return JOB_OVERHEAD_S + job.exaflops * 1e18 / speed


def remaining_paths(graph: JobGraph, seconds: Callable[[PlannedJob], float]) -> dict[str, float]:
    """Return for each job the seconds from its start to the end of its longest chain of users."""
    longest_user: dict[str, float] = {}
    paths: dict[str, float] = {}
    for job in reversed(graph.jobs):
        paths[job.job_id] = seconds(job) + longest_user.get(job.job_id, 0.0)
        for needed in job.spec.needs.values():
            longest_user[needed] = max(longest_user.get(needed, 0.0), paths[job.job_id])
    return paths


# --- the loop -------------------------------------------------------------------------------


@dataclass
class Event:
    """Something that happened to a job: `started`, `done`, `failed`, `skipped` or `retried`."""

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
    estimates = Estimates(graph, done)
    while state.waiting or state.running:
        _skip_dependents(state, store, on_event)
        paths = remaining_paths(graph, estimates.seconds)
        ready = [
            job
            for job in state.waiting.values()
            if all(need in state.outcomes for need in job.spec.needs.values())
        ]
        for job in sorted(ready, key=lambda job: -paths[job.job_id]):
            if executor.fits(job.resources):
                state.running[job.job_id] = state.waiting.pop(job.job_id)
                executor.submit(job)
                on_event(Event("started", job))
        if not state.running:
            continue
        finished = executor.next(POLL_S)
        on_poll()
        if finished is not None:
            job = state.running.pop(finished[0])
            _settle(state, graph, store, job, finished[1], on_event)
            if job.job_id in state.outcomes:
                estimates.learn(job, state.outcomes[job.job_id])
    return state.outcomes


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
    """Take in what came of a job: done, to be tried again, or failed for good."""
    if isinstance(outcome, JobResult):
        state.outcomes[job.job_id] = outcome
        on_event(Event("done", job, outcome))
        return
    attempt = state.attempts.get(job.job_id, 0) + 1
    state.attempts[job.job_id] = attempt
    words = _first_line(outcome)
    # An error that a job raises on purpose comes back the same; a lost process need not.
    if attempt < graph.suite.max_attempts and not isinstance(outcome, BenchError):
        time.sleep(min(0.2 * 2**attempt, 5.0))
        state.waiting[job.job_id] = job
        on_event(Event("retried", job, words=words))
        return
    result = JobResult(
        job_id=job.job_id,
        status="failed",
        attempt=attempt,
        error=words if isinstance(outcome, BenchError) else f"{type(outcome).__name__}: {words}",
    )
    store.record_failure(result, traceback="".join(traceback.format_exception(outcome)))
    state.outcomes[job.job_id] = result
    on_event(Event("failed", job, result))
