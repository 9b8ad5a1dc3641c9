"""Ranks of the systems at each upstream size, with the places that were not excluded.

A table of means invites reading an order out of noise. Here a system's place is a range: best and
worst that the seeds leave open (`bench.stats.paired_ranks`), and, where per-image hits were kept,
what new test images and seeds together would leave open (`bench.stats.bootstrap_ranks`): new test
images alone where there is one seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from bench import stats
from bench.stats import Rank
from reports.cards import TableCard
from reports.printing.cells import absent_cell
from reports.printing.table import Cell, Column, Sample, Table
from reports.study import averages
from reports.study.samples import Arm, Measure, by_seed, resolution
from reports.study.study import Study
from reports.tables.comparison import LeadColumns

if TYPE_CHECKING:
    import numpy as np

SEED = 2_010_11929
"""Seed of the bootstrap: the same hits give the same ranks."""
OVER_IMAGES = "over images"


def table(study: Study) -> Table:
    """Return the ranks of every group of systems that saw the same upstream data."""
    lead = LeadColumns(study)
    import numpy as np

    generator = np.random.default_rng(SEED)
    columns: list[tuple[Column, Mapping[Arm, Cell]]] = []
    for measure in averages.headline(study):
        cells: dict[Arm, Cell] = {}
        imaged: dict[Arm, Cell] = {}
        for arms in study.arms_by_size.values():
            if arms[0].is_untrained:
                continue
            cells |= _by_seeds(study, arms, measure)
            imaged |= _by_images(study, arms, measure, generator)
        columns.append((_column(study, measure, ""), cells))
        if imaged:
            columns.append((_column(study, measure, OVER_IMAGES), imaged))
    rows = []
    for arm in (arm for arm in study.arms if not arm.is_untrained):
        both = zip(lead.columns, lead.cells(arm), strict=True)
        names = [cell for column, cell in both if column.header]
        rows.append((*names, *(cells.get(arm, absent_cell()) for _, cells in columns)))
    return Table(
        name="ranks",
        title="Ranks",
        caption=_caption(study, _num_seeds(columns)),
        columns=(*(c for c in lead.columns if c.header), *(column for column, _ in columns)),
        rows=tuple(rows),
        warning=study.warning,
        group_by=("upstream", "upstream_examples"),
    )


def _num_seeds(columns: Sequence[tuple[Column, Mapping[Arm, Cell]]]) -> int:
    """Return the most seeds behind a place over images; 0 where there is none."""
    imaged = (cells for column, cells in columns if OVER_IMAGES in column.title)
    return max((cell.n for cells in imaged for cell in cells.values()), default=0)


def _column(study: Study, measure: Measure, what: str) -> Column:
    names = (measure.dataset, measure.metric, measure.setting, what.replace(" ", "_"))
    return Column(
        key="_".join(filter(None, names)),
        title=", ".join(filter(None, (study.measure_title(measure), what))),
        base_unit="place",
        group=study.dataset_title(measure.dataset),
    )


def _by_seeds(study: Study, arms: Sequence[Arm], measure: Measure) -> dict[Arm, Cell]:
    found = {arm: tuple(averages.values(study, arm, measure).values()) for arm in arms}
    there = {arm: group for arm, group in found.items() if group}
    ranks = stats.paired_ranks(
        [by_seed(group) for group in there.values()],
        confidence=study.confidence,
        resolution=resolution(*there.values()),
    )
    return {
        arm: _cell(rank, group, of=len(there))
        for (arm, group), rank in zip(there.items(), ranks, strict=True)
    }


def _by_images(
    study: Study, arms: Sequence[Arm], measure: Measure, generator: np.random.Generator
) -> dict[Arm, Cell]:
    """Return the ranks over images and seeds, of the arms that have hits on the shared seeds."""
    if measure.metric != "test_top1":
        return {}
    import numpy as np

    hits: dict[Arm, dict[int, tuple[Sample, np.ndarray]]] = {}
    for arm in arms:
        for sample in study.samples.get((arm, measure), ()):
            found = study.hits(sample.job_ids[0])
            if found is not None and sample.seed is not None:
                hits.setdefault(arm, {})[sample.seed] = (sample, found)
    seeds = sorted(set.intersection(*map(set, hits.values()))) if len(hits) > 1 else []
    if not seeds or len({hits[arm][seed][1].shape for arm in hits for seed in seeds}) != 1:
        return {}
    hits_KSN = np.array([[hits[arm][seed][1] for seed in seeds] for arm in hits])
    ranks = stats.bootstrap_ranks(hits_KSN, generator=generator, confidence=study.confidence)
    cells = {}
    for arm, rank in zip(hits, ranks, strict=True):
        there = (hits[arm][seed] for seed in seeds)
        samples = tuple(replace(sample, value=float(hits_N.mean())) for sample, hits_N in there)
        # Of one seed nothing is known but the images: that singles nobody out.
        cells[arm] = _cell(rank, samples, of=len(hits) if len(seeds) > 1 else 1)
    return cells


def _cell(rank: Rank, samples: tuple[Sample, ...], *, of: int) -> Cell:
    n = len(samples)
    if rank.best is None or rank.worst is None:
        return Cell(text=f"{rank.rank}, one seed", value=rank.rank, n=n, samples=samples)
    text = f"{rank.best}–{rank.worst}" if rank.is_tied else str(rank.rank)
    return Cell(
        text=text,
        value=rank.rank,
        low=rank.best,
        high=rank.worst,
        n=n,
        strong=of > 1 and rank.worst == 1,
        samples=samples,
    )


def _caption(study: Study, num_seeds: int) -> str:
    over = "test images and seeds together" if num_seeds > 1 else "test images alone, of one seed"
    images = f" Over images: {study.confidence:.0%} bootstrap over {over}." if num_seeds else ""
    return (
        "Places among the systems at the same upstream size, 1 the most accurate. Each place of a "
        "range is open, since the difference to those in it was not shown "
        f"({study.confidence:.0%}, paired by seed, Holm's correction over all pairs of a size). "
        f"Bold: alone in first place.{images}{averages.left_out(study)}"
    )


TABLE = TableCard(name="ranks", make=table, place=230, comes_with="comparison", section="leading")
