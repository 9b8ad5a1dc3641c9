"""Softmax regression with L2 on frozen features, solved to convergence.

Minimizes the mean cross-entropy plus l2/2 times the sum of squared weights; biases are free. It is
scikit-learn's `LogisticRegression` with C = 1 / (l2 x number of images), on features standardized
with the mean and standard deviation of the images that are fitted. Arithmetic is float64, blocks
of images at a time, so that scores of all images are never held at once.

Shapes: N images fitted, B images of a block, D features, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

EPSILON = 1e-5
"""Added to standard deviations, as in the few-shot fit."""

MAX_ITERATIONS = 1000
"""Steps of L-BFGS after which a fit is reported as not converged."""

_TOLERANCE = 1e-6
"""Largest component of the gradient of the mean loss at which a fit has converged."""

_BLOCK_SCORES = 1 << 24
"""Scores held at once: 128 MiB in float64."""


@dataclass(frozen=True)
class Fit:
    """One solution: scores = (z - mean) / scale @ weight + bias."""

    l2: float
    """Regularization."""
    weight_DK: np.ndarray
    """Weights on standardized features, float64."""
    bias_K: np.ndarray
    """Biases, float64."""
    num_iterations: int
    """Steps of L-BFGS that it took."""
    converged: bool
    """Whether the gradient is as small as asked."""


class Softmax:
    """Softmax regression on one set of training features."""

    def __init__(
        self,
        z_ND: np.ndarray,
        labels_N: np.ndarray,
        *,
        num_classes: int,
        device: torch.device | str = "cpu",
    ) -> None:
        self._device = torch.device(device)
        self._mean_D = z_ND.mean(axis=0, dtype=np.float64)
        # The standard deviation in float64, of what may be more than fits in memory twice.
        squares_D = sum(
            np.square(z_ND[rows] - self._mean_D).sum(axis=0) for rows in _blocks(len(z_ND), 4096)
        )
        self._scale_D = np.sqrt(squares_D / len(z_ND)) + EPSILON
        self._x_ND = self._standardized(z_ND)
        self._labels_N = torch.from_numpy(np.ascontiguousarray(labels_N)).to(self._device)
        self._num_classes = num_classes

    def fits(self, l2s: Sequence[float], *, start: Fit | None = None) -> Iterator[Fit]:
        """Yield the solution of each l2, strongest first, each begun where the last one ended."""
        for l2 in sorted(l2s, reverse=True):
            start = self.fit(l2, start=start)
            yield start

    def fit(self, l2: float, *, start: Fit | None = None) -> Fit:
        """Return the solution for `l2`, begun at another one or at zero."""
        from scipy.optimize import minimize

        width, classes = self._x_ND.shape[1], self._num_classes
        theta = np.zeros((width + 1) * classes)
        if start is not None:
            theta = np.concatenate([start.weight_DK.ravel(), start.bias_K])
        found = minimize(
            self._loss,
            theta,
            args=(l2,),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": MAX_ITERATIONS, "gtol": _TOLERANCE, "ftol": 0.0},
        )
        return Fit(
            l2=l2,
            weight_DK=found.x[: width * classes].reshape(width, classes),
            bias_K=found.x[width * classes :],
            num_iterations=int(found.nit),
            # At the end of float64 no step lowers the loss: that is as converged as it gets.
            converged=bool(found.status == 0 or np.abs(found.jac).max() < 10 * _TOLERANCE),
        )

    def predict(self, fit: Fit, z_MD: np.ndarray) -> np.ndarray:
        """Return the class of the highest score of each image, int64; the lower one of equals."""
        weight_DK, bias_K = self._tensor(fit.weight_DK), self._tensor(fit.bias_K)
        classes_M = np.empty(len(z_MD), dtype=np.int64)
        for rows in _blocks(len(z_MD), self._block_rows()):
            scores_BK = self._standardized(z_MD[rows]).double() @ weight_DK + bias_K
            classes_M[rows] = scores_BK.argmax(dim=1).cpu().numpy()
        return classes_M

    def _loss(self, theta: np.ndarray, l2: float) -> tuple[float, np.ndarray]:
        """Return the loss and its gradient, in the order of `theta`: weights, then biases."""
        width, classes = self._x_ND.shape[1], self._num_classes
        weight_DK = self._tensor(theta[: width * classes].reshape(width, classes))
        bias_K = self._tensor(theta[width * classes :])
        total = torch.zeros((), dtype=torch.float64, device=self._device)
        slope_DK, slope_K = torch.zeros_like(weight_DK), torch.zeros_like(bias_K)
        for rows in _blocks(len(self._x_ND), self._block_rows()):
            x_BD, labels_B = self._x_ND[rows].double(), self._labels_N[rows]
            logs_BK = torch.log_softmax(x_BD @ weight_DK + bias_K, dim=1)
            total -= logs_BK.gather(1, labels_B[:, None]).sum()
            error_BK = logs_BK.exp_()
            error_BK[torch.arange(len(labels_B), device=self._device), labels_B] -= 1
            slope_DK += x_BD.T @ error_BK
            slope_K += error_BK.sum(dim=0)
        num = len(self._x_ND)
        loss = float(total) / num + 0.5 * l2 * float(weight_DK.square().sum())
        slope_DK = slope_DK / num + l2 * weight_DK
        gradient = torch.cat([slope_DK.flatten(), slope_K / num])
        return loss, gradient.cpu().numpy()

    def _block_rows(self) -> int:
        return max(1, _BLOCK_SCORES // (self._num_classes + self._x_ND.shape[1]))

    def _standardized(self, z_ND: np.ndarray) -> Tensor:
        """Return features standardized, rounded to float32 as the features are."""
        x_ND = np.empty(z_ND.shape, dtype=np.float32)
        for rows in _blocks(len(z_ND), 4096):
            x_ND[rows] = (z_ND[rows] - self._mean_D) / self._scale_D
        return torch.from_numpy(x_ND).to(self._device)

    def _tensor(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self._device)


def _blocks(num: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, num)) for start in range(0, num, size))
