"""Where transfers start: systems that the suite pre-trains, and public weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import baselines
from bench.plan.graph import Builder, digest
from bench.plan.names import Names
from bench.specs import (
    KIND_VERSIONS,
    DatasetCard,
    DataUse,
    JobSpec,
    Labels,
    PlannedJob,
    PretrainBlock,
    Protocol,
    Recipe,
    SystemCard,
    WeightsBlock,
)


@dataclass(frozen=True)
class Start:
    """A checkpoint that transfers start from, at one seed of the suite."""

    job: PlannedJob
    """The job that leaves the checkpoint."""
    system: SystemCard
    """Its system."""
    seed: int
    """Seed of the transfers."""
    place: str
    """What the starts of all seeds have in common; learning rates are chosen once for it."""
    words: str
    """System and upstream data, for names of jobs."""


def pretrain(builder: Builder, block: PretrainBlock, key: str) -> list[Start]:
    """Plan every size, system and seed of a block, in this order."""
    names = builder.names
    card = names.dataset(block.upstream, f"{key}.upstream")
    protocol = names.protocol(block.protocol, f"{key}.protocol")
    recipe = names.recipe(block.recipe, f"{key}.recipe")
    if recipe.base_lr is None:
        raise names.error(f"{key}.recipe", f'"{block.recipe}" has no base_lr')
    names.check_splits(card, ("train",), f"{key}.upstream")
    starts = []
    for size_index, size in enumerate(block.num_examples or (card.splits["train"].num_examples,)):
        _check_part(names, card, size, f"{key}.num_examples[{size_index}]")
        length = recipe
        if block.epochs:
            epochs = block.epochs[size_index]
            length = recipe.model_copy(update={"steps": None, "examples": None, "epochs": epochs})
        for system_index, name in enumerate(block.systems):
            system = names.system(name, f"{key}.systems[{system_index}]")
            names.check_size(system, protocol, f"{key}.protocol")
            _check_objective(names, system, recipe, f"{key}.systems[{system_index}]")
            fixed = builder.fixed(length, size)
            for seed in builder.suite.seeds:
                start = _pretrain(builder, system, card, size, protocol, block.recipe, fixed, seed)
                if start.job.labels.system != system.name:
                    raise names.error(
                        f"{key}.systems[{system_index}]",
                        f'"{name}" is "{start.job.labels.system}" under another name, which this '
                        "suite pre-trains already",
                    )
                starts.append(start)
    return starts


def _check_part(names: Names, card: DatasetCard, size: int, key: str) -> None:
    """Raise SuiteError where so many images cannot be taken from an upstream data set."""
    available = card.splits["train"].num_examples
    if not 0 < size <= available:
        raise names.error(key, f"{size:,} images asked of {card.name}, which has {available:,}")
    if card.args.get("stream") and size != available:
        raise names.error(
            key,
            f"{card.name} is streamed, and a random part of it cannot be",
            "Leave num_examples or stream out",
        )


def _check_objective(names: Names, system: SystemCard, recipe: Recipe, key: str) -> None:
    """Raise SuiteError where a system cannot learn what the recipe asks."""
    if recipe.objective == "masked-patch" and not baselines.family_of(system).has_patches:
        raise names.error(key, f"{system.title} has no patches to mask", "Name ViTs alone")


def _pretrain(
    builder: Builder,
    system: SystemCard,
    card: DatasetCard,
    size: int,
    protocol: Protocol,
    recipe_name: str,
    recipe: Recipe,
    seed: int,
) -> Start:
    whole = size == card.splits["train"].num_examples
    spec = JobSpec(
        kind="pretrain",
        kind_version=KIND_VERSIONS["pretrain"],
        system=baselines.use(system),
        data=DataUse(
            digest=digest(card),
            num_classes=card.num_classes,
            train_split="train",
            eval_split="",
            num_examples=None if whole else size,
        ),
        protocol=protocol,
        recipe=recipe,
        seed=seed,
        num_threads=builder.suite.num_threads,
    )
    name = f"pretrain {system.name} {card.name}/{size} seed {seed}"
    job = builder.add(
        spec,
        name=name,
        system=system,
        card=card,
        labels=_labels(system, card, size, protocol.name, recipe_name, "pretrain"),
    )
    place = f"{system.name} {spec.model_copy(update={'seed': 0}).job_id}"
    setting = job.name.removeprefix(name)  # what tells two recipes of one system apart
    return Start(job, system, seed, place, f"{system.name} {card.name}/{size}{setting}")


def weights(builder: Builder, block: WeightsBlock, key: str) -> list[Start]:
    """Plan one job for each system of a block, which every seed of the suite starts from."""
    names = builder.names
    starts = []
    for index, name in enumerate(block.systems):
        system = names.system(name, f"{key}.systems[{index}]")
        source = names.weights(system, block.weights, f"{key}.weights")
        first, last = names.trained_on(source, f"{key}.weights")
        spec = JobSpec(
            kind="weights",
            kind_version=KIND_VERSIONS["weights"],
            system=baselines.use(system),
            data=DataUse(digest="", num_classes=last.num_classes, train_split="", eval_split=""),
            protocol=Protocol(
                name="weights",
                image_size_px=system.image_size_px,
                train_transform="resize",
                eval_transform="resize",
            ),
            params={"weights": source.name, "url": source.url, "sha256": source.sha256},
            seed=0,
            num_threads=builder.suite.num_threads,
        )
        size = first.splits["train"].num_examples
        job = builder.add(
            spec,
            name=f"weights {source.name} of {system.name}",
            system=system,
            card=first,
            labels=_labels(system, first, size, "weights", source.name, "weights"),
            refused="" if source.url else f"weights {source.name} of {system.name}: {source.note}",
        )
        place = f"{system.name} {job.job_id}"
        words = f"{system.name} {source.name}"
        starts += [Start(job, system, seed, place, words) for seed in builder.suite.seeds]
    return starts


def _labels(
    system: SystemCard, card: DatasetCard, size: int, protocol: str, recipe: str, stage: Any
) -> Labels:
    return Labels(
        system=system.name,
        title=system.title,
        family=system.family,
        upstream=card.name,
        upstream_examples=size,
        protocol=protocol,
        recipe=recipe,
        stage=stage,
    )
