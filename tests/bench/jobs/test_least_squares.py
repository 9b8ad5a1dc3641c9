"""Few-shot: the choice of images and the solution, against literal re-implementations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from bench.jobs import _least_squares
from bench.jobs._least_squares import FewShot, rank_examples


def literal_choice(labels: np.ndarray, num_classes: int, shots: int, seed: int) -> np.ndarray:
    """big_vision's fewshot_lsr, line by line."""
    rng = np.random.default_rng(seed)
    class_indices = [rng.permutation(np.where(labels == cls_i)[0]) for cls_i in range(num_classes)]
    return np.concatenate([indices[:shots] for indices in class_indices])


def literal_scores(
    x: np.ndarray, y: np.ndarray, test: np.ndarray, num_classes: int, l2: float, *, primal: bool
) -> np.ndarray:
    """The whole rule in float64 with the constant column and a general solver."""
    mean, std = x.mean(axis=0), x.std(axis=0) + 1e-5
    x = np.pad((x - mean) / std, ((0, 0), (0, 1)), constant_values=100.0)
    test = np.pad((test - mean) / std, ((0, 0), (0, 1)), constant_values=100.0)
    targets = 2.0 * np.eye(num_classes)[y] - 1
    if primal:
        weight = np.linalg.solve(x.T @ x + l2 * np.eye(x.shape[1]), x.T @ targets)
    else:
        weight = x.T @ np.linalg.solve(x @ x.T + l2 * np.eye(len(x)), targets)
    return test @ weight


def problem(
    num: int = 400, width: int = 20, num_classes: int = 7, spread: float = 1.5
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Overlapping clusters far from the origin, in float32, as features are."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(num_classes, width)) + 30
    labels = rng.integers(0, num_classes, size=num)
    train = centres[labels] + spread * rng.normal(size=(num, width))
    test_labels = rng.integers(0, num_classes, size=200)
    test = centres[test_labels] + spread * rng.normal(size=(200, width))
    return train.astype(np.float32), labels, test.astype(np.float32)


def fits_of(
    train: np.ndarray,
    labels: np.ndarray,
    test: np.ndarray,
    *,
    num_classes: int,
    shots: Sequence[int],
    draws: int = 2,
    l2s: Sequence[float] = (1024.0,),
) -> tuple[FewShot, list[_least_squares.Fit]]:
    task = FewShot(train, labels, test, num_classes=num_classes)
    return task, list(task.fits(shots=shots, draws=draws, l2s=l2s))


def scores(fit: _least_squares.Fit, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    shift = train.mean(axis=0, dtype=np.float64).astype(np.float32)
    return (test.astype(np.float64) - shift) @ fit.weight_DK + fit.bias_K


# --- the choice -----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_choice_is_big_visions(seed: int) -> None:
    labels = np.random.default_rng(9).integers(0, 6, size=90)
    ranked = rank_examples(labels, num_classes=6, seed=seed)
    for shots in (1, 5, 10, 25):
        found = np.concatenate([indices[:shots] for indices in ranked])
        np.testing.assert_array_equal(found, literal_choice(labels, 6, shots, seed))


def test_the_choice_pinned() -> None:
    ranked = rank_examples(np.array([0, 1, 0, 1, 0, 1]), num_classes=2, seed=0)
    assert [indices.tolist() for indices in ranked] == [[4, 0, 2], [5, 3, 1]]


# --- the solution ---------------------------------------------------------------------------


@pytest.mark.parametrize("shots", [1, 2, 5, 25])
@pytest.mark.parametrize("l2", [1.0, 1024.0])
def test_scores_are_those_of_a_direct_solve(shots: int, l2: float) -> None:
    """1 and 2 shots of 7 classes are fewer than 20 features (dual), 5 and 25 more (primal)."""
    train, labels, test = problem()
    _, fits = fits_of(train, labels, test, num_classes=7, shots=(shots,), l2s=(l2,))
    assert [fit.draw for fit in fits] == [0, 1]
    for fit in fits:
        chosen = literal_choice(labels, 7, shots, fit.draw)
        for primal in (True, False):
            expected = literal_scores(
                train[chosen].astype(np.float64),
                labels[chosen],
                test.astype(np.float64),
                7,
                l2,
                primal=primal,
            )
            np.testing.assert_allclose(scores(fit, train, test), expected, rtol=1e-7, atol=1e-9)


def test_all_shots_draws_and_l2_values_of_one_pass_are_those_of_separate_passes() -> None:
    train, labels, test = problem()
    task, fits = fits_of(
        train, labels, test, num_classes=7, shots=(10, 1, 5), draws=3, l2s=(8.0, 1024.0)
    )
    assert [(fit.draw, fit.shots, fit.l2) for fit in fits] == [
        (draw, shots, l2) for draw in range(3) for shots in (1, 5, 10) for l2 in (8.0, 1024.0)
    ]
    for fit in fits:
        _, alone = fits_of(
            train, labels, test, num_classes=7, shots=(fit.shots,), draws=3, l2s=(fit.l2,)
        )
        np.testing.assert_allclose(fit.weight_DK, alone[fit.draw].weight_DK, rtol=1e-9)
        np.testing.assert_allclose(fit.bias_K, alone[fit.draw].bias_K, rtol=1e-9, atol=1e-12)
        expected = scores(fit, train, test).argmax(axis=1)
        np.testing.assert_array_equal(task.predict(fit), expected)


def test_classes_with_fewer_images_give_what_they_have() -> None:
    train, labels, test = problem(num=60)
    keep = (labels != 3) | (np.cumsum(labels == 3) <= 2)  # class 3 has two images, class 5 none
    keep &= labels != 5
    train, labels = train[keep], labels[keep]
    _, fits = fits_of(train, labels, test, num_classes=7, shots=(1, 4), draws=1)
    assert [fit.num_short_classes for fit in fits] == [1, 2]
    for fit in fits:
        chosen = literal_choice(labels, 7, fit.shots, 0)
        expected = literal_scores(
            train[chosen].astype(np.float64),
            labels[chosen],
            test.astype(np.float64),
            7,
            1024.0,
            primal=True,
        )
        np.testing.assert_allclose(scores(fit, train, test), expected, rtol=1e-7, atol=1e-9)


def test_features_that_are_constant_in_the_shots() -> None:
    """They are divided by 1e-5; what float64 says of them is what counts."""
    train, labels, test = problem()
    train[:, 3] = 30.1
    train[:, 8] = 0.0
    for shots in (1, 25):
        _, fits = fits_of(train, labels, test, num_classes=7, shots=(shots,), draws=1)
        chosen = literal_choice(labels, 7, shots, 0)
        expected = literal_scores(
            train[chosen].astype(np.float64),
            labels[chosen],
            test.astype(np.float64),
            7,
            1024.0,
            primal=True,
        )
        np.testing.assert_allclose(scores(fits[0], train, test), expected, rtol=1e-4, atol=1e-5)


def test_close_scores_are_decided_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two classes that float32 cannot tell apart, one nudged by a billionth: the right one wins."""
    train, labels, test = problem(num_classes=2)
    task, (fit,) = fits_of(train, labels, test, num_classes=2, shots=(5,), draws=1)
    nudge = 1e-9 * np.sign(np.arange(len(fit.weight_DK)) % 2 - 0.5)
    weight_DK = np.stack([fit.weight_DK[:, 0], fit.weight_DK[:, 0] + nudge], axis=1)
    twins = _least_squares.Fit(0, 5, 1024.0, 0, weight_DK, np.zeros(2))
    expected = scores(twins, train, test).argmax(axis=1)
    assert set(expected) == {0, 1}
    np.testing.assert_array_equal(task.predict(twins), expected)
    monkeypatch.setattr(FewShot, "_largest_errors", lambda self, fit: np.full(len(test), -1.0))
    assert (task.predict(twins) != expected).any()


def test_float32_is_trusted_where_the_margin_is_wide() -> None:
    train, labels, test = problem()
    task, (fit,) = fits_of(train, labels, test, num_classes=7, shots=(25,), draws=1)
    exact = scores(fit, train, test)
    ordered = np.sort(exact, axis=1)
    clear = ordered[:, -1] - ordered[:, -2] > task._largest_errors(fit)
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(task.predict(fit), exact.argmax(axis=1))
