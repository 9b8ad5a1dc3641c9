"""Means over the tasks of a benchmark, and over its groups.

VTAB's score is the plain mean over its 19 tasks, not the mean of its three group means (Zhai et
al., arXiv:1910.04867, section 2; arXiv:2010.11929, Tables 2 and 9). Groups are shown next to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class TaskMean:
    """Mean over tasks; absent as soon as one of them is."""

    mean: float | None
    """Plain mean of the tasks' scores; None where a task has none."""
    n: int
    """Number of tasks that have a score."""
    missing: tuple[str, ...]
    """Tasks without one."""


def task_mean(scores: Mapping[str, float | None]) -> TaskMean:
    """Return the plain mean over all tasks, in the scores' own unit."""
    present = [score for score in scores.values() if score is not None]
    missing = tuple(task for task, score in scores.items() if score is None)
    complete = bool(present) and not missing
    return TaskMean(sum(present) / len(present) if complete else None, len(present), missing)


def group_means(
    scores: Mapping[str, float | None], groups: Mapping[str, str]
) -> dict[str, TaskMean]:
    """Return the mean of each group by its name, groups in order of first appearance.

    `groups` names the group of every task of the benchmark: a task without a score is missing.
    Raises ValueError for a score of no task.
    """
    unknown = sorted(set(scores) - set(groups))
    if unknown:
        raise ValueError(f"{unknown[0]} is in no group")
    return {
        group: task_mean({task: scores.get(task) for task in groups if groups[task] == group})
        for group in dict.fromkeys(groups.values())
    }
