"""The most frequent mistakes of each system: test images of one class taken for another."""

from __future__ import annotations

from bench import metrics
from reports.cards import TableCard
from reports.printing.cells import text_cell
from reports.printing.table import Cell, Column, Table
from reports.study.classes import Classes, Mistake, arm_titles, has_own_data, shown
from reports.study.study import Study

MAX_MISTAKES = 10
"""Mistakes of each system on each data set."""


def table(study: Study) -> Table:
    """Return the mistakes by data set and system; without rows where no answers were left."""
    found = shown(study, asked="confusions" in study.graph.suite.report.tables)
    several = len(found) > 1
    rows = []
    for classes in found:
        titles = arm_titles(study, [told.arm for told in classes.systems])
        for title, told in zip(titles, classes.systems, strict=True):
            data = [text_cell(study.dataset_title(classes.dataset))] if several else []
            rows += [
                (*data, text_cell(title), *_cells(classes, mistake))
                for mistake in told.mistakes()[:MAX_MISTAKES]
            ]
    return Table(
        name="confusions",
        title="Most frequent mistakes",
        caption=f"The {MAX_MISTAKES} most frequent mistakes of each system: test images of a class "
        "that were taken for another, mean over seeds, and their share of the class.",
        columns=(
            *([Column(key="dataset", title="Data", align="left", header=True)] if several else []),
            Column(key="system", title="System", align="left", header=True),
            Column(key="class", title="Class", align="left", header=True),
            Column(key="taken_for", title="Taken for", align="left", header=True),
            Column(key="num_images", title="Images", base_unit="images"),
            Column(key="share", title="Of the class", unit="%", base_unit="fraction"),
        ),
        rows=tuple(rows),
        warning=study.warning,
        group_by=(*(("dataset",) if several else ()), "system"),
    )


def _cells(classes: Classes, mistake: Mistake) -> tuple[Cell, ...]:
    num = classes.num_images[mistake.label]
    share = mistake.mean / num
    return (
        text_cell(classes.names[mistake.label]),
        text_cell(classes.names[mistake.taken_for]),
        Cell(
            text=in_words(mistake.mean, num),
            value=mistake.mean,
            n=len(mistake.by_seed),
            samples=mistake.by_seed,
        ),
        Cell(text=metrics.number(100 * share, decimals=1), value=share, n=len(mistake.by_seed)),
    )


def in_words(mean: float, num_images: int) -> str:
    """Return how many images of a class: `12 of 40`, `12.3 of 40`."""
    return f"{mean:,.{0 if mean.is_integer() else 1}f} of {num_images:,}"


TABLE = TableCard(
    name="confusions", make=table, place=260, comes_with="comparison", needs=has_own_data
)
