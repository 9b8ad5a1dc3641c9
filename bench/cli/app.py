"""The command `vitbench`: the words a person types and reads.

Heavy libraries are imported inside the verbs that need them, so that `--help`, `plan` and a
rejected suite stay fast.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli import data as cli_data
from bench.cli import doctor as cli_doctor
from bench.cli import init as cli_init
from bench.cli import rehearse as cli_rehearse
from bench.cli import results as cli_results
from bench.cli import usage
from bench.cli.options import RUNS, AsJson, LimitSteps, Scale, Seeds, Settings, Suite, Workdir
from bench.cli.printing import conclude, new_console, print_json, split_words
from bench.cli.wiring import (
    catch_up,
    data_notes,
    end_on_signals,
    execute,
    graph_of,
    make_report,
    prepare_data,
    terminate_on,
)
from bench.errors import BenchError, UserError, printable
from bench.paths import WorkPaths

if TYPE_CHECKING:
    from rich.console import Console

    from bench.plan.spec import JobGraph
    from bench.specs import JobResult, PlannedJob

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
    families = "families"
    datasets = "datasets"
    readers = "readers"
    protocols = "protocols"
    recipes = "recipes"
    kinds = "kinds"
    suites = "suites"
    tables = "tables"
    figures = "figures"
    plugins = "plugins"


# --- verbs ----------------------------------------------------------------------------------

app.command()(cli_init.init)


@app.command()
def run(
    suite: Suite,
    workdir: Workdir = RUNS,
    scale: Scale = None,
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
    from bench.cli.listing import say_notes
    from bench.doctor.before import check_place
    from bench.plan.notes import notes
    from bench.schedule import refuse
    from bench.store import Store

    graph = graph_of(suite, settings, seeds, limit_steps, scale=scale, workdir=workdir)
    kinds = _kinds(only)
    store = Store(workdir)
    ids = [job.job_id for job in graph.jobs]
    done = store.results(ids)
    todo = [
        job
        for job in graph.jobs
        if job.job_id not in done and job.spec.kind in kinds and not job.refused
    ]
    check_place(todo, workdir=workdir, local=local, address=address)
    console = new_console()
    _say_what_is_reused(console, graph, done, todo)
    say_notes(console, graph)
    if todo:
        prepare_data(graph, todo, store)
        of_data = data_notes(graph, store)
        for words in (
            *notes(graph),
            *(f"{name}: {note}" for name in of_data for note in of_data[name]),
        ):
            console.print(f"note: {words}", markup=False, highlight=False, soft_wrap=True)
        outcomes = execute(
            graph, todo, done, store=store, local=local, address=address, console=console
        )
    else:
        outcomes = {**store.outcomes(ids), **refuse(graph, store)}
        catch_up(graph, outcomes, store)
    report = make_report(graph, store)
    conclude(console, report, store)
    if any(result.status == "failed" for result in outcomes.values()):
        raise typer.Exit(1)


@app.command()
def plan(
    suite: Suite,
    workdir: Workdir = RUNS,
    scale: Scale = None,
    settings: Settings = None,
    seeds: Seeds = None,
    limit_steps: LimitSteps = None,
    as_json: AsJson = False,
) -> None:
    """Show the jobs of a suite, what is done, its exaFLOPs and time, without running anything."""
    from bench.cli.listing import plan_rows, show_plan
    from bench.plan import rehearsed
    from bench.plan.notes import notes
    from bench.schedule import Estimates
    from bench.store import Store

    graph = graph_of(suite, settings, seeds, limit_steps, scale=scale, workdir=workdir)
    done = Store(workdir).results(job.job_id for job in graph.jobs)
    cache = WorkPaths(workdir.resolve()).cache
    estimates = Estimates(graph, done, rehearsed_s=rehearsed.seconds(graph, cache))
    rows = plan_rows(graph, done, estimates.seconds)
    if as_json:
        suite_fields = graph.suite.model_dump(mode="json")
        print_json({"suite": suite_fields, "jobs": rows, "notes": notes(graph)})
        return
    show_plan(new_console(), graph, rows, cache=cache)


app.command()(cli_rehearse.rehearse)


@app.command()
def status(
    suite: Suite,
    workdir: Workdir = RUNS,
    scale: Scale = None,
    settings: Settings = None,
    seeds: Seeds = None,
    limit_steps: LimitSteps = None,
    as_json: AsJson = False,
) -> None:
    """Show which jobs of a suite are done, running, failed or missing."""
    from bench.cli.listing import show_status, status_rows
    from bench.store import Store

    graph = graph_of(suite, settings, seeds, limit_steps, scale=scale, workdir=workdir)
    rows = status_rows(graph, Store(workdir))
    if as_json:
        print_json({"suite": graph.suite.name, "scale": graph.suite.scale, "jobs": rows})
        return
    show_status(new_console(), rows)


cli_results.add_to(app)  # here, so that --help lists them in the order of use


@app.command()
def sync(
    suite: Suite,
    workdir: Workdir = RUNS,
    scale: Scale = None,
    settings: Settings = None,
    seeds: Seeds = None,
    limit_steps: LimitSteps = None,
) -> None:
    """Carry to MLflow what did not arrive there."""
    from bench import tracking
    from bench.store import Store

    graph = graph_of(suite, settings, seeds, limit_steps, scale=scale, workdir=workdir)
    store = Store(workdir)
    outcomes = store.outcomes(job.job_id for job in graph.jobs)
    if not outcomes:
        raise UserError(
            f"{suite}: nothing was run in {workdir}", hint=f"Run it: vitbench run {suite}"
        )
    missing = tracking.missing(graph, outcomes, store.workdir)
    problems = catch_up(graph, outcomes, store)
    typer.echo(f"{len(missing)} results carried to MLflow" if not problems else problems[0])
    if problems:
        raise typer.Exit(1)


@app.command()
def ui(
    workdir: Workdir = RUNS,
    port: Annotated[int, typer.Option("--port", min=1, max=65535)] = 5000,
) -> None:
    """Serve the MLflow UI of the work folder on this machine alone, until interrupted."""
    from bench.doctor import machine
    from bench.tracking import connect, tracking_uri

    if not workdir.is_dir():
        raise UserError(f"--workdir {workdir}: no such folder", hint="Run a suite first")
    free = machine.port(port)  # MLflow would keep trying
    if free.status != "ok":
        raise BenchError(free.found, hint=free.cure)
    connect(workdir)
    hosts = f"localhost:{port},127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "server"]
    command += ["--backend-store-uri", tracking_uri(workdir), "--host", "127.0.0.1"]
    command += ["--registry-store-uri", tracking_uri(workdir)]
    command += ["--default-artifact-root", WorkPaths(workdir.resolve()).artifacts.as_uri()]
    command += ["--port", str(port), "--workers", "1", "--allowed-hosts", hosts]
    page = f"http://127.0.0.1:{port}/#/experiments?workflowType=machine_learning"
    typer.echo(f"MLflow UI: {page}  (stop with Ctrl-C)")
    command += ["--uvicorn-opts", "--log-level warning"]
    # What MLflow's own libraries deprecate is nothing for who looks at results.
    quiet = {**os.environ, "PYTHONWARNINGS": "ignore", "MLFLOW_LOGGING_LEVEL": "WARNING"}
    # Jobs of its own take seconds to start, and leave a folder in shared memory.
    quiet["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    server = subprocess.Popen(command, start_new_session=True, env=quiet)
    end_on_signals(terminate_on)
    try:
        code = server.wait()
    except KeyboardInterrupt:
        code = 0
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait()
    raise typer.Exit(code)


app.command()(cli_doctor.doctor)


@app.command("ls")
def list_things(
    things: Things,
    family: Annotated[
        str | None, typer.Option("--family", help="systems: only those of one family.")
    ] = None,
    public: Annotated[
        bool, typer.Option("--public", help="systems: only those with public weights.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List what there is, and where it comes from; `plugins` are what others add."""
    from bench.cli.listing import show_rows
    from bench.cli.lists import LISTS

    if (family or public) and things is not Things.systems:
        option = f"--family {family}" if family else "--public"
        raise UserError(
            f"ls {things}: {option} chooses among systems", hint=f"vitbench ls systems {option}"
        )
    rows = LISTS[things]()
    if family is not None:
        families = sorted({row["family"] for row in rows if "family" in row})
        split_words(family, families, f"ls {things} --family")
        rows = [row for row in rows if row["family"] == family]
    if public:
        rows = [row for row in rows if set(row.get("weights", ())) - {"jft"}]
    if as_json:
        print_json(rows)
    elif rows:
        show_rows(new_console(), rows)
    else:
        typer.echo(f"No {things} here")


@app.command()
def show(
    name: Annotated[
        str, typer.Argument(help="A system, data set or suite by its name, or a suite's path.")
    ],
    workdir: Workdir = RUNS,
    as_json: AsJson = False,
) -> None:
    """Show everything known about one system, data set or suite."""
    from bench.cli import showing

    facts = showing.facts_of(name, WorkPaths(workdir.resolve()).cache)
    if as_json:
        print_json(facts)
        return
    showing.show(new_console(), facts)


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
    """Run the command; errors are reported in one line, with exit code 2 for wrong input."""
    # Pydantic looks for plugins in every installed package; there are none here to find.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    try:
        code = app(standalone_mode=False)  # so that wrong words are told here
    except usage.UsageError as error:
        if usage.is_help(error):
            typer.echo(error, err=True)
        else:
            words = usage.in_words(error, app, sys.argv[1:])
            sys.stderr.write(f"vitbench: {printable(words)}\n")
        sys.exit(2)
    except typer.Abort:
        sys.exit(1)
    except BenchError as error:
        if os.environ.get("VITBENCH_DEBUG"):
            raise
        sys.stderr.write(f"vitbench: {printable(str(error))}\n")
        sys.exit(error.exit_code)
    except Exception as error:
        if os.environ.get("VITBENCH_DEBUG"):
            raise
        words = printable(str(error))
        sys.stderr.write(
            f"vitbench: {type(error).__name__}: {words} (vitbench --debug shows more)\n"
        )
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(code)


# --- words ----------------------------------------------------------------------------------


def _kinds(only: str | None) -> tuple[str, ...]:
    from bench.kinds import KINDS

    return split_words(only, tuple(KINDS), "--only") if only else tuple(KINDS)


# --- what is printed ------------------------------------------------------------------------


def _say_what_is_reused(
    console: Console,
    graph: JobGraph,
    done: Mapping[str, JobResult],
    todo: Sequence[PlannedJob],
) -> None:
    words = f"{graph.suite.name}: {len(graph.jobs)} jobs"
    if done:
        words += f", {len(done)} reused (done before)"
    refused = [job.refused for job in graph.jobs if job.refused]
    if refused:
        words += f", {len(refused)} refused ({refused[0]})"
    left_out = len(graph.jobs) - len(done) - len(todo) - len(refused)
    if left_out:
        words += f", {left_out} left out (--only)"
    words += f", {len(todo)} to do" if todo else ", nothing to do"
    console.print(words, highlight=False)


if __name__ == "__main__":
    main()
