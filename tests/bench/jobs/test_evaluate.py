"""Finished classifiers under each label rule."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench import models
from bench.data import transforms
from bench.data.packs.read import Split
from bench.data.scoring import ALEXNET_ERRORS, CORRUPTIONS, NUM_SEVERITIES
from bench.errors import CheckpointError, DataError, JobError
from bench.specs import JobResult
from bench.training import read_tensors, write_tensors

Perform = Callable[..., tuple[JobResult, Path]]


@pytest.fixture
def spec_of(toy: Any, finetuned: tuple[JobResult, Path]) -> Callable[..., Any]:
    def make(rule: str, **fields: Any) -> Any:
        return toy.spec(
            "evaluate",
            params={"scoring": rule},
            needs={"checkpoint": finetuned[0].job_id},
            **{"eval_split": "test", "train_split": "", **fields},
        )

    return make


@pytest.fixture
def logits_MK(toy: Any, finetuned: tuple[JobResult, Path]) -> np.ndarray:
    """Scores of a model that is built and loaded by hand."""
    result, folder = finetuned
    model = models.build(toy.vit, num_classes=toy.num_classes, image_size_px=8)
    path = folder / "model.safetensors"
    model.load_state_dict(read_tensors(path, sha256=result.files[path.name]))
    images = torch.from_numpy(toy.data.split("test").images_NHWC)
    with torch.no_grad():
        return model.eval()(transforms.preset("resize", size_px=8)(images, None)).numpy()


@pytest.fixture
def test_details(toy: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Give the toy's test split other labels or details."""

    def put(*, labels: np.ndarray | None = None, details: np.ndarray | None = None) -> None:
        old = toy.data.split("test")
        new = Split(old.images_NHWC, old.labels_N if labels is None else labels, details)
        monkeypatch.setitem(toy.data.splits, "test", new)

    return put


def test_on_its_own_test_split_it_repeats_the_fine_tuning(
    perform: Perform, finetuned: tuple[JobResult, Path], spec_of: Any
) -> None:
    result, folder = perform(spec_of("top1"), {"checkpoint": finetuned})
    before = np.load(finetuned[1] / "hits.npz")["hits"]
    stored = np.load(folder / "hits.npz")
    np.testing.assert_array_equal(stored["hits"], before)
    assert stored["counted"].all()
    assert result.metrics["eval_top1"].value == finetuned[0].metrics["test_top1"].value
    assert result.cost is not None
    assert result.cost.examples == len(before)


def test_any_of_the_labels_will_do_and_empty_sets_do_not_count(
    toy: Any, perform: Perform, finetuned: Any, spec_of: Any, logits_MK: Any, test_details: Any
) -> None:
    rng = np.random.default_rng(0)
    details_M2 = rng.integers(-1, 3, size=(toy.num_test, 2))
    details_M2[:4] = -1
    test_details(details=details_M2)
    result, folder = perform(spec_of("multi-label"), {"checkpoint": finetuned})
    answers_M = logits_MK.argmax(axis=1)
    counted = [row for row in range(toy.num_test) if details_M2[row].max() >= 0]
    right = [answers_M[row] in details_M2[row] for row in counted]
    assert result.metrics["eval_top1"].value == pytest.approx(np.mean(right))
    assert result.metrics["eval_top1"].n == len(counted) < toy.num_test
    np.testing.assert_array_equal(np.load(folder / "hits.npz")["hits"][counted], right)


def test_other_classes_may_not_be_answered(
    toy: Any, perform: Perform, finetuned: Any, spec_of: Any, logits_MK: Any, test_details: Any
) -> None:
    labels_M = np.arange(toy.num_test) % 2 * 2  # classes 0 and 2
    test_details(labels=labels_M)
    result, _ = perform(spec_of("class-subset"), {"checkpoint": finetuned})
    expected = (logits_MK[:, [0, 2]].argmax(axis=1) * 2 == labels_M).mean()
    assert result.metrics["eval_top1"].value == pytest.approx(expected)
    assert expected != pytest.approx((logits_MK.argmax(axis=1) == labels_M).mean())


def test_corruptions_are_averaged_and_a_missing_cell_is_said(
    toy: Any, perform: Perform, finetuned: Any, spec_of: Any, logits_MK: Any, test_details: Any
) -> None:
    rows = np.arange(toy.num_test)
    details_M2 = np.stack([rows % 2, rows % NUM_SEVERITIES + 1], axis=1)
    test_details(details=details_M2)
    result, _ = perform(spec_of("corruption"), {"checkpoint": finetuned})
    hits_M = logits_MK.argmax(axis=1) == toy.data.split("test").labels_N
    shares = [
        np.mean([hits_M[(details_M2 == (c, s + 1)).all(axis=1)].mean() for s in range(5)])
        for c in range(2)
    ]
    assert result.metrics["eval_top1"].value == pytest.approx(np.mean(shares))
    assert result.values == {
        f"top1/{name}": pytest.approx(share)
        for name, share in zip(CORRUPTIONS[:2], shares, strict=True)
    }
    mce = result.metrics["mce"]
    assert mce.value is None
    assert "65 of 75 sets missing" in mce.reason


def test_the_mean_corruption_error_is_relative_to_alexnet(
    toy: Any, perform: Perform, finetuned: Any, spec_of: Any, test_details: Any
) -> None:
    cells = [(c, s + 1) for c in range(15) for s in range(5)]
    old = toy.data.split("test")
    rows = np.arange(75) % toy.num_test
    toy_labels, images = old.labels_N[rows], old.images_NHWC[rows]
    toy.data.splits["test"] = Split(images, toy_labels, np.array(cells))
    try:
        result, folder = perform(spec_of("corruption"), {"checkpoint": finetuned})
    finally:
        toy.data.splits["test"] = old
    errors = 1 - np.load(folder / "hits.npz")["hits"].reshape(15, 5).mean(axis=1)
    alexnet = np.array([ALEXNET_ERRORS[name] for name in CORRUPTIONS])
    assert result.metrics["mce"].value == pytest.approx((errors / alexnet).mean())


def test_a_rule_without_its_labels_is_told(
    perform: Perform, finetuned: tuple[JobResult, Path], spec_of: Any
) -> None:
    with pytest.raises(DataError, match="toy: cannot be scored by the rule multi-label"):
        perform(spec_of("multi-label"), {"checkpoint": finetuned})


def test_a_head_of_other_classes_is_told(
    perform: Perform, finetuned: tuple[JobResult, Path], spec_of: Any
) -> None:
    with pytest.raises(CheckpointError, match="the classifier has 3 classes and toy 1,000"):
        perform(spec_of("top1", num_classes=1000), {"checkpoint": finetuned})


def edited(job: tuple[JobResult, Path], edit: Callable[[dict[str, torch.Tensor]], None]) -> Any:
    result, folder = job
    path = folder / "model.safetensors"
    weights = read_tensors(path, sha256=result.files[path.name])
    edit(weights)
    return result.model_copy(update={"files": {path.name: write_tensors(path, weights)}}), folder


def test_weights_without_a_classifier_are_told(
    perform: Perform, finetuned: tuple[JobResult, Path], spec_of: Any
) -> None:
    def behead(weights: dict[str, torch.Tensor]) -> None:
        del weights["head.weight"], weights["head.bias"]

    with pytest.raises(CheckpointError, match="the weights have no classifier to evaluate"):
        perform(spec_of("top1"), {"checkpoint": edited(finetuned, behead)})


def test_scores_that_are_not_finite_are_told(
    toy: Any, perform: Perform, finetuned: tuple[JobResult, Path], spec_of: Any
) -> None:
    def break_one(weights: dict[str, torch.Tensor]) -> None:
        weights["head.bias"][1] = torch.nan

    with pytest.raises(JobError, match="25 of 25 images of toy have scores that are not finite"):
        perform(spec_of("top1"), {"checkpoint": edited(finetuned, break_one)})
