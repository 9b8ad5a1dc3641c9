"""The most memory that a piece of work held: of tensors on an accelerator, of the process on a CPU.

On a CPU it is resident memory above what the process held before, so that libraries and earlier
jobs do not count. Linux alone starts the mark of a process anew; elsewhere nothing is measured.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

import torch

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_MARK = "5"
"""What the kernel takes (proc(5), clear_refs) to start the peak of a process anew."""


class Peak:
    """Measures peaks above what is held when it is made."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.is_measured = device.type == "cuda" or (device.type == "cpu" and _can_reset())
        """Whether peaks can be measured here."""
        self._held_gib = 0.0
        self.restart()
        if self.is_measured and device.type == "cpu":
            self._held_gib = _status_gib("VmRSS")

    def restart(self) -> None:
        """Give freed memory back, and forget the peak so far."""
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        elif self.is_measured:
            library = ctypes.CDLL(None)
            if hasattr(library, "malloc_trim"):
                library.malloc_trim(0)
            _CLEAR.write_text(_RESET_MARK, encoding="ascii")

    def gib(self) -> float:
        """Return the peak since `restart`, in GiB; 0 where it cannot be measured."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated() / 2**30
        return max(0.0, _status_gib("VmHWM") - self._held_gib) if self.is_measured else 0.0


def _can_reset() -> bool:
    try:
        _CLEAR.write_text(_RESET_MARK, encoding="ascii")
        return _status_gib("VmHWM") > 0
    except (OSError, ValueError):
        return False


def _status_gib(name: str) -> float:
    for line in _STATUS.read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 2**20
    raise ValueError(f"{_STATUS} has no {name}")
