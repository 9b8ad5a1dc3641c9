"""Which published number a measured cell answers, and the verdict on it.

A cell answers a number when both have the same system (its card, or one that is built from the same
arguments), upstream data, downstream data and metric. Of several numbers in one table, e.g. after
7 and after 14 epochs, the one whose protocol differs in the fewest fields is answered. Published
averages are answered by the plain mean over the same data sets.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import baselines
from bench.facts import AVERAGES
from bench.specs import PlannedJob, PublishedResult
from reports.printing.table import Sample
from reports.study.averages import TUNED, mean_of, members_of
from reports.study.samples import Arm, Measure, values
from reports.study.study import Study, bare_name
from reports.verdicts.differences import Field, by_effect, fields
from reports.verdicts.rule import Measured, Printed, Verdict, judge, printed

REFUSED = ("failed", "skipped", "absent")


@dataclass(frozen=True, kw_only=True)
class Counterpart:
    """A measured cell, and the published number that it answers."""

    arm: Arm
    """What was pre-trained."""
    measure: Measure
    """What was measured of it; for an average, the paper's name stands for the data set."""
    row: PublishedResult
    """The published number."""
    printed: Printed
    """The number as published."""
    samples: tuple[Sample, ...]
    """The measured values, one a seed."""
    fields: tuple[Field, ...]
    """The protocol field by field, largest known effect first."""
    verdict: Verdict
    """The verdict."""


def counterparts(study: Study) -> list[Counterpart]:
    """Return every measured cell that answers a published number, systems in the suite's order.

    Where jobs read a part of a published set, none does: the number is of the whole.
    """
    if study.graph.parts:
        return []
    jobs = {job.job_id: job for job in study.graph.jobs}
    by_place = _rows_by_place(tuple(study.published))
    found: list[Counterpart] = []
    for arm, measure, group in (*_cells(study), *_averages(study)):
        rows = by_place.get((arm.upstream, measure.dataset, measure.metric), ())
        job = jobs[group[0].job_ids[0]]
        answers = [
            _answer(study, jobs, arm, measure, group, row, number)
            for row, number in rows
            if _same_system(job, row)
        ]
        found += _nearest(answers)
    systems = list(study.arms_by_name)
    return sorted(found, key=lambda answer: systems.index(bare_name(answer.arm.title)))


def differences(counterpart: Counterpart, study: Study) -> tuple[str, ...]:
    """Return in words how the run differs from the publication, largest known effect first."""
    words = tuple(str(field) for field in counterpart.fields if field.differs)
    return (*_limit(study), *words)


def _limit(study: Study) -> Iterator[str]:
    if study.graph.suite.limit_steps is not None:
        yield f"stopped after at most {study.graph.suite.limit_steps:,} steps"
    if study.graph.most_evaluated is not None:
        yield f"scored on at most {study.graph.most_evaluated:,} images of a split"


# --- which cells there are ------------------------------------------------------------------


def _cells(study: Study) -> Iterator[tuple[Arm, Measure, list[Sample]]]:
    for (arm, measure), group in study.samples.items():
        yield arm, measure, group


def _averages(study: Study) -> Iterator[tuple[Arm, Measure, list[Sample]]]:
    """Yield the plain means that papers report, where all of their data sets are there."""
    tuned = [m for m in study.measures if m.metric == TUNED and not m.setting]
    means = {name: members_of(name, tuned) for name in AVERAGES}
    for arm in study.arms:
        for name, members in means.items():
            found = mean_of(study.samples, arm, members)
            if found:
                yield arm, Measure(TUNED, name, ""), list(map(_of_one_set, found.values()))


def _of_one_set(mean: Sample) -> Sample:
    """Return a mean over data sets with the n of one test set of equal noise."""
    return replace(mean, n=round(len(mean.job_ids) * mean.n))


# --- which published number a cell answers --------------------------------------------------

_Place = tuple[str, str, str]
"""Upstream data, downstream data and our metric."""


@lru_cache(maxsize=4)
def _rows_by_place(
    published: tuple[PublishedResult, ...],
) -> dict[_Place, list[tuple[PublishedResult, Printed]]]:
    """Return the published accuracies by what they are of."""
    found: dict[_Place, list[tuple[PublishedResult, Printed]]] = {}
    for row in published:
        if not (row.system_id and row.upstream_id and row.dataset_id):
            continue  # nothing of ours can be the same
        try:
            number = printed(row.value, row.std, unit=row.unit)
        except ValueError:
            continue  # a range, or a number nobody printed: nothing to judge by
        for metric in row.metric_ids:
            place = (row.upstream_id, row.dataset_id, metric)
            found.setdefault(place, []).append((row, number))
    return found


def _same_system(job: PlannedJob, row: PublishedResult) -> bool:
    """Return whether a row is of a job's system: its card, or one built from the same arguments."""
    args = dict(row.system_args)
    if job.labels.system == row.system_id and not args:
        return True
    card = baselines.systems().get(row.system_id)
    built = (job.spec.system.family, job.spec.system.args)
    return card is not None and built == (card.family, {**card.args, **args})


def _nearest(answers: list[Counterpart]) -> list[Counterpart]:
    """Return, for each published table, the answers that differ in the fewest fields."""
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
    members = [jobs[job_id] for job_id in group[0].job_ids]
    job = members[0]
    found = _fields_of_all(members, row, jobs, study)
    verdict = judge(
        _measured(group),
        number,
        differences=(*_limit(study), *(str(field) for field in found if field.differs)),
        is_public=not job.refused,
        confidence=study.confidence,
    )
    return Counterpart(
        arm=arm, measure=_named(measure, row), row=row, printed=number, samples=tuple(group),
        fields=found, verdict=verdict,
    )  # fmt: skip


def _fields_of_all(
    members: Sequence[PlannedJob],
    row: PublishedResult,
    jobs: dict[str, PlannedJob],
    study: Study,
) -> tuple[Field, ...]:
    """Return the fields of a job; of a mean, what differs in any of its jobs takes precedence."""
    chosen: dict[str, Field] = {}
    for member in members:
        for field in fields(member, row, jobs=jobs, datasets=study.graph.datasets):
            kept = chosen.setdefault(field.name, field)
            if field.differs and not kept.differs:
                chosen[field.name] = field
    return by_effect(chosen.values())


def _named(measure: Measure, row: PublishedResult) -> Measure:
    """Return a measure under the name that the paper gives to an average."""
    return replace(measure, dataset=row.dataset) if measure.dataset in AVERAGES else measure


def _measured(group: Sequence[Sample]) -> Measured:
    absent = next((sample for sample in group if sample.value is None), None)
    there = tuple(values(group))
    if there or absent is None:
        return Measured(values=there)
    failed = absent.status in REFUSED
    return Measured(status="failed" if failed else "not run", reason=absent.reason)
