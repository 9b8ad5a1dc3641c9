"""Scaling fits: a power law with saturation, error = floor + scale * x^-exponent.

The form of Hestness et al. (arXiv:1712.00409) and of Zhai et al., "Scaling Vision Transformers"
(arXiv:2106.04560): error falls as a power of data or compute, towards a floor that more of it does
not remove. Least squares are robust (soft L1), so that one bad point does not bend the curve.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.stats.intervals import Interval, finite, normal_quantile, t_quantile

if TYPE_CHECKING:
    import numpy as np

MIN_FIT_POINTS = 4
"""Distinct x that a fit of three parameters needs: one more than parameters."""
_EXPONENTS = (0.01, 5.0)
"""Exponents that are searched: below, the curve is flat; above, a step."""
_GRID = 25
_REFINEMENTS = 3
_REWEIGHTINGS = 8


@dataclass(frozen=True)
class PowerLaw:
    """A fitted curve: floor + scale * (x / unit)^-exponent, with percentile bootstrap intervals."""

    floor: float
    """Error that remains for x without bound."""
    scale: float
    """Error above the floor at x = unit."""
    exponent: float
    """How fast the error falls: it halves (above the floor) where x grows 2^(1 / exponent)-fold."""
    unit: float
    """Geometric mean of x, where the curve is best known."""
    floor_interval: Interval
    scale_interval: Interval
    exponent_interval: Interval
    residuals: tuple[float, ...]
    """Error minus curve, for each given point."""
    rms: float
    """Root mean square of the residuals."""

    def error(self, x: float) -> float:
        """Return the fitted error at x."""
        return self.floor + self.scale * (x / self.unit) ** -self.exponent


def fit_power_law(
    x: Iterable[float],
    error: Iterable[float],
    *,
    generator: np.random.Generator,
    confidence: float = 0.95,
    num_resamples: int = 200,
) -> PowerLaw | None:
    """Fit a power law with saturation to points (x_N > 0, error_N); seeds are points of their own.

    Fewer than four distinct x give None: three parameters would pass through any three. Intervals
    come from resampled residuals, widened for the three parameters and for few points
    (Student's quantile over the normal one); they run a little short of `confidence`. A parameter
    that the points do not settle gets a wide interval, not an error message.
    """
    import numpy as np

    x_N, error_N = np.array(finite(x)), np.array(finite(error))
    if len(x_N) != len(error_N) or (x_N <= 0).any():
        raise ValueError("a power law needs as many errors as x, and positive x")
    if len(np.unique(x_N)) < MIN_FIT_POINTS:
        return None
    unit = float(np.exp(np.log(x_N).mean()))
    log_x_N = np.log(x_N / unit)
    found_3 = _fits(log_x_N, error_N[None])[0]
    curve_N = found_3[0] + found_3[1] * np.exp(-found_3[2] * log_x_N)
    residual_N = error_N - curve_N
    centred_N = residual_N - residual_N.mean()
    free = len(x_N) - 3
    few = t_quantile(free, confidence) / normal_quantile(confidence)
    widened_N = centred_N * few * np.sqrt(len(x_N) / free)
    drawn_BN = generator.choice(widened_N, size=(num_resamples, len(x_N)))
    drawn_B3 = _fits(log_x_N, curve_N + drawn_BN)
    tail = (1 - confidence) / 2
    low_3, high_3 = np.quantile(drawn_B3, [tail, 1 - tail], axis=0)
    floor, scale, exponent = (
        Interval(float(low), float(high), confidence)
        for low, high in zip(low_3, high_3, strict=True)
    )
    return PowerLaw(
        floor=float(found_3[0]),
        scale=float(found_3[1]),
        exponent=float(found_3[2]),
        unit=unit,
        floor_interval=floor,
        scale_interval=scale,
        exponent_interval=exponent,
        residuals=tuple(float(residual) for residual in residual_N),
        rms=float(np.sqrt((residual_N**2).mean())),
    )


def _fits(log_x_N: np.ndarray, error_BN: np.ndarray) -> np.ndarray:
    """Return (floor, scale, exponent) of B fits to errors at the same x, as an array of B x 3.

    For a given exponent the curve is linear in floor and scale, so only exponents are searched:
    over a wide grid, then over finer ones around the best.
    """
    import numpy as np

    step = (_EXPONENTS[1] / _EXPONENTS[0]) ** (1 / (_GRID - 1))
    exponent_BG = np.tile(np.geomspace(*_EXPONENTS, _GRID), (len(error_BN), 1))
    for _ in range(_REFINEMENTS + 1):
        floor_BG, scale_BG, cost_BG = _linear_fits(log_x_N, error_BN, exponent_BG)
        best_B1 = cost_BG.argmin(axis=1, keepdims=True)
        found_B3 = np.concatenate(
            [np.take_along_axis(a, best_B1, 1) for a in (floor_BG, scale_BG, exponent_BG)], axis=1
        )
        around_G = np.geomspace(1 / step, step, _GRID)
        exponent_BG = np.clip(found_B3[:, 2:] * around_G, *_EXPONENTS)
        step **= 2 / (_GRID - 1)
    return found_B3


def _linear_fits(
    log_x_N: np.ndarray, error_BN: np.ndarray, exponent_BG: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return floor, scale (neither below 0) and soft-L1 cost at each exponent.

    Reweighted least squares: a point far off counts by the square root of its distance.
    """
    import numpy as np

    power_BGN = np.exp(-exponent_BG[:, :, None] * log_x_N)
    error_B1N = error_BN[:, None, :]
    # Points within a tenth of the errors' spread count in full; those farther off count less.
    width_B11 = np.maximum(0.1 * error_B1N.std(axis=2), 1e-3 * error_B1N.max(axis=2))[:, :, None]
    width_B11 = np.maximum(width_B11, 1e-9)
    weight_BGN = np.ones_like(power_BGN)
    for _ in range(_REWEIGHTINGS):
        w, wp, we = ((weight_BGN * factor).sum(axis=2) for factor in (1.0, power_BGN, error_B1N))
        wpp = (weight_BGN * power_BGN**2).sum(axis=2)
        wpe = (weight_BGN * power_BGN * error_B1N).sum(axis=2)
        scale_BG = (w * wpe - wp * we) / np.maximum(w * wpp - wp**2, 1e-300)
        scale_BG = np.maximum(np.where(we < scale_BG * wp, wpe / wpp, scale_BG), 0.0)
        floor_BG = np.maximum((we - scale_BG * wp) / w, 0.0)
        curve_BGN = floor_BG[:, :, None] + scale_BG[:, :, None] * power_BGN
        squared_BGN = ((error_B1N - curve_BGN) / width_B11) ** 2
        weight_BGN = 1 / np.sqrt(1 + squared_BGN)
    return floor_BG, scale_BG, (np.sqrt(1 + squared_BGN) - 1).sum(axis=2)
