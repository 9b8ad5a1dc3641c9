"""The verdict on one measured cell that answers a published number: a pure, versioned rule.

Words, in the order in which they are decided

    not public      what the number needs (weights, data) was never released
    failed          the job failed, or an input of it did
    not run         the job was not run
    off-protocol    it ran, but not under the published protocol: the differences are listed
    reproduced      shown: the difference is smaller than the margin
    off             shown: the difference is larger than the margin
    within noise    nothing is shown, and the interval holds zero
    undecided       nothing is shown, though some difference is: it may lie on either side of the
                    margin; or one seed was run, of which no spread is known

A difference is shown to be on one side of the margin where its whole interval is: the difference
plus and minus the noise. Noise is what may separate two honest runs of one protocol, as a
half-width at the stated confidence. It joins, as independent errors, the seeds' standard error
(with Student's quantile for the measured seeds) and the published spread over its own runs. Half a
unit of the last printed digit is added in full, since rounding is not random. The test images are
the published ones: what they happen to be moves both numbers alike, and is no noise of their
difference.

One seed says nothing of its own spread. Where the publication states one, that stands in for it;
even so one seed never reproduces.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bench import metrics, stats
from bench.facts import MARGIN

VERDICT_VERSION = 2
"""Bumped when the rule changes; printed with every verdict."""
Word = Literal[
    "reproduced", "within noise", "undecided", "off", "off-protocol", "not public", "not run",
    "failed",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was measured in a cell."""

    values: tuple[float, ...] = ()
    """Accuracies as fractions, one for each seed."""
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
    reasons, gap = (_size(difference, noise), *sources), abs(difference)
    if noise is None:
        return Verdict("undecided", reasons, difference)
    if gap - noise > margin:
        return Verdict("off", reasons, difference, noise)
    if gap + noise <= margin and found.n > 1:
        return Verdict("reproduced", reasons, difference, noise)
    if found.n == 1:
        reasons = (*reasons, "one seed cannot reproduce")
    return Verdict("within noise" if gap <= noise else "undecided", reasons, difference, noise)


def _noise(
    measured: Measured, published: Printed, found: stats.Summary, confidence: float
) -> tuple[float | None, list[str]]:
    """Return the half-width of the noise, and what it was made of; None where it is not known."""
    normal = stats.normal_quantile(confidence)
    spread = f"published spread {_points(published.std)}" if published.std is not None else ""
    rounding = f"rounding {_points(published.rounding, decimals=3)}"
    theirs = 0.0 if published.std is None else (normal * published.std) ** 2 / (published.n or 1)
    if found.std is not None:
        interval = stats.t_interval(measured.values, confidence=confidence)
        assert interval is not None  # two values or more
        ours, said = ((interval.high - interval.low) / 2) ** 2, f"{found.n} seeds"
    elif published.std is not None:
        ours, said = (
            (normal * published.std) ** 2,
            "one seed, taken to spread as the published ones",
        )
    else:
        return None, ["one seed, whose spread is unknown", rounding]
    return math.sqrt(ours + theirs) + published.rounding, [*filter(None, (said, spread)), rounding]


def _size(difference: float, noise: float | None) -> str:
    side = "above" if difference > 0 else "below"
    known = "noise unknown" if noise is None else f"noise {_points(noise)}"
    return f"{_points(abs(difference))} points {side} the published value, {known}"


def _points(value: float, *, decimals: int = 2) -> str:
    return metrics.number(value * 100, decimals=decimals)
