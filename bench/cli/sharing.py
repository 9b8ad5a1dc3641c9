"""Results beyond one work folder: packed for others, verified, compared."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bench import digests
from bench.cli.wiring import curves_of, reported
from bench.errors import UserError
from bench.paths import HITS, WorkPaths
from bench.store import bundle

if TYPE_CHECKING:
    from bench.plan.spec import JobGraph
    from bench.specs import JobResult
    from bench.store import Store
    from reports.exchange.check import Difference
    from reports.exchange.compare import Side
    from reports.exchange.imports import ImportedResult
    from reports.study.study import Study


@dataclass(frozen=True)
class Verified:
    """What came of rendering a bundle's tables again."""

    evidence: bundle.Evidence
    """What the bundle holds; every hash was right."""
    num_tables: int
    """Files of tables in the bundle."""
    num_equal: int
    """Those that are the same bytes when rendered here."""
    differences: tuple[Difference, ...]
    """Cells that differ between the bundle's tables and those rendered here."""
    weights: tuple[str, ...] = ()
    """The public weights behind the results, a line each."""


def pack(graph: JobGraph, store: Store, path: Path) -> tuple[bundle.Evidence, str]:
    """Write the evidence of a suite to `path`; return it and its digest.

    Raises UserError where nothing was run.
    """
    evidence = _evidence(graph, store)
    if not evidence.results:
        raise UserError(
            f"{graph.suite.name}: nothing was run in {store.workdir}",
            hint=f"Run it: vitbench run {graph.suite.name}",
        )
    evidence = replace(evidence, tables=_tables(evidence))
    return evidence, bundle.write(path, evidence)


def verify(path: Path, *, workdir: Path | None = None) -> Verified:
    """Check every hash of a bundle and render its tables again, from nothing but the bundle.

    With a `workdir`, the public weights behind it must be the files that were used there, where
    they were: CheckpointError otherwise.
    """
    import reports
    from reports.exchange.check import check

    evidence = bundle.read(path)
    weights = tuple(_weights(path, evidence, workdir))
    now = _tables(evidence)
    equal = [name for name, content in evidence.tables.items() if now.get(name) == content]
    found: tuple[Difference, ...] = ()
    if len(equal) != len(evidence.tables) or set(now) != set(evidence.tables):
        with tempfile.TemporaryDirectory() as folder:
            for name, content in evidence.tables.items():
                file = Path(folder) / name
                file.parent.mkdir(exist_ok=True)
                file.write_bytes(content)
            tables = reports.make_tables(_study(evidence))
            versions = reports.versions_of(evidence.graph)
            found = tuple(check(reports.untimed(tables), Path(folder), versions=versions))
    return Verified(evidence, len(evidence.tables), len(equal), found, weights)


def _weights(path: Path, evidence: bundle.Evidence, workdir: Path | None) -> Iterator[str]:
    """Yield a line for each file of public weights; raise where another one was used here."""
    cache = None if workdir is None else WorkPaths(workdir).cache
    lines: dict[str, None] = {}  # one for all jobs that loaded a file
    for used in evidence.weights:
        own = digests.Stated(used.sha256, f"job {used.job_id} of {path}")
        known = [] if cache is None else [digests.recorded(used.address, cache)]
        here = [stated for stated in known if stated is not None]
        others = [*used.owners, *here]
        digests.check(used.name, used.address, own, others, cure=digests.RUN_AGAIN)
        words = "the same file here" if here else "not used here yet"
        lines[str(used) if used.is_own_file else f"{used}; {words}"] = None
    yield from lines


def render(evidence: bundle.Evidence, out: Path) -> Path:
    """Write the whole report of a bundle; return its page."""
    import reports

    made = reports.build(
        evidence.graph,
        evidence.results,
        curves=evidence.curves,
        out_dir=out,
        hits=evidence.hits_of,
        answers=evidence.answers_of,
        published=evidence.published,
    )
    return made.files["index.html"]


def check_tables(
    graph: JobGraph,
    store: Store,
    folder: Path,
    *,
    outcomes: Mapping[str, JobResult] | None,
    imported: tuple[ImportedResult, ...],
) -> list[Difference]:
    """Return the cells of the tables in `folder` that differ from what the records say now."""
    import reports
    from bench.cli.wiring import study_of
    from reports.exchange.check import check

    study = study_of(graph, store, outcomes=outcomes, imported=imported)
    with reports.without_collection():
        tables = reports.make_tables(study)
        return check(reports.untimed(tables), folder, versions=reports.versions_of(graph))


def side(path: Path, graph: JobGraph | None) -> Side:
    """Return the results of a work folder or of a bundle; with a suite, those of its jobs alone.

    Raises UserError where there are none.
    """
    from bench.store import Store
    from reports.exchange.compare import Side

    if path.is_file():
        evidence = bundle.read(path)
        results = {key: r for key, r in evidence.results.items() if r.status == "done"}
        titles = {job.job_id: job.name for job in evidence.graph.jobs}
    elif (store := Store(path)).paths.jobs.is_dir():
        results = store.results(job.folder.name for job in store.paths.each_job())
        # Jobs of no suite that was reported go by their ids.
        titles = {job.job_id: job.name for graph in reported(store) for job in graph.jobs}
    else:
        raise UserError(f"{path}: neither a work folder nor a bundle")
    if graph is not None:
        titles = {job.job_id: job.name for job in graph.jobs}
        results = {key: result for key, result in results.items() if key in titles}
    if not results:
        of = f" of {graph.suite.name}" if graph is not None else ""
        raise UserError(f"{path}: no job{of} is done there")
    return Side(name=str(path), results=results, titles=titles)


def _evidence(graph: JobGraph, store: Store) -> bundle.Evidence:
    import baselines
    from bench import environment
    from bench.store import scrub

    roots = (store.workdir, Path.cwd())
    outcomes = store.outcomes(job.job_id for job in graph.jobs)
    clean, results = scrub.records(graph, outcomes, roots=roots)
    curves = {
        job_id: scrub.lines(curve, roots=roots)
        for job_id, curve in curves_of(graph, store).items()
        if curve
    }
    hits = {}
    for job_id, result in results.items():
        file = store.file(job_id, HITS)
        if result.status == "done" and file is not None:
            hits[job_id] = file.read_bytes()
    return bundle.Evidence(
        graph=clean, results=results, curves=curves, hits=hits,
        published=tuple(baselines.published()), environment=environment.describe("cpu"), tables={},
    )  # fmt: skip


def _tables(evidence: bundle.Evidence) -> dict[str, bytes]:
    import reports

    with reports.without_collection():
        tables = reports.make_tables(_study(evidence))
        versions = reports.versions_of(evidence.graph)
        return dict(reports.table_files(tables, reports.FORMATS, versions=versions))


def _study(evidence: bundle.Evidence) -> Study:
    from reports.study.study import Study

    return Study(
        evidence.graph, evidence.results, evidence.curves, evidence.hits_of, evidence.published,
        answers=evidence.answers_of,
    )  # fmt: skip
