"""Nearest neighbours against the rule written out, and against scikit-learn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.errors import JobError
from bench.jobs import knn
from bench.specs import JobResult

Perform = Callable[..., tuple[JobResult, Path]]


def points(num: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels_N = rng.integers(5, size=num)
    centres_KD = np.random.default_rng(0).normal(size=(5, 9))
    z_ND = centres_KD[labels_N] + rng.normal(size=(num, 9))
    return z_ND.astype(np.float32), labels_N


def naive(
    train: np.ndarray, labels_N: np.ndarray, test: np.ndarray, *, k: int, temperature: float
) -> np.ndarray:
    """The vote, one test image after another, in float64."""
    units = train / np.linalg.norm(train, axis=1, keepdims=True)
    classes = []
    for z_D in test.astype(float):
        similar_N = units @ (z_D / np.linalg.norm(z_D))
        votes_K = np.zeros(5)
        for index in np.argsort(-similar_N)[:k]:
            votes_K[labels_N[index]] += np.exp(similar_N[index] / temperature)
        classes.append(votes_K.argmax())
    return np.array(classes)


@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_votes_are_those_of_the_rule(temperature: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knn, "_TRAIN_ROWS", 37)
    monkeypatch.setattr(knn, "_TEST_ROWS", 11)
    train, labels_N = points(200, seed=1)
    test, _ = points(90, seed=2)
    found = knn.vote(
        train, labels_N, test, num_classes=5, neighbours=(1, 10, 60), temperature=temperature
    )
    for k, classes_M in found.items():
        expected_M = naive(train, labels_N, test, k=k, temperature=temperature)
        np.testing.assert_array_equal(classes_M, expected_M)


def test_with_equal_votes_it_is_scikit_learns() -> None:
    from sklearn.neighbors import KNeighborsClassifier

    train, labels_N = points(300, seed=1)
    test, _ = points(200, seed=2)
    found = knn.vote(train, labels_N, test, num_classes=5, neighbours=(1, 15), temperature=1e6)
    for k, classes_M in found.items():
        theirs = KNeighborsClassifier(k, metric="cosine").fit(train, labels_N).predict(test)
        # Equal counts are broken by the nearest here and by the lowest class there.
        assert (classes_M == theirs).mean() > (0.999 if k == 1 else 0.95)


def test_the_job_stores_hits_of_each_number_of_neighbours(
    toy: Any, perform: Perform, pretrained: tuple[JobResult, Path]
) -> None:
    params = {"neighbours": (3, 60), "temperature": 0.07}
    spec = toy.spec(
        "knn", eval_split="test", params=params, needs={"checkpoint": pretrained[0].job_id}
    )
    result, folder = perform(spec, {"checkpoint": pretrained})
    hits = np.load(folder / "hits.npz")
    for k in (3, 60):
        metric = result.metrics[f"knn_top1/{k}"]
        assert metric.n == len(hits[f"neighbours_{k}"]) == toy.num_test
        assert metric.value == pytest.approx(hits[f"neighbours_{k}"].mean())
        right = hits[f"classes/knn_top1/{k}"] == hits["labels"]
        np.testing.assert_array_equal(right, hits[f"neighbours_{k}"])
    assert result.metrics["knn_top1/3"].value > 0.4  # three classes


def test_more_neighbours_than_images_are_told(
    toy: Any, perform: Perform, pretrained: tuple[JobResult, Path]
) -> None:
    params = {"neighbours": (10, 61), "temperature": 0.07}
    spec = toy.spec(
        "knn", eval_split="test", params=params, needs={"checkpoint": pretrained[0].job_id}
    )
    with pytest.raises(JobError, match="61 neighbours requested from 60 training images of toy"):
        perform(spec, {"checkpoint": pretrained})
