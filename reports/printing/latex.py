"""Tables as LaTeX floats; they need the package booktabs."""

from __future__ import annotations

from reports.printing import escape
from reports.printing.table import Cell, Column, Table, spans


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


def _latex_cell(cell: Cell) -> str:
    text = escape.latex(cell.text)
    if cell.strong:
        text = rf"\textbf{{{text}}}"
    return text + (rf"\textsuperscript{{{','.join(map(str, cell.marks))}}}" if cell.marks else "")
