"""Reports: the records of a suite in, tables, figures and a page out.

    report = reports.load(out_dir, reports.key(graph, results))
    if report is None:
        report = reports.build(graph, results, curves=curves, out_dir=out_dir)
    print(report.terminal())

A table or figure is one file in this folder. What is written:

    report.json                  the key, the tables' data and the list of files: written last
    index.html                   the page of the suite, self-contained
    tables/<name>.{md,tex,csv,long.csv,html}     deterministic: same results, same bytes
    timings/cost.*, timings/overview.*           measured times, which differ between runs
    figures/<name>.{svg,png}     deterministic

Importing this package, and `load`, need neither pandas nor seaborn.
"""

from __future__ import annotations

import importlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import UnknownName
from bench.specs import JobGraph, JobResult, PublishedResult
from reports.render import SUFFIXES, Table, file_bytes, render, terminal

if TYPE_CHECKING:
    import numpy as np

    from reports.results import Study
    from reports.style import Drawing

REPORT_VERSION = 1
"""Bumped when reports mean something else; their sources' digest covers all other changes."""
TABLES = ("comparison", "published", "pairs", "equal_compute", "images", "cost", "training")
"""Names of the tables: each is a module here with `table(study)`."""
COMPANIONS = {"comparison": ("published",), "pairs": ("equal_compute", "images")}
"""Tables that come with another one, where they have rows."""
FIGURES = ("upstream_size", "pretrain_compute", "learning_curves")
"""Names of the figures: each is a module here with `figure(study)`."""
FORMATS = tuple(SUFFIXES)
"""Formats of tables."""
MEASURED = ("cost", "overview")
"""Tables with timings; they stand in `timings/`."""


@dataclass(frozen=True)
class Report:
    """A written report."""

    key: str
    """Digest of everything that went in."""
    tables: dict[str, Table]
    """Tables by name; `overview` is the comparison with timings beside it."""
    files: dict[str, Path]
    """Files by name relative to the report's folder, e.g. `tables/comparison.md`."""
    findings: tuple[str, ...]
    """What was found, in sentences."""
    status: str
    """How many jobs are done, failed, skipped and not run."""

    def terminal(self, *, width: int | None = None, color: bool = False) -> str:
        """Return the comparison with timings, for a terminal."""
        return terminal(self.tables["overview"], width=width, color=color)


def key(
    graph: JobGraph, results: Mapping[str, JobResult], *, formats: Sequence[str] = FORMATS
) -> str:
    """Return the digest of everything that a report is made from, its own sources included.

    Learning curves and per-image hits belong to jobs that are done: their results stand for them.
    """
    from reports.results import digest

    return digest(
        REPORT_VERSION,
        _sources_digest(),
        graph.model_dump_json(),
        [results[job_id].model_dump_json() for job_id in sorted(results)],
        sorted(formats),
    )


def load(out_dir: Path, key: str) -> Report | None:
    """Return the report of exactly this key from `out_dir`; None where it is not whole there."""
    try:
        data = json.loads((out_dir / "report.json").read_text(encoding="utf-8"))
        if data["key"] != key:
            return None
        files = {name: out_dir / name for name in data["files"]}
        if any(path.stat().st_size != data["files"][name] for name, path in files.items()):
            return None
        return Report(
            key=key,
            tables={name: Table.from_json(table) for name, table in data["tables"].items()},
            files=files,
            findings=tuple(data["findings"]),
            status=data["status"],
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def build(
    graph: JobGraph,
    results: Mapping[str, JobResult],
    *,
    curves: Mapping[str, list[dict[str, Any]]],
    out_dir: Path,
    formats: Sequence[str] = FORMATS,
    hits: Callable[[str], np.ndarray | None] = lambda job_id: None,
    published: Sequence[PublishedResult] = (),
) -> Report:
    """Render and write the report of a suite; every file appears whole or not at all.

    `results` may lack jobs: their cells say so. `curves` holds the progress lines of pre-training
    jobs by job id; `hits` gives a job's hits_N (bool) on the test images, or None;
    `published` are the numbers that measured cells may answer.
    Raises UnknownName for a format, table or figure that does not exist.
    """
    from reports import cost, findings
    from reports.page import page
    from reports.results import Study

    check_names(graph.suite.report.tables, graph.suite.report.figures, formats)
    study = Study(graph, results, curves, hits, tuple(published))
    tables = dict(_tables(study))
    tables["overview"] = cost.joined(study, tables["comparison"], tables["cost"])
    drawings = list(_drawings(study))
    contents = dict(_table_files(tables, formats))
    for drawing in drawings:
        contents[f"figures/{drawing.name}.svg"] = drawing.svg
        contents[f"figures/{drawing.name}.png"] = drawing.png
    html = page(study, overview=tables["overview"], tables=tables, drawings=drawings)
    contents["index.html"] = html.encode()
    report = Report(
        key=key(graph, results, formats=formats),
        tables=tables,
        files={name: out_dir / name for name in contents},
        findings=tuple(str(finding) for finding in findings.findings(study)),
        status=findings.jobs_line(study),
    )
    _write(report, contents, out_dir)
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
                raise UnknownName(kind, name, known)


def _tables(study: Study) -> Iterator[tuple[str, Table]]:
    """Make the tables of the suite, those that the page always needs, and their companions."""
    asked = {*study.graph.suite.report.tables, "comparison", "cost", "training"}
    beside = {name for table in asked for name in COMPANIONS.get(table, ())} - asked
    for name in TABLES:
        if name in asked | beside:
            table = _module(name).table(study)
            if table.rows or name in asked:
                yield name, table


def _drawings(study: Study) -> Iterator[Drawing]:
    for name in study.graph.suite.report.figures:
        drawing = _module(name).figure(study)
        if drawing is not None:
            yield drawing


def _module(name: str) -> Any:
    return importlib.import_module(f"reports.{name}")


def _table_files(
    tables: Mapping[str, Table], formats: Sequence[str]
) -> Iterator[tuple[str, bytes]]:
    for name, table in tables.items():
        folder = "timings" if name in MEASURED else "tables"
        for form in formats:
            for suffix, text in render(table, form).items():
                yield f"{folder}/{name}{suffix}", file_bytes(text, suffix)


def _write(report: Report, contents: Mapping[str, bytes], out_dir: Path) -> None:
    """Write all files, the index last; files of an older report that are no more are removed."""
    old = _listed_files(out_dir)
    for name, content in contents.items():
        _write_whole(out_dir / name, content)
    index = {
        "key": report.key,
        "files": {name: len(content) for name, content in contents.items()},
        "findings": report.findings,
        "status": report.status,
        "tables": {name: table.to_json() for name, table in report.tables.items()},
    }
    _write_whole(out_dir / "report.json", json.dumps(index, ensure_ascii=False).encode())
    for name in old - set(contents):
        path = (out_dir / name).resolve()
        if path.is_relative_to(out_dir.resolve()):
            path.unlink(missing_ok=True)


def _listed_files(out_dir: Path) -> set[str]:
    try:
        return set(json.loads((out_dir / "report.json").read_text(encoding="utf-8"))["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def _write_whole(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@cache
def _sources_digest() -> str:
    """Return the digest of the files that make reports, so that a change of theirs shows.

    What was published is a source too: it stands beside what was measured.
    """
    from bench import metrics, stats
    from reports.results import digest

    here = Path(__file__).parent
    sources = [
        path for path in sorted(here.iterdir()) if path.suffix in (".py", ".html", ".css", ".js")
    ]
    sources += [Path(module.__file__) for module in (metrics, stats) if module.__file__]
    sources += [path for path in [here.parent / "baselines" / "published.csv"] if path.is_file()]
    return digest([(path.name, path.read_text(encoding="utf-8")) for path in sources])
