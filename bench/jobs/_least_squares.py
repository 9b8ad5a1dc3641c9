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
import torch
from scipy.linalg import cho_factor, cho_solve

CONSTANT = 100.0
"""Value of the appended bias feature."""

EPSILON = 1e-5
"""Added to standard deviations."""

_CHUNK = 2048
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
        same ones.
        """
        width = self._train_z_ND.shape[1]
        for draw in range(draws):
            ranked = rank_examples(self._labels_N, num_classes=self._num_classes, seed=draw)
            gram_DD, num_summed = np.zeros((width, width)), 0
            for count in sorted(shots):
                chosen = [indices[:count] for indices in ranked]
                counts_K = np.array([len(indices) for indices in chosen])
                x_nD = self._centred(chosen)
                if len(x_nD) > width:
                    new = [indices[num_summed:count] for indices in ranked]
                    new_nD = self._centred(new) if num_summed else x_nD
                    gram_DD += new_nD.T @ new_nD
                    num_summed = count
                for l2, weight_DK, bias_K in _solve(x_nD, counts_K, gram_DD, l2s):
                    yield Fit(
                        draw=draw,
                        shots=count,
                        l2=l2,
                        num_short_classes=int((counts_K < count).sum()),
                        weight_DK=weight_DK,
                        bias_K=bias_K,
                    )

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
            best_M2, classes_M2 = torch.from_numpy(block_MK).topk(min(2, len(bias_K)), dim=1)
            predictions_M[rows] = classes_M2[:, 0].numpy()
            margins_M[rows] = (best_M2[:, 0] - best_M2[:, -1]).numpy()
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

    def _centred(self, by_class: Sequence[np.ndarray]) -> np.ndarray:
        """Return the training features of images given class after class, centred, float64."""
        chosen_nD = self._train_z_ND[np.concatenate(by_class)]
        return np.subtract(chosen_nD, self._shift_D, dtype=np.float64)

    def _centred_test(self, indices: np.ndarray) -> np.ndarray:
        return np.subtract(self._test_z_MD[indices], self._shift_D, dtype=np.float64)


def _solve(
    x_nD: np.ndarray, counts_K: np.ndarray, gram_DD: np.ndarray, l2s: Sequence[float]
) -> Iterator[tuple[float, np.ndarray, np.ndarray]]:
    """Yield (l2, weight_DK, bias_K) for shots given class after class.

    Of the two ways to write the same solution, the one with the smaller matrix is used:
    (X'X + l2)^-1 X'Y with X'X from `gram_DD` = x'x, or X'(XX' + l2)^-1 Y.
    """
    num_shots, width = x_nD.shape
    mean_D = x_nD.mean(axis=0)
    x_nD = x_nD - mean_D
    scale_D = np.sqrt(np.einsum("nd,nd->d", x_nD, x_nD) / num_shots) + EPSILON
    primal = num_shots > width
    if primal:
        centred_DD = gram_DD - num_shots * np.outer(mean_D, mean_D)
        matrix = centred_DD / np.outer(scale_D, scale_D)
        # With targets in {-1, 1} and X of mean zero, X'Y is twice the sum of X in each class.
        target = 2 * (_sums(x_nD, counts_K) / scale_D).T
    else:
        standard_nD = x_nD / scale_D
        matrix = standard_nD @ standard_nD.T
        target = np.full((num_shots, len(counts_K)), -1.0)
        target[np.arange(num_shots), np.repeat(np.arange(len(counts_K)), counts_K)] = 1.0
    diagonal = np.diag_indices_from(matrix)
    plain = matrix[diagonal]
    for l2 in l2s:
        matrix[diagonal] = plain + l2
        solution = cho_solve(cho_factor(matrix, lower=True), target)
        weight_DK = (solution if primal else standard_nD.T @ solution) / scale_D[:, None]
        constant_K = CONSTANT**2 * (2 * counts_K - num_shots) / (CONSTANT**2 * num_shots + l2)
        yield l2, weight_DK, constant_K - mean_D @ weight_DK


def _sums(x_nD: np.ndarray, counts_K: np.ndarray) -> np.ndarray:
    """Return the sum of the rows of each class; rows stand class after class."""
    sums_KD = np.zeros((len(counts_K), x_nD.shape[1]))
    present = np.flatnonzero(counts_K)
    starts = (np.cumsum(counts_K) - counts_K)[present]
    sums_KD[present] = np.add.reduceat(x_nD, starts, axis=0)
    return sums_KD
