"""The graph as it grows: names looked up, each distinct job once, with its closed-form cost.

This is what the planning half of every job kind is given (`bench.kinds.base.Planner`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import baselines
from bench import environment
from bench.errors import suggest
from bench.kinds import KINDS
from bench.kinds.base import Start, TransferBlock
from bench.plan.fitting import TOO_LARGE, Fit, Place, fit
from bench.plan.names import Names, Recorded
from bench.plan.spec import SuiteSpec
from bench.specs import (
    EVALUATION_BATCH,
    Args,
    DatasetCard,
    DataUse,
    DeviceKind,
    JobSpec,
    Labels,
    PlannedJob,
    Protocol,
    Recipe,
    Resources,
    SystemCard,
    SystemUse,
)


class Planner(Names):
    """Collects the jobs of one suite, inputs before their users."""

    def __init__(
        self,
        suite: SuiteSpec,
        datasets: Mapping[str, DatasetCard],
        protocols: Mapping[str, Protocol],
        file: str,
        place: Place,
        recorded: Recorded,
    ) -> None:
        super().__init__(suite, datasets, protocols, file, recorded)
        self._place = place
        self.jobs: dict[str, PlannedJob] = {}
        self.starts: list[Start] = []
        self._titles: set[str] = set()

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of the suite."""
        return self.suite.seeds

    @property
    def machine(self) -> str:
        """Processor or device of this machine, which what is measured belongs to."""
        return environment.machine(self._device("profile"))

    # --- what a transfer starts from, and is measured on --------------------------------------

    def chosen(self, block: TransferBlock, key: str, protocol: Protocol) -> list[Start]:
        """Return the starts of a block's systems (all where it names none), fit for a protocol."""
        known = {start.system.name for start in self.starts}
        wanted = set()
        for index, name in enumerate(block.systems):
            where = f"{key}.systems[{index}]"
            system = self.system(name, where)
            if system.name not in known:
                raise self.error(
                    where,
                    f'"{name}" is neither pre-trained nor loaded in this suite',
                    suggest(name, known, kind="system"),
                )
            wanted.add(system.name)
        found = [start for start in self.starts if not wanted or start.system.name in wanted]
        for start in found:
            where = f"protocol {protocol.name}"
            self.check_image(start.system, protocol.image_size_px, key, where)
        return found

    def downstream(
        self, block: TransferBlock, key: str, *, splits: Sequence[str]
    ) -> list[tuple[DatasetCard, str]]:
        """Return each data set of a block with its key, checked to have these splits."""
        found = []
        for index, name in enumerate(block.datasets):
            where = f"{key}.datasets[{index}]"
            card = self.dataset(name, where)
            self.check_splits(card, splits, where)
            if card.args.get("stream"):
                raise self.error(
                    where,
                    f"{name} is streamed, which is for pre-training only",
                    "Leave stream out",
                )
            found.append((card, where))
        return found

    def use(
        self,
        card: DatasetCard,
        train_split: str = "",
        eval_split: str = "",
        *,
        num_classes: int | None = None,
        num_examples: int | None = None,
        held_out: float | None = None,
    ) -> DataUse:
        """Return the part of a data set that changes a job's number."""
        return DataUse(
            # Words tell a data set from others until it has files.
            digest=card.digest or f"no files yet: {card.name}",
            num_classes=card.num_classes if num_classes is None else num_classes,
            train_split=train_split,
            eval_split=eval_split,
            num_examples=num_examples,
            held_out=held_out,
            squared_px=card.squared_px,
            version=card.version,
        )

    def fixed(self, recipe: Recipe, num_examples: int) -> Recipe:
        """Return what of a recipe changes the number, its length in steps.

        The number does not depend on the unit of the length, nor on where a recipe is published.
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
                # On a CPU the same threads give the same bits, asked or not.
                "deterministic": recipe.deterministic or not self.suite.gpus,
            }
        )

    # --- jobs ---------------------------------------------------------------------------------

    def add(
        self,
        kind: str,
        *,
        stage: str,
        name: str,
        system: SystemCard,
        start: PlannedJob | None = None,
        classifier: PlannedJob | None = None,
        upstream: tuple[DatasetCard, int] | None = None,
        downstream: DatasetCard | None = None,
        data: DataUse | None = None,
        protocol: Protocol | None = None,
        recipe: Recipe | None = None,
        params: Args | None = None,
        seed: int = 0,
        needs: Mapping[str, str] | None = None,
        labels: Mapping[str, Any] | None = None,
        image_size_px: int | None = None,
        num_evaluated: int | Sequence[int] = 0,
        least_evaluated: int = 0,
        num_trainings: int = 1,
        pretrain_exaflops: float | None = None,
        file: str = "",
        note: str = "",
        refused: str = "",
    ) -> PlannedJob:
        """Add a job unless it is there, and return it; see `bench.kinds.base.Planner.add`."""
        self._check_devices(kind, recipe)
        passes = (num_evaluated,) if isinstance(num_evaluated, int) else num_evaluated
        data, evaluated = self._evaluated(data, passes, least=least_evaluated)
        spec = JobSpec(
            kind=kind,
            kind_version=KINDS[kind].version,
            system=start.spec.system if start else baselines.use(system),
            data=data,
            protocol=protocol and _prepared(protocol),
            recipe=recipe,
            params=params or {},
            seed=seed,
            num_threads=self.suite.num_threads,
            device=self._device(kind),
            needs=dict(needs or {}),
        )
        job_id = spec.job_id
        if job_id in self.jobs:
            return self.jobs[job_id]
        named = _labels(system, stage, start, upstream, downstream, labels or {})
        steps = spec.recipe.steps if spec.recipe and spec.recipe.steps else 0
        examples = steps * spec.recipe.batch_size * num_trainings if spec.recipe else 0
        size_px = protocol.image_size_px if protocol else image_size_px
        exaflops = _exaflops(spec.system, size_px, trained=examples, evaluated=evaluated)
        card = None if data is None else downstream or (upstream[0] if upstream else None)
        source = classifier or start
        workers = self.suite.workers if KINDS[kind].shares_batches else 1
        known = KINDS[kind].uses_device
        fitted = fit(spec, self._place, workers=workers) if known else Fit()
        too_large = f"{TOO_LARGE} {named.title} {fitted.too_large}" if fitted.too_large else ""
        self.jobs[job_id] = PlannedJob(
            job_id=job_id,
            spec=spec,
            name=self._unique(name, named, job_id),
            labels=named,
            dataset=card.name if card else "",
            resources=self._resources(kind, fitted, workers=workers),
            train_examples=examples,
            num_steps=steps * num_trainings,
            exaflops=exaflops,
            pretrain_exaflops=source.pretrain_exaflops if source else pretrain_exaflops or exaflops,
            num_params=system.num_params,
            file=file,
            note=note,
            refused=(source.refused if source else "")
            or refused
            or (card.refusal if card else "")
            or too_large,
        )
        return self.jobs[job_id]

    def _evaluated(
        self, data: DataUse | None, passes: Sequence[int], *, least: int
    ) -> tuple[DataUse | None, int]:
        """Return what a job does with its data, and the images of all its passes together.

        Where steps are limited, a pass has as many batches at most, and an image of every class.
        What has no more images is the job that it is without a limit.
        """
        limit = self.suite.limit_steps
        if limit is None or data is None:
            return data, sum(passes)
        most = max(limit * EVALUATION_BATCH, data.num_classes, least)
        if max(passes, default=0) <= most:
            return data, sum(passes)
        limited = data.model_copy(update={"num_evaluated": most})
        return limited, sum(min(num, most) for num in passes)

    def _device(self, kind: str) -> DeviceKind:
        """Return what the jobs of a kind compute on."""
        if not KINDS[kind].uses_device:
            return "cpu"
        return "tpu" if self.suite.tpus else "cuda" if self.suite.gpus else "cpu"

    def _resources(self, kind: str, fitted: Fit, *, workers: int) -> Resources:
        if not KINDS[kind].uses_device:
            return Resources(cpus=1)
        suite = self.suite
        decoders = suite.decoders if KINDS[kind].needs_data else 0
        return Resources(
            cpus=suite.num_threads + decoders,
            gpus=suite.gpus,
            tpus=suite.tpus,
            decoders=decoders,
            workers=workers,
            pieces=fitted.pieces,
            evaluation_batch=fitted.evaluation_batch,
            sharded=fitted.sharded,
            memory_gib=round(fitted.memory_gib, 3),
        )

    def _check_devices(self, kind: str, recipe: Recipe | None) -> None:
        """Raise where jobs cannot have the suite's devices, or workers not share its batches.

        A part of a GPU is no good to jobs that take what memory there is: they end each other.
        """
        gpus, workers = self.suite.gpus, self.suite.workers
        if gpus > 1:
            raise self.error(
                "gpus",
                f"{gpus:g} GPUs for one worker, which computes on one",
                f"Set gpus = 1 and workers = {gpus:g}",
            )
        if workers > 1 and self.suite.tpus:
            raise self.error(
                "workers",
                f"{workers} workers cannot share a batch on TPUs: groups are of CPUs or GPUs",
                "Set workers = 1",
            )
        if gpus % 1 and (recipe is not None or KINDS[kind].table == "profile"):
            raise self.error(
                "gpus",
                f"{gpus:g} shares a GPU among jobs, and a {kind} job needs one alone",
                "Set gpus = 1; a part of one is for suites that neither train nor measure",
            )
        if recipe is not None and recipe.batch_size % workers:
            raise self.error(
                "workers",
                f"a batch of {recipe.batch_size} images does not divide among {workers} workers",
                "Choose a number that divides it",
            )

    def _unique(self, name: str, labels: Labels, job_id: str) -> str:
        """Return a readable name that no other job has."""
        setting = ", ".join(filter(None, (labels.protocol, labels.recipe)))
        for candidate in (name, f"{name} ({setting})", f"{name} ({job_id[:8]})"):
            if candidate not in self._titles:
                break
        self._titles.add(candidate)
        return candidate


def _prepared(protocol: Protocol) -> Protocol:
    """Return what of a protocol every kind follows: few-shot has its pool as an argument."""
    return protocol.model_copy(update={"fewshot_pool": None})


def _labels(
    system: SystemCard,
    stage: str,
    start: PlannedJob | None,
    upstream: tuple[DatasetCard, int] | None,
    downstream: DatasetCard | None,
    changes: Mapping[str, Any],
) -> Labels:
    """Return the names of a job: those of its start, or of a job at the beginning."""
    card, size = upstream or (None, 0)
    found = Labels(
        system=start.labels.system if start else system.name,
        title=start.labels.title if start else system.title,
        family=start.labels.family if start else system.family,
        upstream=start.labels.upstream if start else card.name if card else "",
        upstream_examples=start.labels.upstream_examples if start else size,
        downstream=downstream.name if downstream else "",
        stage=stage,
    )
    return found.model_copy(update=dict(changes))


def _exaflops(system: SystemUse, size_px: int | None, *, trained: int, evaluated: int) -> float:
    """Closed form of a job's work: 3 x forward for training, forward for evaluation."""
    if size_px is None or not (trained or evaluated):
        return 0.0
    forward = baselines.forward_flops(system, size_px)
    return forward * (3 * trained + evaluated) / 1e18
