"""Every arithmetic in every kind of job that trains: it ends, and means what it says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.specs import JobResult

Perform = Callable[..., tuple[JobResult, Path]]

NEAR = {"float32": 0.0, "tf32": 0.0, "bfloat16": 0.05, "float16": 0.01}
"""How far a loss may be from that in float32; a CPU multiplies tf32 as float32."""


@pytest.mark.parametrize("precision", NEAR)
@pytest.mark.parametrize("objective", ["classification", "masked-patch"])
def test_pretraining(toy: Any, perform: Perform, precision: str, objective: str) -> None:
    recipe = toy.pretraining.model_copy(update={"objective": objective})
    losses = [
        perform(toy.spec("pretrain", recipe=recipe.model_copy(update={"precision": each})))[0]
        .metrics["train_loss"]
        .value
        for each in ("float32", precision)
    ]
    assert losses[1] == pytest.approx(losses[0], rel=NEAR[precision])
    assert (losses[1] != losses[0]) == (NEAR[precision] > 0)


@pytest.mark.parametrize("precision", NEAR)
def test_fine_tuning(
    toy: Any, perform: Perform, pretrained: tuple[JobResult, Path], precision: str
) -> None:
    recipe = toy.finetuning.model_copy(update={"precision": precision})
    spec = toy.finetune(pretrained, 0.05, recipe=recipe, eval_split="test")
    result, _ = perform(spec, {"checkpoint": pretrained})
    assert result.metrics["test_top1"].value is not None
