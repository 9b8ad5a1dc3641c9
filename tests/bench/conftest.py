"""Records for tests of the store and the scheduler: real ones, small ones."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bench.kinds.fewshot import FewshotBlock
from bench.kinds.pretrain import PretrainBlock
from bench.plan.spec import JobGraph, SuiteSpec
from bench.specs import (
    DatasetCard,
    DataUse,
    JobResult,
    JobSpec,
    Labels,
    Metric,
    PlannedJob,
    Protocol,
    Resources,
    SplitCard,
    SystemUse,
)

CARD = DatasetCard(
    name="toy", title="Toy", reader="digits", num_classes=2, digest="d",
    splits={"train": SplitCard(num_examples=8), "test": SplitCard(num_examples=4)},
)  # fmt: skip


def planned(
    name: str, *, seed: int, needs: tuple[PlannedJob, ...] = (), exaflops: float = 1e-9
) -> PlannedJob:
    """Return a job that is told apart from others by its seed."""
    spec = JobSpec(
        kind="pretrain",
        kind_version=1,
        system=SystemUse(family="vit", args={"width": 8}, version=1),
        data=DataUse(digest="d", num_classes=2, train_split="train", eval_split=""),
        protocol=Protocol(
            name="p", image_size_px=8, train_transform="resize", eval_transform="resize"
        ),
        seed=seed,
        needs={f"candidate:{index}": job.job_id for index, job in enumerate(needs)},
    )
    return PlannedJob(
        job_id=spec.job_id, spec=spec, name=name, dataset="toy", resources=Resources(),
        labels=Labels(
            system="vit-toy", title="ViT toy", family="vit", upstream="toy",
            upstream_examples=8, stage="pretrain",
        ),
        train_examples=8, num_steps=1, exaflops=exaflops, pretrain_exaflops=exaflops,
        num_params=10,
    )  # fmt: skip


def graph_of(jobs: tuple[PlannedJob, ...], *, max_attempts: int = 3) -> JobGraph:
    suite = SuiteSpec(
        name="toy", title="Toy", claim="Toys work.", max_attempts=max_attempts,
        pretrain=(PretrainBlock(systems=("vit-toy",), upstream="toy", recipe="r", protocol="p"),),
        transfer=(FewshotBlock(kind="fewshot", datasets=("toy",), protocol="p", shots=(1,)),),
    )  # fmt: skip
    return JobGraph(suite=suite, jobs=jobs, datasets={"toy": CARD})


def result_of(job: PlannedJob, *, value: float = 0.5) -> JobResult:
    return JobResult(
        job_id=job.job_id,
        status="done",
        metrics={"train_loss": Metric(name="train_loss", value=value, n=8)},
    )


@pytest.fixture
def make_job() -> Callable[..., PlannedJob]:
    return planned


@pytest.fixture
def make_graph() -> Callable[..., JobGraph]:
    return graph_of


@pytest.fixture
def make_result() -> Callable[..., JobResult]:
    return result_of
