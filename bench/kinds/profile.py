"""Profiles: speed and memory of systems, each at each input size, from random weights.

Source: arXiv:2010.11929, appendix D.5 and Figure 12.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from bench.kinds.base import PROFILING, Block, KindCard, Planner, Stage
from bench.specs import Args, MetricCard, Precision, SystemCard

NUM_CLASSES = 1000
"""Outputs of the classifier: those of ImageNet."""


class ProfileBlock(Block):
    """Measure speed and memory of every system at every input size; nothing is learned."""

    systems: tuple[str, ...] = Field(min_length=1)
    """Names of system cards."""
    image_sizes_px: tuple[int, ...] = Field(min_length=1)
    """Sides of the square input, in pixels."""
    batch_sizes: tuple[int, ...] = Field(min_length=1)
    """Images pushed through at once."""
    precision: Precision = "float32"
    """Arithmetic of forward and backward; weights stay float32."""
    steps: int = Field(default=5, gt=0, le=1000)
    """Batches in one timing."""
    repeats: int = Field(default=5, gt=0, le=100)
    """Timings of each batch size, after a warm-up; their median is reported."""
    memory_gib: float | None = Field(default=None, gt=0)
    """Memory that the largest batch must fit; None: all that the device has (on a CPU the largest
    batch is then not sought)."""

    @model_validator(mode="after")
    def _sizes(self) -> ProfileBlock:
        for key, sizes, most in (
            ("image_sizes_px", self.image_sizes_px, 4096),
            ("batch_sizes", self.batch_sizes, 16_384),
        ):
            if len(set(sizes)) != len(sizes):
                raise ValueError(f"{key} must be distinct")
            if any(not 1 <= size <= most for size in sizes):
                raise ValueError(f"{key} must lie between 1 and {most:,}")
        return self


def plan(planner: Planner, block: ProfileBlock, key: str) -> None:
    """Plan one job for each system and input size of a block."""
    for index, name in enumerate(block.systems):
        system = planner.system(name, f"{key}.systems[{index}]")
        planner.check_arithmetic(block.precision, f"{key}.precision")
        for size_index, size_px in enumerate(block.image_sizes_px):
            planner.check_image(system, size_px, f"{key}.image_sizes_px[{size_index}]", "profile")
            _add(planner, block, system, size_px)


def _add(planner: Planner, block: ProfileBlock, system: SystemCard, size_px: int) -> None:
    planner.add(
        "profile",
        stage="profile",
        name=f"profile {system.name} at {size_px} px",
        system=system,
        params={**_arguments(block, size_px), "machine": planner.machine},
        labels={"recipe": block.precision},
        image_size_px=size_px,
        num_evaluated=_forward_passes(block),
    )


def _arguments(block: ProfileBlock, size_px: int) -> Args:
    params: Args = {
        "image_size_px": size_px,
        "num_classes": NUM_CLASSES,
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


def _metrics(params: Args) -> tuple[str, ...]:
    batches: Any = params.get("batch_sizes", ())
    speeds = tuple(f"inference_images_per_s/{batch}" for batch in batches)
    return (*speeds, "inference_largest_batch", "train_largest_batch")


CARD = KindCard(
    name="profile",
    title="Profile",
    place=90,
    run="bench.jobs.profile:run",
    stages=(
        Stage(
            name="profile", title="Profile", role="measurement", work=PROFILING, metrics=_metrics
        ),
    ),
    table="profile",
    block=ProfileBlock,
    plan=plan,
    needs_data=False,
    metrics=(
        MetricCard(
            name="inference_images_per_s",
            title="Inference, batch {}",
            unit="images/s",
            base_unit="images per second",
            direction="higher",
            help="images per second of forward passes on one batch; median of repeats",
        ),
        MetricCard(
            name="inference_memory_gib",
            title="Inference memory, batch {}",
            unit="GiB",
            base_unit="GiB",
            direction="lower",
            decimals=3,
            help="peak memory of forward passes (resident on a CPU, allocated on a device)",
        ),
        MetricCard(
            name="inference_largest_batch",
            title="Inference, largest batch",
            unit="images",
            base_unit="images",
            direction="higher",
            decimals=0,
            help="most images whose forward passes fit the memory, to one part in sixteen",
        ),
        MetricCard(
            name="train_images_per_s",
            title="Training, batch {}",
            unit="images/s",
            base_unit="images per second",
            direction="higher",
            help="images per second of optimizer steps on one batch; median of repeats",
        ),
        MetricCard(
            name="train_memory_gib",
            title="Training memory, batch {}",
            unit="GiB",
            base_unit="GiB",
            direction="lower",
            decimals=3,
            help="peak memory of optimizer steps (resident on a CPU, allocated on a device)",
        ),
        MetricCard(
            name="train_largest_batch",
            title="Training, largest batch",
            unit="images",
            base_unit="images",
            direction="higher",
            decimals=0,
            help="most images whose optimizer steps fit the memory, to one part in sixteen",
        ),
    ),
)
