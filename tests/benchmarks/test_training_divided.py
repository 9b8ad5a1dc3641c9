"""What dividing a batch costs and gains: pieces and smaller batches, two workers and one.

Run `pytest tests/benchmarks/test_training_divided.py -s -m "slow or not slow"` on a quiet machine
of two cores. Goals: pieces cost at most 3 % over as many steps of their size, and two workers on
two cores reach 1.6 times one. What is asserted is that all sides do the same work.
"""

from __future__ import annotations

import datetime
import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import multiprocessing

from bench import models
from bench.data.loader import Batches
from bench.data.packs.read import Split
from bench.data.transforms import preset
from bench.specs import Recipe, SystemUse
from bench.training import loop as training
from bench.training.group import Group, working_in
from bench.training.memory import kept_memory

pytestmark = pytest.mark.slow

VIT = SystemUse(
    family="vit",
    args={"width": 192, "depth": 6, "num_heads": 3, "mlp_dim": 768, "patch_px": 4},
    version=1,
)
SIDE_PX, BATCH, ROUNDS, STEPS = 32, 32, 3, 4


def step_s(*, batch: int, pieces: int = 1, steps: int = STEPS) -> tuple[float, float]:
    """Return the seconds of a training step, and the last loss."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (64, SIDE_PX, SIDE_PX, 3), dtype=np.uint8)
    split = Split(images, rng.integers(0, 10, 64))
    model = models.build(
        VIT, num_classes=10, image_size_px=SIDE_PX, generator=torch.Generator().manual_seed(0)
    )
    recipe = Recipe(
        steps=steps, batch_size=batch, optimizer="adam", base_lr=1e-3, schedule="constant"
    )
    batches = Batches(split, None, preset("shift", size_px=SIDE_PX), batch_size=batch, seed=0)
    with kept_memory():
        done = training.train(model, batches, recipe=recipe, num_steps=steps, seed=0, pieces=pieces)
    return done.stepping_s / steps, float(done.losses_T[-1])


def test_pieces_cost_no_more_than_steps_of_their_size() -> None:
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    fastest = {"one piece": np.inf, "four pieces": np.inf, "four steps of a quarter": np.inf}
    try:
        for _ in range(ROUNDS):
            whole_s, whole = step_s(batch=BATCH)
            parted_s, parted = step_s(batch=BATCH, pieces=4)
            quarter_s, _ = step_s(batch=BATCH // 4, steps=4 * STEPS)
            for name, taken_s in zip(fastest, (whole_s, parted_s, 4 * quarter_s), strict=True):
                fastest[name] = min(fastest[name], taken_s)
    finally:
        torch.set_num_threads(num_threads)
    assert parted == pytest.approx(whole, rel=1e-4)
    over = fastest["four pieces"] / fastest["four steps of a quarter"] - 1
    print(f"\nseconds a step, load {os.getloadavg()[0]:.1f}: {fastest}; pieces cost {over:+.1%}")


def _worker(rank: int, world: int, folder: Path) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=world,
        timeout=datetime.timedelta(seconds=120),
    )  # fmt: skip
    with working_in(Group(rank, world)):
        step_s(batch=BATCH, steps=1)
        taken_s, loss = min(step_s(batch=BATCH) for _ in range(ROUNDS))
    (folder / f"{rank}.json").write_text(json.dumps([taken_s, loss]))
    torch.distributed.destroy_process_group()


def test_two_workers_against_one(tmp_path: Path) -> None:
    found = {}
    for turn in range(2):
        for world in (1, 2):
            folder = tmp_path / f"{turn}-{world}"
            folder.mkdir()
            multiprocessing.spawn(_worker, (world, folder), nprocs=world)
            taken_s, loss = json.loads((folder / "0.json").read_text())
            known_s, _ = found.get(world, (np.inf, 0.0))
            found[world] = min(known_s, taken_s), loss
            time.sleep(0.5)
    assert found[2][1] == pytest.approx(found[1][1], rel=1e-4)
    ratio = found[1][0] / found[2][0]
    print(
        f"\nseconds a step, load {os.getloadavg()[0]:.1f}: {found}; two workers: {ratio:.2f} times"
    )
