"""The most memory that a piece of work held: of tensors on a GPU, of the process on a CPU.

On a CPU it is resident memory above what the process held before, so that libraries and earlier
jobs do not count. Linux alone starts the mark of a process anew; elsewhere nothing is measured.
"""

from __future__ import annotations

import ctypes

import torch

from bench.training import devices


class Peak:
    """Measures peaks above what is held when it is made."""

    def __init__(self, device: torch.device) -> None:
        self._kind = device.type
        self._held_gib = 0.0
        self.is_measured = self.restart()
        """Whether peaks can be measured here."""
        if self.is_measured and self._kind == "cpu":
            self._held_gib = devices.process_gib("VmRSS")

    def restart(self) -> bool:
        """Give freed memory back, and forget the peak so far; return whether that is possible."""
        library = ctypes.CDLL(None)
        if self._kind != "cpu":
            devices.release(self._kind)
        elif hasattr(library, "malloc_trim"):
            library.malloc_trim(0)
        return devices.restart_peak(self._kind)

    def gib(self) -> float:
        """Return the peak since `restart`, in GiB; 0 where it cannot be measured."""
        return max(0.0, devices.peak_gib(self._kind) - self._held_gib) if self.is_measured else 0.0
