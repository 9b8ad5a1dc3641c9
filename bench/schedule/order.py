"""How long jobs take, and in which order they start: longest remaining path first."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bench import cost
from bench.plan.spec import JobGraph
from bench.specs import JobResult, PlannedJob

JOB_OVERHEAD_S = 0.3
"""Assumed time of a job besides its arithmetic."""


class Estimates:
    """Seconds a job will take: closed-form FLOPs over the speed measured so far."""

    def __init__(
        self,
        graph: JobGraph,
        outcomes: Mapping[str, JobResult],
        *,
        rehearsed_s: Mapping[str, float] | None = None,
    ) -> None:
        """Learn from finished jobs; of others `rehearsed_s` says what their arithmetic takes."""
        self._rehearsed_s = rehearsed_s or {}
        self._seconds: dict[tuple[str, str], float] = {}
        self._flops: dict[tuple[str, str], float] = {}
        by_id = {job.job_id: job for job in graph.jobs}
        for job_id, result in outcomes.items():
            if job_id in by_id:
                self.learn(by_id[job_id], result)

    def learn(self, job: PlannedJob, result: JobResult) -> None:
        """Take the time of a finished job into account."""
        if result.cost is None or job.exaflops == 0:
            return
        for key in ((job.labels.system, job.spec.kind), ("", "")):
            self._seconds[key] = self._seconds.get(key, 0.0) + result.cost.wall_s
            self._flops[key] = self._flops.get(key, 0.0) + job.exaflops * 1e18

    def seconds(self, job: PlannedJob) -> float:
        """Return the expected seconds of a job."""
        if job.exaflops == 0:
            return 0.05
        for key in ((job.labels.system, job.spec.kind), ("", "")):
            if self._seconds.get(key):
                return job.exaflops * 1e18 * self._seconds[key] / self._flops[key]
            if job.job_id in self._rehearsed_s:
                return JOB_OVERHEAD_S + self._rehearsed_s[job.job_id]
        return JOB_OVERHEAD_S + job.exaflops * 1e18 / cost.flops_per_s(job.spec)


def remaining_paths(graph: JobGraph, seconds: Callable[[PlannedJob], float]) -> dict[str, float]:
    """Return for each job the seconds from its start to the end of its longest chain of users."""
    longest_user: dict[str, float] = {}
    paths: dict[str, float] = {}
    for job in reversed(graph.jobs):
        paths[job.job_id] = seconds(job) + longest_user.get(job.job_id, 0.0)
        for needed in job.spec.needs.values():
            longest_user[needed] = max(longest_user.get(needed, 0.0), paths[job.job_id])
    return paths
