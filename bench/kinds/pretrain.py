"""Pre-training: every system on every size of the upstream data set, for every seed.

Source: arXiv:2010.11929, section 4.1 and Table 3.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from bench.kinds.base import PRETRAINING, Block, KindCard, Planner, Stage, Start, metric
from bench.paths import WEIGHTS
from bench.specs import MAX_EPOCHS, DatasetCard, MetricCard, PlannedJob, Recipe, SystemCard
from bench.specs import Protocol as ImageProtocol


class PretrainBlock(Block):
    """Pre-train every system on every size of the upstream data set, for every suite seed."""

    systems: tuple[str, ...] = Field(min_length=1)
    """Names of system cards."""
    upstream: str
    """Name of a data set card."""
    num_examples: tuple[int, ...] = ()
    """Sizes of nested random subsets of the upstream training split; empty: all of it."""
    recipe: str
    """Name in `baselines/recipes.toml` or in the suite's own `[recipe.NAME]`."""
    protocol: str
    """Name of a pre-training protocol."""
    epochs: tuple[Annotated[float, Field(gt=0, le=MAX_EPOCHS)], ...] = ()
    """Passes over each size in `num_examples`, in place of the recipe's length."""

    @model_validator(mode="after")
    def _epochs_per_size(self) -> PretrainBlock:
        if self.epochs and len(self.epochs) != max(1, len(self.num_examples)):
            raise ValueError("epochs must have one entry for each entry of num_examples")
        lengths = self.epochs or (0.0,) * len(self.num_examples)
        if len({*zip(self.num_examples, lengths, strict=False)}) != len(self.num_examples):
            raise ValueError("num_examples must be distinct")
        return self


def plan(planner: Planner, block: PretrainBlock, key: str) -> None:
    """Plan every size, system and seed of a block, in this order."""
    card = planner.dataset(block.upstream, f"{key}.upstream")
    protocol = planner.protocol(block.protocol, f"{key}.protocol")
    recipe = planner.recipe(block.recipe, f"{key}.recipe")
    if recipe.base_lr is None:
        raise planner.error(f"{key}.recipe", f'"{block.recipe}" has no base_lr')
    planner.check_splits(card, ("train",), f"{key}.upstream")
    for size_index, size in enumerate(block.num_examples or (card.splits["train"].num_examples,)):
        _check_part(planner, card, size, f"{key}.num_examples[{size_index}]")
        length = recipe
        if block.epochs:
            epochs = block.epochs[size_index]
            length = recipe.model_copy(update={"steps": None, "examples": None, "epochs": epochs})
        for system_index, name in enumerate(block.systems):
            where = f"{key}.systems[{system_index}]"
            system = planner.system(name, where)
            planner.check_image(
                system, protocol.image_size_px, f"{key}.protocol", f"protocol {protocol.name}"
            )
            planner.check_objective(system, recipe, where)
            fixed = planner.fixed(length, size)
            for seed in planner.seeds:
                start = _start(planner, system, card, size, protocol, block.recipe, fixed, seed)
                _check_new(planner, start.job, system, name, where)
                planner.starts.append(start)


def _check_part(planner: Planner, card: DatasetCard, size: int, key: str) -> None:
    """Raise SuiteError where so many images cannot be taken from an upstream data set."""
    available = card.splits["train"].num_examples
    if not 0 < size <= available:
        raise planner.error(
            key, f"{size:,} images requested from {card.name}, which has {available:,}"
        )
    if card.args.get("stream") and size != available:
        raise planner.error(
            key,
            f"{card.name} is streamed, and a random part of it cannot be",
            "Leave num_examples or stream out",
        )


def _check_new(
    planner: Planner, job: PlannedJob, system: SystemCard, name: str, where: str
) -> None:
    """Raise SuiteError where the suite pre-trains the same system under two names."""
    if job.labels.system != system.name:
        raise planner.error(
            where,
            f'"{name}" is "{job.labels.system}" under another name, which this suite already '
            "pre-trains",
        )


def _start(
    planner: Planner,
    system: SystemCard,
    card: DatasetCard,
    size: int,
    protocol: ImageProtocol,
    recipe_name: str,
    recipe: Recipe,
    seed: int,
) -> Start:
    whole = size == card.splits["train"].num_examples
    name = f"pretrain {system.name} {card.name}/{size} seed {seed}"
    labels: dict[str, Any] = {"protocol": protocol.name, "recipe": recipe_name}
    job = planner.add(
        "pretrain",
        stage="pretrain",
        name=name,
        system=system,
        upstream=(card, size),
        data=planner.use(card, "train", num_examples=None if whole else size),
        protocol=protocol,
        recipe=recipe,
        seed=seed,
        labels=labels,
    )
    place = f"{system.name} {job.spec.model_copy(update={'seed': 0}).job_id}"
    setting = job.name.removeprefix(name)  # what tells two recipes of one system apart
    return Start(job, system, seed, place, f"{system.name} {card.name}/{size}{setting}")


CARD = KindCard(
    name="pretrain",
    title="Pre-training",
    place=10,
    run="bench.jobs.pretrain:run",
    shares_batches=True,
    stages=(
        Stage(
            name="pretrain",
            title="Pre-training",
            role="start",
            work=PRETRAINING,
            metrics=metric("train_loss"),
        ),
    ),
    table="pretrain",
    block=PretrainBlock,
    plan=plan,
    leaves=(WEIGHTS,),
    metrics=(
        MetricCard(
            name="train_loss",
            title="Training loss",
            unit="nats",
            base_unit="nats",
            direction="lower",
            decimals=3,
            help="mean training loss at the end of pre-training",
        ),
    ),
)
