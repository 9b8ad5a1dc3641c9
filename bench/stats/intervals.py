"""Mean, spread and intervals of one set of numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Summary:
    """Mean and spread of n values."""

    n: int
    """Number of values."""
    mean: float | None
    """Their mean; None where there is none."""
    std: float | None
    """Their standard deviation (n - 1); None for fewer than two."""


@dataclass(frozen=True)
class Interval:
    """A confidence interval."""

    low: float
    """Lower end."""
    high: float
    """Upper end."""
    confidence: float
    """Share of such intervals that hold the truth."""

    def holds(self, value: float) -> bool:
        """Tell whether `value` lies in the closed interval."""
        return self.low <= value <= self.high


def summary(values: Iterable[float]) -> Summary:
    """Return n, mean and standard deviation of values_N (finite numbers)."""
    numbers = finite(values)
    n = len(numbers)
    if n == 0:
        return Summary(n=0, mean=None, std=None)
    mean = math.fsum(numbers) / n
    if n == 1:
        return Summary(n=1, mean=mean, std=None)
    variance = math.fsum((number - mean) ** 2 for number in numbers) / (n - 1)
    return Summary(n=n, mean=mean, std=math.sqrt(variance))


def t_interval(values: Iterable[float], *, confidence: float = 0.95) -> Interval | None:
    """Return Student's interval of the mean of values_N; None for fewer than two values."""
    found = summary(values)
    if found.mean is None or found.std is None:
        return None
    half = t_quantile(found.n - 1, confidence) * found.std / math.sqrt(found.n)
    return Interval(found.mean - half, found.mean + half, confidence)


def bootstrap_interval(
    values: Iterable[float],
    *,
    generator: np.random.Generator,
    confidence: float = 0.95,
    num_resamples: int = 2000,
) -> Interval | None:
    """Return the bias-corrected bootstrap interval (BCa) of the mean of values_N.

    Fewer than two values give None; values that are all alike give an interval of no width. With
    fewer than about ten values prefer `t_interval`: resampling cannot see what was never drawn.
    """
    import numpy as np
    from scipy.stats import bootstrap

    array_N = np.array(finite(values))
    if len(array_N) < 2:
        return None
    if array_N.min() == array_N.max():
        return Interval(float(array_N[0]), float(array_N[0]), confidence)
    found = bootstrap(
        (array_N,),
        _mean,
        confidence_level=confidence,
        n_resamples=num_resamples,
        method="BCa",
        rng=generator,
    ).confidence_interval
    return Interval(float(found.low), float(found.high), confidence)


def normal_quantile(confidence: float) -> float:
    """Return the half-width of a central normal interval, in standard deviations (1.96 at 95%)."""
    from scipy.special import ndtri

    return float(ndtri(0.5 + confidence / 2))


def t_quantile(degrees: int, confidence: float) -> float:
    """Return the half-width of a central interval of Student's t, in standard errors."""
    from scipy.special import stdtrit  # scipy.stats would take two seconds to import

    return float(stdtrit(degrees, 0.5 + confidence / 2))


def finite(values: Iterable[float]) -> list[float]:
    """Return values_N as numbers, without arrays: a handful is the usual case.

    Raises ValueError for values that are not finite.
    """
    numbers = [float(value) for value in values]
    if not all(map(math.isfinite, numbers)):
        raise ValueError("statistics need finite values; leave absent ones out and state n")
    return numbers


def _mean(values: np.ndarray, axis: int = -1) -> np.ndarray:
    return values.mean(axis=axis)
