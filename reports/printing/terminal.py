"""Tables drawn with characters, for the terminal: headings over columns, rules at groups."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from reports.printing import escape
from reports.printing.table import Cell, Column, Table, spans

_GAP = "  "
_STYLES = {"strong": "\x1b[1m", "missing": "\x1b[31m", "measured": "\x1b[2m"}
_RESET = "\x1b[0m"


def terminal(table: Table, *, width: int | None = None, color: bool = False) -> str:
    """Return the table for a terminal of `width` characters; None: as wide as it needs.

    Where it is too wide, columns go by `priority`, and a line says which.
    """
    kept = list(table.columns)
    while width is not None and _grid_width(table, kept) > width:
        last = max(kept, key=lambda column: column.priority)
        if last.priority == 0:
            break
        kept.remove([column for column in kept if column.priority == last.priority][-1])
    dropped = [column for column in table.columns if column not in kept]
    tail = [table.caption]
    tail += [f"[{i}] {note}" for i, note in enumerate(table.notes, start=1)]
    if dropped:
        names = ", ".join(table.heading(column) for column in dropped)
        tail.append(f"Left out here for width: {names}.")
    head = [escape.plain(text) for text in (table.title, table.warning) if text]
    needed = width or min(max(_grid_width(table, kept), 60), 100)
    body = _grid(table, kept, color=color)
    return "\n".join([*head, "", *body, "", *_wrapped(tail, needed)]) + "\n"


def _wrapped(paragraphs: list[str], width: int) -> list[str]:
    return [line for p in paragraphs for line in textwrap.wrap(escape.plain(p), max(width, 40))]


def _grid(table: Table, columns: Sequence[Column], *, color: bool) -> list[str]:
    """Return the lines of a table, restricted to `columns`."""
    widths = _widths(table, columns)
    heads = [[escape.plain(column.title) for column in columns]]
    if any(column.unit for column in columns):
        heads.append([escape.plain(column.unit) for column in columns])
    lines = _groups(table, columns, widths)
    lines += [_line(columns, widths, texts) for texts in heads]
    marks = {column: _marks_width(table, column) for column in columns}
    for block in table.blocks():
        lines.append(_GAP.join("─" * width for width in widths))
        for row in block:
            cells = dict(zip(table.columns, row, strict=True))
            texts = [_aligned(cells[column], marks[column]) for column in columns]
            styles = [_style(cells[column], column) if color else "" for column in columns]
            lines.append(_line(columns, widths, texts, styles))
    return lines


def _grid_width(table: Table, columns: Sequence[Column]) -> int:
    """Return how many characters wide `_grid` is."""
    return sum(_widths(table, columns)) + len(_GAP) * (len(columns) - 1)


def _marks(cell: Cell) -> str:
    return f" [{','.join(str(mark) for mark in cell.marks)}]" if cell.marks else ""


def _marks_width(table: Table, column: Column) -> int:
    """Return the room for marks that keeps the numbers of a column under each other."""
    place = table.columns.index(column)
    return max((len(_marks(row[place])) for row in table.rows), default=0)


def _aligned(cell: Cell, room: int) -> str:
    return escape.plain(cell.text) + _marks(cell).ljust(room)


def _widths(table: Table, columns: Sequence[Column]) -> list[int]:
    from rich.cells import cell_len

    places = {column: i for i, column in enumerate(table.columns)}
    widths = []
    for column in columns:
        room = _marks_width(table, column)
        texts = [_aligned(row[places[column]], room) for row in table.rows]
        heads = (escape.plain(column.title), escape.plain(column.unit))
        widths.append(max(cell_len(text) for text in (*heads, *texts)))
    if table.num_groups > 1:
        start = 0
        for group, count in spans(columns):
            room = sum(widths[start : start + count]) + len(_GAP) * (count - 1)
            widths[start + count - 1] += max(0, cell_len(escape.plain(group)) - room)
            start += count
    return widths


def _groups(table: Table, columns: Sequence[Column], widths: list[int]) -> list[str]:
    """Return the line of shared headings, where there are several."""
    from rich.cells import cell_len

    if table.num_groups < 2:
        return []
    parts, start = [], 0
    for group, count in spans(columns):
        room = sum(widths[start : start + count]) + len(_GAP) * (count - 1)
        text = escape.plain(group)
        free = room - cell_len(text)
        left = free // 2
        fill = "─" if text and free > 3 else " "
        before = fill * (left - 1) + " " if left else ""
        after = " " + fill * (free - left - 1) if free else ""
        parts.append(f"{before}{text}{after}" if text else " " * room)
        start += count
    return [_GAP.join(parts).rstrip()]


def _style(cell: Cell, column: Column) -> str:
    if cell.strong:
        return _STYLES["strong"]
    if cell.status not in ("done", "absent"):
        return _STYLES["missing"]
    return _STYLES["measured"] if column.measured or cell.status == "absent" else ""


def _line(
    columns: Sequence[Column], widths: list[int], texts: list[str], styles: Sequence[str] = ()
) -> str:
    from rich.cells import cell_len

    parts = []
    for i, (column, width, text) in enumerate(zip(columns, widths, texts, strict=True)):
        space = " " * (width - cell_len(text))
        style = styles[i] if styles else ""
        shown = f"{style}{text}{_RESET}" if style else text
        parts.append(space + shown if column.align == "right" else shown + space)
    return _GAP.join(parts).rstrip()
