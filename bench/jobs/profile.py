"""Speed and memory of a system at one input size: no weights to load, nothing is learned.

Source: arXiv:2010.11929, appendix D.5 and Figure 12: inference speed at the best batch size, and
the largest batch that fits a device, over input sizes. The paper leaves training out, since it
takes a constant factor more; here it is measured too.

Weights are random and images are noise: neither changes a speed. Both stay on the device, so that
reading and cropping images is not measured. Inference is the model's forward pass; training is
what `bench/training/loop.py` does at a step, with Adam, as in the paper's pre-training. Arithmetic
is that of every job, deterministic kernels included. On a CPU one profile runs at a time on a
machine; other work is not kept away.
"""

from __future__ import annotations

import contextlib
import gc
import math
import os
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from filelock import FileLock
from torch import Tensor

from bench import training
from bench.data.parts import Part
from bench.errors import JobError
from bench.jobs import JobContext, _work
from bench.jobs._peak import Peak
from bench.paths import CachePaths
from bench.specs import JobResult, Metric, Recipe
from bench.training.arithmetic import autocast
from bench.training.memory import is_exhausted, returned_memory

MAX_BATCH = 1 << 14
"""Batches are made no larger than this."""

RESOLUTION = 16
"""The largest batch is found to one part in so many."""

_UNMEASURED = "peak memory cannot be measured here"

_RATE = 1e-6
"""Learning rate: the same work at every rate, and at this one random weights stay finite."""

_TRAINED_STEPS = 2
"""Steps whose peak memory is that of training: in the second one gradients are there already."""

Work = Literal["inference", "train"]
WORKS: tuple[Work, ...] = ("inference", "train")


def run(context: JobContext) -> JobResult:
    """Return speed and memory of each batch size, and the largest batch, of inference and training.

    Metrics: `<work>_images_per_s/<batch>` (median of the repeats, which are its samples),
    `<work>_memory_gib/<batch>` and `<work>_largest_batch`, where `<work>` is `inference` or
    `train`. A batch that does not fit has a reason in place of values.
    """
    _check_machine(context)
    with _one_at_a_time(context):
        meter = _work.Meter(context)
        profile = _Profile(context)
        metrics: dict[str, Metric] = {}
        for work in WORKS:
            metrics |= profile.measure(work)
        return meter.result(
            metrics=metrics,
            values={"precision": profile.precision},
            num_evaluated=profile.num_images,
            # Each measure started the mark of the process anew.
            others=[_work.Spent(num_images=0, core_s=0.0, peak_memory_gib=profile.highest_gib)],
        )


def _check_machine(context: JobContext) -> None:
    """Raise JobError on another machine than the one that the speeds would be said to be of."""
    from bench import environment

    planned, here = context.spec.params.get("machine"), environment.machine(context.device)
    if planned not in (None, here):
        raise JobError(
            f"speeds of {planned} were planned, and this is {here}",
            hint="Plan and run profiles on the machine that they are of",
        )


class _Profile:
    """A system on its device, and what was measured of it so far."""

    def __init__(self, context: JobContext) -> None:
        params: dict[str, Any] = context.spec.params
        self._batch_sizes: tuple[int, ...] = tuple(params["batch_sizes"])
        self._steps, self._repeats = int(params["steps"]), int(params["repeats"])
        self._limit_gib = float(params.get("memory_gib", math.inf))
        self.precision: Any = params["precision"]
        self._classes = context.num_classes
        self._size_px = context.image_size_px
        self._device = _work.device(context)
        _check_limit(self._limit_gib, self._device)
        self._warm_up(context)
        self._peak = Peak(self._device)
        self._model = _work.build(context, pretraining_head=False)
        self._peaks_gib: dict[tuple[Work, int], float] = {}
        self.num_images = 0
        """Images pushed through."""
        self.highest_gib = 0.0
        """Most memory held at any time."""

    def measure(self, work: Work) -> dict[str, Metric]:
        """Return all metrics of inference or training."""
        largest = self._largest_batch(work) if self._is_bounded() else None
        metrics: dict[str, Metric] = {}
        for batch in self._batch_sizes:
            if largest is not None and largest < batch < 2 * largest and self._fits(work, batch):
                largest = batch  # within what the search leaves open
            found = (
                self._measure_batch(work, batch)
                if largest is None or batch <= largest
                else self._too_large(work, batch)
            )
            metrics |= {metric.name: metric for metric in found}
        return metrics | {f"{work}_largest_batch": self._largest_metric(work, largest)}

    def _measure_batch(self, work: Work, batch: int) -> tuple[Metric, Metric]:
        fits = self._fits(work, batch)
        speed, memory = f"{work}_images_per_s/{batch}", f"{work}_memory_gib/{batch}"
        if not fits:
            return self._too_large(work, batch)
        self._step(work, batch, 1)
        rates = tuple(
            batch * self._steps / self._step(work, batch, self._steps) for _ in range(self._repeats)
        )
        gib = self._peaks_gib[work, batch]
        return (
            Metric(name=speed, value=statistics.median(rates), n=len(rates), samples=rates),
            Metric(name=memory, value=gib, n=1)
            if self._peak.is_measured
            else Metric(name=memory, value=None, reason=_UNMEASURED),
        )

    def _too_large(self, work: Work, batch: int) -> tuple[Metric, Metric]:
        where = f"{self._limit_gib:g} GiB" if self._limit_gib < math.inf else "the device's memory"
        reason = f"a batch of {batch:,} does not fit {where}"
        return (
            Metric(name=f"{work}_images_per_s/{batch}", value=None, reason=reason),
            Metric(name=f"{work}_memory_gib/{batch}", value=None, reason=reason),
        )

    # --- memory ------------------------------------------------------------------------------

    def _is_bounded(self) -> bool:
        """Tell whether there is a memory to fill: a stated one, or that of an accelerator."""
        if self._limit_gib < math.inf:
            return self._peak.is_measured
        return self._device.type == "cuda"

    def _largest_batch(self, work: Work) -> int:
        return largest(lambda batch: self._fits(work, batch), at_most=MAX_BATCH)

    def _largest_metric(self, work: Work, found: int | None) -> Metric:
        name = f"{work}_largest_batch"
        if found is None:
            reason = "memory_gib is not set" if self._peak.is_measured else _UNMEASURED
            return Metric(name=name, value=None, reason=reason)
        reason = f"no more than {MAX_BATCH:,} were tried" if found == MAX_BATCH else ""
        return Metric(name=name, value=float(found), reason=reason, n=1)

    def _fits(self, work: Work, batch: int) -> bool:
        """Tell whether a batch fits, after trying it."""
        if (work, batch) not in self._peaks_gib:
            self._peaks_gib[work, batch] = self._try(work, batch)
        gib = self._peaks_gib[work, batch]
        return math.isfinite(gib) and gib <= self._limit_gib

    def _try(self, work: Work, batch: int) -> float:
        """Return the peak memory of a batch in GiB; infinite where it is more than there is."""
        self._peak.restart()
        is_over = False
        try:
            with returned_memory():
                self._step(work, batch, 1 if work == "inference" else _TRAINED_STEPS)
        except (MemoryError, RuntimeError) as error:
            if not is_exhausted(error):
                raise
            is_over = True  # its frames hold tensors: they go when this block ends
        gib = self._peak.gib()
        self.highest_gib = max(self.highest_gib, gib)
        if is_over:
            gc.collect()
        return math.inf if is_over else gib

    # --- work --------------------------------------------------------------------------------

    def _step(self, work: Work, batch: int, steps: int) -> float:
        """Return the seconds of `steps` batches, until the device has done them all."""
        self.num_images += batch * steps
        x_BCHW = torch.randn(
            batch, 3, self._size_px, self._size_px, device=self._device,
            generator=torch.Generator(self._device).manual_seed(0),
        )  # fmt: skip
        do = self._infer if work == "inference" else self._train
        return do(x_BCHW, steps)

    @torch.inference_mode()
    def _infer(self, x_BCHW: Tensor, steps: int) -> float:
        self._model.eval()
        half = autocast(self._device.type, self.precision)
        _wait_for(x_BCHW)
        started_s = time.perf_counter()
        for _ in range(steps):
            with half:
                logits_BK = self._model(x_BCHW)
        _wait_for(logits_BK)
        return time.perf_counter() - started_s

    def _train(self, x_BCHW: Tensor, steps: int) -> float:
        recipe = Recipe(
            steps=steps, batch_size=len(x_BCHW), optimizer="adam", base_lr=_RATE,
            schedule="constant", precision=self.precision,
        )  # fmt: skip
        labels_B = torch.arange(len(x_BCHW), device=self._device) % self._classes
        _wait_for(x_BCHW)
        try:
            done = training.train(
                self._model,
                _Repeated(x_BCHW, labels_B),
                recipe=recipe,
                num_steps=steps,
                seed=0,
                splits=False,
            )
        finally:
            for parameter in self._model.parameters():
                parameter.grad = None
        return done.stepping_s

    def _warm_up(self, context: JobContext) -> None:
        """Do everything once with one image: what libraries keep for good is not the system's."""
        self.num_images = 0
        self._model = _work.build(context, pretraining_head=False)
        for work in WORKS:
            self._step(work, 1, 1)
        del self._model


class _Repeated:
    """The same batch at every step."""

    def __init__(self, x_BCHW: Tensor, labels_B: Tensor) -> None:
        self._batch = x_BCHW, labels_B

    def at(self, step: int, part: Part) -> tuple[Tensor, Tensor]:
        """Return x_BCHW and labels_B: always all of them."""
        return self._batch


def largest(fits: Callable[[int], bool], *, at_most: int) -> int:
    """Return the largest batch that fits, to one part in `RESOLUTION`; 0 where not one image does.

    No batch is tried that is larger than twice one that fits.
    """
    low, high = 0, 1
    while high <= at_most and fits(high):
        low, high = high, 2 * high
    if high > at_most:
        return low
    while high - low > max(1, low // RESOLUTION):
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _wait_for(x: Tensor) -> None:
    """Return when the device has computed a tensor: reading a value of it is what waits."""
    x.flatten()[0].item()


def _check_limit(limit_gib: float, device: torch.device) -> None:
    """Raise JobError where a limit on a CPU is more than the machine can hold twice.

    Nothing keeps a process within it: the search goes beyond, up to twice as far.
    """
    if device.type != "cpu" or limit_gib == math.inf:
        return
    with contextlib.suppress(ValueError, OSError):
        there_gib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
        if 2 * limit_gib > there_gib:
            raise JobError(
                f"memory_gib = {limit_gib:g} is more than half of this machine's {there_gib:.1f}"
                " GiB, and the search for the largest batch goes up to twice as far",
                hint=f"Set memory_gib to {there_gib / 2:.1f} or less",
            )


@contextmanager
def _one_at_a_time(context: JobContext) -> Iterator[None]:
    """Wait until no other profile runs on this machine's CPU: they would slow each other."""
    if context.device != "cpu":
        yield
        return
    context.cache_dir.mkdir(parents=True, exist_ok=True)
    with FileLock(CachePaths(context.cache_dir).machine_lock(socket.gethostname())):
        yield
