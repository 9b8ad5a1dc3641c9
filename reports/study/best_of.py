"""Alternative setups of one cell: the better on validation is reported, as the paper did.

Source: arXiv:2010.11929, appendix B.1.1: ResNets were fine-tuned under the ViT setup and under
BiT's, and the best is reported. Here the choice is made by validation, never by test.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bench.plan.spec import JobGraph
from bench.specs import JobResult, PlannedJob
from reports.study.stages import is_reported, stage_of


def beaten(graph: JobGraph, results: Mapping[str, JobResult]) -> set[str]:
    """Return the jobs of setups that another one of their group beats, evaluations included.

    A group is one system, upstream data, downstream data and `best_of`; its setups are compared by
    the mean `val_top1` with which their learning rates were chosen. All are kept until every setup
    has one; of equals the first of the suite wins.
    """
    groups: dict[tuple[object, ...], dict[str, list[PlannedJob]]] = {}
    for job in graph.jobs:
        labels = job.labels
        if labels.best_of and is_reported(job) and stage_of(job).trains_classifier:
            place = (
                labels.system, labels.upstream, labels.upstream_examples, labels.downstream,
                labels.best_of,
            )  # fmt: skip
            setting = f"{labels.protocol} {labels.recipe}"
            groups.setdefault(place, {}).setdefault(setting, []).append(job)
    lost: set[str] = set()
    for settings in groups.values():
        scores = {name: _validation(group, results) for name, group in settings.items()}
        known = {name: score for name, score in scores.items() if score is not None}
        if len(known) == len(settings):
            best = max(known, key=lambda name: known[name])
            lost |= {j.job_id for name, group in settings.items() if name != best for j in group}
    return lost | {j.job_id for j in graph.jobs if j.spec.needs.get("checkpoint") in lost}


def _validation(group: Iterable[PlannedJob], results: Mapping[str, JobResult]) -> float | None:
    """Return the mean validation accuracy by which the group's learning rates were chosen."""
    found = []
    for job in group:
        chosen = results.get(job.spec.needs.get("select", ""))
        metric = chosen.metrics.get("val_top1") if chosen else None
        if metric is None or metric.value is None:
            return None
        found.append(metric.value)
    return sum(found) / len(found)
