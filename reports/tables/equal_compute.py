"""Accuracy at equal pre-training compute: the trade-off that Figure 5 of arXiv:2010.11929 shows.

Matched systems are matched only nearly, and at the suite's sizes only. Here both curves of a pair
(accuracy over pre-training exaFLOPs, one point for each upstream size) are read at the same
compute, and so are whole families along their upper envelopes (`reports/study/curves.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from bench import metrics
from reports.figures import style
from reports.printing.render import Cell, Column, Table
from reports.study import averages
from reports.study.curves import Curve, Match, Reading, common_span, matches, read, readings
from reports.study.families import capital, reference
from reports.study.scores import Measure, Study
from reports.tables.cells import Notes, common_exponent, number_cell, power_unit, text_cell
from reports.tables.pairs import outcome

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NUM_STEPS = 25
"""Readings along a drawn curve."""


def table(study: Study) -> Table:
    """Return the table of accuracies at equal compute."""
    met = readings(study)
    exponent = common_exponent([reading.exaflops for reading in met])
    notes = Notes()
    return Table(
        name="equal_compute",
        title="Accuracy at equal compute",
        caption=_caption(study, met),
        columns=tuple(_columns([reading.match for reading in met], exponent)),
        rows=tuple(_row(study, reading, exponent, notes) for reading in met),
        notes=tuple(notes.texts),
        warning=study.warning,
        group_by=("systems", "measure"),
    )


def _reference(met: Iterable[Match]) -> tuple[str, str]:
    return reference((match.families[0], match.names[0]) for match in met)


def _columns(met: Iterable[Match], exponent: int) -> Iterator[Column]:
    first, name = _reference(met)
    yield Column(key="systems", title="Systems", align="left", header=True)
    yield Column(key="measure", title="Measure", align="left", header=True)
    yield Column(
        key="exaflops",
        title="Pre-training",
        unit=power_unit(exponent, "exaFLOPs"),
        base_unit="exaFLOPs",
        header=True,
    )
    for key, title in ((first, capital(name)), ("rival", "Rival")):
        yield Column(key=key, title=title, unit="%", base_unit="fraction", priority=2)
    yield Column(key="difference", title="Difference", unit="points", base_unit="fraction")
    yield Column(key="verdict", title="Verdict", align="left")
    yield Column(key="work_to_match", title="Work to match", unit="ratio", priority=1)


def _row(study: Study, reading: Reading, exponent: int, notes: Notes) -> tuple[Cell, ...]:
    match = reading.match
    metric = match.measure.metric
    verdict = outcome(match.names, reading.difference)
    return (
        text_cell(match.title),
        text_cell(averages.measure_title(study, match.measure)),
        number_cell(reading.exaflops, metrics.number(reading.exaflops / 10.0**exponent)),
        *(_value(curve, metric, reading.exaflops) for curve in (match.first, match.second)),
        _difference(study, reading, notes),
        text_cell("as printed" if match.origin == "print" else verdict),
        _match(reading),
    )


def _difference(study: Study, reading: Reading, notes: Notes) -> Cell:
    found, metric = reading.difference, reading.match.measure.metric
    text = metrics.show_difference(metric, found.mean or 0.0)
    low, high = None, None
    if found.interval is not None:
        low, high = found.interval.low, found.interval.high
        text += f" [{', '.join(metrics.show_difference(metric, end) for end in (low, high))}]"
    is_printed = reading.match.origin == "print"
    partial = found.n < len(study.graph.suite.seeds) and not is_printed
    note = f"n = {found.n}: seeds with every point of both curves"
    return Cell(
        text=text,
        value=found.mean,
        std=found.std,
        low=low,
        high=high,
        n=found.n,
        marks=(notes.mark(note),) if partial else (),
        samples=() if is_printed else reading.samples,
    )


def _value(curve: Curve, metric: str, exaflops: float) -> Cell:
    value = curve.at(exaflops)
    if value is None:
        return Cell(text="–", status="absent")
    return number_cell(value, metrics.show(metric, value))


def _match(reading: Reading) -> Cell:
    ratio, interval = reading.work_to_match, reading.work_interval
    if ratio is not None and interval is not None:
        ends = [metrics.number(end) for end in (interval.low, interval.high)]
        return Cell(
            text=f"{metrics.number(ratio)} [{ends[0]}, {ends[1]}]",
            value=ratio,
            low=interval.low,
            high=interval.high,
            n=reading.difference.n,
        )
    if ratio is not None:
        return number_cell(ratio, metrics.number(ratio))
    if reading.always_above:
        least = reading.match.first.compute[0] / reading.exaflops
        return text_cell(f"below {metrics.number(least)}")
    return Cell(text="not reached", status="absent")


def _caption(study: Study, met: list[Reading]) -> str:
    n = max((reading.difference.n for reading in met), default=0)
    name = _reference(reading.match for reading in met)[1]
    interval = (
        f"[{study.confidence:.0%} interval], paired by seed, n = {n}" if n > 1 else "of one seed"
    )
    families = (
        "Families are read along their upper envelopes: systems that no other of the family beats "
        "with as little compute, judged by means over seeds. "
        if any(reading.match.origin != "systems" for reading in met)
        else ""
    )
    return (
        "Both systems read at the same pre-training compute, at the ends and the middle of what "
        "both span, straight between points over log compute; nothing is extrapolated. "
        f"{families}Difference: {name} minus rival {interval}. Work to match: pre-training compute "
        f"with which the {name}'s mean reaches the rival's accuracy, over the compute of the row"
        f"{', with the interval where every seed reaches it' if n > 1 else ''}; not reached: "
        "not within the measured range. Verdicts are not corrected for their number."
    )


def figure(study: Study) -> style.Drawing | None:
    """Draw first minus rival over equal compute; None where no two curves meet."""
    shown = [match for match in matches(study) if common_span(match.first, match.second)]
    kept = list(dict.fromkeys(match.measure for match in shown))[: averages.MAX_SHOWN]
    shown = [match for match in shown if match.measure in kept]
    if not shown:
        return None
    name = _reference(shown)[1]
    with style.styled():
        return style.finish(
            _draw(study, shown),
            name="equal_compute",
            title="Accuracy at equal compute",
            caption=f"{capital(name)} minus rival in points of top-1 accuracy, both read at the "
            "same pre-training compute (log scale), straight between points. Above zero the "
            f"{name} is ahead. Bands: {study.confidence:.0%} intervals paired by seed, where there "
            f"are two seeds or more.{_said(shown)}",
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
        ax.set_title(style.escape_math(averages.measure_title(study, measure)))
        ax.set_ylabel(style.escape_math(f"{capital(_reference(shown)[1])} minus rival (points)"))
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
    measure: Measure = shown[0].measure
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
    return f"{averages.measure_title(study, measure)}: {'; '.join(parts)}."
