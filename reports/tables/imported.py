"""Numbers reported by others next to measured and published ones.

`reports/exchange/imports.py` reads them. They were measured under the protocol given in their row,
not under ours: a difference is shown, and no verdict.
"""

from __future__ import annotations

from bench import metrics
from reports.cards import TableCard
from reports.exchange.imports import ImportedResult
from reports.printing.cells import Notes, absent_cell, mean_cell, number_cell, text_cell
from reports.printing.table import Cell, Column, Sample, Table
from reports.study.samples import values
from reports.study.study import Study, bare_name
from reports.verdicts.rule import printed


def table(study: Study) -> Table:
    """Return one row for each imported number; without rows where none was imported."""
    return Table(
        name="imported",
        title="Numbers reported by others",
        caption="Read from others' files, each under the protocol of its own row; measured: mean "
        "over our seeds of the same system, data and metric; published: as printed, where one "
        "number is. Accuracies in %, differences (measured minus theirs) in points. No verdict: "
        "the protocols were not compared.",
        columns=(
            Column(key="system", title="System", align="left", header=True),
            Column(key="upstream", title="Upstream", align="left", header=True),
            Column(key="dataset", title="Data", align="left", header=True),
            Column(key="measure", title="Measure", align="left", header=True),
            Column(key="resolution", title="Images", unit="px", align="left", header=True),
            Column(key="protocol", title="Protocol", align="left", header=True, priority=1),
            Column(key="source", title="Source", align="left", header=True, priority=2),
            Column(key="theirs", title="Theirs", base_unit="fraction"),
            Column(key="published", title="Published", base_unit="fraction"),
            Column(key="measured", title="Measured", base_unit="fraction"),
            Column(key="difference", title="Difference", base_unit="fraction"),
        ),
        rows=tuple(_row(study, row) for row in study.imported),
        warning=study.warning,
        group_by=("system",),
    )


def _row(study: Study, row: ImportedResult) -> tuple[Cell, ...]:
    group = _measured(study, row)
    there = values(group)
    difference = absent_cell()
    if there:
        gap = sum(there) / len(there) - row.value
        difference = number_cell(gap, metrics.show_difference(row.metric, gap))
    return (
        text_cell(row.system),
        text_cell(row.upstream),
        text_cell(row.dataset),
        text_cell(metrics.title(row.metric)),
        text_cell(row.resolution),
        text_cell(row.protocol),
        text_cell(f"{row.source}, line {row.line}"),
        number_cell(row.value, row.printed),
        _published(study, row),
        mean_cell(row.metric, group, notes=Notes(), num_expected=len(there))
        if group
        else absent_cell(),
        difference,
    )


def _measured(study: Study, row: ImportedResult) -> list[Sample]:
    """Return our samples of the same system, data and metric; none where several settings are."""
    found = [
        group
        for (arm, measure), group in study.samples.items()
        if measure.metric == row.metric
        and bare_name(row.system) in (bare_name(arm.system), bare_name(arm.title))
        and bare_name(row.dataset) in _names(study, measure.dataset)
        and (not row.upstream or bare_name(row.upstream) in _names(study, arm.upstream))
    ]
    return found[0] if len(found) == 1 else []


def _names(study: Study, dataset: str) -> tuple[str, str]:
    return bare_name(dataset), bare_name(study.dataset_title(dataset))


def _published(study: Study, row: ImportedResult) -> Cell:
    """Return the published number of the same system and data, where there is just one."""
    found = {
        (answer.value, answer.unit)
        for answer in study.published
        if bare_name(answer.system) == bare_name(row.system)
        and bare_name(answer.dataset) == bare_name(row.dataset)
        and (not row.upstream or bare_name(answer.pretrain_dataset) == bare_name(row.upstream))
        and "shot" not in answer.metric
    }
    if len(found) != 1:
        return absent_cell()
    text, unit = found.pop()
    try:
        return number_cell(printed(text, unit=unit).value, text)
    except ValueError:
        return absent_cell()


TABLE = TableCard(
    name="imported",
    make=table,
    place=120,
    comes_with="comparison",
    needs=lambda study: bool(study.imported),
)
