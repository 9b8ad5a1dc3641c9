"""Tables as CSV: wide (one line a row) and long (one line for each value behind a cell).

Values are in base units, and text that a spreadsheet would run as a formula is made harmless.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence

from reports.printing import escape
from reports.printing.table import Cell, Table


def wide_csv(table: Table) -> str:
    """Return one line a row: values in base units, with spread, interval, n and notes alongside."""
    fields: list[tuple[str, int, str]] = []
    for i, column in enumerate(table.columns):
        cells = [row[i] for row in table.rows]
        if column.header or all(cell.value is None and not cell.n for cell in cells):
            fields.append((column.key, i, "text" if not _numeric(cells) else "value"))
            continue
        fields.append((column.key, i, "value"))
        for part in ("std", "low", "high", "n"):
            if any(getattr(cell, part) for cell in cells):
                fields.append((f"{column.key}_{part}", i, part))
        if any(cell.marks or cell.status != "done" for cell in cells):
            fields.append((f"{column.key}_note", i, "note"))
    return _csv(
        [name for name, _, _ in fields],
        ([_csv_part(table, row[i], part) for _, i, part in fields] for row in table.rows),
    )


def _numeric(cells: Sequence[Cell]) -> bool:
    return bool(cells) and all(cell.value is not None for cell in cells)


def _csv_part(table: Table, cell: Cell, part: str) -> str:
    if part == "note":
        notes = [table.notes[mark - 1] for mark in cell.marks]
        return escape.csv_text("; ".join(notes or ([cell.status] * (cell.status != "done"))))
    if part == "text":
        return escape.csv_text(cell.text)
    return _csv_number(getattr(cell, part))


def long_csv(table: Table, *, versions: Mapping[str, str] | None = None) -> str:
    """Return one line for each value behind a cell: row names, measure, seed, value, job ids.

    `versions` gives those behind each job by its id: a later reader sees what a value meant.
    """
    if versions is not None:
        versions = {job_id: escape.csv_text(text) for job_id, text in versions.items()}
    headers = [i for i, column in enumerate(table.columns) if column.header]
    names = [table.columns[i].key for i in headers]
    names += ["quantity", "seed", "value", "unit", "reason", "job_ids"]
    names += [] if versions is None else ["versions"]
    lines = []
    for row in table.rows:
        row_names = [
            _csv_number(row[i].value) if row[i].value is not None else escape.csv_text(row[i].text)
            for i in headers
        ]
        for column, cell in zip(table.columns, row, strict=True):
            for sample in cell.samples:
                seed = "" if sample.seed is None else str(sample.seed)
                tail = [column.key, seed, _csv_number(sample.value), column.base_unit]
                tail += [escape.csv_text(sample.reason), " ".join(sample.job_ids)]
                if versions is not None:
                    tail.append(_versions(sample.job_ids, versions))
                lines.append(row_names + tail)
    return _csv(names, lines)


def _versions(job_ids: Sequence[str], versions: Mapping[str, str]) -> str:
    """Return the versions behind several jobs, each once."""
    texts = dict.fromkeys(versions.get(job_id, "") for job_id in job_ids)
    if len(texts) == 1:
        return next(iter(texts))
    return " ".join(dict.fromkeys(" ".join(texts).split()))


def _csv_number(value: float | None) -> str:
    # Twelve digits: the last bits of a computed number differ between machines.
    return "" if value is None else f"{value:.12g}"


def _csv(header: list[str], rows: Iterable[list[str]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([escape.csv_text(name) for name in header])
    writer.writerows(rows)
    return text.getvalue()
