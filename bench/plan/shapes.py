"""The shapes of work in a suite: jobs of one shape ask the same of a device at every step.

Pure: a graph in, shapes out. Nothing here knows a kind by its name: what a job trains is in its
recipe, what it evaluates follows from its closed form.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import baselines
from bench.plan.spec import JobGraph
from bench.specs import (
    DeviceKind,
    PlannedJob,
    Precision,
    Recipe,
    Record,
    SystemUse,
    content_id,
)

EVALUATION_PRESET, TRAINING_PRESET = "resize", "resize"
"""Preparation of images where a kind has no protocol: they are made as the input is."""


class Shape(Record):
    """Work of one shape: everything that moves its time, its memory or its code path."""

    work: Literal["train", "evaluate"]
    """Steps of the training loop, or forward passes with frozen weights."""
    device: DeviceKind
    """Kind of device."""
    num_threads: int
    """CPU threads."""
    system: SystemUse
    """What is trained or evaluated."""
    image_size_px: int
    """Side of the square input, in pixels."""
    start_px: int | None
    """Side of the input of the weights that are loaded, in pixels; None: random weights."""
    num_classes: int
    """Outputs of the head."""
    batch_size: int
    """Images of a step, or scored at once; of an evaluation 0: what the loop takes."""
    transform: str
    """Preset that prepares the images."""
    precision: Precision
    """Arithmetic."""
    recipe: Recipe | None = None
    """train: how weights are updated, without what moves nothing but their values."""

    @property
    def key(self) -> str:
        """The content address of this shape: 16 hex digits."""
        return content_id(self.model_dump(mode="json", exclude_defaults=True))

    @property
    def words(self) -> str:
        """How a person calls it."""
        return f"{self.work} {self.system.family} at {self.image_size_px} px"


@dataclass(frozen=True)
class Part:
    """What one job does of one shape."""

    job: PlannedJob
    shape: Shape
    num_images: int
    """Images that go through."""


def parts(graph: JobGraph, *, device: DeviceKind | None = None) -> list[Part]:
    """Return what each job does of which shape; refused jobs too.

    With `device`, jobs that compute on a suite's devices do so on that kind.
    """
    by_id = {job.job_id: job for job in graph.jobs}
    found: list[Part] = []
    for job in graph.jobs:
        if job.exaflops:
            found += _of(job, by_id, device or job.spec.device)
    return found


def _of(job: PlannedJob, by_id: dict[str, PlannedJob], device: DeviceKind) -> Iterator[Part]:
    spec = job.spec
    size_px, classes = spec.image_size_px, spec.num_classes
    if size_px is None or classes is None:
        return
    start = by_id.get(spec.needs.get("checkpoint", ""))
    common: dict[str, Any] = {
        "device": device,
        "num_threads": spec.num_threads,
        "system": spec.system,
        "image_size_px": size_px,
        "start_px": start.spec.image_size_px if start else None,
        "num_classes": classes,
    }
    protocol = spec.protocol
    if spec.recipe is not None:
        recipe = _bare(spec.recipe)
        shape = Shape(
            work="train",
            batch_size=recipe.batch_size,
            transform=protocol.train_transform if protocol else TRAINING_PRESET,
            precision=recipe.precision,
            recipe=recipe,
            **common,
        )
        yield Part(job, shape, job.train_examples)
    evaluated = num_evaluated(job)
    if evaluated:
        params: dict[str, Any] = spec.params
        shape = Shape(
            work="evaluate",
            batch_size=max(params.get("batch_sizes", (0,))),
            transform=protocol.eval_transform if protocol else EVALUATION_PRESET,
            precision=params.get("precision", "float32"),
            **common,
        )
        yield Part(job, shape, evaluated)


def num_evaluated(job: PlannedJob) -> int:
    """Return the images that go forward besides training: exaFLOPs are forward x (3 T + E)."""
    size_px = job.spec.image_size_px
    if size_px is None:
        return 0
    forward = baselines.forward_flops(job.spec.system, size_px)
    return round(job.exaflops * 1e18 / forward) - 3 * job.train_examples


def _bare(recipe: Recipe) -> Recipe:
    """Return a recipe of two steps, without schedule: the work of a step is that of any other."""
    return recipe.model_copy(
        update={
            "steps": 2,
            "base_lr": 1e-6,
            "schedule": "constant",
            "end_lr": 0.0,
            "warmup_steps": 0,
            "drop_steps": (),
            "drop_shares": (),
            "weight_decay": min(recipe.weight_decay, 1e-4),
            "head_bias": 0.0,
            "label_smoothing": min(recipe.label_smoothing, 0.1),
        }
    )
