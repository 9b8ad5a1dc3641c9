"""Calibration: known answers of the error, and a job against arithmetic by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from bench import models
from bench.data import transforms
from bench.errors import CheckpointError
from bench.jobs.calibration import expected_calibration_error
from bench.specs import JobResult
from bench.training.checkpoint import read_tensors

Perform = Callable[..., tuple[JobResult, Path]]


def slow_error(confidences_N: np.ndarray, hits_N: np.ndarray, bins: int) -> float:
    """The formula of the source, bin by bin: (low, high] of width 1 / bins."""
    total = 0.0
    for index in range(bins):
        inside = np.ceil(confidences_N * bins) - 1 == index
        if inside.any():
            gap = abs(hits_N[inside].mean() - confidences_N[inside].mean())
            total += inside.mean() * gap
    return total


@pytest.mark.parametrize(
    ("confidences", "hits", "bins", "error"),
    [
        ([1.0, 1.0], [True, True], 10, 0.0),
        ([1.0, 1.0], [False, False], 10, 1.0),
        ([0.75, 0.75, 0.75, 0.75], [True, True, True, False], 15, 0.0),  # right as often as sure
        ([0.9, 0.9], [True, False], 10, 0.4),
        ([0.8, 0.4], [True, False], 2, 0.3),  # (0.2 + 0.4) / 2: two bins do not cancel
        ([0.8, 0.4], [True, False], 1, 0.1),  # one bin does: |1/2 - 0.6|
        ([0.5, 0.5], [True, True], 2, 0.5),  # closed above: 0.5 is of the first of two bins
    ],
)
def test_known_answers(confidences: list[float], hits: list[bool], bins: int, error: float) -> None:
    found = expected_calibration_error(np.array(confidences), np.array(hits), bins=bins)
    assert found == pytest.approx(error)


@given(
    arrays.arrays(float, st.integers(1, 40), elements=st.floats(0.01, 1.0)),
    st.integers(1, 20),
    st.randoms(use_true_random=False),
)
def test_it_is_the_formula_of_the_source(confidences_N: np.ndarray, bins: int, random: Any) -> None:
    hits_N = np.array([random.random() < 0.5 for _ in confidences_N])
    found = expected_calibration_error(confidences_N, hits_N, bins=bins)
    assert found == pytest.approx(slow_error(confidences_N, hits_N, bins))
    assert 0 <= found <= 1


@pytest.fixture
def spec(toy: Any, finetuned: tuple[JobResult, Path]) -> Any:
    return toy.spec(
        "calibration",
        params={"bins": 5},
        needs={"checkpoint": finetuned[0].job_id},
        eval_split="test",
        train_split="",
    )


def test_a_job_agrees_with_arithmetic_by_hand(
    toy: Any, perform: Perform, finetuned: tuple[JobResult, Path], spec: Any
) -> None:
    result, folder = perform(spec, {"checkpoint": finetuned})
    model = models.build(toy.vit, num_classes=toy.num_classes, image_size_px=8)
    path = finetuned[1] / "model.safetensors"
    model.load_state_dict(read_tensors(path, sha256=finetuned[0].files[path.name]))
    test = toy.data.split("test")
    images = torch.from_numpy(test.images_NHWC)
    labels_N = torch.from_numpy(np.asarray(test.labels_N, dtype=np.int64))
    with torch.no_grad():
        logits_NK = model.eval()(transforms.preset("resize", size_px=8)(images, None)).double()
    best_N, classes_N = logits_NK.softmax(dim=1).max(dim=1)
    hits_N = (classes_N == labels_N).numpy()
    nll = torch.nn.functional.cross_entropy(logits_NK, labels_N)
    assert result.metrics["nll"].value == pytest.approx(float(nll), rel=1e-6)
    ece = slow_error(best_N.numpy(), hits_N, 5)
    assert result.metrics["ece"].value == pytest.approx(ece, rel=1e-6)
    np.testing.assert_array_equal(np.load(folder / "hits.npz")["hits"], hits_N)
    assert result.metrics["ece"].n == len(labels_N)


def test_weights_without_a_classifier_are_refused(
    perform: Perform, pretrained: tuple[JobResult, Path], toy: Any
) -> None:
    spec = toy.spec(
        "calibration",
        params={"bins": 5},
        needs={"checkpoint": pretrained[0].job_id},
        eval_split="test",
        train_split="",
        num_classes=toy.num_classes + 1,
    )
    with pytest.raises(CheckpointError, match="classes"):
        perform(spec, {"checkpoint": pretrained})
