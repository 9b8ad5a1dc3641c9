"""Who leads: the higher value, or the lower one where the metric says so."""

from __future__ import annotations

from collections.abc import Sequence

from bench import metrics, stats
from bench.facts import MARGIN
from reports.printing.table import Sample
from reports.study.samples import pair, resolution

_TURNED: dict[stats.Leader, stats.Leader] = {"first": "second", "second": "first"}


def is_lower_better(metric: str) -> bool:
    """Tell whether the lower value of a metric leads."""
    return metrics.metric(metric).direction == "lower"


def difference(
    first: Sequence[Sample], second: Sequence[Sample], metric: str, *, confidence: float
) -> stats.Difference:
    """Return the difference of a metric, paired by seed."""
    step = step_of(metric, first, second)
    return stats.paired_difference(
        *pair(first, second), confidence=confidence, resolution=step, margin=margin_of(metric)
    )


def margin_of(metric: str) -> float:
    """Return the largest difference of a metric that counts as none: half a point of accuracy."""
    return MARGIN if metrics.metric(metric).is_accuracy else 0.0


def step_of(metric: str, *groups: Sequence[Sample]) -> float:
    """Return the step in which values come: accuracies on N images are multiples of 1 / N."""
    return resolution(*groups) if metrics.metric(metric).is_accuracy else 0.0


def leader(found: stats.Difference, metric: str) -> stats.Leader:
    """Return who leads by a difference (first minus second) of a metric."""
    return _TURNED.get(found.leader, found.leader) if is_lower_better(metric) else found.leader
