"""Which published number a measured cell answers, and the verdict on it.

A cell answers a number when the system (by name, or by the arguments it is built from), the
upstream data, the downstream data and the metric agree. Of several numbers in one table, e.g. after
7 and after 14 epochs, the one whose protocol differs in the fewest fields is answered. Published
averages are answered by the plain mean over the same data sets.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import baselines
from baselines.printed import AVERAGES, MEASURES, VTAB_MEANS, Setup, setup
from bench.errors import UnknownName
from bench.specs import PlannedJob, PublishedResult
from reports.printing.table import Sample
from reports.study.averages import TUNED, mean_of
from reports.study.samples import Arm, Measure, values
from reports.study.study import Study, bare_name
from reports.verdicts.differences import Field, fields
from reports.verdicts.rule import Measured, Printed, Verdict, judge, printed

REFUSED = ("failed", "skipped", "absent")


@dataclass(frozen=True, kw_only=True)
class Counterpart:
    """A measured cell, and the published number that it answers."""

    arm: Arm
    """What was pre-trained."""
    measure: Measure
    """What was measured of it; for an average, its published name stands for the data set."""
    row: PublishedResult
    """The published number."""
    setup: Setup
    """What it was measured with."""
    printed: Printed
    """The number as known from print."""
    samples: tuple[Sample, ...]
    """The measured values, one a seed."""
    fields: tuple[Field, ...]
    """The protocol field by field, largest known effect first."""
    verdict: Verdict
    """The verdict."""


def counterparts(study: Study) -> list[Counterpart]:
    """Return every measured cell that answers a published number, systems in the suite's order."""
    jobs = {job.job_id: job for job in study.graph.jobs}
    by_names = _rows_by_names(tuple(study.published))
    found: list[Counterpart] = []
    for arm, measure, group in (*_cells(study), *_averages(study)):
        rows = by_names.get(_names(study, measure), ())
        job = jobs[group[0].job_ids[0]]
        answers = [
            _answer(study, jobs, arm, measure, group, row, number)
            for row, number in rows
            if _same_upstream(study, arm, row) and _same_system(arm, job, row)
        ]
        found += _nearest(answers)
    systems = list(study.arms_by_name)
    return sorted(found, key=lambda answer: systems.index(bare_name(answer.arm.title)))


def differences(counterpart: Counterpart, study: Study) -> tuple[str, ...]:
    """Return in words how the run differs from print, largest known effect first."""
    words = tuple(str(field) for field in counterpart.fields if field.differs)
    return (*_limit(study), *words)


def _limit(study: Study) -> Iterator[str]:
    if study.graph.suite.limit_steps is not None:
        yield f"stopped after at most {study.graph.suite.limit_steps:,} steps"


# --- which cells there are ------------------------------------------------------------------


def _cells(study: Study) -> Iterator[tuple[Arm, Measure, list[Sample]]]:
    for (arm, measure), group in study.samples.items():
        yield arm, measure, group


def _averages(study: Study) -> Iterator[tuple[Arm, Measure, list[Sample]]]:
    """Yield the plain means over data sets that print averages over, where all are there."""
    tuned = [m for m in study.measures if m.metric == TUNED and not m.setting]
    by_title = {bare_name(study.dataset_title(m.dataset)): m for m in tuned}
    groups = {m: study.graph.datasets[m.dataset].group for m in tuned if _is_task(study, m)}
    means = {
        name: [by_title[t] for t in map(bare_name, titles) if t in by_title]
        for name, titles in AVERAGES.items()
        if all(bare_name(title) in by_title for title in titles)
    }
    for name, wanted in VTAB_MEANS.items():
        tasks = [measure for measure, group in groups.items() if wanted in ("", group)]
        if len(tasks) == _NUM_TASKS[wanted]:
            means[name] = tasks
    for arm in study.arms:
        for name, members in means.items():
            found = mean_of(study.samples, arm, tuple(members))
            if found:
                yield arm, Measure(TUNED, name, ""), list(map(_of_one_set, found.values()))


_NUM_TASKS = {"": 19, "natural": 7, "specialized": 4, "structured": 8}


def _is_task(study: Study, measure: Measure) -> bool:
    return measure.dataset.startswith("vtab-") and measure.dataset in study.graph.datasets


def _of_one_set(mean: Sample) -> Sample:
    """Return a mean over data sets with the n of one test set of equal noise."""
    return replace(mean, n=round(len(mean.job_ids) * mean.n), job_ids=mean.job_ids[:1])


# --- which published number a cell answers --------------------------------------------------

_Names = tuple[str, str]


@lru_cache(maxsize=4)
def _rows_by_names(
    published: tuple[PublishedResult, ...],
) -> dict[_Names, list[tuple[PublishedResult, Printed]]]:
    """Return the published accuracies by data set and by our metric."""
    found: dict[_Names, list[tuple[PublishedResult, Printed]]] = {}
    for row in published:
        try:
            number = printed(row.value, row.std, unit=row.unit)
        except ValueError:
            continue  # a range, or a number nobody printed: nothing to judge by
        for metric in MEASURES.get(row.metric, (row.metric,)):
            found.setdefault((bare_name(row.dataset), metric), []).append((row, number))
    return found


def _names(study: Study, measure: Measure) -> _Names:
    return bare_name(study.dataset_title(measure.dataset)), measure.metric


def _same_upstream(study: Study, arm: Arm, row: PublishedResult) -> bool:
    names = {bare_name(study.dataset_title(arm.upstream)), bare_name(arm.upstream)}
    upstream = row.pretrain_dataset.partition(" (")[0]  # "ImageNet-21k (BiT-M)"
    return bare_name(upstream) in names


def _same_system(arm: Arm, job: PlannedJob, row: PublishedResult) -> bool:
    """Return whether a row is about this system: by its name, or by what it is built from."""
    known = setup(row)
    if not known.args and bare_name(arm.title) in map(bare_name, (row.system, known.system)):
        return True
    if bare_name(arm.title) == bare_name(row.system):
        return True
    try:
        card = baselines.system(known.system)
    except UnknownName:
        return False
    args = {**card.args, **known.args}
    return (job.spec.system.family, job.spec.system.args) == (card.family, args)


def _nearest(answers: list[Counterpart]) -> list[Counterpart]:
    """Return, for each table of print, the answers that differ in the fewest fields."""
    tables: dict[tuple[str, str], list[Counterpart]] = {}
    for answer in answers:
        tables.setdefault((answer.row.paper, answer.row.table), []).append(answer)
    nearest = []
    for group in tables.values():
        counts = [sum(field.differs for field in answer.fields) for answer in group]
        nearest += [a for a, count in zip(group, counts, strict=True) if count == min(counts)]
    return nearest


def _answer(
    study: Study,
    jobs: dict[str, PlannedJob],
    arm: Arm,
    measure: Measure,
    group: Sequence[Sample],
    row: PublishedResult,
    number: Printed,
) -> Counterpart:
    job, known = jobs[group[0].job_ids[0]], setup(row)
    found = fields(job, known, jobs=jobs, datasets=study.graph.datasets)
    verdict = judge(
        _measured(group),
        number,
        differences=(*_limit(study), *(str(field) for field in found if field.differs)),
        is_public=not job.refused,
        confidence=study.confidence,
    )
    return Counterpart(
        arm=arm, measure=measure, row=row, setup=known, printed=number, samples=tuple(group),
        fields=found, verdict=verdict,
    )  # fmt: skip


def _measured(group: Sequence[Sample]) -> Measured:
    absent = next((sample for sample in group if sample.value is None), None)
    there = tuple(values(group))
    if there or absent is None:
        return Measured(values=there, num_images=round(max(sample.n for sample in group)))
    failed = absent.status in REFUSED
    return Measured(status="failed" if failed else "not run", reason=absent.reason)
