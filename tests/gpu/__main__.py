"""`make gpu-check`: everything that only a machine with a CUDA device can show, then one table."""

from __future__ import annotations

import sys

import pytest
import torch


def main() -> int:
    """Run the checks; return 1 where one failed, 2 where there is no device to check."""
    if not torch.cuda.is_available():
        sys.stderr.write("gpu-check: torch finds no CUDA device here, so nothing was checked\n")
        return 2
    return int(pytest.main(["-m", "gpu", "tests/gpu"]) != 0)


if __name__ == "__main__":
    sys.exit(main())
