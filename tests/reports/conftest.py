"""A made-up suite with plausible results: 3 systems x 3 upstream sizes x 3 seeds."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.kinds.fewshot import FewshotBlock
from bench.kinds.finetune import FinetuneBlock
from bench.kinds.pretrain import PretrainBlock
from bench.plan.spec import JobGraph, SuiteSpec
from bench.specs import (
    Cost,
    DatasetCard,
    DataUse,
    JobResult,
    JobSpec,
    Labels,
    Metric,
    Pair,
    PlannedJob,
    Protocol,
    PublishedResult,
    Recipe,
    Resources,
    SplitCard,
    SystemUse,
)

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
SIZES = (512, 2048, 8192)
SHOTS = (1, 5, 10)
SEEDS = (0, 1, 2)
SYSTEMS = (
    ("vit-micro4", "ViT-Micro/4", "vit", 213_000, 3.1e-9),
    ("bit-r14-micro", "R14-Micro", "bit", 182_000, 3.0e-9),
    ("hybrid-micro", "R8+ViT-Micro", "hybrid", 204_000, 3.3e-9),
)
ACCURACY = {"vit": (0.78, 0.905, 0.962), "bit": (0.86, 0.925, 0.948), "hybrid": (0.83, 0.93, 0.96)}
NUM_TEST = 360


@dataclass(frozen=True)
class Made:
    """A suite's graph, its results and its learning curves."""

    graph: JobGraph
    results: dict[str, JobResult]
    curves: dict[str, list[dict[str, Any]]]

    def hits(self, job_id: str) -> np.ndarray | None:
        """Return which test images a fine-tuning job got right: easy ones first, with noise."""
        result = self.results.get(job_id)
        if result is None or "test_top1" not in result.metrics:
            return None
        ease_N = np.linspace(0, 1, NUM_TEST) + np.random.default_rng(int(job_id, 16)).normal(
            0, 0.05, NUM_TEST
        )
        num_right = round((result.metrics["test_top1"].value or 0) * NUM_TEST)
        hits_N = np.zeros(NUM_TEST, dtype=bool)
        hits_N[np.argsort(ease_N)[:num_right]] = True
        return hits_N

    def job(self, *words: str) -> str:
        """Return the id of the one job whose name holds all words."""
        found = [j.job_id for j in self.graph.jobs if all(word in j.name for word in words)]
        assert len(found) == 1, found
        return found[0]

    def without(self, *job_ids: str) -> Made:
        """Return the same with some jobs not run."""
        kept = {key: value for key, value in self.results.items() if key not in job_ids}
        return Made(self.graph, kept, self.curves)

    def failing(self, job_id: str, error: str) -> Made:
        """Return the same with a failed job, and its dependents skipped."""
        results = dict(self.results)
        results[job_id] = JobResult(job_id=job_id, status="failed", error=error)
        for job in self.graph.jobs:
            if job_id in job.spec.needs.values():
                words = f"needs {job_id}, which failed"
                results[job.job_id] = JobResult(job_id=job.job_id, status="skipped", error=words)
        return Made(self.graph, results, self.curves)


class _Maker:
    def __init__(self, suite: SuiteSpec) -> None:
        self.suite = suite
        self.random = np.random.default_rng(7)
        self.jobs: list[PlannedJob] = []
        self.results: dict[str, JobResult] = {}
        self.curves: dict[str, list[dict[str, Any]]] = {}
        self.clocks = [1.7e9, 1.7e9]  # of two workers

    def add(self, spec: JobSpec, labels: Labels, name: str, **planned: Any) -> str:
        self.jobs.append(
            PlannedJob(
                job_id=spec.job_id, spec=spec, name=name, labels=labels,
                dataset=labels.downstream or labels.upstream, resources=Resources(), **planned,
            )
        )  # fmt: skip
        return spec.job_id

    def done(self, job_id: str, core_s: float, images_per_s: float | None, **parts: Any) -> None:
        wobble = float(self.random.uniform(0.9, 1.1))
        worker = self.clocks.index(min(self.clocks))
        self.clocks[worker] += core_s * wobble * 1.1
        self.results[job_id] = JobResult(
            job_id=job_id,
            status="done",
            cost=Cost(
                device="Test CPU 2.0 GHz", device_kind="cpu", wall_s=core_s * wobble * 1.1,
                core_s=core_s * wobble, examples=1000,
                images_per_s=None if images_per_s is None else images_per_s * wobble,
                peak_memory_gib=0.61 * wobble, worker=f"host:{worker}",
                finished_unix_s=self.clocks[worker],
            ),
            environment={"device": "Test CPU 2.0 GHz", "python": "3.12.1", "torch": "2.15.0"},
            **parts,
        )  # fmt: skip

    def accuracy(self, mean: float) -> float:
        return round(float(np.clip(self.random.normal(mean, 0.008), 0, 1)) * NUM_TEST) / NUM_TEST


def make_suite(suite: SuiteSpec | None = None) -> Made:
    suite = suite or default_suite()
    maker = _Maker(suite)
    for size_index, size in enumerate(SIZES):
        for name, title, family, num_params, forward in SYSTEMS:
            selected = ""
            for seed in suite.seeds:
                labels = Labels(
                    system=name, title=title, family=family, upstream="fractals-64",
                    upstream_examples=size, protocol="vit-pretrain-micro", recipe="pretrain-micro",
                    stage="pretrain",
                )  # fmt: skip
                use = SystemUse(family=family, args={"name": name}, version=1)
                pretrain = _pretrain(maker, labels, use, seed, size, num_params, forward)
                selected = _transfer(maker, labels, use, seed, pretrain, selected, size_index)
    graph = JobGraph(suite=suite, jobs=tuple(maker.jobs), datasets=_cards())
    return Made(graph, maker.results, maker.curves)


def default_suite(**changes: Any) -> SuiteSpec:
    fields: dict[str, Any] = {
        "name": "miniature",
        "title": "ViT, BiT and hybrid on a small scale",
        "claim": "With little upstream data a CNN transfers better than a ViT of equal compute; "
        "with more data the ViT catches up.",
        "source": "arXiv:2010.11929, Figures 3 to 5",
        "seeds": SEEDS,
        "pretrain": (
            PretrainBlock(
                systems=tuple(system[0] for system in SYSTEMS), upstream="fractals-64",
                num_examples=SIZES, recipe="pretrain-micro", protocol="vit-pretrain-micro",
            ),
        ),
        "transfer": (
            FinetuneBlock(
                kind="finetune", datasets=("digits",), protocol="vit-finetune-micro",
                recipe="finetune-micro", learning_rates=(0.01, 0.03),
            ),
            FewshotBlock(
                kind="fewshot", datasets=("digits",), protocol="fewshot-micro", shots=SHOTS
            ),
        ),
        "pair": (Pair(systems=tuple(system[0] for system in SYSTEMS)),),
    }  # fmt: skip
    return SuiteSpec(**{**fields, **changes})


def _pretrain(
    maker: _Maker,
    labels: Labels,
    use: SystemUse,
    seed: int,
    size: int,
    num_params: int,
    forward: float,
) -> PlannedJob:
    steps = 20 * size // 64
    spec = JobSpec(
        kind="pretrain", kind_version=1, system=use,
        data=DataUse(
            digest="f" * 16, num_classes=64, train_split="train", eval_split="", num_examples=size
        ),
        protocol=_protocol("vit-pretrain-micro", 32),
        recipe=Recipe(
            steps=steps, batch_size=64, optimizer="adam", base_lr=1e-3, schedule="cosine",
            warmup_steps=20, weight_decay=0.03, clip_norm=1.0,
        ),
        seed=seed,
    )  # fmt: skip
    exaflops = forward * 3 * steps * 64 / 1e6
    maker.add(
        spec, labels, f"pretrain {labels.system} {size} seed {seed}", train_examples=steps * 64,
        num_steps=steps, exaflops=exaflops, pretrain_exaflops=exaflops, num_params=num_params,
    )  # fmt: skip
    job = maker.jobs[-1]
    pace = {"vit": 1.0, "bit": 1.6, "hybrid": 1.3}[labels.family]
    marks = range(0, steps, max(1, steps // 25))
    maker.curves[job.job_id] = [
        {
            "step": step, "num_steps": steps, "attempt": 1, "lr": 1e-3, "images_per_s": 900.0,
            "loss": round(4.2 * math.exp(-pace * step / 900) + maker.random.normal(0.2, 0.03), 4),
        }
        for step in marks
    ]  # fmt: skip
    loss = maker.curves[job.job_id][-1]["loss"]
    maker.done(
        job.job_id, core_s=steps * 64 / 1100, images_per_s=1100 / pace,
        metrics={"train_loss": Metric(name="train_loss", value=loss, n=size)},
        files={"model.safetensors": "a" * 64},
    )  # fmt: skip
    return job


def _transfer(
    maker: _Maker,
    labels: Labels,
    use: SystemUse,
    seed: int,
    pretrain: PlannedJob,
    selected: str,
    size: int,
) -> str:
    shared = {
        "train_examples": 0, "num_steps": 0, "exaflops": 1e-6,
        "pretrain_exaflops": pretrain.exaflops, "num_params": pretrain.num_params,
    }  # fmt: skip

    def job(kind: str, stage: str, name: str, **fields: Any) -> str:
        px = {"finetune": 48, "select": 48, "fewshot": 32}[kind]
        protocol = "fewshot-micro" if kind == "fewshot" else "vit-finetune-micro"
        held_out = fields.pop("held_out", None)
        spec = JobSpec(
            kind=kind, kind_version=1, system=use, seed=seed, protocol=_protocol(protocol, px),
            data=DataUse(
                digest="d" * 16, num_classes=10, train_split="train", held_out=held_out,
                eval_split="test" if held_out is None else "held-out",
            ),
            **fields,
        )  # fmt: skip
        rate = spec.recipe.base_lr if spec.recipe else None
        job_labels = labels.model_copy(
            update={
                "downstream": "digits", "protocol": protocol, "stage": stage, "learning_rate": rate,
                "recipe": "" if kind == "fewshot" else "finetune-micro",
            }
        )  # fmt: skip
        where = f"{labels.system} {labels.upstream_examples} seed {seed}"
        return maker.add(spec, job_labels, f"{name} {where}", **shared)

    recipe = Recipe(steps=100, batch_size=64, optimizer="sgd", schedule="cosine", clip_norm=1.0)
    ours = {"checkpoint": pretrain.job_id}
    if not selected:
        needs = {}
        for index, rate in enumerate((0.01, 0.03)):
            tried = recipe.model_copy(update={"base_lr": rate})
            found = job(
                "finetune", "candidate", f"lr {rate}", recipe=tried, held_out=0.1, needs=ours
            )
            needs[f"candidate:{index}"] = found
            value = 0.9 + rate
            maker.done(
                found, 6.0, 800.0, metrics={"val_top1": Metric(name="val_top1", value=value, n=140)}
            )
        selected = job("select", "select", "select", held_out=0.1, needs=needs)
        maker.done(
            selected, 0.01, None, values={"learning_rate": 0.03, "candidate": needs["candidate:1"]}
        )
    mean = ACCURACY[labels.family][size]
    final = job("finetune", "final", "finetune", recipe=recipe, needs={**ours, "select": selected})
    top1 = Metric(name="test_top1", value=maker.accuracy(mean), n=NUM_TEST)
    maker.done(final, 7.0, 800.0, metrics={"test_top1": top1}, values={"learning_rate": 0.03})
    fewshot = job(
        "fewshot",
        "fewshot",
        "few-shot",
        params={"shots": SHOTS, "draws": 3, "l2": 1024.0},
        needs=ours,
    )
    metrics = {}
    for shots, share in zip(SHOTS, (0.42, 0.68, 0.78), strict=True):
        draws = tuple(maker.accuracy(mean * share) for _ in range(3))
        name = f"fewshot_top1/{shots}"
        metrics[name] = Metric(name=name, value=sum(draws) / 3, n=NUM_TEST, samples=draws)
    maker.done(fewshot, 1.2, None, metrics=metrics)
    return selected


def _protocol(name: str, px: int) -> Protocol:
    return Protocol(name=name, image_size_px=px, train_transform="crop", eval_transform="resize")


def _cards() -> dict[str, DatasetCard]:
    return {
        "fractals-64": DatasetCard(
            name="fractals-64", title="Fractals", reader="formula", num_classes=64,
            splits={"train": SplitCard(num_examples=8192)}, digest="f" * 16,
            source="iterated function systems, drawn from a seed", licence="none needed",
        ),
        "digits": DatasetCard(
            name="digits", title="Digits", reader="digits", num_classes=10, digest="d" * 16,
            splits={
                "train": SplitCard(num_examples=1437), "test": SplitCard(num_examples=NUM_TEST)
            },
            source="scikit-learn, from the UCI repository", licence="CC BY 4.0",
        ),
    }  # fmt: skip


def with_more_datasets(made: Made, *names: str) -> Made:
    """Return the same with every transfer repeated on further data sets, with the same results."""
    jobs, results, cards = list(made.graph.jobs), dict(made.results), dict(made.graph.datasets)
    for name in names:
        digest = hashlib.sha256(name.encode()).hexdigest()
        cards[name] = cards["digits"].model_copy(
            update={"name": name, "title": name.capitalize(), "digest": digest}
        )
        new: dict[str, str] = {}
        for job in made.graph.jobs:
            if not job.labels.downstream or job.spec.data is None:
                continue
            needs = {role: new.get(needed, needed) for role, needed in job.spec.needs.items()}
            data = job.spec.data.model_copy(update={"digest": digest})
            spec = job.spec.model_copy(update={"data": data, "needs": needs})
            labels = job.labels.model_copy(update={"downstream": name})
            new[job.job_id] = spec.job_id
            update = {"spec": spec, "job_id": spec.job_id, "labels": labels, "dataset": name,
                      "name": f"{job.name} {name}"}  # fmt: skip
            jobs.append(job.model_copy(update=update))
            result = made.results[job.job_id]
            results[spec.job_id] = result.model_copy(update={"job_id": spec.job_id})
    graph = made.graph.model_copy(update={"jobs": tuple(jobs), "datasets": cards})
    return Made(graph, results, made.curves)


def named_as_ours(
    rows: Iterable[PublishedResult], ours: Mapping[str, str]
) -> tuple[PublishedResult, ...]:
    """Return published numbers as though they were of our systems and data."""
    keys = ("system_id", "upstream_id", "dataset_id")
    return tuple(
        row.model_copy(update={key: ours.get(getattr(row, key), getattr(row, key)) for key in keys})
        for row in rows
    )


@pytest.fixture(scope="session")
def made() -> Made:
    """Everything done."""
    return make_suite()


@pytest.fixture(scope="session")
def broken(made: Made) -> Made:
    """One pre-training job failed (its dependents were skipped), one few-shot job was not run."""
    failed = made.failing(
        made.job("pretrain vit-micro4 2048 seed 1"), "the loss became NaN at step 113"
    )
    return failed.without(made.job("few-shot bit-r14-micro 512 seed 2"))


@pytest.fixture(scope="session")
def single() -> Made:
    """One seed."""
    return make_suite(default_suite(seeds=(0,)))


@pytest.fixture
def golden() -> Callable[[str, str], None]:
    """Compare a text with a golden file; VITBENCH_REGENERATE=1 writes the file instead."""

    def compare(name: str, text: str) -> None:
        path = GOLDEN / name
        if os.environ.get("VITBENCH_REGENERATE") == "1":
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert path.is_file(), f"no golden file {path.name}: run with VITBENCH_REGENERATE=1"
        assert text == path.read_text(encoding="utf-8")

    return compare
