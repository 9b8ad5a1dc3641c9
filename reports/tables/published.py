"""Measured beside published: difference, verdict and its reasons (`reports/verdicts/rule.py`)."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from bench import metrics
from bench.specs import PublishedResult
from reports.printing.render import Cell, Column, Table
from reports.study.scores import Study, values
from reports.tables.cells import Notes, mean_cell, number_cell, text_cell
from reports.verdicts.linking import Counterpart, counterparts
from reports.verdicts.rule import MARGIN, VERDICT_VERSION

COLUMNS = (
    Column(key="published", title="Published", unit="%", base_unit="fraction"),
    Column(key="measured", title="Measured", unit="%", base_unit="fraction"),
    Column(key="difference", title="Difference", unit="points", base_unit="fraction"),
    Column(key="verdict", title="Verdict", align="left"),
)
"""A published number, what was measured beside it, and the verdict: `cells` fills them."""


def table(study: Study) -> Table:
    """Return the table; without rows where the suite answers no published number."""
    notes = Notes()
    found = counterparts(study)
    return Table(
        name="published",
        title="Measured beside published",
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


def cells(answer: Counterpart, notes: Notes) -> tuple[Cell, Cell, Cell, Cell]:
    """Return the cells of `COLUMNS` for a measured cell and the number that it answers."""
    verdict, metric = answer.verdict, answer.measure.metric
    reasons = "; ".join(verdict.reasons)
    difference = (
        Cell(text="–", status="absent")
        if verdict.difference is None
        else number_cell(verdict.difference, metrics.show_difference(metric, verdict.difference))
    )
    return (
        printed_cell(answer.row),
        _measured_cell(answer, notes),
        difference,
        Cell(
            text=verdict.word,
            strong=verdict.word in ("reproduced", "off"),
            marks=(notes.mark(f"{verdict.word}: {reasons}"),) if reasons != verdict.word else (),
        ),
    )


def _measured_cell(answer: Counterpart, notes: Notes) -> Cell:
    there = values(answer.scores)
    if not there:  # the verdict's note says why
        notes = Notes()
    cell = mean_cell(answer.measure.metric, answer.scores, notes=notes, num_expected=len(there))
    return cell if there else replace(cell, marks=())


def printed_cell(row: PublishedResult) -> Cell:
    """Return a published number in per cent, with the digits of print; kept as a fraction."""
    parts = [row.value, row.std] if row.std else [row.value]
    if row.unit != "%":
        parts = [str(Decimal(part).scaleb(2)) for part in parts]
    value, *std = [float(part) / 100 for part in parts]
    return Cell(text=" ± ".join(parts), value=value, std=std[0] if std else None)
