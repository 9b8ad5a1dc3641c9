"""Each metric once: what it is called, its unit, which direction is better, how it is printed.

A metric's full name may carry a qualifier after a slash (`fewshot_top1/5` is 5-shot accuracy).
Values are kept in the base unit (accuracies as fractions in [0, 1], work in exaFLOPs); `scale`
turns them into what is printed.
"""

from __future__ import annotations

import functools

from bench.errors import UnknownName
from bench.kinds import in_order
from bench.specs import MetricCard

_GENERAL = (
    MetricCard(
        name="val_top1",
        title="Validation top-1",
        unit="%",
        base_unit="fraction",
        direction="higher",
        scale=100,
        decimals=1,
        help="top-1 accuracy on the held-out part of the training split; chooses, never reports",
    ),
    MetricCard(
        name="num_params",
        title="Parameters",
        unit="",
        base_unit="parameters",
        direction="neither",
        help="parameters without the classification head",
    ),
    MetricCard(
        name="exaflops",
        title="Pre-training",
        unit="exaFLOPs",
        base_unit="exaFLOPs",
        direction="lower",
        help="closed form of the work; one multiply-add is 2 FLOPs, training is 3 x forward",
    ),
    MetricCard(
        name="core_s",
        title="Core time",
        unit="core-s",
        base_unit="core-seconds",
        direction="lower",
        help="CPU seconds over all cores, or device-seconds on an accelerator",
    ),
    MetricCard(
        name="wall_s",
        title="Wall time",
        unit="s",
        base_unit="seconds",
        direction="lower",
        help="elapsed seconds over all attempts that left a checkpoint behind",
    ),
    MetricCard(
        name="images_per_s",
        title="Speed",
        unit="images/s",
        base_unit="images per second",
        direction="higher",
        help="training images per second of stepping",
    ),
    MetricCard(
        name="peak_memory_gib",
        title="Peak memory",
        unit="GiB",
        base_unit="GiB",
        direction="lower",
        decimals=2,
        help="peak resident (CPU) or allocated (device) memory",
    ),
)

"""Metrics of no kind, or of several; the others are on the cards of their kinds."""


@functools.cache
def cards() -> dict[str, MetricCard]:
    """Return every metric by name: the general ones, then those of each job kind."""
    found = {card.name: card for card in _GENERAL}
    return found | {card.name: card for kind in in_order() for card in kind.metrics}


def metric(name: str) -> MetricCard:
    """Return the card of a metric, with or without a qualifier; `UnknownName` otherwise."""
    base = name.partition("/")[0]
    if base not in cards():
        raise UnknownName("metric", base, cards())
    return cards()[base]


def title(name: str) -> str:
    """Return the printed name of a metric: `fewshot_top1/5` -> `5-shot`."""
    card = metric(name)
    return card.title.replace("{}", name.partition("/")[2] or "few")


def show(name: str, value: float) -> str:
    """Return a stored value as printed, in the metric's unit, without the unit's name."""
    card = metric(name)
    return number(value * card.scale, decimals=card.decimals)


def show_spread(name: str, mean: float, std: float | None) -> str:
    """Return `mean ± std` as printed; the mean alone where there is no spread to state."""
    text = show(name, mean)
    return text if std is None else f"{text} ± {show(name, std)}"


def show_difference(name: str, value: float) -> str:
    """Return a signed difference as printed, with a true minus sign (U+2212)."""
    card = metric(name)
    decimals = 2 if card.decimals is None else card.decimals
    rounded = round(value * card.scale, decimals)
    sign = "+" if rounded > 0 else "−" if rounded < 0 else ""
    return f"{sign}{abs(rounded):.{decimals}f}"


def number(value: float, *, decimals: int | None = None) -> str:
    """Return a number as printed: fixed decimals, or three significant digits; with commas."""
    if decimals is not None:
        return f"{value:,.{decimals}f}"
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 99.95:
        return f"{value:,.0f}"
    if size < 1e-3:
        return f"{value:.2e}"
    rounded = float(f"{value:.3g}")
    return f"{rounded:.{max(0, 2 - _exponent(rounded))}f}"


def _exponent(value: float) -> int:
    return int(f"{abs(value):e}".partition("e")[2])
