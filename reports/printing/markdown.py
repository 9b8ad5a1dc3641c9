"""Tables in GitHub's Markdown."""

from __future__ import annotations

from reports.printing import escape
from reports.printing.table import Cell, Table


def markdown(table: Table) -> str:
    """Return the table in GitHub's Markdown."""
    safe = escape.markdown
    lines = [f"## {safe(table.title)}", ""]
    if table.warning:
        lines += [f"> **{safe(table.warning)}**", ""]
    lines += [
        "| " + " | ".join(safe(table.heading(column)) for column in table.columns) + " |",
        "|" + "|".join("---:" if c.align == "right" else "---" for c in table.columns) + "|",
    ]
    for row in table.rows:
        lines.append("| " + " | ".join(_markdown_cell(cell) for cell in row) + " |")
    lines += ["", safe(table.caption)]
    if table.notes:
        lines += ["", *(f"{i}. {safe(note)}" for i, note in enumerate(table.notes, start=1))]
    return "\n".join(lines) + "\n"


def _markdown_cell(cell: Cell) -> str:
    text = escape.markdown(cell.text)
    if cell.strong:
        text = f"**{text}**"
    return text + (f"<sup>{','.join(map(str, cell.marks))}</sup>" if cell.marks else "")
