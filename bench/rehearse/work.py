"""Two real steps of a shape, or forward passes, on made inputs: the code that jobs run.

Models are built, and weights taken over, by the functions of the job kinds; steps are those of
`training.train`, scores those of `training.evaluate`. Images are black, in the right number and
size. Where the device is there it does the work; where it is not, it is pretended
(`pretend.py`), and what is found is memory, and whatever does not fit together.
"""

from __future__ import annotations

import math
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import baselines
from bench import jobs, models, training
from bench.cost import TRAIN_FACTOR
from bench.data import loader, transforms
from bench.data.packs.read import Split
from bench.jobs import JobContext, _features, _work, finetune, pretrain
from bench.plan.rehearsed import Measured
from bench.plan.shapes import Shape
from bench.rehearse.pretend import Held, pretended
from bench.specs import EVALUATION_BATCH, JobSpec, Recipe, Resources
from bench.training import devices
from bench.training.arithmetic import autocast
from bench.training.loop import has_batch_statistics

TIMED_S = 0.5
"""Shorter steps are repeated until they took so long: one alone would be the clock's noise."""

MAX_TIMED_STEPS = 200
"""Most steps that are timed."""

WAITED_FLOPS = 1e12
"""On a CPU a step has as many images as fit so much work: half a minute of a slow core."""


def rehearse(shape: Shape, *, folder: Path) -> Measured:
    """Do the work of a shape and return what it took, or as `fault` what the code raised.

    A device that is not there is pretended. `folder` is for what a job writes.
    """
    measure = _on_device
    pretence: AbstractContextManager[Held | None] = nullcontext()
    if not is_there(shape.device):
        measure, pretence = _on_nothing, pretended(shape.device)
    with pretence as held:
        try:
            with jobs.conditions(_context(shape, folder)):
                return measure(_Work(shape, folder), held)
        except Exception as error:  # whatever is wrong with the code, the others are rehearsed
            words = " ".join(str(error).split())[:300]
            return Measured(fault=f"{type(error).__name__}: {words}")


def is_there(device: str) -> bool:
    """Tell whether this machine has a device of a kind."""
    return device == "cpu" or (device == "cuda" and torch.cuda.is_available())


def _on_nothing(work: _Work, held: Held | None) -> Measured:
    """Do the work under pretence: what it holds, and nothing of its time."""
    assert held is not None
    constant_gib = held.now_bytes / 2**30 + work.checkpoint_gib
    held.restart()
    work.do(2 if work.trains else 1)  # at the second step gradients are there already
    moving_gib = max(0.0, held.peak_gib - constant_gib)
    return Measured(
        constant_gib=constant_gib,
        image_gib=moving_gib / work.num_at_once,
        checkpoint_gib=work.checkpoint_gib,
    )


def _on_device(work: _Work, held: Held | None) -> Measured:
    """Do the work for real, until its time is known."""
    kind = work.shape.device
    devices.restart_peak(kind)
    saved_gib = work.checkpoint_gib if kind == "cpu" else 0.0  # the copy that it is written of
    constant_gib = devices.peak_gib(kind) + work.checkpoint_gib + saved_gib
    first_s = work.do(2) / 2
    moving_gib = max(0.0, devices.peak_gib(kind) - constant_gib + saved_gib)
    steps = min(MAX_TIMED_STEPS, math.ceil(TIMED_S / max(first_s, 1e-6)))
    step_s = work.do(steps) / steps if steps > 2 else first_s
    return Measured(
        constant_gib=constant_gib,
        image_gib=moving_gib / work.num_at_once,
        image_s=step_s / work.batch_size,
        checkpoint_gib=work.checkpoint_gib,
    )


class _Work:
    """A model of a shape on its device, and made images."""

    def __init__(self, shape: Shape, folder: Path) -> None:
        self.shape = shape
        self._context = _context(shape, folder)
        self._model = _model(self._context, shape)
        self.batch_size = _num_images(shape)
        self._split = _made(self.batch_size, shape.image_size_px)
        whole = shape.recipe is None or self.batch_size < 2 or has_batch_statistics(self._model)
        self._pieces = 1 if whole or is_there(shape.device) else 2

    @property
    def trains(self) -> bool:
        """Whether weights are updated."""
        return self.shape.recipe is not None

    @property
    def num_at_once(self) -> int:
        """Most images that are computed together."""
        return math.ceil(self.batch_size / self._pieces)

    @property
    def checkpoint_gib(self) -> float:
        """Weights, what the optimizer keeps and averages, in GiB; 0 where nothing is trained."""
        recipe = self.shape.recipe
        if recipe is None:
            return 0.0
        trained = sum(4 * p.numel() for p in self._model.parameters() if p.requires_grad)
        copies = 1 + (2 if recipe.optimizer == "adam" else 1) + (recipe.polyak is not None)
        return copies * trained / 2**30

    def do(self, num: int) -> float:
        """Do some steps, or score so many batches; return the seconds that they took."""
        shape = self.shape
        transform = transforms.preset(shape.transform, size_px=shape.image_size_px)
        if shape.recipe is not None:
            return self._train(shape.recipe, transform, num)
        started_s = time.perf_counter()
        for _ in range(num):
            with autocast(shape.device, shape.precision):
                training.evaluate(self._model, self._split, transform)
        return time.perf_counter() - started_s

    def _train(self, recipe: Recipe, transform: transforms.Transform, num: int) -> float:
        batches = loader.Batches(
            self._split,
            None,
            transform,
            batch_size=self.batch_size,
            seed=0,
            device=_work.device(self._context),
            prefetch=False,  # a pretended device has no streams
        )
        done = training.train(
            self._model,
            batches,
            recipe=recipe.model_copy(update={"batch_size": self.batch_size}),
            num_steps=num,
            seed=0,
            pieces=self._pieces,
        )
        self._pieces = done.pieces
        return done.stepping_s


def _num_images(shape: Shape) -> int:
    """Return the images of a step: the shape's batch, on a CPU what can be waited for."""
    num = shape.batch_size or EVALUATION_BATCH
    if shape.device != "cpu":
        return num
    flops = baselines.forward_flops(shape.system, shape.image_size_px)
    flops *= 1 if shape.recipe is None else TRAIN_FACTOR
    return max(1, min(num, int(WAITED_FLOPS / flops)))


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
        attempt=1,
        report=lambda line: None,
        resources=Resources(),
    )


def _model(context: JobContext, shape: Shape) -> nn.Module:
    """Return the model as the kinds make it: from random weights, or from weights of `start_px`."""
    if shape.start_px is None:
        if shape.recipe is None:
            return _work.build(context, pretraining_head=False)
        return pretrain.initial(context, shape.recipe)
    start = models.build(shape.system, num_classes=shape.num_classes, image_size_px=shape.start_px)
    weights: dict[str, Tensor] = dict(start.state_dict())
    if shape.recipe is None:
        return _features.frozen(context, weights)
    return finetune.initial(context, shape.recipe, weights)


def _made(num_images: int, size_px: int) -> Split:
    """Return so many black images of the input's size."""
    images = np.zeros((num_images, size_px, size_px, 3), dtype=np.uint8)  # pages come when read
    return Split(images, np.zeros(num_images, dtype=np.int64))
