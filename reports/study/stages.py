"""What part a job plays in its suite, and what it reports: as the card of its kind says."""

from __future__ import annotations

from bench.kinds import KINDS, stages
from bench.kinds.base import Stage
from bench.specs import PlannedJob


def stage_of(job: PlannedJob) -> Stage:
    """Return the stage of a job; raises UnknownName for one of a kind that is not installed."""
    found = stages().get(job.labels.stage)
    return found or KINDS.named(job.spec.kind, where=f"job {job.job_id}").stage(job.labels.stage)


def is_start(job: PlannedJob) -> bool:
    """Tell whether everything else of a suite goes back to such jobs."""
    return stage_of(job).role == "start"


def is_reported(job: PlannedJob) -> bool:
    """Tell whether tables compare what a job leaves."""
    return stage_of(job).role == "result"


def reported_metrics(job: PlannedJob) -> tuple[str, ...]:
    """Return the metrics that a job reports, whether or not it has run."""
    stage = stage_of(job)
    return stage.metrics(job.spec.params) if stage.role == "result" else ()


def takes_time(job: PlannedJob) -> bool:
    """Tell whether a job is work of the suite on its device, and no measurement of speed."""
    return stage_of(job).role != "measurement" and KINDS[job.spec.kind].uses_device
