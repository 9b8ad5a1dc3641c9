"""What is right by guessing: the majority class and chance, which look at no image."""

from __future__ import annotations

from reports.study.study import Study, once

MAJORITY = "majority_top1"
"""Value in the results of jobs that know both splits: what the most frequent class gets right."""

MAJORITY_CLASS, CHANCE = "Majority class", "Chance"
"""Names of the two, as tables and figures print them."""


@once
def floors(study: Study) -> dict[str, dict[str, float]]:
    """Return what is right by guessing, of each data set of the suite's own: title -> accuracy."""
    found: dict[str, dict[str, float]] = {}
    for job in study.graph.jobs:
        name, result = job.labels.downstream, study.results.get(job.job_id)
        majority = result.values.get(MAJORITY) if result else None
        if name in study.graph.suite.dataset and majority is not None:
            chance = 1 / study.graph.datasets[name].num_classes
            found[name] = {MAJORITY_CLASS: float(majority), CHANCE: chance}
    return found
