"""What the verbs print: the console, JSON, where things lie, how a run ends."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from bench.cli.options import RUNS
from bench.errors import UserError, suggest

if TYPE_CHECKING:
    from rich.console import Console

    from bench.store import Store
    from reports import Report

USUAL_WIDTH = 140
"""Characters of a line where there is no terminal."""

MAX_LISTED = 12
"""Items of a list that are printed one by one."""


def split_words(text: str, known: Sequence[str], option: str) -> tuple[str, ...]:
    """Return the words of a list with commas; raises UserError for one that is not known."""
    words = tuple(word.strip() for word in text.split(",") if word.strip())
    for word in words:
        if word not in known:
            raise UserError(f'{option}: unknown "{word}"', hint=suggest(word, known))
    return words


def conclude(
    console: Console,
    report: Report,
    store: Store,
) -> None:
    """Print the comparison and where to look further."""
    from reports.printing import escape
    from reports.printing.terminal import terminal

    look: dict[str, Any] = {"width": console.width, "color": console.is_terminal}
    typer.echo(f"\n{report.terminal(**look)}")
    pairs = report.tables.get("pairs")
    if pairs is not None and pairs.rows:
        typer.echo(terminal(pairs, **look))
    for finding in report.findings:
        console.print(finding, markup=False, highlight=False)
    for caution in report.told_cautions(MAX_LISTED):
        console.print(f"caution    {escape.plain(caution)}", markup=False, highlight=False)
    for failure in report.failures:
        typer.echo(f"failed     {escape.plain(failure)}")
    folders = {
        "page": report.files.get("index.html"),
        "tables": next((p.parent for n, p in report.files.items() if n.startswith("tables")), None),
        "jobs": store.paths.jobs,
    }
    typer.echo("")
    for name, path in folders.items():
        if path is not None:
            typer.echo(f"{name:10} {near(path)}")
    typer.echo(f"MLflow UI  {ui_command(store)}")


def ui_command(store: Store) -> str:
    """Return the command as it can be copied: a folder's name may hold spaces."""
    words = ["vitbench", "ui"]
    script = Path(sys.argv[0])
    if script.name == "vitbench":
        words[0] = near(script)
    if store.workdir != RUNS.resolve():
        words += ["--workdir", str(store.workdir)]
    return shlex.join(words)


def near(path: Path) -> str:
    """Return a path as a person here would type it."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def new_console(*, stderr: bool = False) -> Console:
    """Return a console as wide as the terminal, or of a fixed width where there is none.

    Who asks for no colours (NO_COLOR, TERM=dumb) gets no sequence of any kind: what follows a run
    is then told in lines, as in a log.
    """
    from rich.console import Console

    plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") in ("dumb", "unknown")
    return Console(width=_width(), force_terminal=False if plain else None, stderr=stderr)


def _width() -> int:
    if not (sys.stdout.isatty() or os.environ.get("COLUMNS")):
        return USUAL_WIDTH
    return shutil.get_terminal_size((USUAL_WIDTH, 24)).columns


def print_json(data: Any) -> None:
    """Print data for a program."""
    typer.echo(json.dumps(data, indent=1, ensure_ascii=False))


def fact(console: Console, name: str, value: str) -> None:
    """Print a name and what is known under it, however long."""
    console.print(f"{name:28} {value}", markup=False, highlight=False, soft_wrap=True)


def print_facts(facts: Mapping[str, Any], indent: str = "") -> None:
    """Print facts and those within them, a line each; what is empty is left out."""
    for key, value in facts.items():
        if isinstance(value, Mapping):
            typer.echo(f"{indent}{key}")
            print_facts(value, indent + "  ")
        elif value not in (None, "", [], ()):
            typer.echo(f"{indent}{key.replace('_', ' '):{24 - len(indent)}} {_words(value)}")


def _words(value: Any) -> str:
    """Return a value in words: of a long list its first and last, of many counts their range."""
    if not isinstance(value, list | tuple):
        return str(value)
    if len(value) <= MAX_LISTED:
        words = [str(item) for item in value]
        return ("; " if any(", " in word for word in words) else ", ").join(words)
    if all(isinstance(item, int) for item in value):
        least, most = min(value), max(value)
        return f"{least:,} each" if least == most else f"{least:,} to {most:,}"
    return f"{value[0]}, {value[1]}, ... {value[-1]} ({len(value):,})"
