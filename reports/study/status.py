"""How far a suite is: jobs done and failed, on which machines, from which data."""

from __future__ import annotations

from typing import Any

from reports.study.study import Study


def jobs_line(study: Study) -> str:
    """Return how many jobs are done, failed, skipped and not run."""
    total = len(study.graph.jobs)
    counts = [(status, study.count(status)) for status in ("done", "failed", "skipped", "not run")]
    shown = [f"{number:,} {status}" for status, number in counts if number or status == "done"]
    return f"{', '.join(shown)} of {total:,} jobs"


def badges(study: Study) -> list[tuple[str, str, str]]:
    """Return (number, label, kind) for the head of the page."""
    systems = {job.labels.system for job in study.graph.jobs}
    sizes = {(arm.upstream, arm.upstream_examples) for arm in study.arms if arm.upstream_examples}
    total = len(study.graph.jobs)
    found = [
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
    return [found[0], *problems, *found[1:]]


def failures(study: Study) -> list[tuple[str, str, str]]:
    """Return (job name, id, error) of every failed job."""
    found = []
    for job in study.graph.jobs:
        result = study.results.get(job.job_id)
        if result is not None and result.status == "failed":
            found.append((job.name, job.job_id, result.error or "no reason given"))
    return found


def machine(study: Study) -> list[tuple[str, str]]:
    """Return what the results say of where they were made; several values stand side by side."""
    met: dict[str, dict[str, None]] = {}
    for result in study.results.values():
        for key, value in result.environment.items():
            if value:
                met.setdefault(key, {})[value] = None
    return [(key.replace("_", " "), " · ".join(values)) for key, values in met.items()]


def datasets(study: Study) -> list[dict[str, Any]]:
    """Return what a reader must know of each data set of the suite."""
    return [
        {
            "title": card.title,
            "classes": card.num_classes,
            "splits": ", ".join(
                f"{card.count(name)} {name}" + (f" ({split.selector})" if split.selector else "")
                for name, split in card.splits.items()
            ),
            "source": card.source,
            "licence": card.licence,
            "notes": study.notes.get(card.name, ()),
        }
        for card in study.graph.datasets.values()
    ]
