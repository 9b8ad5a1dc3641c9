"""Measured against published: difference, verdict and its reasons (`reports/verdicts/rule.py`)."""

from __future__ import annotations

from bench.facts import MARGIN
from reports.cards import TableCard
from reports.printing.cells import Notes, text_cell
from reports.printing.table import Cell, Column, Table
from reports.study.study import Study
from reports.verdicts.cells import COLUMNS, cells
from reports.verdicts.linking import Counterpart, counterparts
from reports.verdicts.rule import VERDICT_VERSION


def table(study: Study) -> Table:
    """Return the table; without rows where the suite answers no published number."""
    notes = Notes()
    found = counterparts(study)
    return Table(
        name="published",
        title="Measured against published",
        caption="Top-1 accuracy in %, published as printed; difference in points. Verdicts follow "
        f"rule {VERDICT_VERSION}: a difference shown to be within {MARGIN * 100:g} points is "
        "reproduced; notes give the reasons.",
        columns=(
            Column(key="system", title="System", align="left", header=True),
            Column(key="upstream", title="Upstream", align="left", header=True),
            Column(key="dataset", title="Data", align="left", header=True),
            Column(key="measure", title="Measure", align="left", header=True),
            Column(key="source", title="Source", align="left", priority=2),
            *COLUMNS,
        ),
        rows=tuple(_row(study, counterpart, notes) for counterpart in found),
        notes=tuple(notes.texts),
        warning=study.warning,
        group_by=("system",),
    )


def _row(study: Study, answer: Counterpart, notes: Notes) -> tuple[Cell, ...]:
    return (
        text_cell(answer.arm.title),
        text_cell(study.upstream_title(answer.arm)),
        text_cell(study.dataset_title(answer.measure.dataset)),
        text_cell(study.measure_title(answer.measure)),
        text_cell(answer.row.source),
        *cells(answer, notes),
    )


TABLE = TableCard(
    name="published",
    make=table,
    place=110,
    comes_with="comparison",
    section="leading",
    needs=lambda study: bool(study.published),
)
