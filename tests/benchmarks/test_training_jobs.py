"""What surrounds the steps of a job: its start, its checkpoints, its neighbour on the machine.

Run `pytest tests/benchmarks/test_training_jobs.py -s -m "slow or not slow"` on a quiet machine of
two cores. Goals: a job in a warm process takes its first step within 50 ms besides building its
model; checkpoints of a base-sized model block at most 1 % of the time; two jobs of one thread side
by side do 1.8 times the work of one. What is asserted is that the work was done.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, multiprocessing

from bench import jobs, models, training
from bench.data.parts import WHOLE, Part
from bench.jobs import JobContext
from bench.plan import plan_with_catalogue, suites
from bench.specs import Recipe, Resources, SystemUse
from bench.training.checkpoint import Checkpoints
from bench.training.memory import kept_memory

pytestmark = pytest.mark.slow

ROUNDS = 5
BASE = SystemUse(
    family="vit",
    args={"width": 768, "depth": 12, "num_heads": 12, "mlp_dim": 3072, "patch_px": 16},
    version=1,
)
TINY = SystemUse(
    family="vit",
    args={"width": 192, "depth": 12, "num_heads": 3, "mlp_dim": 768, "patch_px": 4},
    version=1,
)


class Noise:
    """A batch that costs nothing."""

    def __init__(self, batch_size: int, size_px: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self._x_BCHW = torch.randn(batch_size, 3, size_px, size_px, generator=generator)
        self._labels_B = torch.arange(batch_size) % 10

    def at(self, step: int, part: Part = WHOLE) -> tuple[Tensor, Tensor]:
        return self._x_BCHW, self._labels_B


def recipe(*, steps: int, batch_size: int) -> Recipe:
    return Recipe(
        steps=steps, batch_size=batch_size, optimizer="adam", base_lr=1e-5, schedule="constant"
    )


def test_a_warm_job_starts_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the call of the job and its first batch, and how much of that builds the model."""
    spent: dict[str, float] = {}
    build, train = models.build, training.train

    def timed_build(*args: Any, **kwargs: Any) -> models.Classifier:
        began_s = time.perf_counter()
        model = build(*args, **kwargs)
        spent["building"] = time.perf_counter() - began_s
        return model

    def timed_train(*args: Any, **kwargs: Any) -> training.Training:
        spent["until"] = time.perf_counter()
        return train(*args, **kwargs)

    monkeypatch.setattr(models, "build", timed_build)
    monkeypatch.setattr(training, "train", timed_train)
    graph = plan_with_catalogue(suites.load("quickstart", limit_steps=2), {})
    job = next(job for job in graph.jobs if job.spec.kind == "pretrain")
    found = []
    for index in range(ROUNDS + 1):
        folder = tmp_path / f"{index}"
        folder.mkdir()
        context = JobContext(
            spec=job.spec, folder=folder, inputs={}, dataset=graph.datasets[job.dataset],
            cache_dir=tmp_path / "cache", attempt=1, report=lambda line: None,
            resources=Resources(),
        )  # fmt: skip
        began_s = time.perf_counter()
        assert jobs.run(context).status == "done"
        found.append(1000 * (spent["until"] - began_s - spent["building"]))
    print(
        f"\nload {os.getloadavg()[0]:.1f}: {min(found[1:]):.1f} ms to the first step besides "
        f"{1000 * spent['building']:.0f} ms of building the model (first job {found[0]:.0f} ms)"
    )


def test_checkpoints_block_little(tmp_path: Path) -> None:
    """ViT-B with Adam: 1 GiB each, as often as the job's own rule says."""
    model = models.build(BASE, num_classes=10, image_size_px=32)
    steps, seconds = 20, 60.0
    with kept_memory():
        probe = training.train(
            model, Noise(8, 32), recipe=recipe(steps=steps, batch_size=8), num_steps=steps, seed=0
        )
        steps = int(seconds / (probe.stepping_s / steps))
        checkpoints = Checkpoints(tmp_path, "job")
        blocked_s, written = 0.0, []
        save = checkpoints.save

        def timed(step: int, *args: Any) -> None:
            nonlocal blocked_s
            began_s = time.perf_counter()
            save(step, *args)
            blocked_s += time.perf_counter() - began_s
            written.append(step)

        checkpoints.save = timed  # type: ignore[method-assign]
        began_s = time.perf_counter()
        training.train(
            model, Noise(8, 32), recipe=recipe(steps=steps, batch_size=8), num_steps=steps,
            seed=0, checkpoints=checkpoints,
        )  # fmt: skip
        took_s = time.perf_counter() - began_s
    assert written
    size = max(path.stat().st_size for path in tmp_path.glob("*.safetensors"))
    print(
        f"\nload {os.getloadavg()[0]:.1f}: {len(written)} checkpoints of {size / 2**30:.2f} GiB in "
        f"{took_s:.0f} s blocked {blocked_s:.2f} s: {blocked_s / took_s:.2%}"
    )


def _train(rank: int, folder: Path, start: Any) -> None:
    torch.set_num_threads(1)
    model = models.build(TINY, num_classes=10, image_size_px=32)
    with kept_memory():
        training.train(
            model, Noise(32, 32), recipe=recipe(steps=2, batch_size=32), num_steps=2, seed=0
        )
        start.wait()
        done = training.train(
            model, Noise(32, 32), recipe=recipe(steps=12, batch_size=32), num_steps=12, seed=0
        )
    (folder / f"{rank}").write_text(str(done.num_images / done.stepping_s))


def test_two_jobs_side_by_side(tmp_path: Path) -> None:
    best = {1: 0.0, 2: 0.0}
    for turn in range(3):
        for num in (1, 2):
            folder = tmp_path / f"{turn}-{num}"
            folder.mkdir()
            start = multiprocessing.get_context("spawn").Barrier(num)
            multiprocessing.spawn(_train, (folder, start), nprocs=num)
            speed = float(np.sum([float(path.read_text()) for path in folder.iterdir()]))
            best[num] = max(best[num], speed)
    print(
        f"\nload {os.getloadavg()[0]:.1f}: {best[1]:.1f} images/s by one job, {best[2]:.1f} by two "
        f"at once: {best[2] / best[1]:.2f} times"
    )
