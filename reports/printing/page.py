"""The page of a suite: one HTML file that needs nothing else.

Everything is inline, a content policy forbids all else but the one script that sorts and filters
tables, and every text is escaped by jinja2.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import resources
from typing import Any

from reports.figures.style import Drawing
from reports.printing import summary
from reports.printing.render import Cell, Column, Sample, Table, environment
from reports.study import findings
from reports.study.scores import Study

LEADING = ("published", "pairs", "ranks")
"""Tables before the figures."""
PLACED = ("comparison", "overview", "cost", "speed", "training")
"""Tables with a section of their own; the overview holds the comparison."""
TRACE_LIMIT = 3000
"""Values beyond which the trace is left to the CSV file: the page stays small."""


def page(
    study: Study, *, overview: Table, tables: Mapping[str, Table], drawings: Sequence[Drawing]
) -> str:
    """Return the HTML page of a suite."""
    from markupsafe import Markup

    script = _source("page.js")
    shown = [(drawing, Markup(_data_uri(drawing))) for drawing in drawings]
    return (
        environment()
        .get_template("page.html")
        .render(
            suite=study.graph.suite,
            css=Markup(_source("page.css")),
            script=Markup(script),
            script_hash=f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}",
            warning=study.warning,
            findings=findings.findings(study),
            verdicts=summary.verdicts(study),
            no_published="" if _answers(tables) else findings.NO_PUBLISHED,
            badges=_badges(study),
            problems=_problems(study),
            overview=overview,
            differences=summary.differences(study),
            leading=[tables[name] for name in tables if _leads(name) and tables[name].rows],
            following=[
                table
                for name, table in tables.items()
                if table.rows and not _leads(name) and name not in PLACED
            ],
            tables=tables,
            drawings=shown,
            machine=_machine(study),
            data=_datasets(study),
            trace=_trace(study),
        )
    )


def _leads(name: str) -> bool:
    """Tell whether a table stands before the figures: what the suite asks, and print's tables."""
    return name in LEADING or name.startswith("table_")


def _source(name: str) -> str:
    return resources.files("reports.printing").joinpath(name).read_text(encoding="utf-8")


def _data_uri(drawing: Drawing) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(drawing.svg).decode()}"


def _answers(tables: Mapping[str, Table]) -> bool:
    return "published" in tables and bool(tables["published"].rows)


def _badges(study: Study) -> list[tuple[str, str, str]]:
    """Return (number, label, kind) for the head of the page."""
    systems = {job.labels.system for job in study.graph.jobs}
    sizes = {(arm.upstream, arm.upstream_examples) for arm in study.arms}
    total = len(study.graph.jobs)
    badges = [
        (f"{study.count('done'):,} / {total:,}", "jobs done", "good"),
        *(
            (str(count), word + "s" * (count != 1), "")
            for word, count in (
                ("system", len(systems)),
                ("upstream size", len(sizes)),
                ("seed", len(study.graph.suite.seeds)),
            )
            if count
        ),
    ]
    problems = [
        (f"{study.count(status):,}", status, "bad")
        for status in ("failed", "skipped", "not run")
        if study.count(status)
    ]
    return [badges[0], *problems, *badges[1:]]


def _problems(study: Study) -> list[tuple[str, str, str]]:
    """Return (job name, id, error) of every failed job."""
    found = []
    for job in study.graph.jobs:
        result = study.results.get(job.job_id)
        if result is not None and result.status == "failed":
            found.append((job.name, job.job_id, result.error or "no reason given"))
    return found


def _machine(study: Study) -> list[tuple[str, str]]:
    """Return what the results say of where they were made; several values stand side by side."""
    met: dict[str, dict[str, None]] = {}
    for result in study.results.values():
        for key, value in result.environment.items():
            if value:
                met.setdefault(key, {})[value] = None
    return [(key.replace("_", " "), " · ".join(values)) for key, values in met.items()]


def _datasets(study: Study) -> list[dict[str, Any]]:
    return [
        {
            "title": card.title,
            "classes": card.num_classes,
            "splits": ", ".join(
                f"{name} {split.num_examples:,}" for name, split in card.splits.items()
            ),
            "source": card.source,
            "licence": card.licence,
        }
        for card in study.graph.datasets.values()
    ]


def _trace(study: Study) -> Table:
    """Return one row for each value behind the comparison, with its job."""
    rows = []
    if sum(map(len, study.scores.values())) > TRACE_LIMIT:
        return replace(_TRACE, rows=())
    names = {job.job_id: job.name for job in study.graph.jobs}
    for (arm, measure), group in study.scores.items():
        for score in group:
            value = "–" if score.value is None else f"{score.value:.6g}"
            texts = [
                arm.title, study.upstream_title(arm), study.dataset_title(measure.dataset),
                study.measure_title(measure), str(score.seed), value, score.status, score.job_id,
                names.get(score.job_id, ""),
            ]  # fmt: skip
            samples = (Sample(seed=score.seed, value=score.value, job_ids=(score.job_id,)),)
            cells = [Cell(text=text) for text in texts]
            cells[5] = Cell(text=value, value=score.value, samples=samples)
            rows.append(tuple(cells))
    return replace(_TRACE, rows=tuple(rows))


_TRACE = Table(
    name="trace",
    title="Trace",
    caption="Every value behind the comparison (fractions, not per cent) and the job it came "
    "from. The folder jobs/<job> of the work folder holds its record; in MLflow it is the run of "
    "that name in the suite's experiment, found by tags.`vitbench.job_id` = '<job>'.",
    columns=tuple(
        Column(
            key=title.lower(), title=title, align="right" if title in ("Seed", "Value") else "left"
        )
        for title in (
            "System",
            "Upstream",
            "Data",
            "Measure",
            "Seed",
            "Value",
            "Status",
            "Job",
            "Run",
        )
    ),
    rows=(),
)
