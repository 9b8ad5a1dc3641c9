"""One table model, and its forms: Markdown, LaTeX (booktabs), CSV (wide and long), HTML, terminal.

A table holds values (in base units: accuracies as fractions) and their printed text side by side,
and behind each cell the samples it was made from, with their job ids. Everything printed is
escaped for its form (`reports/printing/escape.py`; jinja2's autoescape for HTML).
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

from reports.printing import escape

if TYPE_CHECKING:
    import jinja2

Status = Literal["done", "failed", "skipped", "not run", "absent"]

SUFFIXES = {
    "md": (".md",),
    "tex": (".tex",),
    "csv": (".csv", ".long.csv"),
    "html": (".html",),
}
"""Endings of the files that each format is written to."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One value behind a cell."""

    seed: int | None
    """Seed of the job; None where several seeds are behind it."""
    value: float | None
    """Value in the base unit; None when absent."""
    job_ids: tuple[str, ...]
    """Jobs it came from."""
    reason: str = ""
    """Why it is absent."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One cell: what is printed, and what it stands for."""

    text: str
    """Printed text."""
    value: float | None = None
    """Value in the base unit, where the cell holds a number."""
    std: float | None = None
    """Standard deviation over samples, in the base unit."""
    low: float | None = None
    """Lower end of the interval, in the base unit."""
    high: float | None = None
    """Upper end of the interval, in the base unit."""
    n: int = 0
    """Number of values behind `value`."""
    status: Status = "done"
    """`done`, or why there is no value."""
    strong: bool = False
    """Printed bold; the caption says what that means."""
    marks: tuple[int, ...] = ()
    """Numbers of the table's notes that apply."""
    samples: tuple[Sample, ...] = ()
    """Values behind the cell."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column."""

    key: str
    """Name in CSV files."""
    title: str
    """Printed name."""
    unit: str = ""
    """Printed unit."""
    base_unit: str = ""
    """Unit of the values in CSV files."""
    group: str = ""
    """Heading shared with the columns beside it."""
    align: Literal["left", "right"] = "right"
    """Alignment."""
    header: bool = False
    """Names the row instead of measuring something."""
    measured: bool = False
    """Holds timings, which differ between runs."""
    priority: int = 0
    """Columns of the highest priority number are left out first where width is short."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table in no particular form."""

    name: str
    """File name without ending."""
    title: str
    """Heading."""
    caption: str
    """What is shown, with n, units and the meaning of marks."""
    columns: tuple[Column, ...]
    """Columns."""
    rows: tuple[tuple[Cell, ...], ...]
    """Rows, one cell for each column."""
    notes: tuple[str, ...] = ()
    """Notes, numbered from 1."""
    warning: str = ""
    """What a reader must know first, e.g. that the run was cut short."""
    group_by: tuple[str, ...] = ()
    """Columns whose change starts a new group of rows."""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(
                    f"table {self.name}: {len(row)} cells for {len(self.columns)} columns"
                )

    @property
    def num_groups(self) -> int:
        """Number of distinct column headings."""
        return len({column.group for column in self.columns if column.group})

    def blocks(self) -> Iterator[list[tuple[Cell, ...]]]:
        """Yield the rows in groups of equal `group_by` cells."""
        places = [i for i, column in enumerate(self.columns) if column.key in self.group_by]
        block: list[tuple[Cell, ...]] = []
        for row in self.rows:
            if block and [row[i].text for i in places] != [block[-1][i].text for i in places]:
                yield block
                block = []
            block.append(row)
        if block:
            yield block

    def heading(self, column: Column) -> str:
        """Return a column's name on one line: group (if there are several), title, unit."""
        name = f"{column.title} ({column.unit})" if column.unit else column.title
        return f"{column.group}: {name}" if column.group and self.num_groups > 1 else name

    def to_json(self) -> dict[str, Any]:
        """Return the table as JSON-able data: fields that hold their default are left out."""
        return _compact(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Table:
        """Rebuild a table from `to_json`."""
        rows = tuple(tuple(_cell(cell) for cell in row) for row in data["rows"])
        columns = tuple(Column(**column) for column in data["columns"])
        lists: dict[str, Any] = {
            key: tuple(data[key]) for key in ("notes", "group_by") if key in data
        }
        return cls(**{**data, **lists, "columns": columns, "rows": rows})


def _cell(data: dict[str, Any]) -> Cell:
    samples = tuple(
        Sample(**{**sample, "job_ids": tuple(sample["job_ids"])})
        for sample in data.pop("samples", ())
    )
    return Cell(**{**data, "marks": tuple(data.get("marks", ())), "samples": samples})


_DEFAULTS = {
    kind: tuple((field.name, field.default) for field in fields(kind))
    for kind in (Table, Column, Cell, Sample)
}
_NESTED = (tuple, *_DEFAULTS)


def _compact(part: Any) -> Any:
    if type(part) is tuple:
        # Nearly all tuples hold numbers or texts: those need no look at each of their items.
        return [_compact(item) for item in part] if part and type(part[0]) in _NESTED else [*part]
    defaults = _DEFAULTS.get(type(part))
    if defaults is None:
        return part
    found = {}
    for name, default in defaults:
        value = getattr(part, name)
        if value != default:
            found[name] = _compact(value) if type(value) is tuple else value
    return found


def file_bytes(text: str, suffix: str) -> bytes:
    """Return a rendered table as a file; a browser that opens it alone is told its encoding."""
    head = '<!doctype html>\n<meta charset="utf-8">\n' if suffix == ".html" else ""
    return (head + text).encode()


def render(table: Table, form: str, *, versions: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return file ending -> text of a table in one format (a key of `SUFFIXES`).

    `versions` are those of each job by its id; the long CSV then says them of every value.
    """
    if form == "csv":
        from reports.printing.csvform import long_csv, wide_csv

        return {".csv": wide_csv(table), ".long.csv": long_csv(table, versions=versions)}
    return {f".{form}": {"md": markdown, "tex": latex, "html": html}[form](table)}


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
    return text + (f"<sup>{_marks(cell)}</sup>" if cell.marks else "")


def _marks(cell: Cell) -> str:
    return ",".join(str(mark) for mark in cell.marks)


def latex(table: Table) -> str:
    """Return the table as a LaTeX float; it needs the package booktabs."""
    safe = escape.latex
    spec = "".join("r" if column.align == "right" else "l" for column in table.columns)
    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{safe(' '.join(filter(None, (table.warning, table.caption))))}}}",
        rf"\label{{tab:{table.name}}}",
        rf"\begin{{tabular}}{{{spec}}}",
        r"\toprule",
        *_latex_groups(table),
        " & ".join(safe(_short_heading(column)) for column in table.columns) + r" \\",
    ]
    for block in table.blocks():
        lines.append(r"\midrule")
        lines += [" & ".join(_latex_cell(cell) for cell in row) + r" \\" for row in block]
    lines += [r"\bottomrule", r"\end{tabular}"]
    for i, note in enumerate(table.notes, start=1):
        lines.append(rf"\par\footnotesize\textsuperscript{{{i}}} {safe(note)}")
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def _short_heading(column: Column) -> str:
    return f"{column.title} ({column.unit})" if column.unit else column.title


def _latex_groups(table: Table) -> list[str]:
    if not table.num_groups:
        return []
    cells, rules, place = [], [], 1
    for group, width in spans(table.columns):
        cells.append(rf"\multicolumn{{{width}}}{{c}}{{{escape.latex(group)}}}" if group else "")
        if not group:
            cells[-1:] = [""] * width
        else:
            rules.append(rf"\cmidrule(lr){{{place}-{place + width - 1}}}")
        place += width
    return [" & ".join(cells) + r" \\", "".join(rules)]


def spans(columns: Sequence[Column]) -> list[tuple[str, int]]:
    """Return (heading, width) of neighbouring columns that share a heading."""
    found: list[tuple[str, int]] = []
    for column in columns:
        if found and found[-1][0] == column.group:
            found[-1] = (column.group, found[-1][1] + 1)
        else:
            found.append((column.group, 1))
    return found


def _latex_cell(cell: Cell) -> str:
    text = escape.latex(cell.text)
    if cell.strong:
        text = rf"\textbf{{{text}}}"
    return text + (rf"\textsuperscript{{{_marks(cell)}}}" if cell.marks else "")


@functools.cache
def environment() -> jinja2.Environment:
    """Return the jinja2 environment of the page and the tables: escapes everything it prints."""
    import jinja2

    from reports.printing.htmlrows import rows

    found = jinja2.Environment(
        loader=jinja2.PackageLoader("reports.printing", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: escape.plain(value) if type(value) is str else value,
    )
    found.globals |= {"spans": spans, "rows": rows}
    return found


def html(table: Table) -> str:
    """Return the table as an HTML fragment with caption, scopes and per-cell job ids."""
    return environment().get_template("table.html").render(table=table)


def terminal(table: Table, *, width: int | None = None, color: bool = False) -> str:
    """Return the table for a terminal of `width` characters; None: as wide as it needs.

    Where it is too wide, columns go by `priority`, and a line says which.
    """
    from reports.printing.textgrid import grid, grid_width

    kept = list(table.columns)
    while width is not None and grid_width(table, kept) > width:
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
    needed = width or min(max(grid_width(table, kept), 60), 100)
    body = grid(table, kept, color=color)
    return "\n".join([*head, "", *body, "", *_wrapped(tail, needed)]) + "\n"


def _wrapped(paragraphs: list[str], width: int) -> list[str]:
    import textwrap

    return [line for p in paragraphs for line in textwrap.wrap(escape.plain(p), max(width, 40))]
