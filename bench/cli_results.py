"""The verbs that compare, pack and verify results, and the words of `report --check`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.errors import UserError
from bench.options import RUNS, AsJson, LimitSteps, Scale, Seeds, Settings, Suite, Workdir

if TYPE_CHECKING:
    from bench.specs import JobGraph
    from bench.store import Store
    from reports.check import Difference
    from reports.imports import ImportedResult

MAX_SHOWN = 40
"""Differences that are printed; the rest is counted."""

Results = Annotated[Path, typer.Argument(help="A work folder or a bundle.")]


def compare(
    first: Results,
    second: Results,
    suite: Annotated[
        str | None, typer.Argument(help="Only the jobs of this suite.", metavar="[SUITE]")
    ] = None,
    scale: Scale = None,
    settings: Settings = None,
    seeds: Seeds = None,
    limit_steps: LimitSteps = None,
    as_json: AsJson = False,
) -> None:
    """Compare two work folders or bundles job by job: values, what only one has, machines."""
    from bench import sharing
    from bench.wiring import graph_of
    from reports.compare import compare as compared
    from reports.compare import words

    graph = graph_of(suite, settings, seeds, limit_steps, scale=scale) if suite else None
    found = compared(sharing.side(first, graph), sharing.side(second, graph))
    if as_json:
        typer.echo(json.dumps(found.to_json(), indent=1, ensure_ascii=False))
        return
    for line in words(found):
        typer.echo(_plain(line))


def bundle(
    suite: Suite,
    workdir: Workdir = RUNS,
    scale: Scale = None,
    settings: Settings = None,
    seeds: Seeds = None,
    limit_steps: LimitSteps = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="File to write; else SUITE.vitbench.zip.")
    ] = None,
) -> None:
    """Pack records, per-image hits, tables and hashes of a suite for another machine."""
    from bench import sharing
    from bench.store import Store
    from bench.wiring import graph_of

    graph = graph_of(suite, settings, seeds, limit_steps, scale=scale)
    path = out or Path(f"{graph.suite.name}.vitbench.zip")
    if path.is_dir():
        raise UserError(f"--out {path}: is a folder", hint="Name a file")
    evidence, digest = sharing.pack(graph, Store(workdir), path)
    typer.echo(
        f"{path}: {len(evidence.results):,} of {len(graph.jobs):,} jobs, "
        f"{len(evidence.hits):,} with per-image hits, {len(evidence.tables):,} files of tables, "
        f"{path.stat().st_size / 2**20:.1f} MiB"
    )
    typer.echo(f"sha256 of its manifest: {digest}")


def verify(
    file: Annotated[Path, typer.Argument(metavar="BUNDLE", help="From `vitbench bundle`.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Write the whole report here as well.")
    ] = None,
) -> None:
    """Check every hash of a bundle, render its tables again and compare; exit 1 if they differ."""
    from bench import sharing

    found = sharing.verify(file)
    evidence = found.evidence
    typer.echo(
        f"{file}: every hash is right: {len(evidence.results):,} of {len(evidence.graph.jobs):,} "
        f"jobs of {_plain(evidence.graph.suite.name)}, {len(evidence.hits):,} with per-image hits"
    )
    typer.echo(f"sha256 of its manifest: {evidence.digest}")
    typer.echo(
        f"{found.num_equal} of {found.num_tables} files of tables are the same bytes when "
        "rendered here"
    )
    _tell(found.differences)
    if out is not None:
        typer.echo(f"page {sharing.render(evidence, out)}")
    if found.differences:
        version = _plain(evidence.environment.get("vitbench", "unknown"))
        typer.echo(f"{len(found.differences):,} cells differ; made by vitbench {version}")
        raise typer.Exit(1)


def add_to(app: typer.Typer) -> None:
    """Put the verbs of this file among those of the command."""
    for verb in (compare, bundle, verify):
        app.command()(verb)


def imported(path: Path | None) -> tuple[ImportedResult, ...]:
    """Return the numbers that a TOML file maps; none where no file is named."""
    from reports import imports

    return () if path is None else imports.read(path)


def check_report(graph: JobGraph, store: Store, *, against: Path | None, **known: Any) -> None:
    """Compare the written tables with what the records say; exit 1 where a cell differs."""
    from bench import sharing
    from bench.wiring import report_folder

    folder = against or report_folder(store, graph)
    found = sharing.check_tables(
        graph, store, folder, outcomes=known.get("outcomes"), imported=known["imported"]
    )
    _tell(found)
    name = graph.suite.name
    if not found:
        typer.echo(f"{name}: every cell of {folder} is as committed, within its tolerances")
        return
    stale = sum(difference.kind == "stale" for difference in found)
    typer.echo(f"{name}: {len(found) - stale:,} cells differ, {stale:,} are stale")
    raise typer.Exit(1)


def _tell(differences: tuple[Difference, ...] | list[Difference]) -> None:
    for difference in differences[:MAX_SHOWN]:
        typer.echo(_plain(difference))
    if len(differences) > MAX_SHOWN:
        typer.echo(f"and {len(differences) - MAX_SHOWN:,} more")


def _plain(words: object) -> str:
    from reports import escape

    return escape.plain(str(words), limit=400)
