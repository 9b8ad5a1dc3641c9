"""Profiles of a suite: speed and memory of systems at batch and input sizes."""

from __future__ import annotations

from dataclasses import dataclass

from bench.specs import Metric, PlannedJob
from reports.study.stages import stage_of
from reports.study.study import Study, once

WORKS = {"inference": "Inference", "train": "Training"}
"""Printed name of what was timed."""


@dataclass(frozen=True)
class Profile:
    """What one job measured of a system at one input size, in one kind of work."""

    title: str
    family: str
    work: str
    """`inference` or `train`."""
    image_size_px: int
    precision: str
    device: str
    job_id: str
    batch_sizes: tuple[int, ...]
    metrics: dict[str, Metric]
    """All metrics of the job."""

    def speed(self, batch: int) -> Metric:
        """Return images per second at a batch size."""
        return self._metric(f"images_per_s/{batch}")

    def memory(self, batch: int) -> Metric:
        """Return peak memory at a batch size."""
        return self._metric(f"memory_gib/{batch}")

    @property
    def largest_batch(self) -> Metric:
        """Return the most images that fit at once."""
        return self._metric("largest_batch")

    @property
    def fastest(self) -> int | None:
        """Return the batch size of the highest speed; None where no batch was timed."""
        timed = {b: v for b in self.batch_sizes if (v := self.speed(b).value) is not None}
        return max(timed, key=lambda batch: timed[batch], default=None)

    @property
    def best_speed(self) -> float | None:
        """Return the highest speed, in images per second."""
        return None if self.fastest is None else self.speed(self.fastest).value

    def _metric(self, name: str) -> Metric:
        known = f"{self.work}_{name}"
        absent = Metric(name=known, value=None, reason=f"the job's record has no {known}")
        return self.metrics.get(known, absent)


def _is_profile(job: PlannedJob) -> bool:
    return stage_of(job).role == "measurement" and "batch_sizes" in job.spec.params


@once
def profiles(study: Study) -> list[Profile]:
    """Return the profiles of a suite in its order: by system, work and input size."""
    found = []
    for job in study.graph.jobs:
        result = study.results.get(job.job_id)
        if not _is_profile(job) or result is None or result.cost is None:
            continue
        batches = job.spec.params["batch_sizes"]
        found += [
            Profile(
                title=job.labels.title,
                family=job.labels.family,
                work=work,
                image_size_px=job.spec.image_size_px or 0,
                precision=str(job.spec.params["precision"]),
                device=result.cost.device,
                job_id=job.job_id,
                batch_sizes=tuple(int(b) for b in batches) if isinstance(batches, tuple) else (),
                metrics=result.metrics,
            )
            for work in WORKS
        ]
    titles, works = [profile.title for profile in found], list(WORKS)
    return sorted(
        found, key=lambda p: (titles.index(p.title), works.index(p.work), p.image_size_px)
    )
