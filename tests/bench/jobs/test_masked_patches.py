"""Masked patch prediction as a pre-training job, and what follows from it."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import baselines
from bench.errors import JobError
from bench.jobs import pretrain
from bench.specs import JobResult
from bench.training import Checkpoints, read_tensors

Perform = Callable[..., tuple[JobResult, Path]]


@pytest.fixture
def masked(toy: Any) -> Any:
    return toy.pretraining.model_copy(update={"objective": "masked-patch", "polyak": 0.9})


def test_its_encoder_serves_fine_tuning_and_few_shot(
    toy: Any, perform: Perform, masked: Any
) -> None:
    found = perform(toy.spec("pretrain", recipe=masked))
    loss = found[0].metrics["train_loss"].value
    assert loss is not None
    assert 0 < loss <= math.log(512)
    rate = 0.03
    tuned, _ = perform(toy.finetune(found, rate, eval_split="test"), {"checkpoint": found})
    assert tuned.metrics["test_top1"].n == toy.num_test
    spec = toy.spec(
        "fewshot",
        eval_split="test",
        params={"shots": (1,), "draws": 1, "l2": 1.0},
        needs={"checkpoint": found[0].job_id},
    )
    shot, _ = perform(spec, {"checkpoint": found})
    assert shot.metrics["fewshot_top1/1"].value is not None


def test_a_killed_job_resumes_to_the_same_bits(
    toy: Any, perform: Perform, masked: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrain, "Checkpoints", functools.partial(Checkpoints, interval_s=0))
    spec = toy.spec("pretrain", recipe=masked)
    whole, _ = perform(spec, folder="whole")

    def killed(line: dict[str, Any]) -> None:
        if line["step"] == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        perform(spec, folder="resumed", report=killed)
    resumed, _ = perform(spec, folder="resumed", attempt=2)
    assert resumed.files == whole.files


def test_another_family_is_told(toy: Any, perform: Perform, masked: Any) -> None:
    bit = baselines.use(baselines.system("bit-micro"))
    with pytest.raises(JobError, match="is for ViTs"):
        perform(toy.spec("pretrain", recipe=masked, system=bit))


def test_the_first_value_of_the_biases(toy: Any, perform: Perform) -> None:
    """At a tiny learning rate the biases stay where sigmoid pre-training puts them."""
    recipe = toy.pretraining.model_copy(
        update={"loss": "sigmoid", "head_bias": -10.0, "base_lr": 1e-9}
    )
    result, folder = perform(toy.spec("pretrain", recipe=recipe))
    weights = read_tensors(folder / "model.safetensors", sha256=result.files["model.safetensors"])
    assert weights["head.bias"].tolist() == pytest.approx([-10.0] * toy.num_classes)
    # One class is right and costs 10; the others cost next to nothing.
    assert result.metrics["train_loss"].value == pytest.approx(10, abs=0.01)
