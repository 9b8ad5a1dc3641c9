"""The heavy side of job kinds: a job turns its spec and inputs into one JobResult.

`bench/jobs/<kind>.py` has `run(context) -> JobResult`, which the kind's card in `bench/kinds/`
names. Files that begin with an underscore are shared by kinds; `_workers.py` has a job done by
several processes.
"""

from __future__ import annotations

import importlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from bench.errors import JobError, OutOfMemory
from bench.files import write_text
from bench.kinds import KINDS
from bench.paths import JobPaths
from bench.specs import (
    EVALUATION_BATCH,
    DatasetCard,
    DataUse,
    JobResult,
    JobSpec,
    Protocol,
    Recipe,
    Resources,
)

SCORED_EVERY_S = 5.0
"""Between two notes of how far the scoring of a split is."""

Part = TypeVar("Part")


@dataclass(frozen=True)
class JobContext:
    """What a job is given in addition to its spec; none of it changes its numbers."""

    spec: JobSpec
    """What to do."""
    folder: Path
    """The job's own folder, where checkpoints and result files go."""
    inputs: Mapping[str, tuple[JobResult, Path]]
    """Result and folder of each needed job, by role."""
    dataset: DatasetCard | None
    """The data set that it reads; None where it reads none."""
    cache_dir: Path
    """Folder of packed data and features, shared by all jobs."""
    attempt: int
    """Number of this try, from 1."""
    report: Callable[[dict[str, Any]], None]
    """Takes progress lines."""
    resources: Resources
    """What the job was given: devices, cores that decode, pieces of a batch."""
    file: str = ""
    """Path of the weights file of the user's own that it loads; its digest is in the spec."""

    @property
    def device(self) -> str:
        """Kind of device: `cpu`, `cuda` or `tpu`."""
        return self.spec.device

    @property
    def card(self) -> DatasetCard:
        """The data set of a kind that reads one."""
        return _there(self.dataset, "data set")

    @property
    def data(self) -> DataUse:
        """What the job of a kind that reads images does with them."""
        return _there(self.spec.data, "data")

    @property
    def protocol(self) -> Protocol:
        """The protocol of a kind that has one."""
        return _there(self.spec.protocol, "protocol")

    @property
    def recipe(self) -> Recipe:
        """The recipe of a kind that trains."""
        return _there(self.spec.recipe, "recipe")

    @property
    def num_classes(self) -> int:
        """Classes of the classifier."""
        return _there(self.spec.num_classes, "number of classes")

    @property
    def image_size_px(self) -> int:
        """Side of the square input, in pixels."""
        return _there(self.spec.image_size_px, "image size")


def _there(value: Part | None, what: str) -> Part:
    """Return what the planner of a kind must have given."""
    if value is None:
        raise JobError(f"the job was planned without its {what}", hint="Plan the suite again")
    return value


def run(context: JobContext) -> JobResult:
    """Do the job on the threads that its spec names and return its result.

    Raises JobError (Diverged, OutOfMemory), CheckpointError or DataError when it cannot be done.
    """
    spec = context.spec
    kind = KINDS.named(spec.kind)
    if spec.kind_version != kind.version:
        raise JobError(
            f"job {spec.job_id} was planned for version {spec.kind_version} of {spec.kind}, "
            f"this is version {kind.version}",
            hint="Plan the suite again",
        )
    module, _, function = kind.run.partition(":")
    with conditions(context):
        result: JobResult = getattr(importlib.import_module(module), function)(context)
    return result


@contextmanager
def conditions(context: JobContext) -> Iterator[None]:
    """Work on the job's threads, with exact arithmetic; tell exhausted memory as OutOfMemory."""
    with _settings(context), _memory_errors(context):
        yield


@contextmanager
def _settings(context: JobContext) -> Iterator[None]:
    """Set the job's threads, exact arithmetic and memory; put things back afterwards."""
    import torch
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    from bench.data.decoders import decoding
    from bench.training import devices, scoring
    from bench.training.memory import kept_memory

    num_threads = torch.get_num_threads()
    torch.set_num_threads(context.spec.num_threads)
    try:
        blas = threadpool_limits(context.spec.num_threads, user_api="blas")
        with (
            blas,
            kept_memory(),
            decoding(**_decoders(context)),
            scoring.at_once(context.resources.evaluation_batch),
            scoring.told(_Scored(JobPaths(context.folder).scored)),
            _arithmetic(context),
        ):
            yield
    finally:
        torch.set_num_threads(num_threads)
        if context.device != "cpu":
            # The next job of this process, or of its neighbour, finds the memory free.
            devices.release(context.device)


class _Scored:
    """Notes how far the scoring of a split is, from time to time: it can take hours."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._began_s = self._last_s = time.monotonic()
        self._total = self._before = 0

    def __call__(self, done: int, total: int) -> None:
        now_s = time.monotonic()
        if total != self._total or done <= EVALUATION_BATCH:  # of another split
            self._began_s, self._total = now_s, total
            self._before = done
        if now_s - self._last_s < SCORED_EVERY_S:
            return
        self._last_s = now_s
        seconds = now_s - self._began_s
        per_s = (done - self._before) / seconds if seconds else 0.0
        line = {"done": done, "total": total, "images_per_s": per_s}
        with suppress(OSError):  # what is only said must not end a job
            write_text(self._file, json.dumps(line), sync=False)


def _arithmetic(context: JobContext) -> AbstractContextManager[None]:
    """Return the arithmetic of the job: that of its recipe, or that of its kind's arguments.

    What is measured for its speed may choose the fastest algorithms, for every family alike.
    """
    from bench.training.arithmetic import arithmetic

    recipe, params = context.spec.recipe, context.spec.params
    deterministic = recipe.deterministic if recipe else "precision" not in params
    return arithmetic(context.device, context.spec.precision, deterministic=deterministic)


def _decoders(context: JobContext) -> dict[str, Any]:
    """Return how many threads decode: those set aside, a GPU's share of the cores, or the job's."""
    if context.resources.decoders:
        return {"num_threads": context.resources.decoders, "spare": True}
    if context.device == "cpu":
        return {"num_threads": context.spec.num_threads, "spare": False}
    import torch

    devices = max(1, torch.cuda.device_count())
    return {"num_threads": max(1, len(os.sched_getaffinity(0)) // devices), "spare": True}


@contextmanager
def _memory_errors(context: JobContext) -> Iterator[None]:
    """Tell exhausted memory, which libraries raise as many things, as OutOfMemory."""
    from bench.training.memory import is_exhausted

    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # torch raises RuntimeError when the host, or CUDA outside its allocator, has no more.
        if not is_exhausted(error):
            raise
        where = "host" if context.device == "cpu" else context.device
        raise OutOfMemory(
            f"the {where} ran out of memory in job {context.spec.job_id} ({context.spec.kind})",
            hint="Lower the batch size or the image size, or run fewer jobs at once",
        ) from error
