"""A table of the paper with what was measured in each of its cells, and the verdict.

`table_1.py` to `table_9.py` name the tables; what they share is here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from baselines.printed import MEASURES, PRIVATE_UPSTREAMS
from bench.specs import PublishedResult
from reports.cells import Notes, absent_cell, mean_cell, text_cell
from reports.linking import Counterpart, counterparts
from reports.published import COLUMNS, cells, printed_cell
from reports.render import Cell, Column, Table
from reports.results import Study, values
from reports.verdict import MARGIN, VERDICT_VERSION

_NONE = "no counterpart"


def paper_table(study: Study, number: str, *, title: str) -> Table:
    """Return Table `number` of the ViT paper (arXiv:2010.11929) with a verdict for each cell.

    Cells of the suite that answer none of its numbers follow, marked as such.
    """
    notes = Notes()
    printed = [
        row
        for row in study.published
        if row.paper == "ViT" and row.table == f"Table {number}" and row.metric in MEASURES
    ]
    answers: dict[PublishedResult, list[Counterpart]] = {}
    for answer in counterparts(study):
        answers.setdefault(answer.row, []).append(answer)
    rows = [row for line in printed for row in _rows(line, answers.get(line, []), notes)]
    rows += _others(study, {a.measure for line in printed for a in answers.get(line, ())})
    words = Counter(row[-1].text for row in rows)
    return Table(
        name=f"table_{number}",
        title=f"ViT paper, Table {number}: {title}",
        caption="Top-1 accuracy in %, published as printed; difference in points. Verdicts follow "
        f"rule {VERDICT_VERSION} (margin {MARGIN * 100:g} points): "
        f"{', '.join(f'{count} {word}' for word, count in words.most_common())}.",
        columns=(
            Column(key="system", title="System", align="left", header=True),
            Column(key="upstream", title="Upstream", align="left", header=True),
            Column(key="epochs", title="Epochs", header=True),
            Column(key="dataset", title="Data", align="left", header=True),
            *COLUMNS,
        ),
        rows=tuple(rows),
        notes=tuple(notes.texts),
        warning=study.warning,
        group_by=("system", "upstream", "epochs"),
    )


def _rows(
    row: PublishedResult, answers: list[Counterpart], notes: Notes
) -> Iterator[tuple[Cell, ...]]:
    """Yield a line for each measured cell that answers a number, or one that says there is none."""
    head = (
        text_cell(row.system),
        text_cell(row.pretrain_dataset),
        text_cell(row.pretrain_epochs) if row.pretrain_epochs else absent_cell(),
        text_cell(row.dataset),
    )
    for answer in answers:
        yield (*head, *cells(answer, notes))
    if not answers:
        word = "not public" if row.pretrain_dataset.startswith(PRIVATE_UPSTREAMS) else "not run"
        yield (*head, printed_cell(row), absent_cell(), absent_cell(), text_cell(word))


def _others(study: Study, answering: set[object]) -> Iterator[tuple[Cell, ...]]:
    """Yield the measured cells of the suite that answer no number of this table."""
    for (arm, measure), group in study.scores.items():
        if measure in answering:
            continue
        yield (
            text_cell(arm.title),
            text_cell(study.upstream_title(arm)),
            text_cell(f"{arm.epochs:.3g}") if arm.epochs else absent_cell(),
            text_cell(f"{study.dataset_title(measure.dataset)}, {study.measure_title(measure)}"),
            absent_cell(),
            mean_cell(measure.metric, group, notes=Notes(), num_expected=len(values(group))),
            absent_cell(),
            text_cell(_NONE),
        )
