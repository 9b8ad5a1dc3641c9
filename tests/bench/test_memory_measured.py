"""What a process holds at most, at full size on a CPU, against what it is said to need."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

import baselines
from bench import memory
from bench.data.parts import largest_part
from bench.plan.fitting import PROCESS_GIB
from bench.specs import Recipe

pytestmark = [pytest.mark.slow, pytest.mark.rehearsal]

NUM_CLASSES = 1000
RECIPE: dict[str, Any] = {
    "steps": 2, "optimizer": "adam", "base_lr": 1e-5, "schedule": "constant",
}  # fmt: skip
WORK = """
import json, sys
import numpy as np, torch
from bench import models, training
from bench.data import loader, transforms
from bench.data.packs.read import Split
from bench.specs import Recipe
from bench.training import devices
from bench.training.memory import kept_memory

name, size_px, num_images, pieces, recipe = json.loads(sys.argv[1])
torch.set_num_threads(2)
images = np.zeros((num_images, size_px, size_px, 3), dtype=np.uint8)
split = Split(images, np.zeros(num_images, dtype=np.int64))
transform = transforms.preset("resize", size_px=size_px)
model = models.build(name, num_classes=1000, image_size_px=size_px)
devices.restart_peak("cpu")
with kept_memory():
    if recipe is None:
        training.evaluate(model, split, transform)
    else:
        recipe = Recipe(**recipe, batch_size=num_images)
        batches = loader.Batches(
            split, None, transform, batch_size=num_images, seed=0, prefetch=False
        )
        training.train(model, batches, recipe=recipe, num_steps=2, seed=0, pieces=pieces)
print(devices.peak_gib("cpu"))
"""


def measured_gib(name: str, size_px: int, num_images: int, pieces: int, **recipe: Any) -> float:
    """Return the most that a process of its own held."""
    given = json.dumps([name, size_px, num_images, pieces, recipe or None])
    done = subprocess.run(
        [sys.executable, "-c", WORK, given], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


SYSTEMS = ["vit-b16", "bit-r50x1", "hybrid-r50-vit-b16"]


@pytest.mark.parametrize(("pieces", "precision"), [(1, "bfloat16"), (4, "float32")])
@pytest.mark.parametrize("name", SYSTEMS)
def test_training_holds_what_is_forecast(name: str, pieces: int, precision: str) -> None:
    size_px, batch_size = 224, 12
    recipe: dict[str, Any] = {**RECIPE, "precision": precision}
    said = memory.training(
        baselines.system(name), Recipe(**recipe, batch_size=batch_size),
        image_size_px=size_px, num_classes=NUM_CLASSES, device="cpu",
    )  # fmt: skip
    held_gib = measured_gib(name, size_px, batch_size, pieces, **recipe)
    said_gib = said.gib(largest_part(batch_size, pieces)) - said.saved_gib + PROCESS_GIB
    print(f"\n{name} {precision}, {pieces} pieces: {held_gib:.2f} held, {said_gib:.2f} said")
    assert said_gib == pytest.approx(held_gib, rel=0.25)


@pytest.mark.parametrize("name", SYSTEMS)
def test_inference_holds_what_is_forecast(name: str) -> None:
    size_px, num_images = 224, 48
    said = memory.inference(
        baselines.system(name), image_size_px=size_px, num_classes=NUM_CLASSES, device="cpu"
    )
    held_gib = measured_gib(name, size_px, num_images, 1)
    said_gib = said.gib(num_images) + PROCESS_GIB
    print(f"\n{name}: {held_gib:.2f} held, {said_gib:.2f} said")
    assert said_gib == pytest.approx(held_gib, rel=0.25)
