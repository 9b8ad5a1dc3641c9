"""Weights in place of pre-training: public ones, a file of the user's own, or none at all."""

from __future__ import annotations

from pydantic import Field, model_validator

from bench.kinds.base import OTHER, Block, KindCard, Planner, Stage, Start
from bench.paths import WEIGHTS
from bench.specs import PlannedJob, SystemCard

UNTRAINED = "untrained"
"""Weights as they are drawn: the row that shows what pre-training is worth."""


class WeightsBlock(Block):
    """Start from weights in place of pre-training: public ones, a file of your own, or as drawn."""

    systems: tuple[str, ...] = Field(min_length=1)
    """Names of system cards."""
    weights: str = ""
    """Name of the weights on the card, e.g. `in21k`; `untrained`: those that a seed draws."""
    file: str = ""
    """File of your own in place of a name; relative paths are taken from the suite file."""
    name: str = ""
    """What tables call the file; empty: as the file."""
    trained_on: tuple[str, ...] = ()
    """Data sets that the file was trained on, first to last; empty: not stated."""
    exaflops: float | None = Field(default=None, gt=0)
    """Pre-training behind the file, in 10^18 FLOPs; left out: not stated."""

    @model_validator(mode="after")
    def _one_source(self) -> WeightsBlock:
        if bool(self.weights) == bool(self.file):
            raise ValueError("set exactly one of weights (a name) and file (a path)")
        if self.file and len(self.systems) > 1:
            raise ValueError("a file holds the weights of one system: write a table for each")
        if not self.file and (self.name or self.trained_on or self.exaflops):
            raise ValueError("name, trained_on and exaflops say what a file of your own is")
        return self


def plan(planner: Planner, block: WeightsBlock, key: str) -> None:
    """Plan one job for each system of a block, which every seed of the suite starts from."""
    for index, name in enumerate(block.systems):
        system = planner.system(name, f"{key}.systems[{index}]")
        if block.weights == UNTRAINED:
            _draw(planner, system)
            continue
        job = (_from_file if block.file else _public)(planner, block, key, system)
        place = f"{system.name} {job.job_id}"
        words = f"{system.name} {job.labels.recipe}"
        planner.starts.extend(Start(job, system, seed, place, words) for seed in planner.seeds)


def _public(planner: Planner, block: WeightsBlock, key: str, system: SystemCard) -> PlannedJob:
    source = planner.weights(system, block.weights, f"{key}.weights")
    first, last = planner.trained_on(source, f"{key}.weights")
    return planner.add(
        "weights",
        stage="weights",
        name=f"weights {source.name} of {system.name}",
        system=system,
        upstream=(first, first.num_published("train")),
        params={
            "weights": source.name,
            "url": source.url,
            "sha256": source.sha256,
            "num_classes": last.num_classes,
            "image_size_px": system.image_size_px,
        },
        labels={"protocol": "weights", "recipe": source.name},
        refused="" if source.url else f"weights {source.name} of {system.name}: {source.note}",
    )


def _from_file(planner: Planner, block: WeightsBlock, key: str, system: SystemCard) -> PlannedJob:
    """Plan the job of a file: its bytes are its identity, what is said of it is not."""
    own = planner.weights_file(
        system, block.file, key, name=block.name, trained_on=block.trained_on
    )
    first, classes = own.upstream, own.num_classes
    return planner.add(
        "weights",
        stage="weights",
        name=f"weights {own.name} of {system.name}",
        system=system,
        upstream=None if first is None else (first, first.num_published("train")),
        params={
            "file_sha256": own.sha256,
            **({} if classes is None else {"num_classes": classes}),
            "image_size_px": system.image_size_px,
        },
        labels={"protocol": "weights", "recipe": own.name},
        pretrain_exaflops=block.exaflops,
        file=own.path,
        note=own.note,
    )


def _draw(planner: Planner, system: SystemCard) -> None:
    """Plan the weights that each seed draws, which no image was seen for."""
    for seed in planner.seeds:
        job = planner.add(
            "weights",
            stage="weights",
            name=f"untrained {system.name} seed {seed}",
            system=system,
            params={
                "weights": UNTRAINED,
                "num_classes": 1,  # of a head that is left out
                "image_size_px": system.image_size_px,
            },
            # What has no weights is the same for every seed.
            seed=seed if system.num_params else planner.seeds[0],
            labels={"protocol": "weights", "recipe": UNTRAINED, "upstream": UNTRAINED},
        )
        place, words = f"{system.name} {UNTRAINED}", f"{UNTRAINED} {system.name}"
        planner.starts.append(Start(job, system, seed, place, words))


CARD = KindCard(
    name="weights",
    title="Weights",
    place=20,
    run="bench.jobs.weights:run",
    stages=(Stage(name="weights", title="Weights", role="start", work=OTHER),),
    table="weights",
    block=WeightsBlock,
    plan=plan,
    needs_data=False,
    uses_device=False,
    leaves=(WEIGHTS,),
)
