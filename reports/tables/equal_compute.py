"""Accuracy at equal pre-training compute: the trade-off that Figure 5 of arXiv:2010.11929 shows.

Matched systems are matched only nearly, and at the suite's sizes only. Here both curves of a pair
(accuracy over pre-training exaFLOPs, one point for each upstream size) are read at the same
compute, and so are whole families along their upper envelopes (`reports/study/curves.py`).
"""

from __future__ import annotations

from collections.abc import Iterator

from bench import metrics
from reports.cards import TableCard
from reports.printing.cells import Notes, number_cell, text_cell
from reports.printing.table import Cell, Column, Table
from reports.printing.units import common_exponent, power_unit
from reports.study.contests import WORDS
from reports.study.curves import Curve, Reading, readings
from reports.study.study import Study


def table(study: Study) -> Table:
    """Return the table of accuracies at equal compute."""
    met = readings(study)
    exponent = common_exponent([reading.exaflops for reading in met])
    notes = Notes()
    return Table(
        name="equal_compute",
        title="Accuracy at equal compute",
        caption=_caption(study, met),
        columns=tuple(_columns(exponent)),
        rows=tuple(_row(study, reading, exponent, notes) for reading in met),
        notes=tuple(notes.texts),
        warning=study.warning,
        group_by=("systems", "measure"),
    )


def _columns(exponent: int) -> Iterator[Column]:
    yield Column(key="systems", title="Systems", align="left", header=True)
    yield Column(key="measure", title="Measure", align="left", header=True)
    yield Column(
        key="exaflops",
        title="Pre-training",
        unit=power_unit(exponent, "exaFLOPs"),
        base_unit="exaFLOPs",
        header=True,
    )
    for key, title in (("vit", "ViT"), ("rival", "Rival")):
        yield Column(key=key, title=title, unit="%", base_unit="fraction", priority=2)
    yield Column(key="difference", title="Difference", unit="points", base_unit="fraction")
    yield Column(key="verdict", title="Verdict", align="left")
    yield Column(key="work_to_match", title="Work to match", unit="ratio", priority=1)


def _row(study: Study, reading: Reading, exponent: int, notes: Notes) -> tuple[Cell, ...]:
    match = reading.match
    metric = match.measure.metric
    words = {"first": "ViT leads", "second": f"{WORDS[match.role]} leads", "tie": "tie"}
    verdict = words.get(reading.difference.leader, "one seed")
    return (
        text_cell(match.title),
        text_cell(study.measure_name(match.measure)),
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
        f"{families}Difference: ViT minus rival {interval}. Work to match: pre-training compute "
        "with which the ViT's mean reaches the rival's accuracy, over the compute of the row"
        f"{', with the interval where every seed reaches it' if n > 1 else ''}; not reached: "
        "not within the measured range. Verdicts are not corrected for their number."
    )


TABLE = TableCard(name="equal_compute", make=table, place=210, comes_with="pairs")
