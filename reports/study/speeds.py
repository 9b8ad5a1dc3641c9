"""Speed and memory of a suite's jobs, as measured, by what makes them comparable."""

from __future__ import annotations

from dataclasses import dataclass, field

from bench.kinds import stages
from bench.kinds.base import Stage
from bench.specs import Cost
from reports.study.stages import stage_of, takes_time
from reports.study.study import Study, once


@dataclass(frozen=True)
class Setup:
    """What makes speeds comparable: the same work on the same device."""

    title: str
    family: str
    work: str
    image_size_px: int
    batch_size: int | None
    device: str


@dataclass
class Group:
    """Jobs of one setup."""

    jobs: list[tuple[int, str, Cost]] = field(default_factory=list)
    """(seed, job id, cost)."""

    @property
    def speeds(self) -> list[float]:
        """Images per second, of the jobs that stated it."""
        return [cost.images_per_s for _, _, cost in self.jobs if cost.images_per_s]

    @property
    def mean_speed(self) -> float:
        """Their mean; only asked where a job stated its speed."""
        return sum(self.speeds) / len(self.speeds)

    @property
    def peak_memory_gib(self) -> float:
        """Largest peak of any job."""
        return max(cost.peak_memory_gib for _, _, cost in self.jobs)


@once
def groups(study: Study) -> dict[Setup, Group]:
    """Return the costs of a suite's jobs by setup, systems in the suite's order."""
    found: dict[Setup, Group] = {}
    for job in study.graph.jobs:
        result = study.results.get(job.job_id)
        if result is None or result.cost is None or not takes_time(job):
            continue
        recipe = job.spec.recipe
        setup = Setup(
            title=job.labels.title,
            family=job.labels.family,
            work=_work(stage_of(job)),
            image_size_px=job.spec.image_size_px or 0,
            batch_size=recipe.batch_size if recipe else None,
            device=result.cost.device,
        )
        found.setdefault(setup, Group()).jobs.append((job.spec.seed, job.job_id, result.cost))
    titles, works = [setup.title for setup in found], list(map(_work, stages().values()))
    return dict(sorted(found.items(), key=lambda item: _order(item[0], titles, works)))


def _work(stage: Stage) -> str:
    """Return what the speed of a stage's jobs is the speed of."""
    return stage.speed_of or stage.title


def _order(setup: Setup, titles: list[str], works: list[str]) -> tuple[int, int, int]:
    return titles.index(setup.title), works.index(setup.work), setup.image_size_px
