"""Tables as files: each format with the endings that it is written to."""

from __future__ import annotations

from collections.abc import Mapping

from reports.printing.table import Table

SUFFIXES = {
    "md": (".md",),
    "tex": (".tex",),
    "csv": (".csv", ".long.csv"),
    "html": (".html",),
}
"""Endings of the files that each format is written to."""


def file_bytes(text: str, suffix: str) -> bytes:
    """Return a rendered table as a file; a browser that opens it alone is told its encoding."""
    head = '<!doctype html>\n<meta charset="utf-8">\n' if suffix == ".html" else ""
    return (head + text).encode()


def render(table: Table, form: str, *, versions: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return file ending -> text of a table in one format (a key of `SUFFIXES`).

    `versions` are those of each job by its id; the long CSV then says them of every value.
    """
    if form == "csv":
        from reports.printing.csv import long_csv, wide_csv

        return {".csv": wide_csv(table), ".long.csv": long_csv(table, versions=versions)}
    if form == "tex":
        from reports.printing.latex import latex

        return {".tex": latex(table)}
    if form == "html":
        from reports.printing.html import html

        return {".html": html(table)}
    from reports.printing.markdown import markdown

    return {".md": markdown(table)}
