"""The linear probe against scikit-learn, and its choice of l2."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.data import splits
from bench.errors import JobError
from bench.jobs import _softmax
from bench.jobs._softmax import EPSILON, Softmax
from bench.specs import JobResult

Perform = Callable[..., tuple[JobResult, Path]]


def clouds(num: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Four overlapping classes in 12 dimensions of unlike scales."""
    centres_KD = np.random.default_rng(0).normal(size=(4, 12))
    rng = np.random.default_rng(seed)
    labels_N = rng.integers(4, size=num)
    scales_D = np.geomspace(0.1, 30, 12)
    z_ND = (centres_KD[labels_N] + 1.5 * rng.normal(size=(num, 12))) * scales_D + 5
    return z_ND.astype(np.float32), labels_N


def sklearn_fit(z_ND: np.ndarray, labels_N: np.ndarray, l2: float) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=1 / (l2 * len(z_ND)), tol=1e-10, max_iter=10_000).fit(
        z_ND, labels_N
    )


@pytest.mark.parametrize("l2", [1.0, 1e-2, 1e-4])
def test_the_solution_is_scikit_learns(l2: float) -> None:
    z_ND, labels_N = clouds(300, seed=1)
    test_z_MD, _ = clouds(500, seed=2)
    probe = Softmax(z_ND, labels_N, num_classes=4)
    fit = probe.fit(l2)
    assert fit.converged
    mean_D, scale_D = z_ND.mean(axis=0, dtype=float), z_ND.std(axis=0, dtype=float) + EPSILON
    theirs = sklearn_fit((z_ND - mean_D) / scale_D, labels_N, l2)
    np.testing.assert_allclose(fit.weight_DK, theirs.coef_.T, atol=2e-4)
    # A common shift of all biases leaves the classes as they are.
    bias_K = fit.bias_K - fit.bias_K.mean()
    np.testing.assert_allclose(bias_K, theirs.intercept_ - theirs.intercept_.mean(), atol=2e-4)
    predicted_M = theirs.predict((test_z_MD - mean_D) / scale_D)
    assert (probe.predict(fit, test_z_MD) == predicted_M).mean() > 0.997


def test_a_path_ends_where_a_direct_fit_does(monkeypatch: pytest.MonkeyPatch) -> None:
    z_ND, labels_N = clouds(200, seed=1)
    direct = Softmax(z_ND, labels_N, num_classes=4).fit(1e-3)
    monkeypatch.setattr(_softmax, "_BLOCK_SCORES", 16 * 30)  # 30 images at a time
    *_, last = Softmax(z_ND, labels_N, num_classes=4).fits([1e-3, 1.0, 0.1])
    assert last.l2 == 1e-3
    np.testing.assert_allclose(last.weight_DK, direct.weight_DK, atol=1e-3)


def test_the_gradient_is_the_slope_of_the_loss() -> None:
    z_ND, labels_N = clouds(50, seed=1)
    probe = Softmax(z_ND, labels_N, num_classes=4)
    rng = np.random.default_rng(0)
    theta, direction = rng.normal(size=(2, 13 * 4)) * 0.3
    _, gradient = probe._loss(theta, 0.1)
    above, below = (probe._loss(theta + step * direction, 0.1)[0] for step in (1e-5, -1e-5))
    assert (above - below) / 2e-5 == pytest.approx(gradient @ direction, rel=1e-7)


def test_a_feature_that_never_varies_is_harmless() -> None:
    z_ND, labels_N = clouds(80, seed=1)
    z_ND[:, 3] = 7
    fit = Softmax(z_ND, labels_N, num_classes=4).fit(0.01)
    assert fit.converged
    np.testing.assert_allclose(fit.weight_DK[3], 0, atol=1e-6)


# --- the job --------------------------------------------------------------------------------


@pytest.fixture
def spec_of(toy: Any, pretrained: tuple[JobResult, Path]) -> Callable[..., Any]:
    def make(l2s: tuple[float, ...], **fields: Any) -> Any:
        needs = {"checkpoint": pretrained[0].job_id}
        fields = {"eval_split": "test", "held_out": 0.2, **fields}
        return toy.spec("probe", params={"l2s": l2s}, needs=needs, **fields)

    return make


def test_l2_is_chosen_on_held_out_images_and_test_is_scored_once(
    toy: Any, perform: Perform, pretrained: tuple[JobResult, Path], spec_of: Any, tmp_path: Path
) -> None:
    l2s = (1e-3, 0.1, 10.0)
    result, folder = perform(spec_of(l2s), {"checkpoint": pretrained})
    stored = np.load(folder / "hits.npz")
    hits = stored["hits"]
    np.testing.assert_array_equal(stored["classes/probe_top1"] == stored["labels"], hits)
    assert result.metrics["probe_top1"].n == len(hits) == toy.num_test
    assert result.metrics["probe_top1"].value == pytest.approx(hits.mean())
    assert result.values["converged"] is True
    train, test = features_by_length(tmp_path, toy)
    labels_N = toy.data.split("train").labels_N
    fitted_N, held_N = splits.held_out_indices(labels_N, 0.2, seed=0)
    probe = Softmax(train[fitted_N], labels_N[fitted_N], num_classes=3)
    accuracy = {
        l2: (probe.predict(probe.fit(l2), train[held_N]) == labels_N[held_N]).mean() for l2 in l2s
    }
    best = max(accuracy.values())
    assert result.metrics["val_top1"].value == pytest.approx(best)
    assert result.metrics["val_top1"].n == len(held_N)
    chosen = max(l2 for l2, value in accuracy.items() if value == best)
    assert result.values["l2"] == chosen
    everything = Softmax(train, labels_N, num_classes=3)
    expected = everything.predict(everything.fit(chosen), test) == toy.data.split("test").labels_N
    np.testing.assert_array_equal(hits, expected)


def features_by_length(tmp_path: Path, toy: Any) -> tuple[np.ndarray, np.ndarray]:
    found = [np.load(path) for path in (tmp_path / "cache" / "features").glob("*/features.npy")]
    by_length = {len(z_ND): z_ND for z_ND in found}
    return by_length[toy.num_train], by_length[toy.num_test]


def test_one_l2_needs_no_choice(
    perform: Perform, pretrained: tuple[JobResult, Path], spec_of: Any
) -> None:
    result, _ = perform(spec_of((0.5,), held_out=None), {"checkpoint": pretrained})
    assert set(result.metrics) == {"probe_top1"}
    assert result.values["l2"] == 0.5


def test_a_sweep_without_held_out_images_is_told(
    perform: Perform, pretrained: tuple[JobResult, Path], spec_of: Any
) -> None:
    with pytest.raises(JobError, match="has 2 l2s to choose from and no held-out images"):
        perform(spec_of((0.1, 1.0), held_out=None), {"checkpoint": pretrained})
