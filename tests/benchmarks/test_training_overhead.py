"""The training loop against a bare PyTorch loop on the same batches: how much slower is it?

Run `pytest tests/benchmarks/test_training_overhead.py -s` on a quiet machine, one system at a time
(-k), to see the times. The goal is at most 1.02 of the bare loop with the same memory settings;
against the bare loop as torch comes it is below 1. Rounds are interleaved and the fastest of each
side counts, because other load only ever adds time; times are CPU times of one thread. What is
asserted is that all sides do the same work.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from bench import models
from bench.data.parts import WHOLE, Part
from bench.specs import Recipe
from bench.training import loop as training
from bench.training.checkpoint import Checkpoints
from bench.training.memory import kept_memory

NUM_STEPS, ROUNDS, BATCH = 20, 3, 64
RECIPE = Recipe(
    steps=NUM_STEPS,
    batch_size=BATCH,
    optimizer="adam",
    base_lr=1e-3,
    schedule="cosine",
    weight_decay=0.03,
    clip_norm=1.0,
)


class Prepared:
    """Batches that cost nothing."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        images = rng.normal(size=(4, BATCH, 3, 16, 16)).astype(np.float32)
        self.x = torch.from_numpy(images)
        self.y = torch.from_numpy(rng.integers(0, 100, size=(4, BATCH)))

    def at(self, step: int, part: Part = WHOLE) -> tuple[torch.Tensor, torch.Tensor]:
        return self.x[step % 4], self.y[step % 4]


def bare(model: nn.Module, batches: Prepared) -> list[float]:
    """What one writes by hand, with the optimizer at its fastest."""
    decayed = [m.weight for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    ids = {id(weight) for weight in decayed}
    others = [parameter for parameter in model.parameters() if id(parameter) not in ids]
    groups = [{"params": decayed, "weight_decay": 0.03}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, fused=True)
    losses = []
    model.train()
    for step in range(NUM_STEPS):
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * (1 + math.cos(math.pi * step / NUM_STEPS)) / 2
        x_BCHW, labels_B = batches.at(step)
        loss = nn.functional.cross_entropy(model(x_BCHW), labels_B)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses).tolist()


@pytest.mark.ordinary
@pytest.mark.parametrize("system", ["vit-micro", "bit-micro"])
def test_the_loop_does_the_work_of_a_bare_one(system: str, tmp_path: Path) -> None:
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    batches = Prepared()

    def build() -> nn.Module:
        return models.build(system, num_classes=100, image_size_px=16, pretraining_head=True)

    def loop() -> np.ndarray:
        done = training.train(
            build(),
            batches,
            recipe=RECIPE,
            num_steps=NUM_STEPS,
            seed=0,
            checkpoints=Checkpoints(tmp_path / str(time.perf_counter_ns()), "job"),
            report=lambda line: None,
        )
        return done.losses_T

    def bare_loop() -> np.ndarray:
        return np.array(bare(build(), batches))

    def kept(work: Callable[[], np.ndarray]) -> Callable[[], np.ndarray]:
        def inside() -> np.ndarray:
            with kept_memory():
                return work()

        return inside

    # The first round of the bare loop comes before memory is ever kept.
    sides = {"bare": bare_loop, "bare, memory kept": kept(bare_loop), "loop": kept(loop)}
    fastest_ms = dict.fromkeys(sides, math.inf)
    losses = {}
    try:
        for _ in range(ROUNDS):
            for side, work in sides.items():
                started_s = time.process_time()
                losses[side] = work()
                step_ms = (time.process_time() - started_s) / NUM_STEPS * 1e3
                fastest_ms[side] = min(fastest_ms[side], step_ms)
    finally:
        torch.set_num_threads(num_threads)
    for expected in (losses["bare"], losses["bare, memory kept"]):
        np.testing.assert_allclose(losses["loop"], expected, rtol=2e-3)
    print(f"\n{system}: ms a step { ({side: round(ms, 2) for side, ms in fastest_ms.items()}) }")
