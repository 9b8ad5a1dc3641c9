"""Fine-tuning: who is trained on, what is scored, and where the rate comes from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench import models, training
from bench.data import loader, transforms
from bench.data.packs.read import Split
from bench.errors import CheckpointError, DataError, Diverged, JobError
from bench.specs import JobResult, SystemUse
from bench.training import read_tensors

Perform = Callable[..., tuple[JobResult, Path]]


def test_a_candidate_trains_without_the_held_out_part_and_is_scored_on_it(
    toy: Any, perform: Perform, pretrained: tuple[JobResult, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, np.ndarray] = {}
    real_batches, real_classify = loader.Batches, training.classify

    def batches(split: Split, indices_N: np.ndarray, *args: Any, **kwargs: Any) -> loader.Batches:
        seen["train"] = indices_N
        return real_batches(split, indices_N, *args, **kwargs)

    def classify(model: Any, split: Split, transform: Any, *, indices_N: np.ndarray) -> np.ndarray:
        assert split is toy.data.split("train")
        seen["held"] = indices_N
        return real_classify(model, split, transform, indices_N=indices_N)

    monkeypatch.setattr(loader, "Batches", batches)
    monkeypatch.setattr(training, "classify", classify)
    spec = toy.finetune(pretrained, 0.01, held_out=0.2, eval_split="held-out")
    result, folder = perform(spec, {"checkpoint": pretrained})
    assert len(seen["held"]) == 12
    assert sorted([*seen["train"], *seen["held"]]) == list(range(toy.num_train))
    hits = np.load(folder / "hits.npz")["hits"]
    assert set(result.metrics) == {"val_top1"}
    assert result.metrics["val_top1"].n == len(hits) == 12
    assert result.metrics["val_top1"].value == pytest.approx(hits.mean())
    assert result.values == {"learning_rate": 0.01}
    assert set(result.files) == {"hits.npz"}


def test_fine_tuning_starts_from_the_encoder_and_a_zero_head(
    toy: Any, perform: Perform, pretrained: tuple[JobResult, Path]
) -> None:
    """With a vanishing rate nothing moves: what is written is what training started from."""
    spec = toy.finetune(pretrained, 1e-12, eval_split="test")
    result, folder = perform(spec, {"checkpoint": pretrained})
    before = read_tensors(
        pretrained[1] / "model.safetensors", sha256=pretrained[0].files["model.safetensors"]
    )
    after = read_tensors(folder / "model.safetensors", sha256=result.files["model.safetensors"])
    assert not any(name.startswith("pre_logits") for name in after)
    assert after["head.weight"].abs().max() < 1e-6
    for name, value in after.items():
        if name == "encoder.pos_embed":
            assert value.shape[1] == 10  # 3 x 3 patches and the class token, from 2 x 2
            expected = models.interpolate_positions(before[name], 3)
            torch.testing.assert_close(value, expected, atol=1e-6, rtol=0)
        elif name.startswith("encoder."):
            torch.testing.assert_close(value, before[name], atol=1e-6, rtol=0)


def test_the_final_run_takes_the_chosen_rate_and_reports_on_test(
    toy: Any,
    perform: Perform,
    pretrained: tuple[JobResult, Path],
    choose: Callable[..., JobResult],
    tmp_path: Path,
) -> None:
    selected = choose([(0.01, 0.5), (0.05, 0.9)])
    spec = toy.finetune(pretrained, None, eval_split="test")
    inputs = {"checkpoint": pretrained, "select": (selected, tmp_path)}
    result, folder = perform(spec, inputs)
    assert set(result.values) == {"learning_rate", "loss_before_end", "loss_at_end"}
    assert result.values["learning_rate"] == 0.05
    stored = np.load(folder / "hits.npz")
    hits = stored["hits"]
    assert set(result.metrics) == {"test_top1"}
    assert result.metrics["test_top1"].n == len(hits) == toy.num_test
    labels_N = toy.data.split("test").labels_N
    np.testing.assert_array_equal(stored["labels"], labels_N)
    np.testing.assert_array_equal(stored["classes/test_top1"] == labels_N, hits)
    assert stored["classes/test_top1"].dtype == np.int16
    assert set(result.files) == {"hits.npz", "model.safetensors"}
    direct = toy.finetune(pretrained, 0.05, eval_split="test")
    assert perform(direct, {"checkpoint": pretrained})[0].files == result.files
    with pytest.raises(JobError, match="no learning rate"):
        perform(spec, {"checkpoint": pretrained}, folder="other")


def test_damaged_weights_are_refused(
    toy: Any, perform: Perform, pretrained: tuple[JobResult, Path]
) -> None:
    path = pretrained[1] / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="damaged"):
        perform(toy.finetune(pretrained, 0.1, eval_split="test"), {"checkpoint": pretrained})


def test_weights_of_another_system_are_refused(
    toy: Any, perform: Perform, pretrained: tuple[JobResult, Path]
) -> None:
    wider = SystemUse(family="vit", args={**toy.vit_args, "width": 32}, version=1)
    spec = toy.finetune(pretrained, 0.1, eval_split="test", system=wider)
    with pytest.raises(CheckpointError, match="shape"):
        perform(spec, {"checkpoint": pretrained})


def test_vtab_chooses_on_its_own_splits_and_reports_on_test(
    toy: Any, perform: Perform, pretrained: tuple[JobResult, Path]
) -> None:
    inputs = {"checkpoint": pretrained}
    candidate = toy.finetune(pretrained, 0.01, train_split="train800", eval_split="val200")
    chosen, _ = perform(candidate, inputs)
    assert set(chosen.metrics) == {"val_top1"}
    assert chosen.metrics["val_top1"].n == len(toy.data.split("val200").labels_N)
    assert set(chosen.files) == {"hits.npz"}
    final = toy.finetune(pretrained, 0.01, train_split="train800val200", eval_split="test")
    reported, _ = perform(final, inputs)
    assert reported.metrics["test_top1"].n == toy.num_test
    assert "model.safetensors" in reported.files


def test_a_split_that_the_data_set_lacks_is_told(
    toy: Any, perform: Perform, pretrained: tuple[JobResult, Path]
) -> None:
    spec = toy.finetune(pretrained, 0.01, train_split="train1000", eval_split="test")
    with pytest.raises(DataError, match='toy: no split "train1000"'):
        perform(spec, {"checkpoint": pretrained})


def test_a_candidate_that_diverges_is_absent_and_says_why(
    toy: Any, perform: Perform, pretrained: tuple[JobResult, Path]
) -> None:
    inputs = {"checkpoint": pretrained}
    candidate = toy.finetune(pretrained, 1e30, held_out=0.2, eval_split="held-out")
    result, _ = perform(candidate, inputs)
    metric = result.metrics["val_top1"]
    assert metric.value is None
    assert "the loss became" in metric.reason
    assert result.values == {"learning_rate": 1e30}
    assert not result.files
    with pytest.raises(Diverged):
        perform(toy.finetune(pretrained, 1e30, eval_split="test"), inputs)


def test_the_average_of_weights_is_what_is_scored_and_kept(
    toy: Any, perform: Perform, pretrained: tuple[JobResult, Path]
) -> None:
    """After one step from w0 to w1, the average with factor a is a w0 + (1 - a) w1."""
    inputs = {"checkpoint": pretrained}

    def weights(rate: float, polyak: float | None) -> tuple[dict[str, torch.Tensor], np.ndarray]:
        recipe = toy.finetuning.model_copy(update={"steps": 1, "polyak": polyak})
        spec = toy.finetune(pretrained, rate, recipe=recipe, eval_split="test")
        result, folder = perform(spec, inputs)
        path = folder / "model.safetensors"
        hits = np.load(folder / "hits.npz")["hits"]
        return read_tensors(path, sha256=result.files[path.name]), hits

    before, after, (average, hits) = weights(1e-12, None)[0], weights(5.0, None)[0], weights(5, 0.9)
    for name, value in average.items():
        expected = 0.9 * before[name] + 0.1 * after[name]
        torch.testing.assert_close(value, expected, atol=1e-6, rtol=1e-5)
    model = models.build(toy.vit, num_classes=toy.num_classes, image_size_px=12)
    model.load_state_dict(average)
    resize = transforms.preset("resize", size_px=12)
    np.testing.assert_array_equal(hits, training.evaluate(model, toy.data.split("test"), resize))


def test_more_classes_than_the_protocol_plans_are_refused_before_training(
    toy: Any, perform: Perform, pretrained: tuple[JobResult, Path]
) -> None:
    spec = toy.finetune(pretrained, 0.01, eval_split="test", num_classes=2)
    with pytest.raises(JobError, match="label 2 is not a class of a classifier of 2"):
        perform(spec, {"checkpoint": pretrained})
