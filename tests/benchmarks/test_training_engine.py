"""The engine's step against the best bare loop of this machine, and against its own limit.

    taskset -c 1 pytest tests/benchmarks/test_training_engine.py -s -m "slow or not slow"

The bare loop is timm's own model with plain attention and torch's fused AdamW. It is timed as it
comes (a ViT with the exact GELU) and, for a ViT, with the tanh GELU that the engine computes, for a
CNN with feature maps in `channels_last`; ratios are to the fastest. The engine is timed by the
kernels that it chooses for a long job (`bench/training/fastest.py`) and by the plain ones. The peak
is that of a product of two square matrices in the same arithmetic, measured in the same run. Rounds
are interleaved; times are CPU times of one thread. What is asserted is that all do the same work,
within what the arithmetic rounds.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import baselines
from bench import models
from bench.cost import TRAIN_FACTOR
from bench.data.loader import WHOLE, Part
from bench.models import kernels
from bench.specs import Recipe
from bench.training import fastest, train
from bench.training.memory import kept_memory

pytestmark = pytest.mark.usefixtures("one_thread")

NUM_STEPS, ROUNDS, BATCH, SIDE = 3, 3, 32, 1024
SYSTEMS: dict[str, dict[str, Any]] = {
    "vit-micro": {
        "image_size_px": 32, "width": 192, "depth": 12, "num_heads": 3, "mlp_dim": 768,
    },
    "bit-micro": {
        "image_size_px": 64, "layers": (2, 2, 2, 2), "widths": (128, 256, 512, 1024),
        "strides": (1, 2, 2, 2), "stem_width": 64, "num_groups": 32,
    },
}  # fmt: skip
"""Sizes of small papers: 5 million parameters (ViT-Ti, patches of 4 px) and 4 million."""
NEAR = {"float32": 5e-3, "bfloat16": 3e-2}


class Prepared:
    """A batch that costs nothing."""

    def __init__(self, size_px: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.x_BCHW = torch.randn(BATCH, 3, size_px, size_px, generator=generator)
        self.labels_B = torch.randint(100, (BATCH,), generator=generator)

    def at(self, step: int, part: Part = WHOLE) -> tuple[Tensor, Tensor]:
        return self.x_BCHW, self.labels_B


def recipe(precision: str) -> Recipe:
    fields = {"steps": NUM_STEPS, "batch_size": BATCH, "optimizer": "adam", "base_lr": 1e-4,
              "schedule": "cosine", "weight_decay": 0.03, "clip_norm": 1.0}  # fmt: skip
    return Recipe.model_validate({**fields, "precision": precision})


def bare(model: nn.Module, batches: Prepared, precision: str) -> list[float]:
    """What one writes by hand, with the optimizer at its fastest."""
    kernels_ = [m.weight for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    ids = {id(weight) for weight in kernels_}
    others = [parameter for parameter in model.parameters() if id(parameter) not in ids]
    groups = [{"params": kernels_, "weight_decay": 0.03}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-4, fused=True)
    half = torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bfloat16")
    losses = []
    model.train()
    for step in range(NUM_STEPS):
        for group in optimizer.param_groups:
            group["lr"] = 1e-4 * (1 + math.cos(math.pi * step / NUM_STEPS)) / 2
        x_BCHW, labels_B = batches.at(step)
        with half:
            logits_BK = model(x_BCHW)
        loss = nn.functional.cross_entropy(logits_BK.float(), labels_B)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses).tolist()


def peak_flops(dtype: torch.dtype) -> float:
    """Return the FLOP/s of one product of square matrices."""
    a = torch.randn(SIDE, SIDE).to(dtype)
    started_s = time.process_time()
    for _ in range(8):
        a @ a
    return 8 * 2 * SIDE**3 / (time.process_time() - started_s)


def _chosen(system: str, size: dict[str, Any], precision: Any) -> tuple[kernels.Kernels, float]:
    """Return what the engine chooses for a long job, and the forward FLOPs of an image."""
    model = models.build(system, num_classes=100, **size)
    flops = baselines.forward_flops(model.system, model.image_size_px)
    work = fastest.Work(
        system=model.system.model_dump(mode="json"), image_size_px=model.image_size_px,
        batch_size=BATCH, precision=precision, device="cpu", image_flops=flops, num_images=1e9,
    )  # fmt: skip
    return fastest.measured(model.encoder, work), flops


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("system", SYSTEMS)
def test_the_engine_does_the_work_of_the_best_bare_loop(system: str, precision: str) -> None:
    size = SYSTEMS[system]
    batches = Prepared(size["image_size_px"])

    def engine(chosen: kernels.Kernels) -> Callable[[], Any]:
        def work() -> Any:
            model = models.build(system, num_classes=100, **size)
            kernels.put(model.encoder, chosen)
            started_s = time.process_time()
            done = train(model, batches, recipe=recipe(precision), num_steps=NUM_STEPS, seed=0)
            return time.process_time() - started_s, done.losses_T

        return work

    def by_hand(change: str = "") -> Callable[[], Any]:
        def work() -> Any:
            model = models.build(system, num_classes=100, implementation="timm", **size)
            if change == "channels_last":
                model.to(memory_format=torch.channels_last)
            for module in model.modules():
                if isinstance(module, nn.GELU) and change == "tanh":
                    module.approximate = "tanh"
            started_s = time.process_time()
            losses = bare(model, batches, precision)
            return time.process_time() - started_s, np.array(losses)

        return work

    with kept_memory():
        chosen, flops = _chosen(system, size, precision)
        change = "tanh" if system.startswith("vit") else "channels_last"
        sides = {
            "bare": by_hand(), f"bare, {change}": by_hand(change),
            "engine, plain": engine(kernels.default("cpu")), "engine": engine(chosen),
        }  # fmt: skip
        fastest_s, losses, peak = dict.fromkeys(sides, math.inf), {}, 0.0
        for _ in range(ROUNDS):
            peak = max(peak, peak_flops(getattr(torch, precision)))
            for side, work in sides.items():
                took_s, losses[side] = work()
                fastest_s[side] = min(fastest_s[side], took_s)
    for found in losses.values():
        np.testing.assert_allclose(losses["engine"], found, rtol=NEAR[precision])
    best_s = min(fastest_s["bare"], fastest_s[f"bare, {change}"])
    rates = {side: round(NUM_STEPS * BATCH / seconds, 1) for side, seconds in fastest_s.items()}
    ratios = {side: round(best_s / seconds, 2) for side, seconds in fastest_s.items()}
    used = TRAIN_FACTOR * flops * NUM_STEPS * BATCH / fastest_s["engine"]
    print(
        f"\n{system} {precision}, engine by {chosen}\n  images/s {rates}\n"
        f"  over the best bare loop {ratios}\n  peak {peak / 1e9:.0f} GFLOP/s, of which the engine "
        f"{used / peak:.2f}; load {os.getloadavg()[0]:.1f}"
    )
