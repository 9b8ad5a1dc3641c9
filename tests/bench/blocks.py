"""Blocks of each kind for the suites of tests, and the plans that they become."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from bench.data import catalog
from bench.plan import plan
from bench.plan import suites as suites
from bench.plan.spec import JobGraph
from bench.specs import PlannedJob

HEAD = """
name = "kinds"
title = "Every kind of block"
claim = "Each kind becomes its jobs."
seeds = [0, 1]

[recipe.pretrain]
steps = 30
batch_size = 16
optimizer = "adam"
base_lr = 3e-3
schedule = "cosine"

[recipe.finetune]
steps = 10
batch_size = 16
optimizer = "sgd"
schedule = "cosine"
learning_rates = [0.03, 0.1]
held_out = 0.2

[recipe.one-rate]
steps = 10
batch_size = 16
optimizer = "sgd"
base_lr = 0.01
schedule = "cosine"

[system.no-positions]
like = "vit-micro"
args = { posemb = "none" }
"""
PRETRAIN = """
[[pretrain]]
systems = ["vit-micro", "bit-micro"]
upstream = "fractals"
num_examples = [64]
recipe = "pretrain"
protocol = "pretrain-micro"
"""
FINETUNE = """
[[transfer]]
kind = "finetune"
datasets = ["digits"]
protocol = "finetune-micro"
recipe = "finetune"
"""
KNN = """
[[transfer]]
kind = "knn"
datasets = ["digits"]
protocol = "fewshot-micro"
neighbours = [10, 20]
"""


def planned(folder: Path, *blocks: str, settings: tuple[str, ...] = ()) -> JobGraph:
    path = folder / "kinds.toml"
    path.write_text(HEAD + "".join(blocks), encoding="utf-8")
    return plan(
        suites.load(str(path), settings=settings),
        datasets=catalog.datasets(),
        protocols=catalog.protocols(),
        file="kinds.toml",
    )


def of_stage(graph: JobGraph, stage: str) -> list[PlannedJob]:
    return [job for job in graph.jobs if job.labels.stage == stage]


def stages(graph: JobGraph) -> Counter[str]:
    return Counter(job.labels.stage for job in graph.jobs)
