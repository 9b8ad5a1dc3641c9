"""Accuracy on the test images of each class: where systems fail, and whether on the same classes.

A mean hides that one class is never found. The hardest classes stand first; of many the hardest
alone.
"""

from __future__ import annotations

from reports.cards import TableCard
from reports.printing.cells import Notes, absent_cell, mean_cell, number_cell, text_cell
from reports.printing.table import Cell, Column, Table
from reports.study.classes import Classes, Told, arm_titles, has_own_data, shown
from reports.study.samples import Arm, values
from reports.study.study import Study

MAX_CLASSES, NUM_HARDEST = 100, 20
"""Of a data set of more classes so many of the hardest are shown."""


def table(study: Study) -> Table:
    """Return a row for each class and a column for each system; without rows for no answers."""
    found = shown(study, asked="per_class" in study.graph.suite.report.tables)
    arms = list(dict.fromkeys(told.arm for classes in found for told in classes.systems))
    several, notes = len(found) > 1, Notes()
    n = max((len(told.counts) for classes in found for told in classes.systems), default=0)
    rows = [
        row
        for classes in found
        for row in _rows(study, classes, arms, notes, num_expected=n, several=several)
    ]
    return Table(
        name="per_class",
        title="Accuracy by class",
        caption=_caption(study, found, n),
        columns=(
            *([Column(key="dataset", title="Data", align="left", header=True)] if several else []),
            Column(key="class", title="Class", align="left", header=True),
            Column(key="num_images", title="Test", unit="images"),
            *map(_column, arms, arm_titles(study, arms)),
        ),
        rows=tuple(rows),
        notes=tuple(notes.texts),
        warning=study.warning,
        group_by=("dataset",) if several else (),
    )


def _column(arm: Arm, title: str) -> Column:
    names = ("top1", arm.system, arm.upstream, arm.pretraining)
    return Column(key="_".join(filter(None, names)), title=title, unit="%", base_unit="fraction")


def _rows(
    study: Study,
    classes: Classes,
    arms: list[Arm],
    notes: Notes,
    *,
    num_expected: int,
    several: bool,
) -> list[tuple[Cell, ...]]:
    systems = {told.arm: told for told in classes.systems}
    metric = classes.measure.metric
    rows = []
    for label in _hardest(classes):
        num = classes.num_images[label]
        cells = [
            mean_cell(
                metric, systems[arm].accuracies(label, num), notes=notes, num_expected=num_expected
            )
            if arm in systems
            else absent_cell()
            for arm in arms
        ]
        data = [text_cell(study.dataset_title(classes.dataset))] if several else []
        rows.append((*data, text_cell(classes.names[label]), number_cell(num, f"{num:,}"), *cells))
    return rows


def _hardest(classes: Classes) -> list[int]:
    """Return the classes with test images, those of the least mean over systems first."""

    def mean(label: int) -> float:
        means = [_mean(told, label, classes.num_images[label]) for told in classes.systems]
        return sum(means) / len(means)

    there = [label for label, num in enumerate(classes.num_images) if num]
    ordered = sorted(there, key=lambda label: (round(mean(label), 12), label))
    return ordered if len(there) <= MAX_CLASSES else ordered[:NUM_HARDEST]


def _mean(told: Told, label: int, num_images: int) -> float:
    found = values(told.accuracies(label, num_images))
    return sum(found) / len(found)


def _caption(study: Study, found: list[Classes], n: int) -> str:
    spread = f"mean ± standard deviation over n = {n} seeds" if n > 1 else "one seed, no spread"
    names = dict.fromkeys(study.measure_title(classes.measure) for classes in found)
    many = [
        f"{study.dataset_title(classes.dataset)} has {len(classes.names):,} classes, of which the "
        f"{NUM_HARDEST} hardest are shown."
        for classes in found
        if sum(map(bool, classes.num_images)) > MAX_CLASSES
    ]
    parts = [
        f"Top-1 accuracy ({', '.join(names)}) on the test images of each class, in %: {spread}. "
        "The classes of the least mean over systems stand first; those without test images are "
        "left out. Systems at their largest upstream size.",
        *many,
    ]
    return " ".join(parts)


TABLE = TableCard(
    name="per_class", make=table, place=250, comes_with="comparison", needs=has_own_data
)
