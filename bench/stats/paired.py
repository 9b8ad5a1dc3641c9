"""Two systems on the same seeds, or on the same images."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from bench.stats.intervals import Interval, finite, summary, t_quantile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike

Leader = Literal["first", "second", "tie", "undecided", "unknown"]


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
    margin: float = 0.0
    """Largest difference that is none in practice; 0 where no difference is that small."""

    @property
    def leader(self) -> Leader:
        """Who leads: `first` or `second` where that is shown, else whether a tie is.

        `tie`: the whole interval lies inside the margin; `undecided`: it holds zero, and more than
        the margin; `unknown`: there is no interval.
        """
        if self.interval is None or self.mean is None:
            return "unknown"
        if not self.interval.holds(0.0):
            return "first" if self.mean > 0 else "second"
        inside = -self.margin <= self.interval.low and self.interval.high <= self.margin
        return "tie" if inside else "undecided"


def paired_difference(
    first: Iterable[float],
    second: Iterable[float],
    *,
    confidence: float = 0.95,
    resolution: float = 0.0,
    margin: float = 0.0,
) -> Difference:
    """Compare first_N with second_N, where entry i of both came from the same seed.

    Gives the mean of first - second with Student's interval and p-value. `resolution` is the step
    in which the values come (1 / N for accuracies on N images): a few differences may agree by
    chance of rounding, so their spread counts as at least that of rounding, resolution / sqrt(6).
    `margin` is the largest difference that counts as none.
    """
    a, b = finite(first), finite(second)
    if len(a) != len(b):
        raise ValueError(f"pairs need equal lengths, got {len(a)} and {len(b)}")
    found = summary(x - y for x, y in zip(a, b, strict=True))
    if found.mean is None or found.std is None:
        return Difference(found.n, found.mean, None, None, None, margin)
    error = max(found.std, resolution / math.sqrt(6)) / math.sqrt(found.n)
    half = t_quantile(found.n - 1, confidence) * error
    return Difference(
        n=found.n,
        mean=found.mean,
        std=found.std,
        interval=Interval(found.mean - half, found.mean + half, confidence),
        p_value=_t_p_value(found.mean, error, found.n - 1),
        margin=margin,
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

    a_N, b_N = hits_array(first), hits_array(second)
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

    a_SN, b_SN = np.atleast_2d(hits_array(first)), np.atleast_2d(hits_array(second))
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


def hits_array(values: ArrayLike) -> np.ndarray:
    """Return hits as an array of booleans; ValueError for anything else."""
    import numpy as np

    array = np.asarray(values)
    if array.dtype != np.bool_:
        raise ValueError(f"hits are booleans, not {array.dtype}")
    return array


def _t_p_value(mean: float, error: float, degrees: int) -> float:
    from scipy.special import stdtr

    if error == 0:
        return 1.0 if mean == 0 else 0.0
    return float(2 * stdtr(degrees, -abs(mean) / error))
