"""The graph as it grows: each distinct job once, with what it costs in closed form."""

from __future__ import annotations

import baselines
from bench.plan.names import Names
from bench.specs import (
    KIND_VERSIONS,
    Args,
    DatasetCard,
    DataUse,
    JobSpec,
    Labels,
    PlannedJob,
    Protocol,
    Recipe,
    Resources,
    SystemCard,
)


class Builder:
    """Collects the jobs of one suite, inputs before their users."""

    def __init__(self, names: Names) -> None:
        self.names = names
        self.suite = names.suite
        self.jobs: dict[str, PlannedJob] = {}
        self._titles: set[str] = set()

    def fixed(self, recipe: Recipe, num_examples: int) -> Recipe:
        """Return what of a recipe changes the number, its length in steps.

        The number does not depend on the unit of the length, nor on where a recipe is printed.
        """
        steps = recipe.num_steps(num_examples)
        if self.suite.limit_steps is not None:
            steps = min(steps, self.suite.limit_steps)
        return recipe.model_copy(
            update={
                "steps": steps,
                "epochs": None,
                "examples": None,
                "warmup_steps": min(recipe.warmup_steps, steps),
                "learning_rates": (),
                "held_out": None,
                "source": "",
            }
        )

    def add(
        self,
        spec: JobSpec,
        *,
        name: str,
        system: SystemCard,
        card: DatasetCard,
        labels: Labels,
        num_evaluated: int = 0,
        num_trainings: int = 1,
        upstream: PlannedJob | None = None,
        refused: str = "",
    ) -> PlannedJob:
        """Add a job unless it is there; return it.

        `num_evaluated` images go forward through the system, and the recipe is followed
        `num_trainings` times. A job is refused with its upstream job, or with its data.
        """
        job_id = spec.job_id
        if job_id in self.jobs:
            return self.jobs[job_id]
        steps = spec.recipe.steps if spec.recipe and spec.recipe.steps else 0
        examples = steps * spec.recipe.batch_size * num_trainings if spec.recipe else 0
        exaflops = _exaflops(spec, examples, num_evaluated)
        inherited = upstream.refused if upstream else ""
        self.jobs[job_id] = PlannedJob(
            job_id=job_id,
            spec=spec,
            name=self._unique(name, labels, job_id),
            labels=labels,
            dataset=card.name,
            resources=self._resources(spec),
            train_examples=examples,
            num_steps=steps * num_trainings,
            exaflops=exaflops,
            pretrain_exaflops=upstream.pretrain_exaflops if upstream else exaflops,
            num_params=system.num_params,
            refused=inherited or refused or ("" if spec.kind == "weights" else card.refusal),
        )
        return self.jobs[job_id]

    def transfer_spec(
        self,
        kind: str,
        start: PlannedJob,
        *,
        data: DataUse,
        protocol: Protocol,
        seed: int,
        needs: dict[str, str],
        recipe: Recipe | None = None,
        params: Args | None = None,
    ) -> JobSpec:
        """Return the spec of a job on the system of `start`."""
        return JobSpec(
            kind=kind,
            kind_version=KIND_VERSIONS[kind],
            system=start.spec.system,
            data=data,
            protocol=protocol,
            recipe=recipe,
            params=params or {},
            seed=seed,
            num_threads=self.suite.num_threads,
            needs=needs,
        )

    def _resources(self, spec: JobSpec) -> Resources:
        if spec.kind in ("select", "weights"):
            return Resources(cpus=1)
        return Resources(cpus=spec.num_threads, gpus=self.suite.gpus, tpus=self.suite.tpus)

    def _unique(self, name: str, labels: Labels, job_id: str) -> str:
        """Return a readable name that no other job has."""
        setting = ", ".join(filter(None, (labels.protocol, labels.recipe)))
        for candidate in (name, f"{name} ({setting})", f"{name} ({job_id[:8]})"):
            if candidate not in self._titles:
                break
        self._titles.add(candidate)
        return candidate


def _exaflops(spec: JobSpec, num_trained: int, num_evaluated: int) -> float:
    """Closed form of a job's work: 3 x forward for training, forward for evaluation."""
    if not (num_trained or num_evaluated):
        return 0.0
    forward = baselines.forward_flops(spec.system, spec.protocol.image_size_px)
    return forward * (3 * num_trained + num_evaluated) / 1e18


def digest(card: DatasetCard) -> str:
    """Return the digest of a data set, or words that tell it from others until it has files."""
    return card.digest or f"no files yet: {card.name}"


def part(card: DatasetCard, split: str) -> int:
    """Return the number of images of a split, VTAB-1k's small ones included."""
    vtab = {"train800": 800, "val200": 200, "train800val200": 1000}
    return card.splits[split].num_examples if split in card.splits else vtab[split]
