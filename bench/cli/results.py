"""The verbs on results: report, explain, compare, bundle, verify."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli.options import RUNS, AsJson, LimitSteps, Scale, Seeds, Settings, Suite, Workdir
from bench.cli.printing import conclude, near, new_console, split_words
from bench.cli.wiring import explanations, graph_of, make_report
from bench.errors import UserError

if TYPE_CHECKING:
    from bench.plan.spec import JobGraph
    from bench.store import Store
    from reports.exchange.check import Difference
    from reports.exchange.imports import ImportedResult

MAX_SHOWN = 40
"""Differences that are printed; the rest is counted."""

Results = Annotated[Path, typer.Argument(help="A work folder or a bundle.")]


class Origin(StrEnum):
    """Where `report` reads results from."""

    folders = "folders"
    mlflow = "mlflow"


def report(
    suite: Suite,
    workdir: Workdir = RUNS,
    scale: Scale = None,
    settings: Settings = None,
    seeds: Seeds = None,
    limit_steps: LimitSteps = None,
    formats: Annotated[
        str | None, typer.Option("--format", metavar="FMT,...", help="md, tex, csv, html.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder to write to.")] = None,
    origin: Annotated[
        Origin, typer.Option("--from", help="Read job folders or MLflow.")
    ] = Origin.folders,
    imports: Annotated[
        Path | None, typer.Option("--import", help="A TOML file that maps others' CSV files.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Compare with written tables; exit 1 on a difference.")
    ] = False,
    against: Annotated[
        Path | None, typer.Option("--against", help="--check: folder of the written tables.")
    ] = None,
) -> None:
    """Regenerate the tables, figures and page of a suite from what is there.

    `vitbench report paper` prints and writes the ViT paper's tables as published, next to what
    follows from arithmetic alone: parameter counts and pre-training compute.
    """
    from bench.store import Store

    if suite == "paper":
        _report_paper(out or Store(workdir).paths.report("paper"), formats)
        return
    graph = graph_of(suite, settings, seeds, limit_steps, scale=scale, workdir=workdir)
    import reports

    wanted = split_words(formats, reports.FORMATS, "--format") if formats else None
    store = Store(workdir)
    known: dict[str, Any] = {"imported": _imported(imports)}
    if origin is Origin.mlflow:
        from bench.tracking import read_results

        known["outcomes"] = read_results(store.workdir, graph)
    else:
        known["digests"] = store.digests(job.job_id for job in graph.jobs)
    if not (known.get("outcomes") or known.get("digests")):
        raise UserError(
            f"{suite}: nothing was run in {workdir}", hint=f"Run it: vitbench run {suite}"
        )
    if check:
        _check_report(graph, store, against=against, **known)
        return
    made = make_report(graph, store, out=out, formats=wanted, **known)
    conclude(new_console(), made, store)


def explain(
    what: Annotated[
        str,
        typer.Argument(
            metavar="JOB|CELL",
            help='The start of a job id, or a published cell: "Table 5: ViT-B/16, CIFAR-10".',
        ),
    ],
    suite: Annotated[
        str | None, typer.Option("--suite", help="A suite; else every suite that was run.")
    ] = None,
    workdir: Workdir = RUNS,
    scale: Scale = None,
    settings: Settings = None,
) -> None:
    """Show how a run's protocol differs from the published one, and the verdict that follows."""
    from bench.store import Store
    from reports.printing.terminal import terminal

    console = new_console()
    for found in explanations(
        what, suite=suite, scale=scale, settings=settings, store=Store(workdir)
    ):
        typer.echo(f"{found.title}\n{found.verdict}")
        for line in found.made:
            typer.echo(_plain(line))
        if found.table is not None:
            typer.echo(terminal(found.table, width=console.width, color=console.is_terminal))


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
    from bench.cli import sharing
    from bench.cli.wiring import graph_of
    from reports.exchange.compare import compare as compared
    from reports.exchange.compare import words

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
    from bench.cli import sharing
    from bench.cli.wiring import graph_of
    from bench.store import Store

    graph = graph_of(suite, settings, seeds, limit_steps, scale=scale, workdir=workdir)
    path = out or Path(f"{graph.suite.label}.vitbench.zip")
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
    workdir: Workdir = RUNS,
) -> None:
    """Check every hash of a bundle, render its tables again and compare; exit 1 if they differ.

    Public weights behind it must be the files that the work folder used, where it used them.
    """
    from bench.cli import sharing

    found = sharing.verify(file, workdir=workdir)
    evidence = found.evidence
    typer.echo(
        f"{file}: every hash matches: {len(evidence.results):,} of {len(evidence.graph.jobs):,} "
        f"jobs of {_plain(evidence.graph.suite.name)}, {len(evidence.hits):,} with per-image hits"
    )
    typer.echo(f"sha256 of its manifest: {evidence.digest}")
    typer.echo(
        f"{found.num_equal} of {found.num_tables} files of tables are the same bytes when "
        "rendered here"
    )
    for line in found.weights:
        typer.echo(_plain(line))
    _tell(found.differences)
    if out is not None:
        typer.echo(f"page {sharing.render(evidence, out)}")
    if found.differences:
        version = _plain(evidence.environment.get("vitbench", "unknown"))
        typer.echo(f"{len(found.differences):,} cells differ; made by vitbench {version}")
        raise typer.Exit(1)


def add_to(app: typer.Typer) -> None:
    """Put the verbs of this file among those of the command."""
    for verb in (report, explain, compare, bundle, verify):
        app.command()(verb)


def _imported(path: Path | None) -> tuple[ImportedResult, ...]:
    """Return the numbers that a TOML file maps; none where no file is named."""
    from reports.exchange import imports

    return () if path is None else imports.read(path)


def _check_report(graph: JobGraph, store: Store, *, against: Path | None, **known: Any) -> None:
    """Compare the written tables with what the records say; exit 1 where a cell differs."""
    from bench.cli import sharing

    folder = against or store.paths.report(graph.suite.label)
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


def _report_paper(out: Path, formats: str | None) -> None:
    import baselines
    from bench import cost
    from reports.paper import as_printed as paper
    from reports.printing.terminal import terminal

    wanted = split_words(formats, paper.FORMATS, "--format") if formats else paper.FORMATS
    made = paper.tables(baselines.published(), systems=baselines.systems(), compute=cost.table_6())
    paper.write(made, out, formats=wanted)
    console = new_console()
    for table in made:
        typer.echo(terminal(table, width=console.width, color=console.is_terminal))
    typer.echo(f"tables     {near(out)}")


def _tell(differences: tuple[Difference, ...] | list[Difference]) -> None:
    for difference in differences[:MAX_SHOWN]:
        typer.echo(_plain(difference))
    if len(differences) > MAX_SHOWN:
        typer.echo(f"and {len(differences) - MAX_SHOWN:,} more")


def _plain(words: object) -> str:
    from reports.printing import escape

    return escape.plain(str(words), limit=400)
