"""Means over data sets: the paper's Average-5, or the mean of what a suite measured.

A seed counts where it has a value on every data set: a mean over fewer would be another quantity.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from bench import metrics, stats
from bench.facts import AVERAGES
from reports.study.scores import Arm, Measure, Score, Study

TUNED = "test_top1"
PAPER_AVERAGE = "Average-5"
MAX_SHOWN = 6
"""Measures that one figure has room for."""


@dataclass(frozen=True)
class Value:
    """One number at one seed, with all jobs behind it."""

    value: float
    """Accuracy as a fraction."""
    step: float
    """Step in which it comes: one over the number of test images."""
    job_ids: tuple[str, ...]
    """Jobs it was made from."""


@dataclass(frozen=True)
class Average:
    """A mean over data sets that a suite can state."""

    measure: Measure
    """Its name stands for the data set."""
    members: tuple[Measure, ...]
    """What it is the mean of."""


@lru_cache(maxsize=2)
def average(study: Study) -> Average | None:
    """Return the paper's Average-5 where its data sets were measured, else the mean of all.

    None for fewer than two fine-tuned data sets.
    """
    tuned = [m for m in study.measures if m.metric == TUNED and not m.setting]
    members = members_of(PAPER_AVERAGE, tuned)
    if members:
        return Average(Measure(TUNED, PAPER_AVERAGE, ""), members)
    if len(tuned) < 2:
        return None
    return Average(Measure(TUNED, f"Average-{len(tuned)}", ""), tuple(tuned))


def members_of(name: str, tuned: Sequence[Measure]) -> tuple[Measure, ...]:
    """Return the measures that a reported mean is of; none where a data set was not measured."""
    by_dataset = {measure.dataset: measure for measure in tuned}
    if not by_dataset.keys() >= set(AVERAGES[name]):
        return ()
    return tuple(by_dataset[dataset] for dataset in AVERAGES[name])


def values(study: Study, arm: Arm, measure: Measure) -> dict[int, Value]:
    """Return seed -> value of an arm, of a measure of the suite or of its average."""
    mean = average(study)
    if mean is not None and measure == mean.measure:
        return mean_of(study.scores, arm, mean.members)
    return mean_of(study.scores, arm, (measure,))


def mean_of(
    scores: Mapping[tuple[Arm, Measure], list[Score]], arm: Arm, members: tuple[Measure, ...]
) -> dict[int, Value]:
    """Return seed -> plain mean over measures, on the seeds that all of them have."""
    there = [
        {s.seed: s for s in scores.get((arm, member), ()) if s.value is not None}
        for member in members
    ]
    seeds = sorted(set.intersection(*(set(group) for group in there))) if there else []
    found = {}
    for seed in seeds:
        group = [scores_of[seed] for scores_of in there]
        found[seed] = Value(
            value=sum(score.value or 0.0 for score in group) / len(group),
            step=sum(1 / score.n for score in group if score.n) / len(group),
            job_ids=tuple(score.job_id for score in group),
        )
    return found


def headline(study: Study) -> list[Measure]:
    """Return the measures that figures show: all of them, or the first few and their mean.

    Of more than `MAX_SHOWN`, the average leads, and tasks of a benchmark (VTAB) come last.
    """
    if len(study.measures) <= MAX_SHOWN:
        return study.measures
    cards, mean = study.graph.datasets, average(study)
    tasks = {m for m in study.measures if m.dataset in cards and cards[m.dataset].group}
    ordered = sorted(study.measures, key=lambda measure: measure in tasks)
    return [*([mean.measure] if mean else []), *ordered][:MAX_SHOWN]


def left_out(study: Study) -> str:
    """Return a sentence on the measures that `headline` leaves to the tables; empty for none."""
    num = len(set(study.measures) - set(headline(study)))
    return f" {num} further measures are in the tables." if num else ""


def measure_title(study: Study, measure: Measure) -> str:
    """Return a measure's printed name, with its data set where the suite has several."""
    name = study.measure_title(measure)
    several = len({other.dataset for other in study.measures}) > 1
    return f"{study.dataset_title(measure.dataset)}: {name}" if several else name


def means_in_words(study: Study, measure: Measure, x_words: Callable[[Arm], str]) -> str:
    """Return the means of one measure as a sentence for each system."""
    parts: dict[str, list[str]] = {}
    for arm in study.arms:
        mean = summary(study, arm, measure).mean
        if mean is not None:
            text = f"{metrics.show(measure.metric, mean)} % at {x_words(arm)}"
            parts.setdefault(arm.title, []).append(text)
    return " ".join(f"{title}: {', '.join(words)}." for title, words in parts.items())


def summary(study: Study, arm: Arm, measure: Measure) -> stats.Summary:
    """Return mean and spread over seeds, of a measure of the suite or of its average."""
    return stats.summary(found.value for found in values(study, arm, measure).values())
