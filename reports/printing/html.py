"""Tables as HTML: every text escaped, the values and job ids behind a cell in its title.

Rows are written without the template language, which takes four times as long for a large table;
what stands around them is `table.html`.
"""

from __future__ import annotations

import functools
from html import escape as html_escape

import jinja2
from markupsafe import Markup

from reports.printing import escape
from reports.printing.table import Cell, Column, Sample, Table, spans

MAX_JOBS = 8
"""Job ids named in the title of a cell, for each value; the long CSV file names all."""


@functools.cache
def environment() -> jinja2.Environment:
    """Return the jinja2 environment of the page and the tables: escapes everything it prints."""
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


def rows(table: Table) -> Markup:
    """Return the `<tbody>` elements of a table, one for each group of rows."""
    pinned = next((column for column in reversed(table.columns) if column.header), None)
    lines: list[str] = []
    for block in table.blocks():
        lines.append("<tbody>")
        for index, row in enumerate(block):
            lines.append("<tr>")
            for column, cell in zip(table.columns, row, strict=True):
                again = index > 0 and column.key in table.group_by
                lines.append(_cell(cell, column, pinned=column is pinned, again=again))
            lines.append("</tr>")
        lines.append("</tbody>")
    return Markup("".join(f"{line}\n" for line in lines))  # every text below is escaped


def _cell(cell: Cell, column: Column, *, pinned: bool, again: bool) -> str:
    tag, scope = ("th", ' scope="row"') if column.header else ("td", "")
    value = "" if cell.value is None else f' data-value="{cell.value:.12g}"'
    title = f' title="{"; ".join(map(_sample, cell.samples))}"' if cell.samples else ""
    marks = f"<sup>{','.join(map(str, cell.marks))}</sup>" if cell.marks else ""
    style = _style(cell, column, pinned=pinned, again=again)
    return f'<{tag}{scope} class="{style}"{value}{title}>{_text(cell.text)}{marks}</{tag}>'


def _style(cell: Cell, column: Column, *, pinned: bool, again: bool) -> str:
    style: str = column.align
    if cell.strong:
        style += " strong"
    if column.measured:
        style += " measured"
    if pinned:
        style += " pin"
    if again:
        style += " again"
    if cell.status != "done":
        style += " none" if cell.status == "absent" else " missing"
    return style


def _sample(sample: Sample) -> str:
    seed = "" if sample.seed is None else f"seed {sample.seed}: "
    value = _text(sample.reason) if sample.value is None else f"{sample.value:.4g}"
    jobs = ", ".join(sample.job_ids[:MAX_JOBS])
    more = len(sample.job_ids) - MAX_JOBS
    return f"{seed}{value} (job {_text(jobs)}{f' and {more} more' if more > 0 else ''})"


def _text(text: str) -> str:
    # The page has ' as &#39; and " as &#34;, as its templates write them.
    safe = html_escape(escape.plain(text), quote=False)
    return safe.replace("'", "&#39;").replace('"', "&#34;")
