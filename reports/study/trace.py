"""Every value behind the comparison, with the job that it came from."""

from __future__ import annotations

from dataclasses import replace

from reports.printing.table import Cell, Column, Table
from reports.study.study import Study

LIMIT = 3000
"""Values beyond which the trace is left to the CSV file: the page stays small."""


def trace(study: Study) -> Table:
    """Return one row for each value behind the comparison, with its job."""
    rows = []
    if sum(map(len, study.samples.values())) > LIMIT:
        return replace(_TRACE, rows=())
    names = {job.job_id: job.name for job in study.graph.jobs}
    for (arm, measure), group in study.samples.items():
        for sample in group:
            value = "–" if sample.value is None else f"{sample.value:.6g}"
            job_id = sample.job_ids[0]
            texts = [
                arm.title, study.upstream_title(arm), study.dataset_title(measure.dataset),
                study.measure_title(measure), str(sample.seed), value, sample.status, job_id,
                names.get(job_id, ""),
            ]  # fmt: skip
            cells = [Cell(text=text) for text in texts]
            cells[5] = Cell(text=value, value=sample.value, samples=(sample,))
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
