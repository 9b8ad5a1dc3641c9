"""The verdict on one measured cell that answers a published number: a pure, versioned rule.

Words, in the order in which they are decided

    not public      what the number needs (weights, data) was never released
    failed          the job failed, or an input of it did
    not run         the job was not run
    off-protocol    it ran, but not under the published protocol: the differences are listed
    reproduced      the difference is shown to be smaller than the margin
    within noise    no difference is shown, but the noise is too large to call it reproduced
    off             the difference is larger than both the noise and the margin

Noise is what may separate two honest runs of one protocol, as a half-width at the stated
confidence. It joins, as independent errors, the seeds' standard error (with Student's quantile for
the measured seeds) and the published spread; and the sampling error of the test set, sqrt(p (1-p) /
N). Half a unit of the last printed digit is added in full, since rounding is not random. The test
images are the published ones, so their sampling error is partly shared: counting all of it errs
towards "within noise". One seed never reproduces: its own spread is unknown.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bench import metrics, stats

VERDICT_VERSION = 1
"""Bumped when the rule changes; printed with every verdict."""
MARGIN = 0.005
"""Largest difference that counts as the same result in practice: half a point of accuracy."""

Word = Literal[
    "reproduced", "within noise", "off", "off-protocol", "not public", "not run", "failed"
]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was measured in a cell."""

    values: tuple[float, ...] = ()
    """Accuracies as fractions, one for each seed."""
    num_images: int = 0
    """Test images behind each value."""
    status: Literal["done", "failed", "not run"] = "done"
    """Whether there are values at all."""
    reason: str = ""
    """Why there are none."""


@dataclass(frozen=True, kw_only=True)
class Printed:
    """What was published."""

    value: float
    """Accuracy as a fraction."""
    rounding: float
    """Half a unit of the last printed digit, as a fraction."""
    std: float | None = None
    """Published spread over runs, as a fraction."""
    n: int | None = None
    """Runs behind it; None where not stated."""


@dataclass(frozen=True)
class Verdict:
    """A verdict and its reasons."""

    word: Word
    reasons: tuple[str, ...]
    difference: float | None = None
    """Measured mean minus published value, as a fraction."""
    noise: float | None = None
    """Half-width that noise explains, rounding included, as a fraction."""


def printed(value: str, std: str = "", *, unit: str = "%", n: int | None = None) -> Printed:
    """Read a published accuracy as printed: `85.30` in % is known to 0.005 points.

    Raises ValueError for text that is not one number, or a unit other than % and fraction.
    """
    if unit not in ("%", "fraction"):
        raise ValueError(f"accuracies are printed in % or as fractions, not in {unit!r}")
    scale = 100.0 if unit == "%" else 1.0
    decimals = len(value.strip().partition(".")[2])
    return Printed(
        value=float(value) / scale,
        rounding=0.5 * 10.0**-decimals / scale,
        std=float(std) / scale if std.strip() else None,
        n=n,
    )


def judge(
    measured: Measured,
    published: Printed,
    *,
    differences: Sequence[str] = (),
    is_public: bool = True,
    confidence: float = 0.95,
    margin: float = MARGIN,
) -> Verdict:
    """Return the verdict on a cell; `differences` are those of its protocol, in words."""
    if not is_public:
        return Verdict("not public", ("the weights or the data were never released",))
    if measured.status == "failed":
        return Verdict("failed", (measured.reason or "no reason given",))
    if measured.status == "not run" or not measured.values:
        return Verdict("not run", (measured.reason or "no job has run",))
    found = stats.summary(measured.values)
    assert found.mean is not None  # there are values
    difference = found.mean - published.value
    if differences:
        return Verdict("off-protocol", tuple(differences), difference)
    noise, sources = _noise(measured, published, found, confidence)
    reasons = (_size(difference, noise), *sources)
    gap = abs(difference)
    if gap > max(noise, margin):
        return Verdict("off", reasons, difference, noise)
    if found.n < 2:
        return Verdict("within noise", (*reasons, "one seed cannot reproduce"), difference, noise)
    if gap + noise <= margin or noise < gap <= margin:
        return Verdict("reproduced", reasons, difference, noise)
    return Verdict("within noise", reasons, difference, noise)


def _noise(
    measured: Measured, published: Printed, found: stats.Summary, confidence: float
) -> tuple[float, list[str]]:
    """Return the half-width of the noise, and what it was made of."""
    normal = stats.normal_quantile(confidence)
    squares, sources = 0.0, []
    if found.std is not None:
        interval = stats.t_interval(measured.values, confidence=confidence)
        assert interval is not None  # two values or more
        squares += ((interval.high - interval.low) / 2) ** 2
        sources.append(f"{found.n} seeds")
    else:
        sources.append("one seed, whose spread is unknown")
    if published.std is not None:
        squares += (normal * published.std) ** 2 / (published.n or 1)
        sources.append(f"published spread {_points(published.std)}")
    if measured.num_images:
        p = published.value
        squares += normal**2 * p * (1 - p) / measured.num_images
        sources.append(f"{measured.num_images:,} test images")
    sources.append(f"rounding {_points(published.rounding, decimals=3)}")
    return math.sqrt(squares) + published.rounding, sources


def _size(difference: float, noise: float) -> str:
    side = "above" if difference > 0 else "below"
    return f"{_points(abs(difference))} points {side} the published value, noise {_points(noise)}"


def _points(value: float, *, decimals: int = 2) -> str:
    return metrics.number(value * 100, decimals=decimals)
