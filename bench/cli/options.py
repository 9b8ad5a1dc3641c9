"""Options that several verbs of the command share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RUNS = Path("runs")
"""Default work folder."""

Suite = Annotated[str, typer.Argument(help="A name from `vitbench ls suites`, or a path.")]
Workdir = Annotated[Path, typer.Option("--workdir", envvar="VITBENCH_WORKDIR", help="Work folder.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Set any field of the suite; repeatable."),
]
Scale = Annotated[
    str | None,
    typer.Option("--scale", help="smoke (minutes, CPU), public (one GPU) or full (the paper's)."),
]
Seeds = Annotated[int | None, typer.Option("--seeds", help="Only the first N seeds.")]
LimitSteps = Annotated[
    int | None,
    typer.Option("--limit-steps", help="Cap steps and scored batches; results are marked."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
