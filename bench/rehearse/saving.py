"""How fast this machine writes checkpoints, measured in a second."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from bench import files
from bench.training.checkpoint import write_tensors

_NUM_BYTES = 2**27


def saved_gib_per_s(folder: Path) -> float:
    """Return the GiB of a checkpoint that are hashed and on the disk of `folder` in a second."""
    made = {"weights": torch.rand(_NUM_BYTES // 4)}
    with files.scratch_folder(folder) as scratch:
        started_s = time.perf_counter()
        write_tensors(scratch / "made.safetensors", made)
        return _NUM_BYTES / 2**30 / (time.perf_counter() - started_s)
