"""Means over data sets: the paper's Average-5, or the mean of what a suite measured.

A seed counts where it has a value on every data set: a mean over fewer would be another quantity.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench import metrics, stats
from bench.facts import AVERAGES
from reports.printing.table import Sample
from reports.study import samples
from reports.study.samples import Arm, Measure, Samples
from reports.study.study import Study, once

TUNED = "test_top1"
PAPER_AVERAGE = "Average-5"
MAX_SHOWN = 6
"""Measures that one figure has room for."""


@dataclass(frozen=True)
class Average:
    """A mean over data sets that a suite can state."""

    measure: Measure
    """Its name stands for the data set."""
    members: tuple[Measure, ...]
    """What it is the mean of."""


@once
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


def values(study: Study, arm: Arm, measure: Measure) -> dict[int, Sample]:
    """Return seed -> value of an arm, of a measure of the suite or of its average."""
    mean = average(study)
    if mean is not None and measure == mean.measure:
        return mean_of(study.samples, arm, mean.members)
    return mean_of(study.samples, arm, (measure,))


def mean_of(found: Samples, arm: Arm, members: tuple[Measure, ...]) -> dict[int, Sample]:
    """Return seed -> plain mean over measures, on the seeds that all of them have."""
    there = [
        {s.seed: s for s in found.get((arm, member), ()) if s.value is not None}
        for member in members
    ]
    seeds = set.intersection(*(set(group) for group in there)) if there else set()
    return {
        seed: _mean(seed, [by_seed[seed] for by_seed in there])
        for seed in sorted(seed for seed in seeds if seed is not None)
    }


def _mean(seed: int, group: list[Sample]) -> Sample:
    if len(group) == 1:
        return group[0]
    step = sum(sample.step for sample in group) / len(group)
    return Sample(
        seed=seed,
        value=sum(samples.values(group)) / len(group),
        job_ids=tuple(job_id for sample in group for job_id in sample.job_ids),
        n=1 / step if step else 0,
    )


@once
def leading(study: Study) -> tuple[Measure, ...]:
    """Return the accuracy that stands for each data set: its first, of few-shot ones 5-shot.

    Table 8 and Figure 4 of arXiv:2010.11929 are 5-shot accuracies.
    """
    by_dataset: dict[str, list[Measure]] = {}
    for measure in study.accuracies:
        by_dataset.setdefault(measure.dataset, []).append(measure)
    return tuple(_leading(measures) for measures in by_dataset.values())


def _leading(measures: Sequence[Measure]) -> Measure:
    usual = [m for m in measures if m.metric == "fewshot_top1/5"]
    is_fewshot = measures[0].metric.startswith("fewshot_top1")
    return usual[0] if usual and is_fewshot else measures[0]


def headline(study: Study) -> list[Measure]:
    """Return the accuracies that figures show: all of them, or the first few and their mean.

    Of more than `MAX_SHOWN`, the average comes first, then the one that stands for each data set,
    then the others; tasks of a benchmark (VTAB) come last.
    """
    if len(study.accuracies) <= MAX_SHOWN:
        return study.accuracies
    mean = average(study)
    ordered = sorted(study.accuracies, key=lambda m: (is_task(study, m), m not in leading(study)))
    return [*([mean.measure] if mean else []), *ordered][:MAX_SHOWN]


def left_out(study: Study) -> str:
    """Return a sentence on the measures that `headline` leaves to the tables; empty for none."""
    return said_of(len(set(study.measures) - set(headline(study))), "measure")


def said_of(num: int, what: str) -> str:
    """Return a sentence on what a figure leaves to the tables; empty where that is nothing."""
    if not num:
        return ""
    return f" {num} further {what}{'s are' if num > 1 else ' is'} in the tables."


def is_task(study: Study, measure: Measure) -> bool:
    """Tell whether a measure is of one task of a benchmark, whose mean is what is reported."""
    card = study.graph.datasets.get(measure.dataset)
    return card is not None and bool(card.group)


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
    return stats.summary(samples.values(values(study, arm, measure).values()))
