"""Scaling fits: how error falls with upstream images and with pre-training compute.

error = floor + scale * (x / middle)^-exponent (`bench.stats.fit_power_law`). A system is fitted
over its upstream sizes, a family over the compute of all its systems. Fits of fewer than four
distinct sizes are refused: the table says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bench import metrics, stats
from bench.stats import MIN_FIT_POINTS, Interval, PowerLaw
from reports.cards import TableCard
from reports.printing.cells import number_cell, text_cell
from reports.printing.table import Cell, Column, Sample, Table
from reports.study import averages
from reports.study.families import word
from reports.study.samples import Arm, Measure, values
from reports.study.study import Study

if TYPE_CHECKING:
    import numpy as np

SEED = 2_106_04560
"""Seed of the bootstrap: the same values give the same intervals."""


@dataclass(frozen=True)
class Series:
    """Values of one system or family over what grows."""

    title: str
    over: str
    """What grows, with its unit."""
    measure: Measure
    points: tuple[tuple[float, Sample], ...]
    """(x, accuracy), seeds as points of their own."""


def table(study: Study) -> Table:
    """Return a fit for each series; those with too few sizes say so."""
    import numpy as np

    generator = np.random.default_rng(SEED)
    met = list(series(study))
    fits = [(found, _fit(study, found, generator)) for found in met]
    refused = sum(fit is None for _, fit in fits)
    return Table(
        name="scaling",
        title="Scaling fits",
        caption="Error (100 % minus top-1) = floor + scale · (x / middle)^−exponent, by robust "
        "least squares over all seeds' values. Floor: error that remains for x without bound; "
        "scale: error above it at the middle (geometric mean) of x; an exponent of 0.5 halves it "
        f"where x grows fourfold. In brackets: {study.confidence:.0%} intervals from resampled "
        "residuals. RMS: root mean square of the residuals, which the long CSV lists. A floor "
        "whose interval begins at 0 is not settled by these sizes."
        + (
            f" Series of fewer than {MIN_FIT_POINTS} sizes, without a fit: {refused}."
            * bool(refused)
        ),
        columns=(
            Column(key="system", title="System", align="left", header=True),
            Column(key="measure", title="Measure", align="left", header=True),
            Column(key="over", title="Over", align="left", header=True),
            Column(key="points", title="Values", priority=3),
            Column(key="middle", title="Middle", priority=2),
            Column(key="floor", title="Floor", unit="%", base_unit="fraction"),
            Column(key="scale", title="Scale", unit="points", base_unit="fraction", priority=1),
            Column(key="exponent", title="Exponent"),
            Column(key="rms", title="RMS", unit="points", base_unit="fraction"),
        ),
        rows=tuple(_row(study, found, fit) for found, fit in fits if fit is not None),
        warning=study.warning,
        group_by=("system",),
    )


def series(study: Study) -> Iterator[Series]:
    """Yield every series of a suite: systems over images, families over compute."""
    upstreams = study.upstreams
    for upstream in upstreams:
        where = f", {study.dataset_title(upstream)}" if len(upstreams) > 1 else ""
        arms = [arm for arm in study.arms if arm.upstream == upstream]
        for title in dict.fromkeys(arm.title for arm in arms):
            sizes = [(arm.upstream_examples, arm) for arm in arms if arm.title == title]
            for measure in averages.headline(study):
                yield _series(study, f"{title}{where}", "images", measure, sizes)
        for family in dict.fromkeys(arm.family for arm in arms):
            own = [arm for arm in arms if arm.family == family and arm.exaflops > 0]
            if len({arm.title for arm in own}) < 2:
                continue  # one system: its own rows say it
            name = f"{word(family)} family{where}"
            work = [(arm.exaflops, arm) for arm in own]
            for measure in averages.headline(study):
                yield _series(study, name, "exaFLOPs", measure, work)


def _series(
    study: Study, title: str, over: str, measure: Measure, arms: Sequence[tuple[float, Arm]]
) -> Series:
    points = tuple(
        (x, sample)
        for x, arm in sorted(arms, key=lambda item: item[0])
        for sample in averages.values(study, arm, measure).values()
    )
    return Series(title, over, measure, points)


def _fit(study: Study, met: Series, generator: np.random.Generator) -> PowerLaw | None:
    return stats.fit_power_law(
        [x for x, _ in met.points],
        [1 - value for value in values(sample for _, sample in met.points)],
        generator=generator,
        confidence=study.confidence,
    )


def _row(study: Study, met: Series, fit: PowerLaw) -> tuple[Cell, ...]:
    return (
        text_cell(met.title),
        text_cell(study.measure_name(met.measure)),
        text_cell(met.over),
        number_cell(len(met.points), str(len(met.points))),
        number_cell(fit.unit, metrics.number(fit.unit)),
        _interval_cell(fit.floor, fit.floor_interval, scale=100),
        _interval_cell(fit.scale, fit.scale_interval, scale=100),
        _interval_cell(fit.exponent, fit.exponent_interval),
        _rms_cell(fit, met),
    )


def _interval_cell(value: float, interval: Interval, *, scale: float = 1.0) -> Cell:
    decimals = 1 if scale > 1 else 2
    texts = [
        metrics.number(number * scale, decimals=decimals)
        for number in (value, interval.low, interval.high)
    ]
    text = f"{texts[0]} [{texts[1]}, {texts[2]}]"
    return Cell(text=text, value=value, low=interval.low, high=interval.high)


def _rms_cell(fit: PowerLaw, met: Series) -> Cell:
    samples = tuple(
        replace(sample, value=residual)
        for residual, (_, sample) in zip(fit.residuals, met.points, strict=True)
    )
    return Cell(text=f"{100 * fit.rms:.2f}", value=fit.rms, n=len(samples), samples=samples)


TABLE = TableCard(name="scaling", make=table, place=240)
