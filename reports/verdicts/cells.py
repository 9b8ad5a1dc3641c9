"""The cells of a published number: as printed, what was measured, the difference, the verdict."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from bench import metrics
from bench.specs import PublishedResult
from reports.printing.cells import Notes, mean_cell, number_cell
from reports.printing.table import Cell, Column
from reports.study.samples import values
from reports.verdicts.linking import Counterpart

COLUMNS = (
    Column(key="published", title="Published", unit="%", base_unit="fraction"),
    Column(key="measured", title="Measured", unit="%", base_unit="fraction"),
    Column(key="difference", title="Difference", unit="points", base_unit="fraction"),
    Column(key="verdict", title="Verdict", align="left"),
)
"""A published number, what was measured for it, and the verdict: `cells` fills them."""


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
    there = values(answer.samples)
    if not there:  # the verdict's note says why
        notes = Notes()
    cell = mean_cell(answer.measure.metric, answer.samples, notes=notes, num_expected=len(there))
    return cell if there else replace(cell, marks=())


def printed_cell(row: PublishedResult) -> Cell:
    """Return a published number in per cent, with the digits as printed; kept as a fraction."""
    parts = [row.value, row.std] if row.std else [row.value]
    if row.unit != "%":
        parts = [str(Decimal(part).scaleb(2)) for part in parts]
    value, *std = [float(part) / 100 for part in parts]
    return Cell(text=" ± ".join(parts), value=value, std=std[0] if std else None)
