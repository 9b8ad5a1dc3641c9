"""The verb `vitbench doctor`: what is amiss, before anything runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.options import RUNS, AsJson, Scale, Settings, Workdir
from bench.cli.printing import new_console

if TYPE_CHECKING:
    from rich.console import Console

    from bench.doctor import Check

_STYLES = {"ok": "green", "warning": "yellow", "problem": "bold red"}


def doctor(
    suite: Annotated[
        str | None,
        typer.Argument(help="A suite, by name or path; none: the machine alone."),
    ] = None,
    workdir: Workdir = RUNS,
    scale: Scale = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Check machine, disk, versions, work folder, data and weights; exit 1 for a problem."""
    from bench.doctor import examine

    checks = examine(suite, workdir=workdir, settings=settings or (), scale=scale)
    problems = sum(check.status == "problem" for check in checks)
    if as_json:
        typer.echo(json.dumps([check.model_dump() for check in checks], indent=1))
    else:
        _show(checks)
    if problems:
        raise typer.Exit(1)


def _show(checks: Sequence[Check]) -> None:
    console = new_console()
    for check in checks:
        _line(console, check)
    counts = [
        f"{sum(check.status == status for check in checks)} {words}"
        for status, words in (("ok", "in order"), ("warning", "to note"), ("problem", "to fix"))
    ]
    console.print(", ".join(counts), highlight=False)


def _line(console: Console, check: Check) -> None:
    """Print what was found, and under it what to do about it."""
    from rich.text import Text

    width = 16
    head = Text(f"{check.status:8}", style=_STYLES[check.status])
    console.print(head + Text(f" {check.topic:{width}} {check.found}"), soft_wrap=True)
    if check.cure:
        console.print(Text(f"{'':{9 + width}} -> {check.cure}"), soft_wrap=True)
