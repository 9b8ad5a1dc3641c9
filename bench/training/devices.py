"""What differs between kinds of devices, but for their arithmetic: `cpu`, `cuda` and `tpu`.

A TPU is torch's device `tpu`, which the package torch_tpu brings (`pip install vitbench[tpu]`).
That path follows the package's interface and was never run on a TPU. It counts no memory here, so
the peak is that of the process.
"""

from __future__ import annotations

import contextlib
import gc
import resource
from pathlib import Path
from typing import Any

import torch

from bench.errors import JobError

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_MARK = "5"
"""What the kernel takes (proc(5), clear_refs) to start the peak of a process anew."""


def device(kind: str) -> torch.device:
    """Return the device of this process; raises JobError where the machine has none of its kind."""
    if kind == "tpu":
        try:
            import torch_tpu  # type: ignore[import-not-found]  # noqa: F401  (registers "tpu")
        except ImportError as error:
            raise JobError(
                "the job was planned for a TPU and torch_tpu is not installed",
                hint='Install it (pip install "vitbench[tpu]"), or set tpus = 0',
            ) from error
    module = _module(kind)
    if module is not None and not module.is_available():
        name, key = ("GPU", "gpus") if kind == "cuda" else ("TPU", "tpus")
        raise JobError(f"the job was planned for a {name} and there is none", hint=f"Set {key} = 0")
    return torch.device(kind)


def synchronize(kind: str) -> None:
    """Return when the device has done everything that it was given."""
    module = _module(kind)
    if module is not None:
        module.synchronize()


def release(kind: str) -> None:
    """Give back what a step that failed, or a job that ended, left to an allocator."""
    gc.collect()
    module = _module(kind)
    if hasattr(module, "empty_cache"):
        module.empty_cache()


def restart_peak(kind: str) -> bool:
    """Forget the most memory held so far; return whether that is possible here."""
    if kind == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return True
    # A worker does job after job: the high-water mark of the process starts anew.
    with contextlib.suppress(OSError):
        _CLEAR.write_text(_RESET_MARK, encoding="ascii")
        return kind == "cpu"
    return False


def peak_gib(kind: str) -> float:
    """Return the most memory held since `restart_peak`: of tensors, or resident of the process."""
    if kind == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30
    return process_gib("VmHWM")


def process_gib(name: str) -> float:
    """Return a line of the process's status (`VmRSS`: held now, `VmHWM`: the peak), in GiB."""
    with contextlib.suppress(OSError, ValueError):
        for line in _STATUS.read_text(encoding="ascii").splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _module(kind: str) -> Any:
    """Return torch's module of an accelerator; None for a CPU, and where torch_tpu is missing."""
    return None if kind == "cpu" else getattr(torch, kind, None)
