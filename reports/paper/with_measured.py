"""A table of the paper with what was measured in each of its cells, and the verdict.

`table_1.py` to `table_9.py` name the tables; what they share is here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from bench.facts import MARGIN
from bench.specs import PublishedResult
from reports.printing.cells import Notes, absent_cell, mean_cell, text_cell
from reports.printing.table import Cell, Column, Table
from reports.study.samples import Arm, Measure, values
from reports.study.study import Study
from reports.verdicts.cells import COLUMNS, cells, printed_cell
from reports.verdicts.linking import Counterpart, counterparts
from reports.verdicts.rule import VERDICT_VERSION

_NONE = "no counterpart"
_MISSING = ("not run", "not public")
"""Verdicts on what nobody measured."""
_Place = tuple[str, str, str]


def paper_table(study: Study, number: str, *, title: str) -> Table:
    """Return Table `number` of the ViT paper (arXiv:2010.11929) with a verdict for each cell.

    Measured cells come first: those that answer a number of the table, then the suite's others,
    marked as such. Numbers without an answer follow, one line for each system.
    """
    notes = Notes()
    printed = _by_system(study, number)
    lines = [row for group in printed for row in group]
    answers = {line: list[Counterpart]() for line in lines}
    for answer in counterparts(study):
        if answer.row in answers:
            answers[answer.row].append(answer)
    shown = {line for line in lines if any(a.verdict.word not in _MISSING for a in answers[line])}
    given = [answer for line in lines if line in shown for answer in answers[line]]
    rows = [_answered(answer, notes) for answer in given]
    words = Counter(row[-1].text for row in rows)
    rows += _others(study, {(a.arm, a.measure) for line in lines for a in answers[line]}, notes)
    for group in printed:
        for word in _MISSING:
            missing = [r for r in group if r not in shown and _why(r, answers[r]) == word]
            rows += _folded(missing, word, notes)
            words.update({word: len(missing)} if missing else {})
    return Table(
        name=f"table_{number}",
        title=f"ViT paper, Table {number}: {title}",
        caption=_caption(lines, words),
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


def _by_system(study: Study, number: str) -> list[list[PublishedResult]]:
    """Return the accuracies of a published table, those of one pre-training together."""
    found: dict[_Place, list[PublishedResult]] = {}
    for row in study.published:
        if row.paper == "ViT" and row.table == f"Table {number}" and row.metric_ids:
            place = (row.system, row.pretrain_dataset, row.pretrain_epochs)
            found.setdefault(place, []).append(row)
    return list(found.values())


def _caption(lines: list[PublishedResult], words: Counter[str]) -> str:
    counts = ", ".join(f"{count} {word}" for word, count in words.most_common())
    return (
        f"Top-1 accuracy in %, {len(lines)} numbers as printed; difference in points. Verdicts "
        f"follow rule {VERDICT_VERSION} (margin {MARGIN * 100:g} points): {counts}. "
        f"Cells with {_NONE} were measured, but the table has no number for them."
    )


def _head(row: PublishedResult) -> tuple[Cell, Cell, Cell]:
    epochs = text_cell(row.pretrain_epochs) if row.pretrain_epochs else absent_cell()
    return text_cell(row.system), text_cell(row.pretrain_dataset), epochs


def _answered(answer: Counterpart, notes: Notes) -> tuple[Cell, ...]:
    """Return the line of a measured cell and the number that it answers."""
    return (*_head(answer.row), text_cell(answer.row.dataset), *cells(answer, notes))


def _why(row: PublishedResult, answers: list[Counterpart]) -> str:
    """Return why a number has no measured answer: a word of `_MISSING`."""
    if answers:
        return answers[0].verdict.word
    return "not run" if row.is_public else "not public"


def _folded(missing: list[PublishedResult], word: str, notes: Notes) -> Iterator[tuple[Cell, ...]]:
    """Yield the line of one system's numbers that nothing answers; a note lists several."""
    if not missing:
        return
    data, value = text_cell(missing[0].dataset), printed_cell(missing[0])
    if len(missing) > 1:
        shown = [(row.dataset.removeprefix("VTAB-1k/"), printed_cell(row)) for row in missing]
        values = sorted((cell for _, cell in shown), key=lambda cell: cell.value or 0.0)
        ends = [cell.text.partition(" ±")[0] for cell in (values[0], values[-1])]
        listed = ", ".join(f"{dataset} {cell.text}" for dataset, cell in shown)
        data = text_cell(f"{len(missing)} numbers")
        value = Cell(text=" to ".join(ends), marks=(notes.mark(f"As printed: {listed}"),))
    yield (*_head(missing[0]), data, value, absent_cell(), absent_cell(), text_cell(word))


def _others(
    study: Study, answering: set[tuple[Arm, Measure]], notes: Notes
) -> Iterator[tuple[Cell, ...]]:
    """Yield the cells of the suite that were run and answer no number of this table."""
    cells = [
        (*key, group)
        for key, group in study.samples.items()
        if key not in answering
        and key[1] in study.accuracies
        and any(sample.status != "not run" for sample in group)
    ]
    for arm, measure, group in sorted(cells, key=lambda cell: study.arms.index(cell[0])):
        yield (
            text_cell(arm.title),
            text_cell(study.upstream_title(arm)),
            text_cell(f"{arm.epochs:.3g}") if arm.epochs else absent_cell(),
            text_cell(f"{study.dataset_title(measure.dataset)}, {study.measure_title(measure)}"),
            absent_cell(),
            mean_cell(measure.metric, group, notes=notes, num_expected=len(values(group))),
            absent_cell(),
            text_cell(_NONE),
        )
