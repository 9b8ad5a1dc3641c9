"""Reports: the records of a suite in, tables, figures and a page out.

    report = reports.load(out_dir, reports.key(graph, results))
    if report is None:
        report = reports.build(graph, results, curves=curves, out_dir=out_dir)
    print(report.terminal())

A table or figure is one file in this folder. What is written:

    report.json                  the key, the findings and the list of files: written last
    data/<name>.json             the tables' data, with the jobs behind every cell
    index.html                   the page of the suite, self-contained
    tables/<name>.{md,tex,csv,long.csv,html}     deterministic: same results, same bytes
    timings/cost.*, timings/overview.*           measured times, which differ between runs
    figures/<name>.{svg,png}     deterministic

Importing this package, and `load`, need neither pandas nor seaborn.
"""

from __future__ import annotations

import gc
import hashlib
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import UnknownName
from bench.plan.spec import JobGraph
from bench.specs import JobResult, PublishedResult
from reports.exchange.imports import ImportedResult
from reports.printing.render import SUFFIXES, Table, file_bytes, render
from reports.printing.written import Report, data_bytes, data_name, load, write
from reports.study.frame import versions

if TYPE_CHECKING:
    import numpy as np

    from reports.figures.style import Drawing
    from reports.study.scores import Study

__all__ = ["FIGURES", "FORMATS", "TABLES", "Report", "build", "check_names", "key", "load"]

REPORT_VERSION = 1
"""Bumped when reports mean something else; their sources' digest covers all other changes."""
TABLES = (
    "comparison", "published", "imported", "table_1", "table_2", "table_5", "table_6",
    "table_7", "table_8", "table_9", "pairs", "equal_compute", "images", "ranks", "scaling",
    "cost", "speed", "profile", "training",
)  # fmt: skip
"""Names of the tables: each is a module here with `table(study)`."""
COMPANIONS = {
    "comparison": ("published", "imported", "ranks"), "pairs": ("equal_compute", "images"),
    "cost": ("speed", "profile"),
}  # fmt: skip
"""Tables that come with another one, where they have rows."""
FIGURES = (
    "vtab_groups", "upstream_size", "fewshot_size", "pretrain_compute", "compute_tradeoff",
    "equal_compute", "model_shape", "learning_curves", "speed", "makespan",
)  # fmt: skip
"""Names of the figures: each is a module here with `figure(study)`."""
FORMATS = tuple(SUFFIXES)
"""Formats of tables."""
MEASURED = ("cost", "overview", "speed", "profile", "makespan")
"""Tables and figures with timings; they stand in `timings/`."""


def key(
    graph: JobGraph,
    results: Mapping[str, JobResult | str],
    *,
    formats: Sequence[str] = FORMATS,
    imported: Sequence[ImportedResult] = (),
) -> str:
    """Return the digest of everything that a report is made from, its own sources included.

    `results` may hold digests in place of results, where those are known without reading them.
    Learning curves and per-image hits belong to jobs that are done: their results stand for them.
    """
    found = hashlib.sha256(f"{REPORT_VERSION} {_sources_digest()} {sorted(formats)}".encode())
    found.update(graph.model_dump_json().encode())
    for job_id, result in sorted(results.items()):
        text = result if isinstance(result, str) else result.model_dump_json()
        found.update(f"\n{job_id} {text}".encode())
    for row in imported:
        found.update(f"\n{row.model_dump_json()}".encode())
    return found.hexdigest()


def build(
    graph: JobGraph,
    results: Mapping[str, JobResult],
    *,
    curves: Mapping[str, list[dict[str, Any]]],
    out_dir: Path,
    formats: Sequence[str] = FORMATS,
    hits: Callable[[str], np.ndarray | None] = lambda job_id: None,
    published: Sequence[PublishedResult] = (),
    imported: Sequence[ImportedResult] = (),
    digests: Mapping[str, str] | None = None,
) -> Report:
    """Render and write the report of a suite; every file appears whole or not at all.

    `results` may lack jobs: their cells say so. `curves` holds the progress lines of pre-training
    jobs by job id; `hits` gives a job's hits_N (bool) on the test images, or None;
    `published` are the numbers that measured cells may answer, `imported` those of others that
    stand beside them; `digests` stand for the results in the report's key.
    Raises UnknownName for a format, table or figure that does not exist.
    """
    from reports.printing.page import page
    from reports.study import findings
    from reports.study.scores import Study

    check_names(graph.suite.report.tables, graph.suite.report.figures, formats)
    study = Study(graph, results, curves, hits, tuple(published), tuple(imported))
    with without_collection():
        tables = make_tables(study)
        contents = dict(table_files(tables, formats, versions=versions_of(graph)))
        contents |= {data_name(name): data_bytes(table) for name, table in tables.items()}
    drawings = list(_drawings(study))
    contents.update(_drawing_files(drawings))
    html = page(study, overview=tables["overview"], tables=tables, drawings=drawings)
    contents["index.html"] = html.encode()
    report = Report(
        key=key(graph, digests or results, formats=formats, imported=imported),
        tables=tables,
        files={name: out_dir / name for name in contents},
        findings=tuple(str(finding) for finding in findings.findings(study)),
        status=findings.jobs_line(study),
        failures=tuple(_failures(study)),
        verdicts=_verdicts(tables),
    )
    write(report, contents, out_dir)
    return report


def check_names(
    tables: Sequence[str] = (), figures: Sequence[str] = (), formats: Sequence[str] = ()
) -> None:
    """Raise UnknownName for a table, figure or format that does not exist."""
    for kind, asked, known in (
        ("table", tables, TABLES),
        ("figure", figures, FIGURES),
        ("format", formats, FORMATS),
    ):
        for name in asked:
            if name not in known:
                raise UnknownName(kind, name, known, where=f"report.{kind}s")


def make_tables(study: Study) -> dict[str, Table]:
    """Return the tables of a suite by name; `overview` has timings beside the comparison."""
    from reports.tables import cost

    tables = dict(_tables(study))
    compared = cost.joined(study, tables["comparison"], tables["cost"])
    # A suite of profiles alone compares speeds.
    tables["overview"] = (
        compared if compared.rows or "speed" not in tables
        else replace(tables["speed"], name="overview", title=study.graph.suite.title)
    )  # fmt: skip
    return tables


@contextmanager
def without_collection() -> Iterator[None]:
    """Pause the search for cyclic garbage while the block runs.

    Tables are hundreds of thousands of small objects that all live on, and none is in a cycle:
    looking through them again and again took a third of the time.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def versions_of(graph: JobGraph) -> dict[str, str]:
    """Return the versions of kind, protocol, system and data behind each job, by its id."""
    return {job.job_id: versions(job, graph.datasets) for job in graph.jobs}


def _failures(study: Study) -> Iterator[str]:
    for job in study.graph.jobs:
        result = study.results.get(job.job_id)
        if result is not None and result.status == "failed":
            yield f"{job.name}: {result.error}"


def _verdicts(tables: Mapping[str, Table]) -> dict[str, str]:
    """Return the verdicts of the cells that a job is behind, in words, by job id."""
    if "published" not in tables:
        return {}
    table = tables["published"]
    keys = [column.key for column in table.columns]
    measured, verdict = keys.index("measured"), keys.index("verdict")
    found: dict[str, dict[str, None]] = {}
    for row in table.rows:
        for sample in row[measured].samples:
            for job_id in sample.job_ids:
                found.setdefault(job_id, {})[row[verdict].text] = None
    return {job_id: "; ".join(words) for job_id, words in found.items()}


def _tables(study: Study) -> Iterator[tuple[str, Table]]:
    """Make the tables of the suite, those that the page always needs, and their companions."""
    asked = {*study.graph.suite.report.tables, "comparison", "cost", "training"}
    beside = {name for table in asked for name in COMPANIONS.get(table, ())} - asked
    for name in TABLES:
        if name in asked | beside:
            table = _module("tables", name).table(study)
            if table.rows or name in asked:
                yield name, table


def _drawings(study: Study) -> Iterator[Drawing]:
    for name in study.graph.suite.report.figures:
        drawing = _module("figures", name).figure(study)
        if drawing is not None:
            yield drawing


def _drawing_files(drawings: Sequence[Drawing]) -> Iterator[tuple[str, bytes]]:
    for drawing in drawings:
        folder = "timings" if drawing.name in MEASURED else "figures"
        yield f"{folder}/{drawing.name}.svg", drawing.svg
        yield f"{folder}/{drawing.name}.png", drawing.png


def _module(room: str, name: str) -> Any:
    if room == "figures" and name in TABLES:  # a file of both
        room = "tables"
    return importlib.import_module(f"reports.{room}.{name}")


def table_files(
    tables: Mapping[str, Table], formats: Sequence[str], *, versions: Mapping[str, str]
) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of every file of the tables, e.g. `tables/comparison.md`."""
    for name, table in tables.items():
        folder = "timings" if name in MEASURED else "tables"
        for form in formats:
            for suffix, text in render(table, form, versions=versions).items():
                yield f"{folder}/{name}{suffix}", file_bytes(text, suffix)


@cache
def _sources_digest() -> str:
    """Return the digest of the files that make reports, so that a change of theirs shows.

    What was published is a source too: it stands beside what was measured.
    """
    from bench import metrics, stats
    from reports.study.scores import digest

    here = Path(__file__).parent
    sources = [
        path for path in sorted(here.rglob("*")) if path.suffix in (".py", ".html", ".css", ".js")
    ]
    sources += [Path(metrics.__file__), *sorted(Path(stats.__path__[0]).glob("*.py"))]
    sources += [path for path in [here.parent / "baselines" / "published.csv"] if path.is_file()]
    return digest([(path.name, path.read_text(encoding="utf-8")) for path in sources])
