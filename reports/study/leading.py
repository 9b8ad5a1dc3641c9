"""Who leads: the higher value, or the lower one where the metric says so."""

from __future__ import annotations

from bench import metrics, stats

_TURNED: dict[stats.Leader, stats.Leader] = {"first": "second", "second": "first"}


def is_lower_better(metric: str) -> bool:
    """Tell whether the lower value of a metric leads."""
    return metrics.metric(metric).direction == "lower"


def leader(difference: stats.Difference, metric: str) -> stats.Leader:
    """Return who leads by a difference (first minus second) of a metric."""
    found = difference.leader
    return _TURNED.get(found, found) if is_lower_better(metric) else found
