"""`--limit-steps` in a plan: what each kind scores, which ids change, what is counted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bench.data import catalog
from bench.plan import plan, shapes
from bench.plan import suites as suites
from bench.plan.spec import JobGraph

SUITE = """
name = "limited"
title = "Every kind that scores images"
claim = "A limited run scores few."
scale = "public"

[scales.public]
expected = "words"

[recipe.finetune]
steps = 10
batch_size = 16
optimizer = "sgd"
schedule = "cosine"
learning_rates = [0.03, 0.1]
held_out = 0.1

[[weights]]
systems = ["vit-b16"]
weights = "in21k"

[[transfer]]
kind = "finetune"
datasets = ["imagenet-1k", "cifar10"]
protocol = "vit-finetune"
recipe = "finetune"

[[transfer]]
kind = "finetune"
datasets = ["cifar100"]
protocol = "vit-finetune"
recipe = "finetune"
search = "asha"

[[transfer]]
kind = "fewshot"
datasets = ["imagenet-1k"]
protocol = "vit-fewshot"
shots = [1, 5]

[[transfer]]
kind = "knn"
datasets = ["cifar10"]
protocol = "vit-fewshot"
neighbours = [10, 2000]

[[transfer]]
kind = "probe"
datasets = ["imagenet-1k", "oxford-flowers102"]
protocol = "vit-fewshot"
l2s = [0.1]

[[transfer]]
kind = "evaluate"
of = "imagenet-1k"
datasets = ["imagenet-1k", "imagenet-a"]
protocol = "vit-finetune"

[[transfer]]
kind = "calibration"
of = "cifar10"
datasets = ["cifar10"]
protocol = "vit-finetune"
"""

Planned = Callable[..., JobGraph]


@pytest.fixture
def planned(tmp_path: Path) -> Planned:
    def make(limit_steps: int | None = None) -> JobGraph:
        path = tmp_path / "limited.toml"
        path.write_text(SUITE, encoding="utf-8")
        return plan(
            suites.load(str(path), limit_steps=limit_steps),
            datasets=catalog.datasets(),
            protocols=catalog.protocols(),
            file="limited.toml",
        )

    return make


def most(graph: JobGraph) -> dict[str, set[int | None]]:
    """Return the most images of a split, by kind and data set."""
    found: dict[str, set[int | None]] = {}
    for job in graph.jobs:
        if job.spec.data is not None and job.exaflops:
            name = f"{job.labels.stage} {job.labels.downstream}"
            found.setdefault(name, set()).add(job.spec.data.num_evaluated)
    return found


def test_each_job_scores_as_many_batches_as_steps_or_what_its_kind_needs(planned: Planned) -> None:
    assert most(planned(2)) == {
        "candidate imagenet-1k": {1000},  # an image of each class
        "final imagenet-1k": {1000},
        "candidate cifar10": {512},  # 2 batches of 256
        "final cifar10": {512},
        "select cifar100": {512},
        "final cifar100": {512},
        "fewshot imagenet-1k": {1000},
        "knn cifar10": {2000},  # as many as neighbours
        "probe imagenet-1k": {2000},  # two of each class
        "probe oxford-flowers102": {512},
        "evaluate imagenet-1k": {1000},
        "evaluate imagenet-a": {1000},
        "calibration cifar10": {512},
    }
    assert planned(2).most_evaluated == 2000
    assert most(planned(5))["final imagenet-1k"] == {1280}


def test_plans_count_what_is_scored(planned: Planned) -> None:
    expected = {
        "candidate imagenet-1k": 1000,
        "final cifar10": 512,
        "select cifar100": 2 * 512,  # two rates
        "fewshot imagenet-1k": 2 * 1000,  # the pool that shots are drawn from, and test
        "knn cifar10": 2 * 2000,
        "probe oxford-flowers102": 2 * 512,
        "calibration cifar10": 512,
    }
    graph = planned(2)
    scored = {
        f"{job.labels.stage} {job.labels.downstream}": shapes.num_evaluated(job)
        for job in graph.jobs
    }
    assert {name: scored[name] for name in expected} == expected
    parts = {
        f"{part.job.labels.stage} {part.job.labels.downstream}": part.num_images
        for part in shapes.parts(graph)
        if part.shape.work == "evaluate"
    }
    assert {name: parts[name] for name in expected} == expected


def test_nothing_that_fits_the_limit_is_another_job(planned: Planned) -> None:
    whole, limited = planned(), planned(10_000)  # 2,560,000 images
    assert whole.most_evaluated is None
    assert limited.most_evaluated is None
    assert [job.job_id for job in whole.jobs] == [job.job_id for job in limited.jobs]


def test_a_limit_is_part_of_the_identity_where_it_is_one(planned: Planned) -> None:
    ids = {limit: {job.name: job.job_id for job in planned(limit).jobs} for limit in (None, 2, 8)}
    (frozen,) = (name for name in ids[None] if name.startswith("few-shot"))
    assert len({names[frozen] for names in ids.values()}) == 3
    (weights,) = (name for name in ids[None] if name.startswith("weights"))
    assert len({names[weights] for names in ids.values()}) == 1
    spec = next(job.spec for job in planned().jobs if job.name == frozen)
    assert "num_evaluated" not in spec.model_dump_json(exclude_defaults=True)
