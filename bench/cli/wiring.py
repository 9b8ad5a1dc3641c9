"""What a verb does with a suite: plan it, do its jobs, mirror them, and make its report.

Here the layers are wired together; `bench/cli/app.py` holds the words a person types and reads.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import plugins
from bench.errors import BenchError, UserError
from bench.paths import CachePaths, WorkPaths

if TYPE_CHECKING:
    from rich.console import Console

    from bench.plan.spec import JobGraph, SuiteSpec
    from bench.specs import JobResult, PlannedJob
    from bench.store import Store
    from bench.tracking import Mirror
    from reports import Report
    from reports.exchange.imports import ImportedResult
    from reports.study.study import Study
    from reports.verdicts.explain import Explanation


def graph_of(
    suite: str,
    settings: Sequence[str] | None,
    seeds: int | None,
    limit_steps: int | None,
    *,
    scale: str | None = None,
    workdir: Path | None = None,
) -> JobGraph:
    """Read and plan a suite, its own data sets resolved relative to its file; raises UserError.

    What jobs of a work folder held in memory before corrects what they are planned with.
    """
    from bench.plan import suites as suites

    spec = suites.load(
        suite, settings=settings or (), scale=scale, num_seeds=seeds, limit_steps=limit_steps
    )
    file = suites.locate(suite)
    cache = WorkPaths(workdir.resolve()).cache if workdir is not None else None
    graph = planned(spec, base_dir=file.parent, file=suites.shown(file), cache=cache)
    for name, why in plugins.left_out():
        sys.stderr.write(f"vitbench: plug-in {name} is left out ({why})\n")
    return graph


def planned(spec: SuiteSpec, *, base_dir: Path, file: str, cache: CachePaths | None) -> JobGraph:
    """Plan a suite whose own data sets lie relative to `base_dir`; raises UserError."""
    import reports
    from bench.data import catalog
    from bench.plan import plan_with_catalogue

    reports.check_names(spec.report.tables, spec.report.figures, reports.FORMATS)
    own = {
        name: catalog.resolve(name, block, base_dir=base_dir)
        for name, block in spec.dataset.items()
    }
    return plan_with_catalogue(spec, own, file=file, cache=cache)


def prepare_data(graph: JobGraph, todo: Iterable[PlannedJob], store: Store) -> None:
    """Pack the data sets that the jobs read: bad images are reported before anything runs.

    Files go first: what is drawn is never bad, and need not be drawn where files are.
    """
    from bench.data.packs.build import check_located, packed
    from bench.kinds import KINDS

    fresh = not store.workdir.exists()
    names = {job.dataset: None for job in todo if KINDS[job.spec.kind].needs_data}
    cards = [graph.datasets[name] for name in names]
    for card in cards:
        check_located(card)
    try:
        for card in sorted(cards, key=lambda card: "path" not in card.args):
            if not card.args.get("stream"):
                packed(card, cache_dir=store.paths.cache.folder, num_workers=os.cpu_count() or 1)
    except BenchError:
        if fresh:
            _discard_unused(store.paths)
        raise


def data_notes(graph: JobGraph, store: Store) -> dict[str, tuple[str, ...]]:
    """Return what is odd in each data set of files that is packed here, in words, by its name."""
    from bench.data.packs.examine import notes_on

    cache_dir = store.paths.cache.folder
    found = {
        name: notes_on(card, cache_dir=cache_dir)
        for name, card in graph.datasets.items()
        if "path" in card.args and not card.args.get("stream")
    }
    return {name: notes for name, notes in found.items() if notes}


def _discard_unused(paths: WorkPaths) -> None:
    """Remove a work folder that holds locks alone; whatever another driver made there stays."""
    from filelock import FileLock, Timeout

    locks = paths.cache.locks()
    if {*paths.root.rglob("*")} - {paths.cache.folder, *locks}:
        return
    with contextlib.suppress(OSError, Timeout):
        for path in locks:
            with FileLock(path, timeout=0):
                path.unlink()
        paths.cache.folder.rmdir()
        paths.root.rmdir()


def execute(
    graph: JobGraph,
    todo: Sequence[PlannedJob],
    done: Mapping[str, JobResult],
    *,
    store: Store,
    local: bool,
    address: str | None,
    console: Console,
) -> dict[str, JobResult]:
    """Do the jobs of `todo` and mirror each result to MLflow as it comes; return all outcomes.

    Runs on Ray, on the cluster at `address` where one is given, or in this process when `local`.
    """
    from bench import schedule
    from bench.cli.progress import SuiteProgress

    store.create()
    chosen = {job.job_id for job in todo}
    mirror = _mirror(graph, done, store)
    executor: Any
    if local:
        executor = schedule.LocalExecutor(graph.datasets, store.workdir)
    else:
        executor = schedule.RayExecutor(graph.datasets, store.workdir, address=address)
    received: list[int] = []

    def terminate(number: int, frame: object) -> None:
        received.append(number)  # Ray puts an exit code of its own in place of ours
        terminate_on(number, frame)

    end_on_signals(terminate)  # after Ray, which sets a handler of its own
    slots = 1 if local else max(1, int((os.cpu_count() or 1) / graph.suite.num_threads))
    try:
        if not local:
            executor.check(todo)
        with SuiteProgress(
            graph, done, todo, store=store, num_slots=slots, console=console
        ) as progress:

            def on_event(event: schedule.Event) -> None:
                progress.on_event(event)
                if event.result is not None:
                    mirror.record(event.job, event.result)

            outcomes = schedule.run(
                graph,
                executor,
                store=store,
                only=lambda job: job.job_id in chosen,
                on_event=on_event,
                on_poll=progress.on_poll,
            )
    except (KeyboardInterrupt, SystemExit):
        sys.stderr.write("vitbench: interrupted; run the same command again to continue\n")
        sys.exit(128 + (received[0] if received else signal.SIGINT))
    finally:
        executor.close()
    _finish(mirror, graph, outcomes, store)
    return outcomes


def catch_up(graph: JobGraph, outcomes: Mapping[str, JobResult], store: Store) -> list[str]:
    """Carry to MLflow what an earlier run could not, or did for another suite."""
    from bench.tracking import missing

    if not missing(graph, outcomes, store.workdir):
        return []
    return _finish(_mirror(graph, outcomes, store), graph, outcomes, store)


def _mirror(graph: JobGraph, done: Mapping[str, JobResult], store: Store) -> Mirror:
    """Begin to mirror a suite, first of all what was done before and has not arrived."""
    from bench.tracking import Mirror, missing

    mirror = Mirror(graph, store, command=" ".join(["vitbench", *sys.argv[1:]]))
    for job in missing(graph, done, store.workdir):
        mirror.record(job, done[job.job_id], reused=True)
    return mirror


def _finish(
    mirror: Mirror, graph: JobGraph, outcomes: Mapping[str, JobResult], store: Store
) -> list[str]:
    """Make the report, hand it to MLflow with the last results, and say what went wrong."""
    report = make_report(graph, store)
    problems = mirror.finish(
        outcomes=outcomes,
        verdicts=report.verdicts,
        files=report.files.values(),
        root=store.paths.report(graph.suite.label),
        note=_note(graph, report),
    )
    if problems:
        sys.stderr.write(
            f"vitbench: {problems[0]} ({len(problems)} in all); no result is lost: "
            f"`vitbench sync {graph.suite.name}` carries them over later\n"
        )
    return problems


def _note(graph: JobGraph, report: Report) -> str:
    """Return what MLflow shows on a suite's run, in Markdown: its claim, and what weakens it."""
    from bench.cli.printing import MAX_LISTED
    from reports.printing import escape

    parts = [f"**{graph.suite.title}**", graph.suite.claim]
    if report.cautions:
        lines = [f"- {escape.markdown(line)}" for line in report.told_cautions(MAX_LISTED)]
        parts.append("\n".join(["**Read with care**", "", *lines]))
    return "\n\n".join(parts)


def end_on_signals(handler: Callable[[int, Any], None]) -> None:
    """End when asked to, and when the terminal goes away, unless that is ignored (nohup)."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def terminate_on(number: int, frame: object) -> None:
    """Handle a signal by ending with its code, so that everything is closed on the way."""
    raise SystemExit(128 + number)


def make_report(
    graph: JobGraph,
    store: Store,
    *,
    outcomes: Mapping[str, JobResult] | None = None,
    digests: Mapping[str, str] | None = None,
    imported: Sequence[ImportedResult] = (),
    out: Path | None = None,
    formats: Sequence[str] | None = None,
) -> Report:
    """Return the report of a suite, rendering it only when something changed.

    `outcomes` are those of the job folders where none are given; `digests` stand for these where
    they are known, so that nothing is read when nothing changed.
    """
    import baselines
    import reports
    from bench.files import write_text
    from bench.paths import GRAPH

    ids = [job.job_id for job in graph.jobs]
    if outcomes is None and digests is None:
        digests = store.digests(ids)
    folder = out if out is not None else store.paths.report(graph.suite.label)
    formats = formats if formats is not None else reports.FORMATS
    known: Mapping[str, JobResult | str] = outcomes if outcomes is not None else digests or {}
    there = reports.load(folder, reports.key(graph, known, formats=formats, imported=imported))
    if there is not None:
        return there
    made = reports.build(
        graph,
        outcomes if outcomes is not None else store.outcomes(ids),
        curves=curves_of(graph, store),
        hits=store.hits,
        answers=store.answers,
        open_file=store.file,
        published=baselines.published(),
        imported=imported,
        notes=data_notes(graph, store),
        digests=None if outcomes is not None else digests,
        out_dir=folder,
        formats=formats,
    )
    write_text(folder / GRAPH, graph.model_dump_json(), sync=False)
    return made


def study_of(
    graph: JobGraph,
    store: Store,
    *,
    outcomes: Mapping[str, JobResult] | None = None,
    imported: Sequence[ImportedResult] = (),
) -> Study:
    """Return what the tables of a suite are made from; outcomes from job folders if none given."""
    import baselines
    from reports.study.study import Study

    if outcomes is None:
        outcomes = store.outcomes(job.job_id for job in graph.jobs)
    return Study(
        graph, outcomes, curves_of(graph, store), store.hits, baselines.published(),
        tuple(imported),
        store.file,
        answers=store.answers,
    )  # fmt: skip


def curves_of(graph: JobGraph, store: Store) -> dict[str, list[dict[str, Any]]]:
    """Return the learning curve of every pre-training job."""
    from bench.kinds import stages

    return {
        job.job_id: store.progress(job.job_id)
        for job in graph.jobs
        if stages()[job.labels.stage].role == "start" and job.spec.recipe is not None
    }


def explanations(
    what: str,
    *,
    suite: str | None,
    scale: str | None = None,
    settings: Sequence[str] | None,
    store: Store,
) -> list[Explanation]:
    """Explain a job or a published cell, from a suite or from every suite that was run here.

    Raises UserError where nothing is found.
    """
    import baselines
    from reports.study.study import Study
    from reports.verdicts.explain import explain

    graphs = reported(store)
    if suite:
        graphs = [graph_of(suite, settings, None, None, scale=scale, workdir=store.workdir)]
    if not graphs:
        raise UserError(
            f"nothing was run in {store.workdir}", hint="Name a suite: vitbench explain --suite"
        )
    found: list[Explanation] = []
    first: UserError | None = None
    for graph in graphs:
        outcomes = store.outcomes(job.job_id for job in graph.jobs)
        study = Study(graph, outcomes, {}, store.hits, baselines.published())
        try:
            found += explain(study, what)
        except UserError as error:
            first = first or error
    if first is not None and not found:
        raise first
    measured = [explanation for explanation in found if explanation.table is not None]
    return list(dict.fromkeys(measured or found))


def reported(store: Store) -> list[JobGraph]:
    """Return the graph of each suite that was reported on in a work folder.

    Those of another version, which cannot be read, are left out.
    """
    from bench.plan.spec import JobGraph

    found = []
    for path in store.paths.graphs():
        with contextlib.suppress(ValueError):
            found.append(JobGraph.model_validate_json(path.read_bytes()))
    return found
