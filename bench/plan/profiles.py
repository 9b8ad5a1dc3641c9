"""Profiles: speed and memory of systems, each at each input size, from random weights."""

from __future__ import annotations

import baselines
from bench.plan.graph import Builder
from bench.specs import (
    KIND_VERSIONS,
    Args,
    DatasetCard,
    DataUse,
    JobSpec,
    Labels,
    ProfileBlock,
    Protocol,
    SystemCard,
)

NUM_CLASSES = 1000
"""Outputs of the classifier: those of ImageNet."""

NOISE = DatasetCard(
    name="random-pixels",
    title="Random pixels",
    reader="none",
    num_classes=NUM_CLASSES,
    splits={},
    digest="random-pixels",
    source="drawn by each profile",
)
"""What is pushed through: speed does not depend on what the images show."""


def profile(builder: Builder, block: ProfileBlock, key: str) -> None:
    """Plan one job for each system and input size of a block."""
    names = builder.names
    names.used[NOISE.name] = NOISE
    for index, name in enumerate(block.systems):
        system = names.system(name, f"{key}.systems[{index}]")
        for size_index, size_px in enumerate(block.image_sizes_px):
            protocol = Protocol(
                name="profile",
                image_size_px=size_px,
                train_transform="resize",
                eval_transform="resize",
            )
            names.check_size(system, protocol, f"{key}.image_sizes_px[{size_index}]")
            _add(builder, block, system, protocol)


def _add(builder: Builder, block: ProfileBlock, system: SystemCard, protocol: Protocol) -> None:
    spec = JobSpec(
        kind="profile",
        kind_version=KIND_VERSIONS["profile"],
        system=baselines.use(system),
        data=DataUse(digest="", num_classes=NUM_CLASSES, train_split="", eval_split=""),
        protocol=protocol,
        params=_arguments(block),
        seed=0,
        num_threads=builder.suite.num_threads,
    )
    builder.add(
        spec,
        name=f"profile {system.name} at {protocol.image_size_px} px",
        system=system,
        card=NOISE,
        labels=Labels(
            system=system.name,
            title=system.title,
            family=system.family,
            upstream="",
            upstream_examples=0,
            protocol=protocol.name,
            recipe=block.precision,
            stage="profile",
        ),
        num_evaluated=_forward_passes(block),
    )


def _arguments(block: ProfileBlock) -> Args:
    params: Args = {
        "batch_sizes": tuple(sorted(block.batch_sizes)),
        "precision": block.precision,
        "steps": block.steps,
        "repeats": block.repeats,
    }
    if block.memory_gib is not None:
        params["memory_gib"] = block.memory_gib
    return params


def _forward_passes(block: ProfileBlock) -> int:
    """Return the images of all timings, as forward passes: inference once, training three times.

    The search for the largest batch comes on top; how long it is, depends on what fits.
    """
    batches = 1 + block.steps * block.repeats
    return (1 + 3) * batches * sum(block.batch_sizes)
