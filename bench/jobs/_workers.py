"""A job on several workers: processes of Ray Train, each with the job's cores and its own device.

Every worker does the whole job on its part of each batch (`bench.training.group`); the first one
writes and reports. A worker that dies or hangs ends its group, which begins again from the last
checkpoint; one that has no memory left makes it begin again in twice as many pieces. Told to end,
the process that waits for the group hands the notice on: the group saves its step and leaves.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bench import jobs, preemption
from bench.errors import BenchError, OutOfMemory, Preempted
from bench.jobs import JobContext
from bench.jobs._ray import environment, ray_here
from bench.paths import JobPaths
from bench.plan.fitting import most_pieces
from bench.specs import JobResult

if TYPE_CHECKING:
    from ray.train import Result

MAX_RESTARTS = 3
"""Times that a group begins again before the job is left to the next attempt."""

TIMEOUT_S = 600
"""Seconds that a worker waits for the others before they count as hung."""

_QUIET = {"RAY_TRAIN_V2_ENABLED": "1", "RAY_AIR_NEW_OUTPUT": "0"}

_log = logging.getLogger(__name__)


def run(context: JobContext) -> JobResult:
    """Return the result of a job that a group of workers does.

    Raises what a worker raises on purpose (BenchError), and RuntimeError where workers die.
    """
    resources = context.resources
    patient = {"RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": str(TIMEOUT_S)}
    with (
        environment(_QUIET | patient),
        ray_here(num_cpus=resources.workers * max(1, int(resources.cpus))),
    ):
        for restart in range(MAX_RESTARTS + 1):
            try:
                return _in_group(context)
            except OutOfMemory as error:
                _leave_if_told(error)
                pieces = min(2 * context.resources.pieces, _most_pieces(context))
                if restart == MAX_RESTARTS or pieces <= context.resources.pieces:
                    raise
                context = replace(
                    context, resources=context.resources.model_copy(update={"pieces": pieces})
                )
                _log.warning("memory is exhausted: beginning again in %d pieces", pieces)
            except _WorkersDied as error:
                _leave_if_told(error)
                if restart == MAX_RESTARTS:
                    raise
                _log.warning("%s; beginning again from the last checkpoint", error)
    raise AssertionError("the last restart returns or raises")


def _leave_if_told(error: Exception) -> None:
    """Raise Preempted where nobody may begin again: what ended the group may have been the same."""
    if preemption.asked():
        raise Preempted("the process was told to end") from error


def _most_pieces(context: JobContext) -> int:
    """Return the most pieces that a worker's share of a batch can be taken in; 0: it has none."""
    spec = context.spec
    if spec.recipe is None:
        return 0
    return most_pieces(spec.system, spec.recipe, workers=context.resources.workers)


class _WorkersDied(RuntimeError):
    """A worker of the group died, or hung."""


def _in_group(context: JobContext) -> JobResult:
    """Start a group, have it work, and return what its first worker says."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
    from ray.train.torch import TorchConfig, TorchTrainer

    resources = context.resources
    on_gpu = context.device == "cuda"
    each = {"CPU": resources.cpus, **({"GPU": resources.gpus} if on_gpu else {})}
    folder = JobPaths(context.folder).checkpoints / "group"
    folder.mkdir(parents=True, exist_ok=True)
    name = secrets.token_hex(8)
    notice = folder / f"told to end {name}"
    trainer = TorchTrainer(
        _worker,
        train_loop_config={"context": context, "notice": notice},
        torch_config=TorchConfig(
            backend="cpu:gloo,cuda:nccl" if on_gpu else "gloo", timeout_s=TIMEOUT_S
        ),
        scaling_config=ScalingConfig(
            num_workers=resources.workers, use_gpu=on_gpu, resources_per_worker=each
        ),
        run_config=RunConfig(
            # A name of its own: Ray would go on with what it knows of one that it has seen.
            name=name,
            storage_path=str(folder),
            failure_config=FailureConfig(max_failures=0),
        ),
    )
    try:
        with preemption.handed_on(notice):
            said: Any = _in_thread(trainer.fit).return_value
    except TrainingFailedError as error:
        raise _cause(error) from error
    return JobResult.model_validate_json(said)


def _in_thread(fit: Callable[[], Result]) -> Result:
    """Return what `fit` returns in a thread: in the main one it would keep Ctrl-C for itself."""
    found: Future[Result] = Future()

    def work() -> None:
        try:
            found.set_result(fit())
        except BaseException as error:  # raised where it is waited for
            found.set_exception(error)

    thread = threading.Thread(target=work, name="group", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(0.1)  # a task that Ray cancels is told so, but not woken
    return found.result()


def _cause(error: Exception) -> Exception:
    """Return what a worker raised on purpose, else that workers died."""
    failures: dict[int, Exception] = getattr(error, "worker_failures", {})
    for failure in failures.values():
        found: BaseException | None = failure
        while found is not None:
            if isinstance(found, BenchError):
                return found
            found = getattr(found, "cause", None) or found.__cause__
    words = "; ".join(f"{rank}: {_short(failure)}" for rank, failure in failures.items())
    return _WorkersDied(f"workers died ({words or _short(error)})")


def _short(error: Exception) -> str:
    """Return the last line of an error: its first sentence, which is what happened."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1].partition(". ")[0][:200]


def _worker(config: dict[str, Any]) -> str:
    """Do the job as one of its workers; that of the first one is the result."""
    from ray import train

    from bench.training.group import Group, working_in

    mine = train.get_context()
    context: JobContext = config["context"]
    sharded = context.resources.sharded
    group = Group(mine.get_world_rank(), mine.get_world_size(), sharded=sharded)
    if not group.leads:
        context = replace(context, report=_silent)
    with working_in(group), preemption.taken_from(config["notice"]):
        return jobs.run(context).model_dump_json()


def _silent(line: dict[str, Any]) -> None:
    """Progress is told by the first worker."""
