"""Weights as they are drawn, raw pixels, and what guessing gets right."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import baselines
from bench import models
from bench.jobs import _work
from bench.specs import JobResult
from bench.training import read_tensors

Perform = Callable[..., tuple[JobResult, Path]]
UNTRAINED = {"weights": "untrained", "num_classes": 1, "image_size_px": 8}


def drawn(toy: Any, perform: Perform, seed: int, **fields: Any) -> tuple[JobResult, Path]:
    spec = toy.spec("weights", params=UNTRAINED, seed=seed, **fields)
    return perform(spec.model_copy(update={"data": None, "protocol": None}))


def test_a_seed_draws_the_weights_that_pre_training_would_start_from(
    toy: Any, perform: Perform
) -> None:
    result, folder = drawn(toy, perform, 7)
    found = read_tensors(folder / "model.safetensors", sha256=result.files["model.safetensors"])
    generator = torch.Generator().manual_seed(7)
    model = models.build(toy.vit, num_classes=3, image_size_px=8, generator=generator)
    assert set(found) == {name for name in model.state_dict() if name.startswith("encoder.")}
    for name, tensor in found.items():
        assert torch.equal(tensor, model.state_dict()[name]), name
    other = drawn(toy, perform, 8)[0]
    assert other.files != result.files


def test_raw_pixels_are_the_averages_of_squares(toy: Any, perform: Perform) -> None:
    system = baselines.use(baselines.variant(
        "p", like=baselines.system("raw-pixels"), title="", args={"side_px": 4}
    ))  # fmt: skip
    start = drawn(toy, perform, 0, system=system)
    spec = toy.spec(
        "knn",
        system=system,
        eval_split="test",
        params={"neighbours": (1, 5), "temperature": 0.07},
        needs={"checkpoint": start[0].job_id},
    )
    result, _ = perform(spec, {"checkpoint": start})

    def pixels(split: str) -> np.ndarray:
        x = toy.data.split(split).images(slice(None)).astype(float) / 127.5 - 1
        means = x.reshape(-1, 4, 2, 4, 2, 3).mean(axis=(2, 4)).reshape(len(x), -1)
        return means / np.linalg.norm(means, axis=1, keepdims=True)

    nearest = (pixels("test") @ pixels("train").T).argmax(axis=1)
    right = toy.data.split("train").labels_N[nearest] == toy.data.split("test").labels_N
    assert result.metrics["knn_top1/1"].value == pytest.approx(right.mean())


def test_the_floor_is_the_share_of_the_most_frequent_class_of_training() -> None:
    train_N, test_M = np.array([0, 1, 1, 2, 1]), np.array([1, 1, 0, 2, 2, 2])
    assert _work.floor(train_N, test_M, num_classes=4) == {"majority_top1": 2 / 6}
    assert _work.floor(np.array([2, 1]), test_M, num_classes=4) == {"majority_top1": 2 / 6}
