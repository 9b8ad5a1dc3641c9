"""Measured beside published: difference, verdict and its reasons (`reports/verdict.py`)."""

from __future__ import annotations

from bench import metrics
from bench.specs import PublishedResult
from reports.cells import Notes, mean_cell, number_cell, text_cell
from reports.linking import Counterpart, counterparts
from reports.render import Cell, Column, Table
from reports.results import Study, values
from reports.verdict import MARGIN, VERDICT_VERSION

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
    difference = (
        Cell(text="–", status="absent")
        if verdict.difference is None
        else number_cell(verdict.difference, metrics.show_difference(metric, verdict.difference))
    )
    return (
        printed_cell(answer.row),
        mean_cell(metric, answer.scores, notes=Notes(), num_expected=len(values(answer.scores))),
        difference,
        Cell(
            text=verdict.word,
            strong=verdict.word in ("reproduced", "off"),
            marks=(notes.mark(f"{verdict.word}: {'; '.join(verdict.reasons)}"),),
        ),
    )


def printed_cell(row: PublishedResult) -> Cell:
    """Return a published number as printed; a share in per cent is kept as a fraction."""
    scale = 0.01 if row.unit == "%" else 1.0
    return Cell(
        text=f"{row.value} ± {row.std}" if row.std else row.value,
        value=scale * float(row.value),
        std=scale * float(row.std) if row.std else None,
    )
