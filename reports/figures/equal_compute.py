"""First minus rival over equal pre-training compute: what Figure 5 of arXiv:2010.11929 shows.

Both curves of a pair are read at the same compute (`reports/study/curves.py`), and so are whole
families along their upper envelopes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench import metrics
from reports.cards import FigureCard
from reports.drawing import style
from reports.printing.drawing import Drawing
from reports.printing.units import common_exponent, power_unit
from reports.study import averages
from reports.study.curves import Match, common_span, matches, read, reference_of
from reports.study.families import capital
from reports.study.study import Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NUM_STEPS = 25
"""Readings along a drawn curve."""


def figure(study: Study) -> Drawing | None:
    """Draw first minus rival over equal compute; None where no two curves meet."""
    shown = [match for match in matches(study) if common_span(match.first, match.second)]
    met = list(dict.fromkeys(match.measure for match in shown))
    usual = averages.headline(study)  # each data set before further measures of one
    kept = sorted(met, key=lambda measure: measure not in usual)[: averages.MAX_SHOWN]
    shown = [match for match in shown if match.measure in kept]
    if not shown:
        return None
    name = reference_of(shown)[1]
    with style.styled():
        return style.finish(
            _draw(study, shown),
            name="equal_compute",
            title="Accuracy at equal compute",
            caption=f"{capital(name)} minus rival in points of top-1 accuracy, both read at the "
            "same pre-training compute (log scale), straight between points. Above zero the "
            f"{name} is ahead. Bands: {study.confidence:.0%} intervals paired by seed, where there "
            f"are two seeds or more.{_said(shown)}"
            f"{averages.said_of(len(met) - len(kept), 'measure')}",
            alt=f"Line charts of the accuracy difference at equal compute. {_words(study, shown)}",
        )


def _said(shown: list[Match]) -> str:
    origins = {match.origin for match in shown}
    families = " Families are read along their upper envelopes." if len(origins) > 1 else ""
    return families + (" Hollow: as published." if "print" in origins else "")


def _draw(study: Study, shown: list[Match]) -> Figure:
    exponent = common_exponent([x for match in shown for x in match.second.compute])
    measures = list(dict.fromkeys(match.measure for match in shown))
    figure, axes = style.panels(len(measures))
    looks = _looks(shown)
    for place, (measure, ax) in enumerate(zip(measures, axes, strict=True)):
        ax.axhline(0, color=style.MUTED, linewidth=0.8)
        for match in shown:
            if match.measure == measure:
                _line(ax, match, looks[match.title], study.confidence)
        style.log_axis(ax, (), unit=10.0**exponent)
        ax.set_title(style.escape_math(study.measure_name(measure)))
        ax.set_ylabel(style.escape_math(f"{capital(reference_of(shown)[1])} minus rival (points)"))
        if style.is_lowest(place, len(measures)):
            ax.set_xlabel(f"Pre-training compute ({power_unit(exponent, 'exaFLOPs')})")
    style.legend(figure, looks, list(looks))
    return figure


def _line(ax: Axes, match: Match, look: style.Look, confidence: float) -> None:
    import numpy as np

    span = common_span(match.first, match.second)
    assert span is not None  # only such are drawn
    met = [read(match, x, confidence=confidence) for x in np.geomspace(*span, NUM_STEPS)]
    x_N = [reading.exaflops for reading in met]
    y_N = [100 * (reading.difference.mean or 0.0) for reading in met]
    style.line(ax, x_N, y_N, look)
    style.points(ax, [x_N[0], x_N[-1]], [y_N[0], y_N[-1]], look)
    intervals = [reading.difference.interval for reading in met]
    ends = [(100 * found.low, 100 * found.high) for found in intervals if found is not None]
    if len(ends) == len(met):
        low_N, high_N = zip(*ends, strict=True)
        ax.fill_between(x_N, low_N, high_N, color=look.color, alpha=0.15, linewidth=0)


def _looks(shown: list[Match]) -> dict[str, style.Look]:
    """Return a look for each two curves: the rival's colour, hollow where published."""
    found: dict[str, style.Look] = {}
    for match in shown:
        is_hollow = match.origin == "print"
        family = match.families[1]
        color = style.family_look(family).color
        place = sum(look.color == color for look in found.values())
        look = style.family_look(family, place=place, is_hollow=is_hollow)
        found.setdefault(match.title, look)
    return found


def _words(study: Study, shown: list[Match]) -> str:
    measure = shown[0].measure
    parts = []
    for match in shown:
        span = common_span(match.first, match.second)
        if match.measure == measure and span is not None:
            low, high = (read(match, x, confidence=study.confidence) for x in span)
            ends = [
                f"{metrics.show_difference(measure.metric, end.difference.mean or 0.0)} points at "
                f"{metrics.number(end.exaflops)} exaFLOPs"
                for end in (low, high)
            ]
            parts.append(f"{match.title}: {' and '.join(ends)}")
    return f"{study.measure_name(measure)}: {'; '.join(parts)}."


FIGURE = FigureCard(name="equal_compute", draw=figure)
