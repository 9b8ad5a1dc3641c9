"""Public pre-trained weights in place of pre-training, or none at all: what training adds to."""

from __future__ import annotations

from pydantic import Field

from bench.kinds.base import OTHER, Block, KindCard, Planner, Stage, Start
from bench.paths import WEIGHTS
from bench.specs import SystemCard

UNTRAINED = "untrained"
"""Weights as they are drawn: the row that shows what pre-training is worth."""


class WeightsBlock(Block):
    """Start from public weights in place of pre-training, or from weights as they are drawn."""

    systems: tuple[str, ...] = Field(min_length=1)
    """Names of system cards."""
    weights: str
    """Name of the weights on the card, e.g. `in21k`; `untrained`: those that a seed draws."""


def plan(planner: Planner, block: WeightsBlock, key: str) -> None:
    """Plan one job for each system of a block, which every seed of the suite starts from."""
    for index, name in enumerate(block.systems):
        system = planner.system(name, f"{key}.systems[{index}]")
        if block.weights == UNTRAINED:
            _draw(planner, system)
            continue
        source = planner.weights(system, block.weights, f"{key}.weights")
        first, last = planner.trained_on(source, f"{key}.weights")
        job = planner.add(
            "weights",
            stage="weights",
            name=f"weights {source.name} of {system.name}",
            system=system,
            upstream=(first, first.splits["train"].num_examples),
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
        place = f"{system.name} {job.job_id}"
        words = f"{system.name} {source.name}"
        planner.starts.extend(Start(job, system, seed, place, words) for seed in planner.seeds)


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
    title="Public weights",
    place=20,
    run="bench.jobs.weights:run",
    stages=(Stage(name="weights", title="Public weights", role="start", work=OTHER),),
    table="weights",
    block=WeightsBlock,
    plan=plan,
    needs_data=False,
    uses_device=False,
    leaves=(WEIGHTS,),
)
