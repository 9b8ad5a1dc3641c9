"""Results that no table may hold: two in one cell, or of a part of a published set.

Both are refused before hours of jobs, not after.
"""

from __future__ import annotations

from collections.abc import Mapping

from bench.kinds import stages
from bench.plan.names import Names
from bench.plan.planner import Planner
from bench.specs import JobSpec, PlannedJob


def check_cells(planner: Planner, places: Mapping[str, str]) -> None:
    """Raise SuiteError where two jobs report the same quantity of one system under one setting.

    Their mean would mix what differs. `places` are the keys of the blocks that planned the jobs.
    """
    found: dict[tuple[object, ...], PlannedJob] = {}
    for job in planner.jobs.values():
        if stages()[job.labels.stage].role != "result" or job.labels.best_of:
            continue
        first = found.setdefault(_cell(job, planner.jobs), job)
        if first is not job:
            raise _error(planner, places, first, job)


def check_parts(planner: Planner, places: Mapping[str, str]) -> None:
    """Raise SuiteError where a job reads a part of a published set and steps are not limited.

    A number made of a part would stand in tables under the name of the whole.
    """
    if planner.suite.limit_steps is not None:
        return
    for job in planner.jobs.values():
        part = planner.used[job.dataset].part if job.dataset else ""
        if part:
            raise planner.error(
                places[job.job_id],
                f"{job.dataset} is here in part ({part}), for rehearsals alone",
                "Add --limit-steps 2 (--set limit_steps=2), or complete the files and run "
                f"`vitbench data prepare {job.dataset}` again",
            )


def _cell(job: PlannedJob, jobs: Mapping[str, PlannedJob]) -> tuple[object, ...]:
    """Return what tells the cell of a result from every other."""
    spec: JobSpec = job.spec
    start = job
    while "checkpoint" in start.spec.needs:
        start = jobs[start.spec.needs["checkpoint"]]
    return (
        start.job_id, spec.kind, job.labels.downstream, spec.protocol, spec.recipe,
        tuple(sorted(spec.params.items())), spec.seed,
    )  # fmt: skip


def _error(
    names: Names, places: Mapping[str, str], first: PlannedJob, second: PlannedJob
) -> Exception:
    labels = second.labels
    return names.error(
        places[second.job_id],
        f"a second result of {labels.title} on {labels.downstream} ({second.spec.kind}, seed "
        f"{second.spec.seed}) under the protocol and recipe of {places[first.job_id]}",
        "Give the two blocks different protocols or recipes, or leave one out",
    )
