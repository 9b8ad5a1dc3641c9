"""Few-shot classification by regularized least squares, in closed form.

The rules are big_vision's `fewshot_lsr` (the protocol of the ViT paper, section 4.1): standardize
features with the mean and standard deviation of the shots (+1e-5), append a constant 100, fit
targets in {-1, 1}, l2 on all weights, the highest score wins. Predictions are those of float64
arithmetic throughout. What is shared makes it fast:

- Standardized shots have mean zero, so the constant column is orthogonal to the others and its
  weight is a division: 100 sum(Y) / (100^2 n + l2).
- Shots are nested, so X'X of many shots is that of few plus that of the new ones.
- Standardization is folded into the weights: test features are scored as they are.
- Scores are computed in float32, and again in float64 for the images whose two best scores are
  closer than the largest error that float32 can make.

Shapes: N images to choose shots from, n shots, M test images, D features, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve

CONSTANT = 100.0
"""Value of the appended bias feature."""

EPSILON = 1e-5
"""Added to standard deviations."""

_CHUNK = 2048
"""Test images scored at once."""

_CACHED = 64
"""Rows whose float64 temporaries stay in a core's cache."""

_FLOAT32_STEP = 2.0**-24


@dataclass(frozen=True)
class Fit:
    """The classifier of one draw, number of shots and l2: scores = (z - shift) @ weight + bias."""

    draw: int
    """Number of the draw, counted from 0."""
    shots: int
    """Training images per class, where the class has as many."""
    l2: float
    """Regularization."""
    num_short_classes: int
    """Classes that had fewer images than `shots`."""
    weight_DK: np.ndarray
    """Weights on centred features, float64."""
    bias_K: np.ndarray
    """Biases, float64."""


def rank_examples(labels_N: np.ndarray, *, num_classes: int, seed: int) -> list[np.ndarray]:
    """Return for each class the indices of its images in random order; k shots are the first k.

    One generator serves all classes in turn, as in big_vision, so the choice is theirs.
    """
    rng = np.random.default_rng(seed)
    return [rng.permutation(np.flatnonzero(labels_N == label)) for label in range(num_classes)]


class FewShot:
    """One few-shot task: frozen features of its training and test images."""

    def __init__(
        self,
        train_z_ND: np.ndarray,
        train_labels_N: np.ndarray,
        test_z_MD: np.ndarray,
        *,
        num_classes: int,
    ) -> None:
        self._labels_N = train_labels_N
        self._num_classes = num_classes
        self._train_z_ND = train_z_ND
        self._test_z_MD = test_z_MD
        # Any common shift leaves the result as it is, and keeps sums of squares accurate.
        self._shift_D = train_z_ND.mean(axis=0, dtype=np.float64).astype(np.float32)
        self._centred_MD = test_z_MD - self._shift_D
        self._norms_M = np.linalg.norm(self._centred_MD, axis=1)

    def fits(self, *, shots: Sequence[int], draws: int, l2s: Sequence[float]) -> Iterator[Fit]:
        """Yield the classifiers of all draws, shots and l2 values, draw after draw.

        Draw i chooses its images with seed i, whatever is fitted on them: every system sees the
        same ones. Where a class has fewer images than shots, it gives what it has.
        """
        counts = sorted(shots)
        chosen = _Shots(self._num_classes, width=len(self._shift_D))
        for draw in range(draws):
            ranked = rank_examples(self._labels_N, num_classes=self._num_classes, seed=draw)
            chosen.clear()
            for count in counts:
                for place in range(chosen.shots, count):
                    chosen.add(*self._shot(ranked, place))
                for l2, weight_DK, bias_K in chosen.solve(l2s):
                    yield Fit(
                        draw=draw,
                        shots=count,
                        l2=l2,
                        num_short_classes=int((chosen.counts_K < count).sum()),
                        weight_DK=weight_DK,
                        bias_K=bias_K,
                    )

    def _shot(self, ranked: Sequence[np.ndarray], place: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the classes that have an image at this place, and its centred features."""
        classes = np.array([label for label, own in enumerate(ranked) if len(own) > place], int)
        rows = np.array([ranked[label][place] for label in classes], int)
        return classes, np.subtract(self._train_z_ND[rows], self._shift_D, dtype=np.float64)

    def predict(self, fit: Fit) -> np.ndarray:
        """Return the class of each test image, as float64 arithmetic would choose it."""
        weight_DK, bias_K = fit.weight_DK.astype(np.float32), fit.bias_K.astype(np.float32)
        predictions_M = np.empty(len(self._centred_MD), dtype=np.int64)
        margins_M = np.empty(len(self._centred_MD), dtype=np.float32)
        scores_MK = np.empty((_CHUNK, len(bias_K)), dtype=np.float32)
        for start in range(0, len(predictions_M), _CHUNK):
            rows = slice(start, start + _CHUNK)
            z_MD = self._centred_MD[rows]
            block_MK = np.matmul(z_MD, weight_DK, out=scores_MK[: len(z_MD)])
            block_MK += bias_K
            predictions_M[rows], margins_M[rows] = _best(block_MK)
        close_N = np.flatnonzero(margins_M <= self._largest_errors(fit))
        exact_MK = self._centred_test(close_N) @ fit.weight_DK + fit.bias_K
        predictions_M[close_N] = exact_MK.argmax(axis=1)
        return predictions_M

    def _largest_errors(self, fit: Fit) -> np.ndarray:
        """Return a bound on the float32 error of the difference of two scores, by test image.

        A sum of D rounded products of rounded factors is off by at most (D + 4) eps |z| |w|.
        """
        length = np.linalg.norm(fit.weight_DK, axis=0).max()
        terms = (len(fit.weight_DK) + 4) * self._norms_M * length + 2 * np.abs(fit.bias_K).max()
        return 2 * _FLOAT32_STEP * terms

    def _centred_test(self, indices: np.ndarray) -> np.ndarray:
        return np.subtract(self._test_z_MD[indices], self._shift_D, dtype=np.float64)


class _Shots:
    """The images chosen so far for each class, and the sums that all fits on them share.

    Images come shot by shot: the first of every class, then the second of every class that has one.
    """

    def __init__(self, num_classes: int, *, width: int) -> None:
        self._num_classes = num_classes
        self._width = width
        self.clear()

    def clear(self) -> None:
        """Forget all images."""
        self.shots = 0
        self.counts_K = np.zeros(self._num_classes, dtype=int)
        self._sums_KD = np.zeros((self._num_classes, self._width))
        self._gram_DD = np.zeros((self._width, self._width))
        self._num_summed = 0
        self._blocks: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, classes: np.ndarray, x_nD: np.ndarray) -> None:
        """Take one more image of each of `classes`, centred features x_nD (float64)."""
        self.shots += 1
        self.counts_K[classes] += 1
        self._sums_KD[classes] += x_nD
        self._blocks.append((classes, x_nD))

    def solve(self, l2s: Sequence[float]) -> Iterator[tuple[float, np.ndarray, np.ndarray]]:
        """Yield (l2, weight_DK, bias_K).

        Of the two ways to write the same solution, the one with the smaller matrix is used:
        (X'X + l2)^-1 X'Y or X'(XX' + l2)^-1 Y.
        """
        num_shots = int(self.counts_K.sum())
        mean_D = self._sums_KD.sum(axis=0) / num_shots
        scale_D = np.sqrt(self._squares(mean_D) / num_shots) + EPSILON
        primal = num_shots > self._width
        if primal:
            matrix = self._gram() - num_shots * np.outer(mean_D, mean_D)
            matrix /= np.outer(scale_D, scale_D)
            # With targets in {-1, 1} and X of mean zero, X'Y is twice the sum of X in each class.
            centred_KD = self._sums_KD - self.counts_K[:, None] * mean_D
            target = 2 * (centred_KD / scale_D).T
        else:
            standard_nD = np.concatenate([x_nD for _, x_nD in self._blocks])
            standard_nD = (standard_nD - mean_D) / scale_D
            matrix = standard_nD @ standard_nD.T
            target = np.full((num_shots, self._num_classes), -1.0)
            labels_n = np.concatenate([classes for classes, _ in self._blocks])
            target[np.arange(num_shots), labels_n] = 1.0
        diagonal = np.diag_indices_from(matrix)
        plain = matrix[diagonal]
        for l2 in l2s:
            matrix[diagonal] = plain + l2
            solution = cho_solve(cho_factor(matrix, lower=True), target)
            weight_DK = (solution if primal else standard_nD.T @ solution) / scale_D[:, None]
            weight_of_bias = CONSTANT**2 / (CONSTANT**2 * num_shots + l2)
            constant_K = weight_of_bias * (2 * self.counts_K - num_shots)
            yield l2, weight_DK, constant_K - mean_D @ weight_DK

    def _squares(self, mean_D: np.ndarray) -> np.ndarray:
        """Return the sum of squared differences from the mean.

        Not from the diagonal of X'X, which has no digits left for a feature that hardly varies.
        """
        squares_D = np.zeros(self._width)
        for _, x_nD in self._blocks:
            for start in range(0, len(x_nD), _CACHED):
                rest_nD = x_nD[start : start + _CACHED] - mean_D
                squares_D += np.einsum("nd,nd->d", rest_nD, rest_nD)
        return squares_D

    def _gram(self) -> np.ndarray:
        """Return X'X, of which only the images that came since the last time are summed."""
        for _, x_nD in self._blocks[self._num_summed :]:
            self._gram_DD += x_nD.T @ x_nD
        self._num_summed = len(self._blocks)
        return self._gram_DD


def _best(scores_MK: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the class with the highest score, and how far the next one is; changes the scores.

    Two passes for the maximum are several times as fast as a search for the two largest.
    """
    rows = np.arange(len(scores_MK))
    classes_M = scores_MK.argmax(axis=1)
    best_M = scores_MK[rows, classes_M]
    scores_MK[rows, classes_M] = -np.inf
    return classes_M, best_M - scores_MK.max(axis=1)
