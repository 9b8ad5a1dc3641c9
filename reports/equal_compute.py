"""Accuracy at equal pre-training compute: the trade-off that Figure 5 of arXiv:2010.11929 shows.

Matched systems are matched only nearly, and at the suite's sizes only. Here both curves (accuracy
over pre-training exaFLOPs, one point for each upstream size) are read at the same compute, for
each seed by itself, straight between points over the logarithm of compute and never beyond them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from bench import metrics, stats
from reports.cells import Notes, common_exponent, number_cell, power_unit, text_cell
from reports.pairs import WORDS, contests
from reports.render import Cell, Column, Sample, Table
from reports.results import Arm, Measure, Study, bare_name, by_seed, resolution

NUM_LEVELS = 3


@dataclass(frozen=True)
class Curve:
    """Accuracy of one system over compute, for each seed that has every point."""

    arms: tuple[Arm, ...]
    values: dict[int, tuple[float, ...]]
    job_ids: dict[int, tuple[str, ...]]

    @property
    def compute(self) -> tuple[float, ...]:
        """Pre-training exaFLOPs of the points."""
        return tuple(arm.exaflops for arm in self.arms)

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean over seeds at each point."""
        return tuple(
            sum(column) / len(column) for column in zip(*self.values.values(), strict=True)
        )


@dataclass(frozen=True)
class Reading:
    """Two curves read at one compute."""

    first: Curve
    second: Curve
    role: str
    measure: Measure
    exaflops: float
    difference: stats.Difference
    samples: tuple[Sample, ...]
    work_to_match: float | None
    """Compute that the ViT needs for the rival's accuracy here, over this compute; None where its
    curve lies wholly above or below that accuracy."""
    always_above: bool
    """The ViT's smallest measured compute already gives more than that accuracy."""


def readings(study: Study) -> list[Reading]:
    """Return every reading: by pair, rival, measure and compute."""
    found = []
    asked = dict.fromkeys(
        (c.pair, c.role, c.vit.system, c.rival.system, c.vit.upstream, c.measure)
        for c in contests(study)
    )
    order = {measure: place for place, measure in enumerate(study.measures)}
    for _, role, vit, rival, upstream, measure in sorted(
        asked, key=lambda key: (key[0], key[1], key[4], order[key[5]])
    ):
        first = _curve(study, vit, upstream, measure)
        second = _curve(study, rival, upstream, measure)
        for exaflops in _levels(first, second):
            found.append(_read(study, first, second, role, measure, exaflops))
    return found


def _curve(study: Study, system: str, upstream: str, measure: Measure) -> Curve:
    arms = [arm for arm in study.arms_by_name[bare_name(system)] if arm.upstream == upstream]
    arms.sort(key=lambda arm: arm.exaflops)
    points = [by_seed(study.scores.get((arm, measure), ())) for arm in arms]
    ids = [{s.seed: s.job_id for s in study.scores.get((arm, measure), ())} for arm in arms]
    seeds = sorted(set.intersection(*(set(point) for point in points))) if points else []
    return Curve(
        tuple(arms),
        {seed: tuple(point[seed] for point in points) for seed in seeds},
        {seed: tuple(job[seed] for job in ids) for seed in seeds},
    )


def _levels(first: Curve, second: Curve) -> list[float]:
    """Return the ends and the (geometric) middle of the compute that both curves span."""
    if min(len(first.arms), len(second.arms)) < 2 or not first.values or not second.values:
        return []
    low = max(first.compute[0], second.compute[0])
    high = min(first.compute[-1], second.compute[-1])
    if low >= high:
        return []
    steps = NUM_LEVELS - 1
    return [low * (high / low) ** (i / steps) for i in range(NUM_LEVELS)]


def _read(
    study: Study, first: Curve, second: Curve, role: str, measure: Measure, exaflops: float
) -> Reading:
    seeds = sorted(first.values.keys() & second.values.keys())
    a = [stats.interpolate_log(first.compute, first.values[s], exaflops) for s in seeds]
    b = [stats.interpolate_log(second.compute, second.values[s], exaflops) for s in seeds]
    pairs = [(x, y) for x, y in zip(a, b, strict=True) if x is not None and y is not None]
    groups = [study.scores.get((arm, measure), []) for arm in (*first.arms, *second.arms)]
    difference = stats.paired_difference(
        [x for x, _ in pairs],
        [y for _, y in pairs],
        confidence=study.confidence,
        resolution=resolution(*groups),
    )
    samples = tuple(
        Sample(seed=seed, value=x - y, job_ids=(*first.job_ids[seed], *second.job_ids[seed]))
        for seed, (x, y) in zip(seeds, pairs, strict=True)
    )
    goal = stats.interpolate_log(second.compute, second.mean, exaflops)
    needed = None if goal is None else stats.first_reaching_log(first.compute, first.mean, goal)
    ratio = None if needed is None else needed / exaflops
    above = ratio is None and goal is not None and first.mean[0] > goal
    return Reading(first, second, role, measure, exaflops, difference, samples, ratio, above)


def table(study: Study) -> Table:
    """Return the table of accuracies at equal compute."""
    met = readings(study)
    exponent = common_exponent([reading.exaflops for reading in met])
    notes = Notes()
    several = len({reading.measure.dataset for reading in met}) > 1
    return Table(
        name="equal_compute",
        title="Accuracy at equal compute",
        caption=_caption(study, met),
        columns=tuple(_columns(exponent)),
        rows=tuple(_row(study, reading, exponent, notes, several) for reading in met),
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


def _row(
    study: Study, reading: Reading, exponent: int, notes: Notes, several: bool
) -> tuple[Cell, ...]:
    name = study.measure_title(reading.measure)
    if several:
        name = f"{study.dataset_title(reading.measure.dataset)}: {name}"
    systems = f"{reading.first.arms[0].title} − {reading.second.arms[0].title}"
    found, metric = reading.difference, reading.measure.metric
    text = metrics.show_difference(metric, found.mean or 0.0)
    low, high = None, None
    if found.interval is not None:
        low, high = found.interval.low, found.interval.high
        text += f" [{', '.join(metrics.show_difference(metric, end) for end in (low, high))}]"
    partial = found.n < len(study.graph.suite.seeds)
    note = f"n = {found.n}: seeds with every point of both curves"
    marks = (notes.mark(note),) if partial else ()
    words = {"first": "ViT leads", "second": f"{WORDS[reading.role]} leads", "tie": "tie"}
    return (
        text_cell(systems),
        text_cell(name),
        number_cell(reading.exaflops, metrics.number(reading.exaflops / 10.0**exponent)),
        *(_value(curve, metric, reading.exaflops) for curve in (reading.first, reading.second)),
        Cell(
            text=text, value=found.mean, std=found.std, low=low, high=high, n=found.n,
            marks=marks, samples=reading.samples,
        ),
        text_cell(words.get(found.leader, "one seed")),
        _match(reading),
    )  # fmt: skip


def _value(curve: Curve, metric: str, exaflops: float) -> Cell:
    value = stats.interpolate_log(curve.compute, curve.mean, exaflops) or math.nan
    return number_cell(value, metrics.show(metric, value))


def _match(reading: Reading) -> Cell:
    if reading.work_to_match is not None:
        return number_cell(reading.work_to_match, metrics.number(reading.work_to_match))
    if reading.always_above:
        least = reading.first.compute[0] / reading.exaflops
        return text_cell(f"below {metrics.number(least)}")
    return Cell(text="not reached", status="absent")


def _caption(study: Study, met: list[Reading]) -> str:
    n = max((reading.difference.n for reading in met), default=0)
    interval = (
        f"[{study.confidence:.0%} interval], paired by seed, n = {n}" if n > 1 else "of one seed"
    )
    return (
        "Both systems read at the same pre-training compute, at the ends and the middle of what "
        "both span, straight between upstream sizes over log compute; nothing is extrapolated. "
        f"Difference: ViT minus rival {interval}. Work to match: pre-training compute with which "
        "the ViT's mean reaches the rival's accuracy, over the compute of the row; not reached: "
        "not within the measured range. Verdicts are not corrected for their number."
    )
