"""Host memory of long jobs: what the C library keeps does not grow with the batches done."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

WORK = """
import json, sys
from pathlib import Path

import numpy as np, torch

from bench import training
from bench.data import loader
from bench.data.packs.read import Split
from bench.data.transforms import preset
from bench.specs import Recipe
from bench.training.memory import kept_memory

work, batch, side, num_batches, every = json.loads(sys.argv[1])
torch.set_num_threads(1)
rng = np.random.default_rng(0)
split = Split(rng.integers(0, 256, size=(256, side, side, 3), dtype=np.uint8), np.arange(256) % 5)
shift = preset("shift", size_px=side)
found = []


def watched(images_BHWC, randomness):
    if watched.calls % every == 0:
        lines = Path("/proc/self/status").read_text().splitlines()
        resident = next(line.split()[1] for line in lines if line.startswith("VmRSS"))
        found.append(int(resident) / 1024)
    watched.calls += 1
    return shift(images_BHWC, randomness or torch.Generator())


watched.calls = 0
model = torch.nn.Sequential(
    torch.nn.Conv2d(3, 32, 4, stride=4),
    torch.nn.GELU(),
    torch.nn.Conv2d(32, 64, 1),
    torch.nn.GELU(),
    torch.nn.AdaptiveAvgPool2d(1),
    torch.nn.Flatten(),
    torch.nn.Linear(64, 5),
)
with kept_memory():
    if work == "score":
        rows_N = np.arange(256 * num_batches) % 256
        training.evaluate(model, split, watched, indices_N=rows_N)
    else:
        recipe = Recipe(
            steps=num_batches, batch_size=batch, optimizer="adam", base_lr=1e-4,
            schedule="constant",
        )
        batches = loader.Batches(split, None, watched, batch_size=batch, seed=0)
        training.train(model, batches, recipe=recipe, num_steps=num_batches, seed=0)
print(json.dumps(found))
"""


def resident_mib(work: str, *, batch: int, side: int, num_batches: int, every: int) -> list[float]:
    """Return what is resident at every so many batches, as they are made."""
    done = subprocess.run(
        [sys.executable, "-c", WORK, json.dumps([work, batch, side, num_batches, every])],
        capture_output=True, text=True, check=True, timeout=1800,
    )  # fmt: skip
    found: list[float] = json.loads(done.stdout)
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.slow
@pytest.mark.parametrize(
    ("work", "batch", "side", "num_batches", "every"),
    [("score", 256, 128, 32, 2), ("train", 64, 128, 64, 4), ("train", 8, 16, 10_000, 100)],
    ids=["large, scored", "large, trained", "many small"],
)
def test_host_memory_does_not_grow_with_the_batches(
    work: str, batch: int, side: int, num_batches: int, every: int
) -> None:
    """From a quarter of the batches to the end, no more than 64 MiB are added."""
    found = resident_mib(work, batch=batch, side=side, num_batches=num_batches, every=every)
    quarter = len(found) // 4
    assert len(found) >= 12
    assert max(found[quarter:]) - max(found[:quarter]) < 64, found
