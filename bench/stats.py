"""Intervals and paired comparisons: arrays in, numbers out.

Rules that hold everywhere
    - The unit of replication is the seed: a mean states its n, and fewer than two values have no
      spread and no interval (None). Nothing is invented.
    - Standard deviations divide by n - 1.
    - Two systems are compared on the same seeds, by their differences. Where the interval of the
      mean difference holds zero the answer is a tie: not "equal", but "no difference was shown".

Intervals follow Student's t and the bootstrap (Efron, 1979); practice with few runs follows
Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice" (2021).
Coverage is tested by simulation.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike

Leader = Literal["first", "second", "tie", "unknown"]


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


@dataclass(frozen=True)
class Difference:
    """Mean of paired differences, first minus second."""

    n: int
    """Number of pairs."""
    mean: float | None
    """Mean difference; None where there is no pair."""
    std: float | None
    """Standard deviation of the differences; None for fewer than two pairs."""
    interval: Interval | None
    """Interval of the mean difference; None for fewer than two pairs."""
    p_value: float | None
    """Two-sided p-value of "no difference"; None for fewer than two pairs."""

    @property
    def leader(self) -> Leader:
        """`first`, `second`, `tie` (the interval holds zero) or `unknown` (no interval)."""
        if self.interval is None or self.mean is None:
            return "unknown"
        if self.interval.holds(0.0):
            return "tie"
        return "first" if self.mean > 0 else "second"


def summary(values: Iterable[float]) -> Summary:
    """Return n, mean and standard deviation of values_N (finite numbers)."""
    numbers = _finite(values)
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
    half = _t_quantile(found.n - 1, confidence) * found.std / math.sqrt(found.n)
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

    array_N = np.array(_finite(values))
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


def paired_difference(
    first: Iterable[float],
    second: Iterable[float],
    *,
    confidence: float = 0.95,
    resolution: float = 0.0,
) -> Difference:
    """Compare first_N with second_N, where entry i of both came from the same seed.

    Gives the mean of first - second with Student's interval and p-value. `resolution` is the step
    in which the values come (1 / N for accuracies on N images): a few differences may agree by
    chance of rounding, so their spread counts as at least that of rounding, resolution / sqrt(6).
    """
    a, b = _finite(first), _finite(second)
    if len(a) != len(b):
        raise ValueError(f"pairs need equal lengths, got {len(a)} and {len(b)}")
    found = summary(x - y for x, y in zip(a, b, strict=True))
    if found.mean is None or found.std is None:
        return Difference(n=found.n, mean=found.mean, std=None, interval=None, p_value=None)
    error = max(found.std, resolution / math.sqrt(6)) / math.sqrt(found.n)
    half = _t_quantile(found.n - 1, confidence) * error
    return Difference(
        n=found.n,
        mean=found.mean,
        std=found.std,
        interval=Interval(found.mean - half, found.mean + half, confidence),
        p_value=_t_p_value(found.mean, error, found.n - 1),
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's step-down adjusted p-values, in the given order (Holm, 1979).

    Calling those below alpha significant keeps the chance of any false one below alpha, however
    the comparisons depend on each other.
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted = [1.0] * len(p_values)
    largest = 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


@dataclass(frozen=True)
class McNemar:
    """Disagreements of two classifiers on the same images (McNemar, 1947)."""

    only_first: int
    """Images that only the first got right."""
    only_second: int
    """Images that only the second got right."""
    p_value: float
    """Exact two-sided p-value of "both are right equally often"."""


def mcnemar(first: ArrayLike, second: ArrayLike) -> McNemar:
    """Compare hits_N (bool) of two classifiers on the same images, in the same order."""
    from scipy.special import bdtr

    a_N, b_N = _hits(first), _hits(second)
    if a_N.shape != b_N.shape:
        raise ValueError(f"hits of {a_N.shape} and {b_N.shape} are not of the same images")
    only_first = int((a_N & ~b_N).sum())
    only_second = int((~a_N & b_N).sum())
    # Under the hypothesis each disagreement is a fair coin: twice the smaller binomial tail.
    total = only_first + only_second
    p_value = min(1.0, 2 * float(bdtr(min(only_first, only_second), total, 0.5))) if total else 1.0
    return McNemar(only_first, only_second, p_value)


def paired_bootstrap(
    first: ArrayLike,
    second: ArrayLike,
    *,
    generator: np.random.Generator,
    confidence: float = 0.95,
    num_resamples: int = 2000,
) -> Interval | None:
    """Return the interval of the accuracy difference over images and seeds.

    `first` and `second` are hits_SN (bool): S seeds on the same N images. Images and seeds are
    resampled together and independently of each other, so the interval speaks of new test images
    and new training runs. Resampling S seeds shows only (S - 1) / S of their variance: deviations
    between seeds are enlarged to make up for it. One seed: of new images alone. No image: None.
    """
    import numpy as np

    a_SN, b_SN = np.atleast_2d(_hits(first)), np.atleast_2d(_hits(second))
    if a_SN.shape != b_SN.shape:
        raise ValueError(f"hits of {a_SN.shape} and {b_SN.shape} do not pair")
    d_SN = a_SN.astype(np.float64) - b_SN
    num_seeds, num_images = d_SN.shape
    if not num_images:
        return None
    if num_seeds > 1:
        mean_N = d_SN.mean(axis=0)
        d_SN = mean_N + (d_SN - mean_N) * math.sqrt(num_seeds / (num_seeds - 1))
    means = []
    for _ in range(num_resamples):
        weight_S = np.bincount(generator.integers(num_seeds, size=num_seeds), minlength=num_seeds)
        weight_N = np.bincount(
            generator.integers(num_images, size=num_images), minlength=num_images
        )
        means.append(weight_S @ d_SN @ weight_N / d_SN.size)
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(float(low), float(high), confidence)


def interpolate_log(x: Iterable[float], y: Iterable[float], at: float) -> float | None:
    """Return y at `at` on the curve through (x_N, y_N), straight between points over log x.

    None outside the measured range: nothing is extrapolated. All x must be positive.
    """
    import numpy as np

    x_N, y_N = np.array(_finite(x)), np.array(_finite(y))
    order = np.argsort(x_N, kind="stable")
    x_N, y_N = x_N[order], y_N[order]
    # The ends of a common range are computed: allow them the last bits.
    if not len(x_N) or not x_N[0] * (1 - 1e-12) <= at <= x_N[-1] * (1 + 1e-12):
        return None
    return float(np.interp(np.log(at), np.log(x_N), y_N))


def first_reaching_log(x: Iterable[float], y: Iterable[float], target: float) -> float | None:
    """Return the smallest x at which the curve through (x_N, y_N) reaches `target` from below.

    The curve is straight over log x. None where it starts above the target or never reaches it.
    """
    import numpy as np

    x_N, y_N = np.array(_finite(x)), np.array(_finite(y))
    order = np.argsort(x_N, kind="stable")
    x_N, y_N = x_N[order], y_N[order]
    reached = np.flatnonzero(y_N >= target)
    if not len(reached):
        return None
    right = int(reached[0])
    if right == 0:
        return float(x_N[0]) if y_N[0] == target else None
    share = (target - y_N[right - 1]) / (y_N[right] - y_N[right - 1])
    return float(np.exp((1 - share) * np.log(x_N[right - 1]) + share * np.log(x_N[right])))


def _hits(values: ArrayLike) -> np.ndarray:
    import numpy as np

    array = np.asarray(values)
    if array.dtype != np.bool_:
        raise ValueError(f"hits are booleans, not {array.dtype}")
    return array


def _finite(values: Iterable[float]) -> list[float]:
    """Return the values as numbers; a handful is the usual case, so without arrays."""
    numbers = [float(value) for value in values]
    if not all(map(math.isfinite, numbers)):
        raise ValueError("statistics need finite values; leave absent ones out and state n")
    return numbers


def _mean(values: np.ndarray, axis: int = -1) -> np.ndarray:
    return values.mean(axis=axis)


def _t_quantile(degrees: int, confidence: float) -> float:
    from scipy.special import stdtrit  # scipy.stats would take two seconds to import

    return float(stdtrit(degrees, 0.5 + confidence / 2))


def normal_quantile(confidence: float) -> float:
    """Return the half-width of a central normal interval, in standard deviations (1.96 at 95%)."""
    from scipy.special import ndtri

    return float(ndtri(0.5 + confidence / 2))


def _t_p_value(mean: float, error: float, degrees: int) -> float:
    from scipy.special import stdtr

    if error == 0:
        return 1.0 if mean == 0 else 0.0
    return float(2 * stdtr(degrees, -abs(mean) / error))
