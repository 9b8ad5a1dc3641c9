"""A suite in, a graph of jobs out: pure and deterministic, without torch.

The fine-tuning protocol is the paper's (arXiv:2010.11929, appendix B.1.1): the learning rate is
chosen on a held-out part of the training split, then the model is trained on all of it and
reported on test. The choice is made once per system and upstream size, with the first seed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import baselines
from bench.errors import SuiteError, UnknownName, suggest
from bench.specs import (
    KIND_VERSIONS,
    DatasetCard,
    DataUse,
    JobGraph,
    JobSpec,
    Labels,
    Pair,
    PlannedJob,
    PretrainBlock,
    Protocol,
    Recipe,
    Resources,
    SuiteSpec,
    SystemCard,
    TransferBlock,
)


def plan(
    suite: SuiteSpec,
    *,
    datasets: Mapping[str, DatasetCard],
    protocols: Mapping[str, Protocol],
    file: str = "",
) -> JobGraph:
    """Turn a suite into its graph of content-addressed jobs; same input, same graph.

    `datasets` and `protocols` are all known cards by name; `file` is named in errors.
    """
    return _Planner(suite, datasets, protocols, file or suite.name).graph()


class _Planner:
    """One planning: looks names up, and collects each distinct job once."""

    def __init__(
        self,
        suite: SuiteSpec,
        datasets: Mapping[str, DatasetCard],
        protocols: Mapping[str, Protocol],
        file: str,
    ) -> None:
        self.suite = suite
        self.datasets = datasets
        self.protocols = protocols
        self.file = file
        self.recipes = {**baselines.recipes(), **suite.recipe}
        self.used: dict[str, DatasetCard] = {}
        self.jobs: dict[str, PlannedJob] = {}

    def graph(self) -> JobGraph:
        for index, block in enumerate(self.suite.pretrain):
            self._pretrain(block, f"pretrain[{index}]")
        pretrained = [job for job in self.jobs.values() if job.spec.kind == "pretrain"]
        for index, transfer in enumerate(self.suite.transfer):
            self._transfer(transfer, f"transfer[{index}]", pretrained)
        for index, pair in enumerate(self.suite.pair):
            self._check_pair(pair, f"pair[{index}]", pretrained)
        return JobGraph(suite=self.suite, jobs=tuple(self.jobs.values()), datasets=self.used)

    # looking names up, with the key in the error

    def _error(self, key: str, cause: str, hint: str = "") -> SuiteError:
        return SuiteError(self.file, key, cause, hint=hint)

    def _system(self, name: str, key: str) -> SystemCard:
        try:
            return baselines.system(name)
        except UnknownName as error:
            raise self._error(key, error.message, error.hint) from error

    def _dataset(self, name: str, key: str) -> DatasetCard:
        if name not in self.datasets:
            raise self._error(
                key, f'unknown data set "{name}"', suggest(name, self.datasets, kind="data set")
            )
        self.used[name] = self.datasets[name]
        return self.datasets[name]

    def _protocol(self, name: str, key: str) -> Protocol:
        if name not in self.protocols:
            raise self._error(
                key, f'unknown protocol "{name}"', suggest(name, self.protocols, kind="protocol")
            )
        return self.protocols[name].model_copy(update={"source": ""})

    def _recipe(self, name: str, key: str) -> Recipe:
        if name not in self.recipes:
            raise self._error(
                key, f'unknown recipe "{name}"', suggest(name, self.recipes, kind="recipe")
            )
        return self.recipes[name]

    # one block at a time

    def _pretrain(self, block: PretrainBlock, key: str) -> None:
        card = self._dataset(block.upstream, f"{key}.upstream")
        protocol = self._protocol(block.protocol, f"{key}.protocol")
        recipe = self._recipe(block.recipe, f"{key}.recipe")
        if recipe.base_lr is None:
            raise self._error(f"{key}.recipe", f'"{block.recipe}" has no base_lr')
        available = card.splits["train"].num_examples
        for size_index, size in enumerate(block.num_examples or (available,)):
            if not 0 < size <= available:
                raise self._error(
                    f"{key}.num_examples[{size_index}]",
                    f"{size:,} images asked of {card.name}, which has {available:,}",
                )
            length = recipe
            if block.epochs:
                epochs = block.epochs[size_index]
                length = recipe.model_copy(
                    update={"steps": None, "examples": None, "epochs": epochs}
                )
            for system_index, name in enumerate(block.systems):
                system = self._system(name, f"{key}.systems[{system_index}]")
                self._check_size(system, protocol, f"{key}.protocol")
                for seed in self.suite.seeds:
                    self._add_pretrain(
                        system, card, size, protocol, block, self._fixed(length, size), seed
                    )

    def _add_pretrain(
        self,
        system: SystemCard,
        card: DatasetCard,
        size: int,
        protocol: Protocol,
        block: PretrainBlock,
        recipe: Recipe,
        seed: int,
    ) -> None:
        whole = size == card.splits["train"].num_examples
        self._add(
            JobSpec(
                kind="pretrain",
                kind_version=KIND_VERSIONS["pretrain"],
                system=baselines.use(system),
                data=DataUse(
                    digest=card.digest,
                    num_classes=card.num_classes,
                    train_split="train",
                    eval_split="",
                    num_examples=None if whole else size,
                ),
                protocol=protocol,
                recipe=recipe,
                seed=seed,
                num_threads=self.suite.num_threads,
            ),
            name=f"pretrain {system.name} {card.name}/{size} seed {seed}",
            card=card,
            labels=Labels(
                system=system.name,
                title=system.title,
                family=system.family,
                upstream=card.name,
                upstream_examples=size,
                protocol=protocol.name,
                recipe=block.recipe,
                stage="pretrain",
            ),
        )

    def _transfer(self, block: TransferBlock, key: str, pretrained: Sequence[PlannedJob]) -> None:
        protocol = self._protocol(block.protocol, f"{key}.protocol")
        for index, name in enumerate(block.datasets):
            card = self._dataset(name, f"{key}.datasets[{index}]")
            if "test" not in card.splits:
                raise self._error(
                    f"{key}.datasets[{index}]", f"{card.name} has no test split to report on"
                )
            for upstream in pretrained:
                self._check_size(baselines.system(upstream.labels.system), protocol, key)
            if block.kind == "fewshot":
                self._fewshot(block, key, card, protocol, pretrained)
            else:
                self._finetune(block, key, card, protocol, pretrained)

    def _fewshot(
        self,
        block: TransferBlock,
        key: str,
        card: DatasetCard,
        protocol: Protocol,
        pretrained: Sequence[PlannedJob],
    ) -> None:
        available = card.splits["train"].num_examples
        for index, shots in enumerate(block.shots):
            if shots * card.num_classes > available:
                raise self._error(
                    f"{key}.shots[{index}]",
                    f"{shots} images for each of {card.num_classes} classes asked of {card.name}, "
                    f"whose training split has {available:,}",
                    f"At most {available // card.num_classes}",
                )
        for upstream in pretrained:
            self._add_transfer(
                upstream,
                kind="fewshot",
                card=card,
                protocol=protocol,
                stage="fewshot",
                params={"shots": block.shots, "draws": block.draws, "l2": block.l2},
            )

    def _finetune(
        self,
        block: TransferBlock,
        key: str,
        card: DatasetCard,
        protocol: Protocol,
        pretrained: Sequence[PlannedJob],
    ) -> None:
        assert block.recipe is not None  # TransferBlock checked it
        recipe = self._recipe(block.recipe, f"{key}.recipe")
        num_train = card.splits["train"].num_examples
        num_held = round(num_train * block.held_out)
        if num_held < card.num_classes:
            raise self._error(
                f"{key}.held_out",
                f"{num_held} images of {card.name} are too few to choose a learning rate for "
                f"{card.num_classes} classes",
            )
        selects: dict[tuple[str, str, int], str] = {}
        for upstream in pretrained:
            labels = upstream.labels
            where = (labels.system, labels.upstream, labels.upstream_examples)
            if len(block.learning_rates) > 1 and where not in selects:
                selects[where] = self._sweep(
                    block, card, protocol, upstream, self._fixed(recipe, num_train - num_held)
                )
            chosen = selects.get(where)
            rate = None if chosen else block.learning_rates[0]
            self._add_transfer(
                upstream,
                kind="finetune",
                card=card,
                protocol=protocol,
                stage="final",
                recipe=self._fixed(recipe, num_train).model_copy(update={"base_lr": rate}),
                recipe_name=block.recipe,
                needs={"select": chosen} if chosen else {},
            )

    def _sweep(
        self,
        block: TransferBlock,
        card: DatasetCard,
        protocol: Protocol,
        upstream: PlannedJob,
        recipe: Recipe,
    ) -> str:
        """Add the candidates and their selection; return the selection's job id."""
        candidates = {}
        for index, rate in enumerate(block.learning_rates):
            candidates[f"candidate:{index}"] = self._add_transfer(
                upstream,
                kind="finetune",
                card=card,
                protocol=protocol,
                stage="candidate",
                recipe=recipe.model_copy(update={"base_lr": rate}),
                recipe_name=block.recipe or "",
                held_out=block.held_out,
            )
        return self._add_transfer(
            upstream,
            kind="select",
            card=card,
            protocol=protocol,
            stage="select",
            held_out=block.held_out,
            needs=candidates,
        )

    def _add_transfer(
        self,
        upstream: PlannedJob,
        *,
        kind: str,
        card: DatasetCard,
        protocol: Protocol,
        stage: Any,
        recipe: Recipe | None = None,
        recipe_name: str = "",
        params: dict[str, Any] | None = None,
        held_out: float | None = None,
        needs: Mapping[str, str] | None = None,
    ) -> str:
        labels = upstream.labels
        rate = recipe.base_lr if recipe and stage == "candidate" else None
        needed = dict(needs or {})
        if kind != "select":
            needed = {"checkpoint": upstream.job_id, **needed}
        what = {"candidate": f"choose lr {rate}", "select": "select lr", "final": "finetune"}
        return self._add(
            JobSpec(
                kind=kind,
                kind_version=KIND_VERSIONS[kind],
                system=upstream.spec.system,
                data=DataUse(
                    digest=card.digest,
                    num_classes=card.num_classes,
                    train_split="train",
                    eval_split="test" if held_out is None else "held-out",
                    held_out=held_out,
                ),
                protocol=protocol,
                recipe=recipe,
                params=params or {},
                seed=upstream.spec.seed,
                num_threads=self.suite.num_threads,
                needs=needed,
            ),
            name=f"{what.get(stage, 'few-shot')} {labels.system} "
            f"{labels.upstream}/{labels.upstream_examples} to {card.name} "
            f"seed {upstream.spec.seed}",
            card=card,
            labels=labels.model_copy(
                update={
                    "downstream": card.name,
                    "protocol": protocol.name,
                    "recipe": recipe_name,
                    "learning_rate": rate,
                    "stage": stage,
                }
            ),
            upstream=upstream,
        )

    # the pieces every job is made of

    def _fixed(self, recipe: Recipe, num_examples: int) -> Recipe:
        """Return the recipe with its length in steps: the number does not depend on the unit."""
        steps = recipe.num_steps(num_examples)
        if self.suite.limit_steps is not None:
            steps = min(steps, self.suite.limit_steps)
        return recipe.model_copy(
            update={
                "steps": steps,
                "epochs": None,
                "examples": None,
                "warmup_steps": min(recipe.warmup_steps, steps),
                "source": "",
            }
        )

    def _check_size(self, system: SystemCard, protocol: Protocol, key: str) -> None:
        size = protocol.image_size_px
        if system.family in ("vit",) and size % system.patch_px:
            below = size - size % system.patch_px
            raise self._error(
                key,
                f"images of {size} px do not divide into patches of {system.patch_px} px "
                f"({system.name}, protocol {protocol.name})",
                f"Use a protocol of {below or system.patch_px} or {below + system.patch_px} px",
            )

    def _check_pair(self, pair: Pair, key: str, pretrained: Sequence[PlannedJob]) -> None:
        members = {role: self._system(name, f"{key}.{role}").name for role, name in _members(pair)}
        work: dict[tuple[str, int], dict[str, float]] = {}
        for job in pretrained:
            where = (job.labels.upstream, job.labels.upstream_examples)
            work.setdefault(where, {})[job.labels.system] = job.exaflops
        for role, name in members.items():
            if not any(name in found for found in work.values()):
                raise self._error(f"{key}.{role}", f'"{name}" is not pre-trained in this suite')
        for where, found in work.items():
            present = [found[name] for name in members.values() if name in found]
            ratio = max(present) / min(present) if present else 1.0
            if ratio > pair.max_ratio:
                raise self._error(
                    key,
                    f"pre-training compute on {where[0]}/{where[1]} differs by {ratio:.2f}x, "
                    f"more than max_ratio {pair.max_ratio}",
                    "Choose systems or recipes of equal compute, or raise max_ratio",
                )

    def _add(
        self,
        spec: JobSpec,
        *,
        name: str,
        card: DatasetCard,
        labels: Labels,
        upstream: PlannedJob | None = None,
    ) -> str:
        job_id = spec.job_id
        if job_id in self.jobs:
            return job_id
        steps = spec.recipe.steps if spec.recipe and spec.recipe.steps else 0
        examples = steps * spec.recipe.batch_size if spec.recipe else 0
        exaflops = self._exaflops(spec, card, examples)
        computes = spec.kind != "select"
        self.jobs[job_id] = PlannedJob(
            job_id=job_id,
            spec=spec,
            name=name,
            labels=labels,
            dataset=card.name,
            resources=Resources(
                cpus=spec.num_threads if computes else 1,
                gpus=self.suite.gpus if computes else 0,
                tpus=self.suite.tpus if computes else 0,
            ),
            train_examples=examples,
            num_steps=steps,
            exaflops=exaflops,
            pretrain_exaflops=upstream.pretrain_exaflops if upstream else exaflops,
            num_params=baselines.system(labels.system).num_params,
        )
        return job_id

    def _exaflops(self, spec: JobSpec, card: DatasetCard, examples: int) -> float:
        """Closed form of the job's work: 3 x forward for training, forward for evaluation."""
        if spec.kind == "select":
            return 0.0
        forward = baselines.forward_flops(spec.system, spec.protocol.image_size_px)
        evaluated = 0
        if spec.data.eval_split == "test":
            evaluated = card.splits["test"].num_examples
        elif spec.data.held_out is not None:
            evaluated = round(card.splits["train"].num_examples * spec.data.held_out)
        if spec.kind == "fewshot":
            evaluated += card.splits["train"].num_examples
        return forward * (3 * examples + evaluated) / 1e18


def _members(pair: Pair) -> Iterator[tuple[str, str]]:
    yield "vit", pair.vit
    yield "bit", pair.bit
    if pair.hybrid is not None:
        yield "hybrid", pair.hybrid
