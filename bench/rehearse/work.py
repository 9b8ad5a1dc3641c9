"""Two real steps of a shape, or forward passes, on made inputs: the code that jobs run.

Models are built, and weights taken over, by the functions of the job kinds; steps are those of
`training.train`, scores those of `training.evaluate`. Images are black, in the right number and
size. Where the device is there it does the work; where it is not, it is pretended
(`pretend.py`), and what is found is memory, and whatever does not fit together.
"""

from __future__ import annotations

import math
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from bench import jobs, models, training
from bench.data import loader, transforms
from bench.data.packs.read import Split
from bench.jobs import JobContext, _features, _work, finetune, pretrain
from bench.rehearse.measured import Measured
from bench.rehearse.pretend import Held, pretended
from bench.rehearse.shapes import Shape
from bench.specs import JobSpec, Recipe
from bench.training.arithmetic import autocast

TIMED_S = 0.5
"""Shorter steps are repeated until they took so long: one alone would be the clock's noise."""

MAX_TIMED_STEPS = 200
"""Most steps that are timed."""


def rehearse(shape: Shape, *, folder: Path) -> Measured:
    """Do the work of a shape and return what it took; what raises is the shape's `fault`.

    A device that is not there is pretended. `folder` is for what a job writes.
    """
    if is_there(shape.device):
        return _on_device(shape, folder)
    with pretended(shape.device) as held:
        try:
            return _on_nothing(shape, folder, held)
        except Exception as error:
            words = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            return Measured(memory_gib=held.peak_gib, fault=words)


def is_there(device: str) -> bool:
    """Tell whether this machine has a device of a kind."""
    return device == "cpu" or (device == "cuda" and torch.cuda.is_available())


def _on_nothing(shape: Shape, folder: Path, held: Held) -> Measured:
    """Do the work under pretence: memory, and what is held between two steps."""
    work = _Work(shape, folder)
    held.restart()
    work.do(1 if shape.recipe is None else 2)  # at the second step gradients are there already
    peak_gib = held.peak_gib
    work.forget_inputs()
    return Measured(
        memory_gib=peak_gib,
        constant_gib=min(peak_gib, held.now_bytes / 2**30 + work.gradients_gib),
        checkpoint_gib=work.checkpoint_gib,
    )


def _on_device(shape: Shape, folder: Path) -> Measured:
    """Do the work for real, until its time is known."""
    work = _Work(shape, folder)
    _work._reset_peak_memory(shape.device)
    before_gib = _work.peak_memory_gib(shape.device)
    first_s = work.do(2) / 2
    steps = min(MAX_TIMED_STEPS, math.ceil(TIMED_S / max(first_s, 1e-6)))
    step_s = work.do(steps) / steps if steps > 2 else first_s
    peak_gib = _work.peak_memory_gib(shape.device)
    return Measured(
        memory_gib=peak_gib,
        constant_gib=min(before_gib + work.gradients_gib, peak_gib),
        image_s=step_s / work.batch_size,
        checkpoint_gib=work.checkpoint_gib,
    )


class _Work:
    """A model of a shape and its made images."""

    def __init__(self, shape: Shape, folder: Path) -> None:
        self._shape = shape
        self._context = _context(shape, folder)
        self.batch_size = shape.batch_size or training.EVALUATION_BATCH
        with jobs.conditions(self._context):
            self._model = _model(self._context, shape)
        trained = shape.recipe is not None
        parameters = [p for p in self._model.parameters() if p.requires_grad]
        self.gradients_gib = trained * sum(4 * p.numel() for p in parameters) / 2**30
        kept = 0 if shape.recipe is None else 2 if shape.recipe.optimizer == "sgd" else 3
        kept += bool(shape.recipe and shape.recipe.polyak)
        self.checkpoint_gib = kept * self.gradients_gib
        """Weights, what the optimizer keeps, and averages."""
        self._split: Split | None = _made(self.batch_size, shape)

    def do(self, num: int) -> float:
        """Do some steps, or score some batches; return the seconds that they took."""
        assert self._split is not None
        shape = self._shape
        with jobs.conditions(self._context):
            transform = transforms.preset(shape.transform, size_px=shape.image_size_px)
            if shape.recipe is None:
                started_s = time.perf_counter()
                for _ in range(num):
                    with autocast(shape.device, shape.precision):
                        training.evaluate(self._model, self._split, transform)
                return time.perf_counter() - started_s
            return self._train(shape.recipe, transform, num)

    def _train(self, recipe: Recipe, transform: transforms.Transform, num: int) -> float:
        assert self._split is not None
        device = _work.device(self._context)
        batches = loader.Batches(
            self._split,
            None,
            transform,
            batch_size=recipe.batch_size,
            seed=0,
            device=device,
            prefetch=False,
        )
        done = training.train(self._model, batches, recipe=recipe, num_steps=num, seed=0)
        return done.stepping_s

    def forget_inputs(self) -> None:
        """Let go of the images and of the gradients, as between two steps."""
        self._split = None
        for parameter in self._model.parameters():
            parameter.grad = None


def _context(shape: Shape, folder: Path) -> JobContext:
    """Return the context of a job that has nothing but its shape."""
    spec = JobSpec(
        kind="rehearsal",
        kind_version=1,
        system=shape.system,
        recipe=shape.recipe,
        params={
            "image_size_px": shape.image_size_px,
            "num_classes": shape.num_classes,
            "precision": shape.precision,
        },
        seed=0,
        num_threads=shape.num_threads,
        device=shape.device,
    )
    return JobContext(
        spec=spec,
        folder=folder,
        inputs={},
        dataset=None,
        cache_dir=folder,
        device=shape.device,
        attempt=1,
        report=lambda line: None,
    )


def _model(context: JobContext, shape: Shape) -> nn.Module:
    """Return the model as the kinds make it: from random weights, or from weights of `start_px`."""
    if shape.start_px is None:
        if shape.recipe is None:
            return _work.build(context, pretraining_head=False)
        return pretrain.initial(context, shape.recipe)
    start = models.build(
        shape.system, num_classes=shape.num_classes, image_size_px=shape.start_px
    )
    weights: dict[str, Tensor] = dict(start.state_dict())
    if shape.recipe is None:
        return _features.frozen(context, weights)
    return finetune.initial(context, shape.recipe, weights)


def _made(batch_size: int, shape: Shape) -> Split:
    """Return as many black images as a batch has, of the input's size."""
    size_px = shape.image_size_px
    images = np.zeros((batch_size, size_px, size_px, 3), dtype=np.uint8)  # pages come when used
    return Split(images, np.zeros(batch_size, dtype=np.int64))
