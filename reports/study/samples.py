"""Records in, samples out: what each job of a suite reported, by arm and measure.

Jobs that share everything but the seed give one group of samples: they have the same `Arm` (what
was pre-trained, on what) and the same `Measure` (what was measured, how). A job that failed, was
skipped or was not run keeps its sample, without a value and with the reason.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.errors import UserError
from bench.kinds import stages
from bench.kinds.weights import UNTRAINED
from bench.plan.spec import JobGraph
from bench.specs import JobResult, PlannedJob
from reports.printing.table import Sample, Status
from reports.study.best_of import beaten
from reports.study.stages import is_reported, is_start, reported_metrics

REASON_LIMIT = 160
"""Characters of a reason that are kept."""


@dataclass(frozen=True)
class Arm:
    """One pre-trained system: what, on what, how."""

    system: str
    title: str
    family: str
    upstream: str
    upstream_examples: int
    epochs: float
    pretraining: str
    """Tells apart pre-trainings of one system on the same images."""
    num_params: int
    exaflops: float
    """Pre-training behind the values, in 10^18 FLOPs."""

    @property
    def is_untrained(self) -> bool:
        """Whether it started from weights as they are drawn."""
        return self.upstream == UNTRAINED


@dataclass(frozen=True)
class Measure:
    """One measured quantity of an arm: metric, downstream data set, setting."""

    metric: str
    dataset: str
    setting: str
    """Tells apart transfers of different protocol, recipe or arguments."""


Samples = dict[tuple[Arm, Measure], list[Sample]]
"""Samples of each arm and measure, seeds in order."""


def reported(graph: JobGraph, results: Mapping[str, JobResult]) -> Samples:
    """Return what every job of a suite reported.

    Two values for one arm, measure and seed are refused: their mean would mix what differs.
    """
    jobs = {job.job_id: job for job in graph.jobs}
    lost = beaten(graph, results)
    kept = [job for job in graph.jobs if job.job_id not in lost]
    pretraining, transfer = _settings(kept)
    found: dict[tuple[Arm, Measure], dict[int, Sample]] = {}
    for job in kept:
        if not is_reported(job):
            continue
        arm = _arm(job, _start(job, jobs), pretraining)
        setting = transfer.name(_transfer_place(job), job)
        for metric in reported_metrics(job):
            measure = Measure(metric, job.labels.downstream, setting)
            group = found.setdefault((arm, measure), {})
            if job.spec.seed in group:
                raise UserError(
                    f"two results of {arm.title} on {measure.dataset} for {metric}, "
                    f"seed {job.spec.seed}",
                    hint="Give the transfer blocks of the suite different protocols or recipes",
                )
            group[job.spec.seed] = _sample(metric, job, jobs, results)
    return {key: [group[seed] for seed in sorted(group)] for key, group in found.items()}


def _arm(job: PlannedJob, start: PlannedJob, pretraining: _Settings) -> Arm:
    labels = job.labels
    return Arm(
        system=labels.system,
        title=labels.title,
        family=labels.family,
        upstream=labels.upstream,
        upstream_examples=labels.upstream_examples,
        epochs=start.train_examples / (labels.upstream_examples or 1),
        pretraining=pretraining.name(_pretraining_place(start), start),
        num_params=job.num_params,
        exaflops=job.pretrain_exaflops,
    )


def _start(job: PlannedJob, jobs: Mapping[str, PlannedJob]) -> PlannedJob:
    """Return the pre-training (or the public weights) that a job goes back to."""
    while not is_start(job) and job.spec.needs.get("checkpoint") in jobs:
        job = jobs[job.spec.needs["checkpoint"]]
    return job


# --- one value ------------------------------------------------------------------------------


def _sample(
    metric: str,
    job: PlannedJob,
    jobs: Mapping[str, PlannedJob],
    results: Mapping[str, JobResult],
) -> Sample:
    """Return the value of a metric, or why there is none."""
    seed, job_ids = job.spec.seed, (job.job_id,)
    result = results.get(job.job_id)
    if result is None or result.status != "done":
        return Sample(
            seed=seed, value=None, job_ids=job_ids, status=status_of(result),
            reason=_short(_why_not(job, jobs, results)),
        )  # fmt: skip
    found = result.metrics.get(metric)
    if found is not None and found.value is not None and math.isfinite(found.value):
        return Sample(
            seed=seed, value=found.value, job_ids=job_ids, reason=_short(found.reason), n=found.n
        )
    if found is None:
        reason = f"the job's record has no {metric}"
    else:
        reason = found.reason or f"the value is {found.value}"
    return Sample(
        seed=seed, value=None, job_ids=job_ids, status="absent", reason=_short(reason),
        n=found.n if found else 0,
    )  # fmt: skip


def status_of(result: JobResult | None) -> Status:
    """Return the status of a job; `not run` where there is no result."""
    return result.status if result else "not run"


def _why_not(
    job: PlannedJob, jobs: Mapping[str, PlannedJob], results: Mapping[str, JobResult]
) -> str:
    """Return why a job has no values."""
    result = results.get(job.job_id)
    if result is None:
        return job.refused or "not run"
    cause = _root_cause(job, jobs, results) if result.status == "skipped" else ""
    return cause or result.error or "no reason given"


def _root_cause(
    job: PlannedJob, jobs: Mapping[str, PlannedJob], results: Mapping[str, JobResult]
) -> str:
    """Return which input failed, and why; inputs of inputs are searched too."""
    for needed in job.spec.needs.values():
        result = results.get(needed)
        if result is None or needed not in jobs or result.status == "done":
            continue
        if result.status == "failed":
            return f"{jobs[needed].name} failed: {result.error or 'no reason given'}"
        return _root_cause(jobs[needed], jobs, results)
    return ""


def _short(reason: str) -> str:
    return reason if len(reason) <= REASON_LIMIT else reason[: REASON_LIMIT - 1] + "…"


# --- settings -------------------------------------------------------------------------------


def _settings(jobs: Iterable[PlannedJob]) -> tuple[_Settings, _Settings]:
    """Return the settings met in pre-training and in transfer."""
    pretraining, transfer = _Settings(), _Settings()
    for job in jobs:
        if is_start(job):
            pretraining.add(_pretraining_place(job), job.labels.recipe, job)
        elif is_reported(job):
            name = "; ".join(filter(None, (job.labels.protocol, job.labels.recipe)))
            transfer.add(_transfer_place(job), name, job)
    return pretraining, transfer


def _pretraining_place(job: PlannedJob) -> tuple[Any, ...]:
    return job.labels.system, job.labels.upstream, job.labels.upstream_examples


def _transfer_place(job: PlannedJob) -> tuple[Any, ...]:
    return job.spec.kind, job.labels.downstream


class _Settings:
    """Tells apart the settings met in one place; a place with one setting needs no name."""

    def __init__(self) -> None:
        self.met: dict[tuple[Any, ...], dict[str, str]] = {}
        self.digests: dict[tuple[Any, ...], str] = {}
        self.by_job: dict[str, str] = {}

    def add(self, place: tuple[Any, ...], name: str, job: PlannedJob) -> None:
        self.met.setdefault(place, {}).setdefault(self._digest(job), name)

    def name(self, place: tuple[Any, ...], job: PlannedJob) -> str:
        names = self.met[place]
        digest = self._digest(job)
        if len(names) == 1:
            return ""
        name = names[digest]
        return name if list(names.values()).count(name) == 1 else f"{name} ({digest})"

    def _digest(self, job: PlannedJob) -> str:
        if job.job_id not in self.by_job:
            self.by_job[job.job_id] = self._digest_of_spec(job)
        return self.by_job[job.job_id]

    def _digest_of_spec(self, job: PlannedJob) -> str:
        key = (job.spec.protocol, job.spec.recipe, tuple(sorted(job.spec.params.items())))
        if key not in self.digests:
            text = "\n".join(repr(part) for part in key)
            self.digests[key] = hashlib.sha256(text.encode()).hexdigest()[:6]
        return self.digests[key]


# --- order ----------------------------------------------------------------------------------


def in_order(measures: Iterable[Measure], jobs: Iterable[PlannedJob]) -> list[Measure]:
    """Return measures by data set, then as the kinds of these jobs stand, then by qualifier."""
    order = list(stages())
    places: dict[str, tuple[int, int]] = {}
    for job in jobs:
        for place, metric in enumerate(reported_metrics(job)):
            name, found = metric.partition("/")[0], (order.index(job.labels.stage), place)
            places[name] = min(found, places.get(name, found))
    met = list(measures)
    datasets = list(dict.fromkeys(measure.dataset for measure in met))

    def rank(measure: Measure) -> tuple[int, tuple[int, int], int, str]:
        name, _, qualifier = measure.metric.partition("/")
        number = int(qualifier) if qualifier.isdecimal() else 0
        return datasets.index(measure.dataset), places[name], number, qualifier

    return sorted(met, key=rank)


# --- what samples say together --------------------------------------------------------------


def values(group: Iterable[Sample]) -> list[float]:
    """Return the values that are there."""
    return [sample.value for sample in group if sample.value is not None]


def by_seed(group: Iterable[Sample]) -> dict[int, float]:
    """Return seed -> value, for those that are there."""
    return {
        sample.seed: sample.value
        for sample in group
        if sample.value is not None and sample.seed is not None
    }


def pair(first: Sequence[Sample], second: Sequence[Sample]) -> tuple[list[float], list[float]]:
    """Return the values of both on the seeds that both have, in the same order."""
    a, b = by_seed(first), by_seed(second)
    seeds = sorted(a.keys() & b.keys())
    return [a[seed] for seed in seeds], [b[seed] for seed in seeds]


def resolution(*groups: Iterable[Sample]) -> float:
    """Return the coarsest step in which the values come; 0 where it is not known."""
    return max((sample.step for group in groups for sample in group), default=0.0)
