"""Job kinds: one file each, found by name. A job turns its spec and inputs into one JobResult.

To add a kind, add a file here with `VERSION` and `run(context) -> JobResult`, and its version to
`bench.specs.KIND_VERSIONS`. Files that begin with an underscore are shared by kinds.
"""

from __future__ import annotations

import gc
import importlib
import os
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import JobError, OutOfMemory, UnknownName
from bench.specs import DatasetCard, JobResult, JobSpec

KINDS = tuple(
    sorted(found.name for found in pkgutil.iter_modules(__path__) if found.name[0] != "_")
)
"""Names of the job kinds."""


@dataclass(frozen=True)
class JobContext:
    """What a job is given beside its spec; none of it changes its numbers."""

    spec: JobSpec
    """What to do."""
    folder: Path
    """The job's own folder, where checkpoints and result files go."""
    inputs: Mapping[str, tuple[JobResult, Path]]
    """Result and folder of each needed job, by role."""
    card: DatasetCard
    """The data set."""
    cache_dir: Path
    """Folder of packed data and features, shared by all jobs."""
    device: str
    """`cpu`, `cuda` or `tpu`."""
    attempt: int
    """Number of this try, from 1."""
    report: Callable[[dict[str, Any]], None]
    """Takes progress lines."""


def run(context: JobContext) -> JobResult:
    """Do the job on the threads that its spec names and return its result.

    Raises JobError (Diverged, OutOfMemory), CheckpointError or DataError when it cannot be done.
    """
    spec = context.spec
    if spec.kind not in KINDS:
        raise UnknownName("job kind", spec.kind, KINDS)
    kind = importlib.import_module(f"{__name__}.{spec.kind}")
    if spec.kind_version != kind.VERSION:
        raise JobError(
            f"job {spec.job_id} was planned for version {spec.kind_version} of {spec.kind}, "
            f"this is version {kind.VERSION}",
            hint="Plan the suite again",
        )
    with conditions(context):
        result: JobResult = kind.run(context)
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

    from bench.training.memory import kept_memory

    num_threads = torch.get_num_threads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.set_num_threads(context.spec.num_threads)
    if context.device == "cuda":
        # On a CPU the same threads give the same bits without being asked; cuBLAS wants its
        # workspace fixed before it is first used.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with threadpool_limits(context.spec.num_threads, user_api="blas"), kept_memory():
            yield
    finally:
        torch.set_num_threads(num_threads)
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        if context.device == "cuda":
            # The next job of this process, or of its neighbour, finds the memory free.
            gc.collect()
            torch.cuda.empty_cache()


@contextmanager
def _memory_errors(context: JobContext) -> Iterator[None]:
    """Tell exhausted memory, which libraries raise as many things, as OutOfMemory."""
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


def is_exhausted(error: BaseException) -> bool:
    """Tell whether an error says that memory is exhausted: libraries raise many things then."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(
        words in text for words in ("out of memory", "can't allocate memory", "alloc_failed")
    )
