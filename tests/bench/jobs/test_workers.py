"""A job on two workers of Ray Train, on real images: its result, and a worker that is killed."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import jobs
from bench.data import catalog
from bench.errors import Diverged, Preempted
from bench.jobs import JobContext, _workers
from bench.jobs._workers import run
from bench.preemption import heeded
from bench.specs import DataUse, JobResult, JobSpec, Recipe, Resources
from tests.bench.jobs.test_search import left_running

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ray")]

DIGITS = catalog.datasets()["digits"]


class Work:
    """Pre-training and its transfer, each by any number of workers."""

    def __init__(self, toy: Any, folder: Path) -> None:
        self._toy = toy
        self.folder = folder

    def spec(self, kind: str, recipe: Recipe | None, **fields: Any) -> JobSpec:
        spec = self._toy.spec(kind, recipe=recipe, **fields)
        data = DataUse(
            digest=DIGITS.digest, num_classes=DIGITS.num_classes,
            train_split="train", eval_split=fields.get("eval_split", ""),
        )  # fmt: skip
        return spec.model_copy(update={"data": data})

    def context(self, spec: JobSpec, *, workers: int, **fields: Any) -> JobContext:
        folder = self.folder / f"{workers}" / spec.job_id
        folder.mkdir(parents=True)
        defaults: dict[str, Any] = {
            "inputs": {},
            "dataset": DIGITS,
            "cache_dir": self.folder / "cache",
            "attempt": 1,
            "report": print_nothing,
            "resources": Resources(workers=workers),
        }
        return JobContext(spec=spec, folder=folder, **{**defaults, **fields})


def print_nothing(line: dict[str, Any]) -> None:
    """Take a progress line."""


@pytest.fixture
def work(toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Work:
    monkeypatch.undo()  # the toy's images, which other processes would not see
    return Work(toy, tmp_path)


def do(work: Work, spec: JobSpec, *, workers: int, **fields: Any) -> tuple[JobResult, Path]:
    context = work.context(spec, workers=workers, **fields)
    return (jobs.run if workers == 1 else run)(context), context.folder


def test_two_workers_do_the_job_of_one(work: Work) -> None:
    pretrain = work.spec("pretrain", work._toy.pretraining)
    alone, together = (do(work, pretrain, workers=num) for num in (1, 2))
    assert not left_running()
    metric, other = (found.metrics["train_loss"].value for found, _ in (alone, together))
    assert other == pytest.approx(metric, rel=1e-5)
    assert together[0].environment["workers"] == "2"
    assert together[0].cost is not None
    assert together[0].cost.examples == 12 * 8
    tuning = work.spec(
        "finetune",
        work._toy.finetuning,
        size_px=12,
        needs={"checkpoint": pretrain.job_id},
        eval_split="test",
    )
    hits = []
    for num in (1, 2):
        found, folder = do(work, tuning, workers=num, inputs={"checkpoint": together})
        assert found.metrics["test_top1"].n == 500
        with np.load(folder / "hits.npz") as file:
            hits.append(file["hits"])
    assert (hits[0] == hits[1]).mean() > 0.9


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["dies", "hangs"])
def test_a_worker_that_is_lost_makes_the_group_begin_again(
    work: Work, monkeypatch: pytest.MonkeyPatch, how: signal.Signals
) -> None:
    monkeypatch.setattr(_workers, "TIMEOUT_S", 20)
    recipe = work._toy.pretraining.model_copy(update={"steps": 2000, "base_lr": 1e-5})
    spec = work.spec("pretrain", recipe)
    expected, _ = do(work, spec, workers=1)
    lines = work.folder / "lines"
    context = work.context(spec, workers=2, report=partial(note, lines))
    struck: list[int] = []

    def strike() -> None:
        while not lines.exists():
            time.sleep(0.05)
        struck.append(train_worker())
        os.kill(struck[0], how)

    thread = threading.Thread(target=strike, daemon=True)
    thread.start()
    found = run(context)
    thread.join()
    assert struck
    assert found.metrics["train_loss"].value == pytest.approx(
        expected.metrics["train_loss"].value, rel=1e-4
    )
    steps = [int(word) for word in lines.read_text().split()]
    assert steps.count(100) == 2  # what nobody had saved was done again
    assert not left_running()
    assert not Path(f"/proc/{struck[0]}").exists()


def test_a_group_that_is_told_to_end_saves_its_step(work: Work) -> None:
    recipe = work._toy.pretraining.model_copy(update={"steps": 2000, "base_lr": 1e-5})
    spec = work.spec("pretrain", recipe)
    lines = work.folder / "lines"
    context = work.context(spec, workers=2, report=partial(note, lines))

    def strike() -> None:
        while not lines.exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    # In the place of what ends a process: its handler is the one that `heeded` puts back.
    before = signal.signal(signal.SIGTERM, lambda number, frame: None)
    thread = threading.Thread(target=strike, daemon=True)
    thread.start()
    try:
        with pytest.raises(Preempted, match=r"its checkpoint is of step \d+"), heeded():
            run(context)
    finally:
        signal.signal(signal.SIGTERM, before)
    thread.join()
    (saved,) = (context.folder / "checkpoints").glob("step-*.json")
    step = int(saved.stem.removeprefix("step-"))
    assert 100 <= step < 2000
    assert not left_running()
    again = run(context)
    assert [int(word) for word in lines.read_text().split()][-1] == 2000
    assert again.cost is not None
    assert again.cost.examples == 2000 * 8


def note(path: Path, line: dict[str, Any]) -> None:
    with path.open("a") as file:
        file.write(f"{line['step']} ")


def train_worker() -> int:
    """Return the process of one worker of Ray Train on this machine."""
    while True:
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if b"RayTrainWorker" in path.read_bytes():
                    return int(path.parent.name)
        time.sleep(0.05)


def test_what_a_worker_says_on_purpose_is_said(work: Work) -> None:
    recipe = work._toy.pretraining.model_copy(update={"base_lr": 1e30, "optimizer": "sgd"})
    with pytest.raises(Diverged, match="the loss became"):
        do(work, work.spec("pretrain", recipe), workers=2)
