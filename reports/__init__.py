"""Reports: the records of a suite in, tables, figures and a page out.

    report = reports.load(out_dir, reports.key(graph, results))
    if report is None:
        report = reports.build(graph, results, curves=curves, out_dir=out_dir)
    print(report.terminal())

The rooms, each of which knows only those before it

    printing/    the table model and its forms; the page
    exchange/    numbers of others; committed tables, and other results, against ours
    study/       the one input of every report, and what follows from it
    verdicts/    measured against published
    paper/       the ViT paper's tables
    drawing/     style and panels of figures
    tables/      one file each, discovered (`reports/cards.py`)
    figures/     one file each, discovered

What is written

    report.json                  the key, findings, cautions and the list of files: written last
    data/<name>.json             the tables' data, with the jobs behind every cell
    index.html                   the page of the suite, self-contained
    tables/<name>.{md,tex,csv,long.csv,html}     deterministic: same results, same bytes
    timings/<name>.*             measured times, which differ between runs
    figures/<name>.{svg,png}     deterministic

Importing this package, and `load`, need neither pandas nor seaborn.
"""

from __future__ import annotations

import gc
import hashlib
import importlib.util
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from bench import plugins
from bench.errors import UnknownName
from bench.plan.spec import JobGraph
from bench.plugins import OURS, Registry
from bench.specs import DatasetCard, JobResult, PlannedJob, PublishedResult
from reports.cards import FIGURES, TABLES, Section, check_name, tables_in_order
from reports.exchange.imports import ImportedResult
from reports.printing.drawing import Drawing
from reports.printing.files import SUFFIXES, file_bytes, render
from reports.printing.report import Report, data_bytes, data_name, load, write
from reports.printing.table import Table

if TYPE_CHECKING:
    import numpy as np

    from reports.printing.page import Page
    from reports.study.study import Study

__all__ = ["FIGURES", "FORMATS", "TABLES", "Report", "build", "check_names", "key", "load"]

REPORT_VERSION = 1
"""Bumped when reports mean something else; their sources' digest covers all other changes."""
FORMATS = tuple(SUFFIXES)
"""Formats of tables."""

Made = TypeVar("Made")


def key(
    graph: JobGraph,
    results: Mapping[str, JobResult | str],
    *,
    formats: Sequence[str] = FORMATS,
    imported: Sequence[ImportedResult] = (),
) -> str:
    """Return the digest of everything that a report is made from, its own sources included.

    `results` may hold digests in place of results, where those are known without reading them.
    What jobs left in their folders belongs to jobs that are done: their results stand for it.
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
    answers: Callable[[str], Mapping[str, np.ndarray]] = lambda job_id: {},
    open_file: Callable[[str, str], Path | None] = lambda job_id, name: None,
    published: Sequence[PublishedResult] = (),
    imported: Sequence[ImportedResult] = (),
    notes: Mapping[str, Sequence[str]] = MappingProxyType({}),
    digests: Mapping[str, str] | None = None,
) -> Report:
    """Render and write the report of a suite; every file appears whole or not at all.

    `results` may lack jobs: their cells say so. `curves` holds the progress lines of pre-training
    jobs by job id; `hits` gives a job's hits_N (bool) on the test images, or None; `answers`
    their labels and the classes that it took them for (`Study.answers`); `open_file` gives any
    file that a job left, by the job's id and the file's name, or None;
    `published` are the numbers that measured cells may answer, `imported` those of others that
    stand next to them; `notes` say what is odd in a data set, by its name; `digests` stand for the
    results in the report's key.
    Raises UnknownName for a format, table or figure that does not exist.
    """
    from reports.printing.page import html
    from reports.study import cautions, findings, status
    from reports.study.study import Study

    check_names(graph.suite.report.tables, graph.suite.report.figures, formats)
    study = Study(
        graph, results, curves, hits, tuple(published), tuple(imported), open_file, answers, notes
    )
    broken: dict[str, str] = {}
    with without_collection():
        tables = make_tables(study, broken)
        contents = dict(table_files(tables, formats, versions=versions_of(graph)))
        contents |= {data_name(name): data_bytes(table) for name, table in tables.items()}
    drawings = _drawings(study, broken)
    contents.update(_drawing_files(drawings))
    contents["index.html"] = html(_page(study, tables, list(drawings.values()), broken)).encode()
    report = Report(
        key=key(graph, digests or results, formats=formats, imported=imported),
        tables=tables,
        files={name: out_dir / name for name in contents},
        findings=tuple(str(finding) for finding in findings.findings(study)),
        status=status.jobs_line(study),
        cautions=tuple(str(caution) for caution in cautions.cautions(study)),
        failures=tuple(f"{name}: {error}" for name, _, error in _failures(study, broken)),
        verdicts=_verdicts(tables),
    )
    write(report, contents, out_dir)
    return report


def check_names(
    tables: Sequence[str] = (), figures: Sequence[str] = (), formats: Sequence[str] = ()
) -> None:
    """Raise UnknownName for a table, figure or format that does not exist."""
    for name in tables:
        check_name(TABLES, name)
    for name in figures:
        check_name(FIGURES, name)
    for name in formats:
        if name not in FORMATS:
            raise UnknownName("format", name, FORMATS, where="report.formats")


def make_tables(study: Study, broken: dict[str, str] | None = None) -> dict[str, Table]:
    """Return the tables of a suite by name: those asked for, those always made, companions.

    Those whose results were made with several versions or on several devices say so. A table of
    another distribution that raises is left out: `broken` is given its name and why.
    """
    from reports.study.made import with_mixtures

    broken = {} if broken is None else broken
    asked = set(study.graph.suite.report.tables)
    asked |= {card.name for card in TABLES.values() if card.always}
    made: dict[str, Table] = {}
    for card in tables_in_order():
        with _left_out_if_broken(TABLES, card.name, broken):
            if card.name in asked:
                made[card.name] = _checked(card.make(study), Table)
            elif card.comes_with in asked and card.needs(study):
                table = _checked(card.make(study), Table)
                if table.rows:
                    made[card.name] = table
    return {name: with_mixtures(study, table) for name, table in made.items()}


@contextmanager
def _left_out_if_broken(
    registry: Registry[Any], name: str, broken: dict[str, str]
) -> Iterator[None]:
    """Keep what the code of another distribution raises from ending the whole report."""
    try:
        yield
    except Exception as error:
        distribution = registry.origin(name)
        if distribution == OURS:
            raise
        why = registry.leave_out(name, error, distribution=distribution)
        broken[f"{registry.noun} {name}"] = f"left out ({why})"


def _checked(made: Any, kind: type[Made]) -> Made:
    """Return what a card made; raises TypeError where that is something else."""
    if not isinstance(made, kind):
        raise TypeError(f"{type(made).__name__} in place of {kind.__name__}")
    return made


def untimed(tables: Mapping[str, Table]) -> dict[str, Table]:
    """Return the tables without timings: those that are the same in every run."""
    return {name: table for name, table in tables.items() if not TABLES[name].measured}


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
    return {job.job_id: _versions(job, graph.datasets) for job in graph.jobs}


def _versions(job: PlannedJob, datasets: Mapping[str, DatasetCard]) -> str:
    spec, card = job.spec, datasets.get(job.dataset)
    words = [f"{spec.kind}@{spec.kind_version}"]
    if spec.protocol is not None:
        words.append(f"{spec.protocol.name}@{spec.protocol.version}")
    words.append(f"{job.labels.system}@{spec.system.version}")
    if card is not None:
        words.append(f"{card.name}@{card.version}")
    return " ".join(word.replace(" ", "_") for word in words)


def table_files(
    tables: Mapping[str, Table], formats: Sequence[str], *, versions: Mapping[str, str]
) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of every file of the tables, e.g. `tables/comparison.md`."""
    for name, table in tables.items():
        folder = "timings" if TABLES[name].measured else "tables"
        for form in formats:
            for suffix, text in render(table, form, versions=versions).items():
                yield f"{folder}/{name}{suffix}", file_bytes(text, suffix)


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


def _drawings(study: Study, broken: dict[str, str]) -> dict[str, Drawing]:
    drawings: dict[str, Drawing] = {}
    unasked = [name for name, card in FIGURES.items() if card.comes(study)]
    for name in dict.fromkeys([*study.graph.suite.report.figures, *unasked]):
        with _left_out_if_broken(FIGURES, name, broken):
            drawing = FIGURES[name].draw(study)
            if drawing is not None:
                drawings[name] = _checked(drawing, Drawing)
    return drawings


def _drawing_files(drawings: Mapping[str, Drawing]) -> Iterator[tuple[str, bytes]]:
    for name, drawing in drawings.items():
        folder = "timings" if FIGURES[name].measured else "figures"
        yield f"{folder}/{name}.svg", drawing.svg
        yield f"{folder}/{name}.png", drawing.png


def _failures(study: Study, broken: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """Return (name, job id, error) of failed jobs, and of tables and figures that were left out."""
    from reports.study import status

    return [*status.failures(study), *((name, "", why) for name, why in broken.items())]


def _page(
    study: Study,
    tables: Mapping[str, Table],
    drawings: Sequence[Drawing],
    broken: Mapping[str, str],
) -> Page:
    from reports.printing.page import Page
    from reports.study import cautions, findings, status
    from reports.study.trace import trace
    from reports.verdicts import summary

    def those(section: Section) -> list[Table]:
        return [table for name, table in tables.items() if TABLES[name].section == section]

    def filled(found: Iterable[Table]) -> list[Table]:
        return [table for table in found if table.rows]

    results, *more = those("results")
    cost, *costs = those("cost")
    trained, *training = those("training")
    answered = filled(tables[name] for name in tables if name == "published")
    return Page(
        suite=study.graph.suite,
        badges=status.badges(study),
        warning=study.warning,
        failures=_failures(study, broken),
        verdicts=summary.verdicts(study),
        findings=findings.findings(study),
        cautions=cautions.cautions(study),
        no_published="" if answered else summary.no_published(study),
        results=results,
        leading=filled([*more, *those("leading")]),
        differences=summary.differences(study),
        drawings=drawings,
        following=filled(those("following")),
        # Where nothing is compared, the speeds are the results.
        costs=[cost, *(filled(costs) if study.arms else [])],
        training=[trained, *filled(training)],
        datasets=status.datasets(study),
        machine=status.machine(study),
        trace=trace(study),
    )


@cache
def _sources_digest() -> str:
    """Return the digest of the files that make reports, so that a change of theirs shows.

    What was published is a source too: it stands next to what was measured.
    """
    from bench import kinds, metrics, stats

    here = Path(__file__).parent
    sources = [
        path for path in sorted(here.rglob("*")) if path.suffix in (".py", ".html", ".css", ".js")
    ]
    sources += [Path(metrics.__file__)]
    for package in (stats, kinds):
        sources += sorted(Path(package.__path__[0]).glob("*.py"))
    sources += [path for path in [here.parent / "baselines" / "published.csv"] if path.is_file()]
    found = hashlib.sha256()
    for path in sources:
        found.update(f"{path.name}\0{path.read_text(encoding='utf-8')}\0".encode())
    for part in _plugins():
        found.update(part + b"\0")
    return found.hexdigest()


def _plugins() -> Iterator[bytes]:
    """Yield what is known of what other distributions add, without importing it, and its source."""
    for group, points in plugins.entry_points().items():
        for point in points:
            version = point.dist.version if point.dist is not None else ""
            yield f"{group} {point.name} {point.value} {version}".encode()
            top, *rest = point.module.split(".")
            spec = importlib.util.find_spec(top)
            folders = spec.submodule_search_locations if spec is not None else None
            files = [Path(folder, *rest).with_suffix(".py") for folder in folders or ()]
            yield from (path.read_bytes() for path in files if rest and path.is_file())
