"""The command `vitbench`: the only place where the layers are wired together.

Heavy libraries are imported inside the verbs that need them, so that `--help`, `plan` and a
rejected suite stay fast.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench import cli_data
from bench.errors import BenchError, UserError, suggest
from bench.options import RUNS, AsJson, LimitSteps, Seeds, Settings, Suite, Workdir

if TYPE_CHECKING:
    from rich.console import Console

    from bench.specs import JobGraph, JobResult, PlannedJob, SuiteSpec
    from bench.store import Store
    from reports import Report

app = typer.Typer(
    name="vitbench",
    help="When, and at what cost, does a Vision Transformer beat a CNN?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(cli_data.app, name="data")


class Things(StrEnum):
    """What `ls` can list."""

    systems = "systems"
    datasets = "datasets"
    suites = "suites"
    recipes = "recipes"


class Origin(StrEnum):
    """Where `report` reads results from."""

    folders = "folders"
    mlflow = "mlflow"


# --- verbs ----------------------------------------------------------------------------------


@app.command()
def run(
    suite: Suite,
    workdir: Workdir = RUNS,
    settings: Settings = None,
    only: Annotated[
        str | None, typer.Option("--only", metavar="KIND,...", help="Only jobs of these kinds.")
    ] = None,
    seeds: Seeds = None,
    limit_steps: LimitSteps = None,
    local: Annotated[bool, typer.Option("--local", help="One process, no Ray.")] = False,
    address: Annotated[
        str | None, typer.Option("--address", help="An existing Ray cluster.")
    ] = None,
) -> None:
    """Run a suite: do what is missing, then print the comparison and where everything is."""
    from bench.store import Store

    graph = _graph(suite, settings, seeds, limit_steps)
    kinds = _kinds(only)
    store = Store(workdir)
    ids = [job.job_id for job in graph.jobs]
    done = store.results(ids)
    todo = [job for job in graph.jobs if job.job_id not in done and _wanted(job, kinds)]
    console = _console()
    _say_what_is_reused(console, graph, done, todo)
    if todo:
        _prepare_data(graph, todo, store)
        outcomes = _execute(
            graph, todo, done, store=store, kinds=kinds, local=local, address=address
        )
    else:
        outcomes = {**store.outcomes(ids)}
        _catch_up(graph, outcomes, store)
    report = _report(graph, outcomes, store)
    _conclude(console, graph, outcomes, report, store)
    if any(result.status == "failed" for result in outcomes.values()):
        raise typer.Exit(1)


@app.command()
def plan(
    suite: Suite,
    workdir: Workdir = RUNS,
    settings: Settings = None,
    seeds: Seeds = None,
    limit_steps: LimitSteps = None,
    as_json: AsJson = False,
) -> None:
    """Show the jobs of a suite, what is done, its exaFLOPs and time, without running anything."""
    from bench.listing import plan_rows, show_plan
    from bench.schedule import Estimates
    from bench.store import Store

    graph = _graph(suite, settings, seeds, limit_steps)
    done = Store(workdir).results(job.job_id for job in graph.jobs)
    estimates = Estimates(graph, done)
    rows = plan_rows(graph, done, estimates.seconds)
    if as_json:
        _print_json({"suite": graph.suite.model_dump(mode="json"), "jobs": rows})
        return
    show_plan(_console(), graph, rows)


@app.command()
def status(
    suite: Suite, workdir: Workdir = RUNS, settings: Settings = None, seeds: Seeds = None
) -> None:
    """Show which jobs of a suite are done, failed or missing."""
    from bench.listing import show_status
    from bench.store import Store

    graph = _graph(suite, settings, seeds, None)
    outcomes = Store(workdir).outcomes(job.job_id for job in graph.jobs)
    show_status(_console(), graph, outcomes)


@app.command()
def report(
    suite: Suite,
    workdir: Workdir = RUNS,
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
) -> None:
    """Regenerate the tables, figures and page of a suite from what is there.

    `vitbench report paper` prints and writes the ViT paper's tables as published, beside what
    follows from arithmetic alone: parameter counts and pre-training compute.
    """
    from bench.store import Store

    if suite == "paper":
        _report_paper(out or Store(workdir).workdir / "reports" / "paper", formats)
        return
    graph = _graph(suite, settings, seeds, limit_steps)
    import reports

    wanted = _split(formats, reports.FORMATS, "--format") if formats else None
    store = Store(workdir)
    if origin is Origin.mlflow:
        from bench.tracking import read_results

        outcomes: Mapping[str, JobResult] = read_results(store.workdir, graph)
    else:
        outcomes = store.outcomes(job.job_id for job in graph.jobs)
    if not outcomes:
        raise UserError(
            f"{suite}: nothing was run in {workdir}", hint=f"Run it: vitbench run {suite}"
        )
    made = _report(graph, outcomes, store, out=out, formats=wanted)
    _conclude(_console(), graph, outcomes, made, store)


@app.command()
def sync(suite: Suite, workdir: Workdir = RUNS, settings: Settings = None) -> None:
    """Carry to MLflow what did not arrive there."""
    from bench import tracking
    from bench.store import Store

    graph = _graph(suite, settings, None, None)
    store = Store(workdir)
    outcomes = store.outcomes(job.job_id for job in graph.jobs)
    missing = tracking.missing(graph, outcomes, store.workdir)
    problems = _catch_up(graph, outcomes, store)
    typer.echo(f"{len(missing)} results carried to MLflow" if not problems else problems[0])
    if problems:
        raise typer.Exit(1)


@app.command()
def ui(
    workdir: Workdir = RUNS,
    port: Annotated[int, typer.Option("--port", min=1, max=65535)] = 5000,
) -> None:
    """Serve the MLflow UI of the work folder on this machine alone, until interrupted."""
    from bench.tracking import connect, tracking_uri

    if not workdir.is_dir():
        raise UserError(f"--workdir {workdir}: no such folder", hint="Run a suite first")
    connect(workdir)
    hosts = f"localhost:{port},127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "server"]
    command += ["--backend-store-uri", tracking_uri(workdir), "--host", "127.0.0.1"]
    command += ["--default-artifact-root", (workdir.resolve() / "mlartifacts").as_uri()]
    command += ["--port", str(port), "--workers", "1", "--allowed-hosts", hosts]
    page = f"http://127.0.0.1:{port}/#/experiments?workflowType=machine_learning"
    typer.echo(f"MLflow UI: {page}  (stop with Ctrl-C)")
    server = subprocess.Popen(command, start_new_session=True)
    signal.signal(signal.SIGTERM, _terminate)
    try:
        code = server.wait()
    except KeyboardInterrupt:
        code = 0
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait()
    raise typer.Exit(code)


@app.command("ls")
def list_things(
    things: Things,
    family: Annotated[
        str | None, typer.Option("--family", help="systems: vit, bit, hybrid, noisy-student.")
    ] = None,
    public: Annotated[
        bool, typer.Option("--public", help="systems: only those with public weights.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List systems, data sets, suites or recipes."""
    from bench.listing import LISTS, show_rows

    rows = LISTS[things]()
    if family is not None:
        families = sorted({row["family"] for row in rows if "family" in row})
        _split(family, families, f"ls {things} --family")
        rows = [row for row in rows if row["family"] == family]
    if public:
        rows = [row for row in rows if set(row.get("weights", ())) - {"jft"}]
    if as_json:
        _print_json(rows)
        return
    show_rows(_console(), rows)


@app.command()
def show(
    system: Annotated[str, typer.Argument(help="A name from `vitbench ls systems`.")],
    as_json: AsJson = False,
) -> None:
    """Show everything known of one system."""
    from bench.listing import show_system, system_facts

    facts = system_facts(system)
    if as_json:
        _print_json(facts)
        return
    show_system(_console(), facts)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"vitbench {version('vitbench')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """When, and at what cost, does a Vision Transformer beat a CNN?"""
    if debug:
        os.environ["VITBENCH_DEBUG"] = "1"


def main() -> None:
    """Run the command; errors are told in one line, with exit code 2 for wrong input."""
    # Pydantic looks for plugins in every installed package; there are none here to find.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    try:
        app()
    except BenchError as error:
        if os.environ.get("VITBENCH_DEBUG"):
            raise
        sys.stderr.write(f"vitbench: {' '.join(str(error).split())}\n")
        sys.exit(error.exit_code)
    except Exception as error:
        if os.environ.get("VITBENCH_DEBUG"):
            raise
        words = " ".join(str(error).split())
        sys.stderr.write(
            f"vitbench: {type(error).__name__}: {words} (vitbench --debug shows more)\n"
        )
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


# --- from words to a graph ------------------------------------------------------------------


def _graph(
    suite: str, settings: Sequence[str] | None, seeds: int | None, limit_steps: int | None
) -> JobGraph:
    from bench import suite as suites

    spec = suites.load(suite, settings=settings or (), num_seeds=seeds, limit_steps=limit_steps)
    file = suites.locate(suite)
    return _planned(spec, base_dir=file.parent, file=suites.shown(file))


def _planned(spec: SuiteSpec, *, base_dir: Path, file: str) -> JobGraph:
    import reports
    from bench.data import catalog
    from bench.plan import plan

    reports.check_names(spec.report.tables, spec.report.figures, reports.FORMATS)
    datasets = dict(catalog.datasets())
    for name, block in spec.dataset.items():
        datasets[name] = catalog.resolve(name, block, base_dir=base_dir)
    return plan(spec, datasets=datasets, protocols=catalog.protocols(), file=file)


def _split(text: str, known: Sequence[str], option: str) -> tuple[str, ...]:
    words = tuple(word.strip() for word in text.split(",") if word.strip())
    for word in words:
        if word not in known:
            raise UserError(f'{option}: unknown "{word}"', hint=suggest(word, known))
    return words


def _kinds(only: str | None) -> tuple[str, ...]:
    from bench.specs import KIND_VERSIONS

    return _split(only, tuple(KIND_VERSIONS), "--only") if only else tuple(KIND_VERSIONS)


def _wanted(job: PlannedJob, kinds: Sequence[str]) -> bool:
    return job.spec.kind in kinds


# --- running --------------------------------------------------------------------------------


def _prepare_data(graph: JobGraph, todo: Iterable[PlannedJob], store: Store) -> None:
    """Pack the data sets that the jobs read: bad images are told before anything runs."""
    import shutil

    from bench.data import prepare

    fresh = not store.workdir.exists()
    try:
        for name in {job.dataset: None for job in todo}:
            prepare.packed(
                graph.datasets[name], cache_dir=store.cache, num_workers=os.cpu_count() or 1
            )
    except BenchError:
        if fresh:
            shutil.rmtree(store.workdir, ignore_errors=True)
        raise


def _execute(
    graph: JobGraph,
    todo: Sequence[PlannedJob],
    done: Mapping[str, JobResult],
    *,
    store: Store,
    kinds: Sequence[str],
    local: bool,
    address: str | None,
) -> dict[str, JobResult]:
    """Do the jobs and mirror each result to MLflow as it comes."""
    from bench import schedule
    from bench.console import SuiteProgress
    from bench.tracking import Mirror, missing

    store.create()
    mirror = Mirror(graph, store, command=" ".join(["vitbench", *sys.argv[1:]]))
    for job in missing(graph, done, store.workdir):
        mirror.record(job, done[job.job_id], reused=True)
    executor: Any
    if local:
        executor = schedule.LocalExecutor(graph.datasets, store.workdir)
    else:
        executor = schedule.RayExecutor(graph.datasets, store.workdir, address=address)
    received: list[int] = []

    def terminate(number: int, frame: object) -> None:
        received.append(number)  # Ray puts an exit code of its own in place of ours
        _terminate(number, frame)

    signal.signal(signal.SIGTERM, terminate)  # after Ray, which sets a handler of its own
    slots = 1 if local else max(1, int((os.cpu_count() or 1) / graph.suite.num_threads))
    console = _console()
    try:
        if not local:
            executor.check(todo)
        with SuiteProgress(graph, done, store=store, num_slots=slots, console=console) as progress:

            def on_event(event: schedule.Event) -> None:
                progress.on_event(event)
                if event.result is not None:
                    mirror.record(event.job, event.result)

            outcomes = schedule.run(
                graph,
                executor,
                store=store,
                only=lambda job: _wanted(job, kinds),
                on_event=on_event,
                on_poll=progress.on_poll,
            )
    except (KeyboardInterrupt, SystemExit):
        sys.stderr.write("vitbench: interrupted; run the same command again to go on\n")
        sys.exit(128 + (received[0] if received else signal.SIGINT))
    finally:
        executor.close()
    report = _report(graph, outcomes, store)
    problems = mirror.finish(
        outcomes=outcomes,
        files=report.files.values(),
        root=_report_folder(store, graph),
        note=f"**{graph.suite.title}**\n\n{graph.suite.claim}",
    )
    _tell_problems(problems, graph)
    return outcomes


def _catch_up(graph: JobGraph, outcomes: Mapping[str, JobResult], store: Store) -> list[str]:
    """Carry to MLflow what an earlier run could not, or did for another suite."""
    from bench import tracking

    missing = tracking.missing(graph, outcomes, store.workdir)
    if not missing:
        return []
    mirror = tracking.Mirror(graph, store, command=" ".join(["vitbench", *sys.argv[1:]]))
    for job in missing:
        mirror.record(job, outcomes[job.job_id], reused=True)
    report = _report(graph, outcomes, store)
    problems = mirror.finish(
        outcomes=outcomes, files=report.files.values(), root=_report_folder(store, graph)
    )
    _tell_problems(problems, graph)
    return problems


def _tell_problems(problems: Sequence[str], graph: JobGraph) -> None:
    if problems:
        sys.stderr.write(
            f"vitbench: {problems[0]} ({len(problems)} in all); no result is lost: "
            f"`vitbench sync {graph.suite.name}` carries them over later\n"
        )


def _terminate(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


# --- reporting ------------------------------------------------------------------------------


def _report_folder(store: Store, graph: JobGraph) -> Path:
    return store.workdir / "reports" / graph.suite.name


def _report(
    graph: JobGraph,
    outcomes: Mapping[str, JobResult],
    store: Store,
    *,
    out: Path | None = None,
    formats: Sequence[str] | None = None,
) -> Report:
    """Return the report of these outcomes, rendering it only when something changed."""
    import baselines
    import reports

    folder = out if out is not None else _report_folder(store, graph)
    formats = formats if formats is not None else reports.FORMATS
    there = reports.load(folder, reports.key(graph, outcomes, formats=formats))
    return there or reports.build(
        graph,
        outcomes,
        curves={
            job.job_id: store.progress(job.job_id)
            for job in graph.jobs
            if job.spec.kind == "pretrain"
        },
        hits=store.hits,
        published=baselines.published(),
        out_dir=folder,
        formats=formats,
    )


def _report_paper(out: Path, formats: str | None) -> None:
    import baselines
    from bench import cost
    from reports import paper
    from reports.render import terminal

    wanted = _split(formats, paper.FORMATS, "--format") if formats else paper.FORMATS
    made = paper.tables(baselines.published(), systems=baselines.systems(), compute=cost.table_6())
    paper.write(made, out, formats=wanted)
    console = _console()
    for table in made:
        typer.echo(terminal(table, width=console.width, color=console.is_terminal))
    typer.echo(f"tables     {_near(out)}")


def _say_what_is_reused(
    console: Console,
    graph: JobGraph,
    done: Mapping[str, JobResult],
    todo: Sequence[PlannedJob],
) -> None:
    words = f"{graph.suite.name}: {len(graph.jobs)} jobs"
    if done:
        words += f", {len(done)} reused (done before)"
    left_out = len(graph.jobs) - len(done) - len(todo)
    if left_out:
        words += f", {left_out} left out (--only)"
    words += f", {len(todo)} to do" if todo else ", nothing to do"
    console.print(words, highlight=False)


def _conclude(
    console: Console,
    graph: JobGraph,
    outcomes: Mapping[str, JobResult],
    report: Report,
    store: Store,
) -> None:
    """Print the comparison and where to look further."""
    from reports.render import terminal

    look: dict[str, Any] = {"width": console.width, "color": console.is_terminal}
    typer.echo(f"\n{report.terminal(**look)}")
    if "pairs" in report.tables:
        typer.echo(terminal(report.tables["pairs"], **look))
    for finding in report.findings:
        console.print(finding, markup=False, highlight=False)
    for job in graph.jobs:
        result = outcomes.get(job.job_id)
        if result is not None and result.status == "failed":
            typer.echo(f"failed     {job.name}: {result.error}")
    folders = {
        "page": report.files.get("index.html"),
        "tables": next((p.parent for n, p in report.files.items() if n.startswith("tables")), None),
        "jobs": store.jobs,
    }
    typer.echo("")
    for name, path in folders.items():
        if path is not None:
            typer.echo(f"{name:10} {_near(path)}")
    typer.echo(f"MLflow UI  {_ui_command(store)}")


def _ui_command(store: Store) -> str:
    command = "vitbench ui"
    script = Path(sys.argv[0])
    if script.name == "vitbench":
        command = f"{_near(script)} ui"
    return command if store.workdir == RUNS.resolve() else f"{command} --workdir {store.workdir}"


def _near(path: Path) -> str:
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _console() -> Console:
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 140)


def _print_json(data: Any) -> None:
    typer.echo(json.dumps(data, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
