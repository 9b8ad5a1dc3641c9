"""A limited run of every kind that scores images: few of each split, of all classes, and marked."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.cli.wiring import graph_of
from bench.store import Store

pytestmark = [pytest.mark.ordinary, pytest.mark.xdist_group("mlflow")]

SUITE = """
name = "few"
title = "Every kind, two steps"
claim = "Two steps are two batches of each split."

[dataset.shapes]
reader = "formula"
num_classes = 4
images_per_class = 16
image_size_px = 12

[dataset.tiles]
reader = "image_folder"
path = "tiles"
image_size_px = 8

[recipe.pretrain]
steps = 30
batch_size = 16
optimizer = "sgd"
base_lr = 3e-3
schedule = "linear"

[recipe.finetune]
steps = 10
batch_size = 16
optimizer = "sgd"
schedule = "cosine"

[[pretrain]]
systems = ["vit-micro"]
upstream = "shapes"
recipe = "pretrain"
protocol = "pretrain-micro"

[[transfer]]
kind = "finetune"
datasets = ["tiles"]
protocol = "finetune-micro"
recipe = "finetune"
learning_rates = [0.03, 0.1]
held_out = 0.5

[[transfer]]
kind = "fewshot"
datasets = ["tiles"]
protocol = "fewshot-micro"
shots = [1, 200]

[[transfer]]
kind = "knn"
datasets = ["tiles"]
protocol = "fewshot-micro"
neighbours = [10, 520]

[[transfer]]
kind = "probe"
datasets = ["tiles"]
protocol = "fewshot-micro"
l2s = [0.1, 1.0]

[[transfer]]
kind = "evaluate"
of = "tiles"
datasets = ["tiles"]
protocol = "finetune-micro"

[[transfer]]
kind = "calibration"
of = "tiles"
datasets = ["tiles"]
protocol = "finetune-micro"
"""

PER_CLASS = {"train": 300, "test": 150}

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A suite on four classes of tiles that lie class by class."""
    rng = np.random.default_rng(0)
    for split, num in PER_CLASS.items():
        for label in range(4):
            folder = tmp_path / "tiles" / split / "abcd"[label]
            folder.mkdir(parents=True)
            for index in range(num):
                tile = rng.integers(60 * label, 60 * label + 70, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(tile).save(folder / f"{index:03d}.png")
    path = tmp_path / "few.toml"
    path.write_text(SUITE, encoding="utf-8")
    return path


def test_two_steps_score_two_batches_of_each_split(suite: Path, vitbench: Run) -> None:
    workdir = suite.parent / "runs"
    finished = vitbench("run", suite, "--local", "--limit-steps", "2", "--workdir", workdir)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "at most 520 images of a split were scored" in " ".join(finished.stdout.split())
    graph, store = graph_of(str(suite), None, None, 2), Store(workdir)
    results = store.results(job.job_id for job in graph.jobs)
    assert len(results) == len(graph.jobs)
    scored = {
        (job.labels.stage, name): metric.n
        for job in graph.jobs
        for name, metric in results[job.job_id].metrics.items()
        if job.labels.stage not in ("pretrain", "select")
    }
    assert scored == {
        ("candidate", "val_top1"): 512,
        ("final", "test_top1"): 512,
        ("fewshot", "fewshot_top1/1"): 512,
        ("fewshot", "fewshot_top1/200"): 512,
        ("knn", "knn_top1/10"): 520,  # as many training images as neighbours
        ("knn", "knn_top1/520"): 520,
        ("probe", "val_top1"): 51,  # a tenth of what is fitted
        ("probe", "probe_top1"): 512,
        ("evaluate", "eval_top1"): 512,
        ("calibration", "ece"): 512,
        ("calibration", "nll"): 512,
    }
    for job in graph.jobs:
        cost, stage = results[job.job_id].cost, job.labels.stage
        assert cost is not None
        assert cost.examples - job.train_examples <= 2 * 520
        if stage == "fewshot":  # 128 images of each class, where the first 512 have none of two
            assert results[job.job_id].values["short_classes/200"] == 4
            assert cost.examples == 2 * 512
