"""Checks of a device: each does real work there and returns what it saw.

`test_on_cuda.py` runs them at full size where there is a GPU, `test_on_cpu.py` on the smallest
systems anywhere, so that they work when a GPU is there at last.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import baselines
from bench import memory as forecast
from bench import models, training
from bench.data import loader, transforms
from bench.data.packs.read import Split
from bench.specs import DeviceKind, Precision, Recipe
from bench.training import Checkpoints
from bench.training.arithmetic import arithmetic, autocast
from bench.training.devices import peak_gib, restart_peak

NUM_CLASSES = 1000
PARITY = {"float32": 1e-3, "bfloat16": 0.1}
"""Largest difference of a logit from the CPU's float32, in standard deviations of the logits."""
PIECES = 1e-6
"""Largest difference of a loss between whole batches and batches in pieces, as a share of it."""
MEMORY = 0.25
"""Largest error of a forecast of memory, as a share of what was measured."""


@dataclass(frozen=True)
class Seen:
    """One line of the table."""

    check: str
    """What was checked, and on what."""
    measured: str
    """What was seen, with its unit."""
    bound: str
    """What it must be; empty where it is told and not judged."""
    passed: bool
    """Whether it is so."""


def parity(
    system: str, *, image_size_px: int, precision: Precision, device: str, batch_size: int = 4
) -> Seen:
    """Compare the logits of a device with those of the CPU in float32."""
    model = _model(system, image_size_px, device="cpu").eval()
    generator = torch.Generator().manual_seed(1)
    x_BCHW = torch.rand(batch_size, 3, image_size_px, image_size_px, generator=generator) * 2 - 1
    with torch.inference_mode():
        expected_BK = model(x_BCHW)
        with arithmetic(device, precision, deterministic=True), autocast(device, precision):
            found_BK = model.to(device)(x_BCHW.to(device)).float().cpu()
    off = float((found_BK - expected_BK).abs().max() / expected_BK.std())
    return Seen(
        check=f"parity, {system}, {image_size_px} px, {precision}",
        measured=f"{off:.2g} std",
        bound=f"at most {PARITY[precision]:g} std",
        passed=off <= PARITY[precision],
    )


def resumption(
    system: str,
    *,
    image_size_px: int,
    precision: Precision,
    device: str,
    folder: Path,
    batch_size: int = 8,
) -> Seen:
    """Train twice, the second time stopped in the middle and resumed, and count other weights."""
    job = _Training(system, image_size_px, precision, device, batch_size)
    whole, _ = job.run(None)
    checkpoints = folder / "checkpoints"
    try:
        job.run(checkpoints, stop_at=job.num_steps // 2 + 1)
    except _Stopped:
        resumed, _ = job.run(checkpoints)
    different = sum(not torch.equal(whole[name], resumed[name]) for name in whole)
    return Seen(
        check=f"training stopped and resumed, {system}, {precision}",
        measured=f"{different} of {len(whole)} tensors differ",
        bound="none differs",
        passed=different == 0,
    )


def accumulation(
    system: str, *, image_size_px: int, device: str, pieces: int = 4, batch_size: int = 8
) -> Seen:
    """Train with batches whole and in pieces, and compare the losses of every step."""
    job = _Training(system, image_size_px, "float32", device, batch_size, num_steps=20)
    _, whole_T = job.run(None)
    _, parts_T = job.run(None, pieces=pieces)
    off = float(np.abs(parts_T / whole_T - 1).max())
    return Seen(
        check=f"batches in {pieces} pieces, {system}, 20 steps",
        measured=f"losses {off:.1g} apart",
        bound=f"at most {PIECES:g}",
        passed=off <= PIECES,
    )


def memory(
    system: str, *, image_size_px: int, precision: Precision, device: DeviceKind, batch_size: int
) -> Seen:
    """Compare the peak memory of optimizer steps with the closed form."""
    job = _Training(system, image_size_px, precision, device, batch_size)
    forecast_gib = forecast.training(
        baselines.system(system), job.recipe(), image_size_px=image_size_px,
        num_classes=NUM_CLASSES, device=device,
    ).gib(batch_size)  # fmt: skip
    restart_peak(device)
    job.run(None)
    found_gib = peak_gib(device)
    error = forecast_gib / found_gib - 1
    return Seen(
        check=f"memory, {system}, {batch_size} x {image_size_px} px, {precision}",
        measured=f"{found_gib:.2f} GiB, forecast {forecast_gib:.2f} ({error:+.0%})",
        bound=f"within {MEMORY:.0%}",
        passed=abs(error) <= MEMORY,
    )


def feed(
    system: str,
    split: Split,
    *,
    image_size_px: int,
    precision: Precision,
    device: str,
    batch_size: int,
    steps: int = 10,
) -> Seen:
    """Compare the images that the loader gives a second with those that training takes."""
    job = _Training(
        system, image_size_px, precision, device, batch_size, num_steps=steps, split=split
    )
    batches = job.batches()
    given_per_s = _rate(lambda step: batches.at(step)[0], batch_size, steps)
    same = batches.at(0)
    with arithmetic(device, precision, deterministic=False):
        done = training.train(
            job.model(), _Same(*same), recipe=job.recipe(), num_steps=steps, seed=0
        )
    taken_per_s = done.num_images / done.stepping_s
    return Seen(
        check=f"loader against training, {system}, {image_size_px} px, {precision}",
        measured=f"{given_per_s:,.0f} images/s given, {taken_per_s:,.0f} taken",
        bound="",
        passed=True,
    )


class _Stopped(Exception):
    """The run was stopped on purpose."""


class _Same:
    """One batch for every step."""

    def __init__(self, x_BCHW: Tensor, labels_B: Tensor) -> None:
        self._batch = x_BCHW, labels_B

    def at(self, step: int, *part: Any) -> tuple[Tensor, Tensor]:
        return self._batch


class _Training:
    """A short training run, the same whenever it is made."""

    def __init__(
        self,
        system: str,
        image_size_px: int,
        precision: Precision,
        device: str,
        batch_size: int,
        *,
        num_steps: int = 6,
        split: Split | None = None,
    ) -> None:
        self._system, self._size_px = system, image_size_px
        self._precision, self._device = precision, device
        self._batch_size, self.num_steps = batch_size, num_steps
        self._split = split or _noise(2 * batch_size, image_size_px)

    def model(self) -> nn.Module:
        return _model(self._system, self._size_px, device=self._device)

    def recipe(self) -> Recipe:
        return Recipe(
            steps=self.num_steps, batch_size=self._batch_size, optimizer="sgd", base_lr=0.01,
            schedule="cosine", clip_norm=1.0, precision=self._precision,
        )  # fmt: skip

    def batches(self) -> loader.Batches:
        return loader.Batches(
            self._split,
            None,
            transforms.preset("vit-train", size_px=self._size_px),
            batch_size=self._batch_size,
            seed=0,
            device=self._device,
        )

    def run(
        self, folder: Path | None, *, stop_at: int | None = None, pieces: int = 1
    ) -> tuple[dict[str, Tensor], np.ndarray]:
        """Train, with a checkpoint at every step where a folder is given; weights and losses_T."""

        def report(line: dict[str, Any]) -> None:
            if line["step"] == stop_at:
                raise _Stopped

        model = self.model()
        with arithmetic(self._device, self._precision, deterministic=True):
            done = training.train(
                model,
                self.batches(),
                recipe=self.recipe(),
                num_steps=self.num_steps,
                seed=0,
                checkpoints=Checkpoints(folder, "check", interval_s=0) if folder else None,
                report=report,
                pieces=pieces,
            )
        return {name: value.cpu() for name, value in model.state_dict().items()}, done.losses_T


def _model(system: str, image_size_px: int, *, device: str) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    model = models.build(
        system, num_classes=NUM_CLASSES, image_size_px=image_size_px, generator=generator
    )
    with torch.no_grad():  # it starts at zero, which would hide what comes before
        model.head.weight.normal_(std=model.head.in_features**-0.5, generator=generator)
    return model.to(device)


def _noise(num: int, side_px: int) -> Split:
    rng = np.random.default_rng(0)
    images_NHWC = rng.integers(0, 256, (num, side_px, side_px, 3), dtype=np.uint8)
    return Split(images_NHWC, rng.integers(0, NUM_CLASSES, num))


def _rate(step: Callable[[int], Tensor], batch_size: int, steps: int) -> float:
    """Return images a second of some steps, the first left out."""
    step(0).sum().item()  # reading a value is what waits for the device
    started_s = time.perf_counter()
    for number in range(1, steps + 1):
        last = step(number)
    last.sum().item()
    return batch_size * steps / (time.perf_counter() - started_s)
