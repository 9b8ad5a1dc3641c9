"""The pairs again, image by image: does the difference hold for other test images, other seeds?

Both systems of a pair answered the same test images. McNemar's test counts the images that only
one got right, for each seed by itself; the bootstrap draws images and seeds anew together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from bench import metrics, stats
from reports.cards import TableCard
from reports.printing.cells import images_cell, number_cell, text_cell
from reports.printing.table import Cell, Column, Table
from reports.study.contests import Contest, contests, reference_of
from reports.study.study import Study

if TYPE_CHECKING:
    import numpy as np

SEED = 2_010_11929
"""Seed of the bootstrap: the same hits give the same interval."""


def table(study: Study) -> Table:
    """Return the table; without rows where no hits were recorded."""
    rows = []
    several = len({contest.measure.dataset for contest in contests(study)}) > 1
    import numpy as np

    first_key, name = reference_of(contests(study))
    generator = np.random.default_rng(SEED)
    for contest in sorted(contests(study), key=lambda c: (c.pair, c.rival)):
        first, second, seeds = _hits(study, contest)
        if seeds:
            systems, *rest = _row(study, contest, first, second, seeds, generator)
            data = [text_cell(study.dataset_title(contest.measure.dataset))] if several else []
            rows.append((systems, *data, *rest))
    return Table(
        name="images",
        title="Pairs, image by image",
        caption=f"Fine-tuned accuracy, {name} minus rival, in points, with the "
        f"{study.confidence:.0%} bootstrap interval over {_over(rows)}. Only "
        f"{name}, only rival: test images that only one of the two got right, mean over seeds. "
        "McNemar p: exact, for each seed by itself. Not corrected for the number of comparisons.",
        columns=tuple(_columns(first_key, name, several=several)),
        rows=tuple(rows),
        warning=study.warning,
        group_by=("systems",),
    )


def _over(rows: Sequence[tuple[Cell, ...]]) -> str:
    """Return what the intervals are over; of one seed nothing is known but the images."""
    alone = {cell.n == 1 for row in rows for cell in row if cell.n}
    if alone == {True}:
        return "test images alone, since there is one seed"
    rest = " (alone in rows of one seed)" if True in alone else ""
    return f"test images and seeds together{rest}"


def _columns(key: str, name: str, *, several: bool) -> Iterator[Column]:
    yield Column(key="systems", title="Systems", align="left", header=True)
    if several:
        yield Column(key="dataset", title="Data", align="left", header=True)
    yield Column(key="upstream_examples", title="Upstream", unit="images", header=True)
    yield Column(key="num_images", title="Test", unit="images", priority=2)
    yield Column(key="difference", title="Difference", unit="points", base_unit="fraction")
    yield Column(key=f"only_{key}", title=f"Only {name}", unit="images", priority=1)
    yield Column(key="only_rival", title="Only rival", unit="images", priority=1)
    yield Column(key="p_values", title="McNemar p", unit="a seed each", align="left")


def _hits(study: Study, contest: Contest) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Return hits_SN of both on the seeds for which both recorded the same images."""
    import numpy as np

    first, second, seeds = [], [], []
    if contest.measure.metric != "test_top1":
        return np.empty((0, 0)), np.empty((0, 0)), []
    for sample in contest.samples:
        if sample.value is None or sample.seed is None or len(sample.job_ids) != 2:
            continue
        a, b = (study.hits(job_id) for job_id in sample.job_ids)
        if a is not None and b is not None and a.shape == b.shape:
            first.append(a)
            second.append(b)
            seeds.append(sample.seed)
    return np.array(first), np.array(second), seeds


def _row(
    study: Study,
    contest: Contest,
    first_SN: np.ndarray,
    second_SN: np.ndarray,
    seeds: list[int],
    generator: np.random.Generator,
) -> tuple[Cell, ...]:
    mean = float(first_SN.mean() - second_SN.mean())
    interval = stats.paired_bootstrap(
        first_SN, second_SN, generator=generator, confidence=study.confidence
    )
    tests = [stats.mcnemar(a_N, b_N) for a_N, b_N in zip(first_SN, second_SN, strict=True)]
    only_first = sum(test.only_first for test in tests) / len(tests)
    only_rival = sum(test.only_second for test in tests) / len(tests)
    text = metrics.show_difference("test_top1", mean)
    low, high = (interval.low, interval.high) if interval else (None, None)
    if interval:
        ends = [metrics.show_difference("test_top1", end) for end in (interval.low, interval.high)]
        text += f" [{ends[0]}, {ends[1]}]"
    kept = tuple(sample for sample in contest.samples if sample.seed in seeds)
    return (
        text_cell(f"{contest.first.title} − {contest.second.title}"),
        images_cell(contest.first.upstream, contest.first.upstream_examples),
        number_cell(first_SN.shape[1], f"{first_SN.shape[1]:,}"),
        Cell(text=text, value=mean, low=low, high=high, n=len(seeds), samples=kept),
        number_cell(only_first, metrics.number(only_first)),
        number_cell(only_rival, metrics.number(only_rival)),
        text_cell(", ".join(_p(test.p_value) for test in tests)),
    )


def _p(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}"


TABLE = TableCard(name="images", make=table, place=220, comes_with="pairs")
