"""Everything that only a CUDA device can show, at full size: `make gpu-check` runs these."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from bench.cli.wiring import graph_of
from bench.data import catalog
from bench.data.packs import build
from bench.specs import Precision
from bench.store import Store
from tests.gpu import checks
from tests.gpu.checks import Seen
from tests.public import sets, suites

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device here"),
]

SYSTEMS = ("vit-b16", "bit-r50x1", "hybrid-r50-vit-b16")
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")
Judge = Callable[[Seen], None]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("system", SYSTEMS)
def test_parity_with_the_cpu(system: str, precision: Precision, judge: Judge) -> None:
    judge(checks.parity(system, image_size_px=384, precision=precision, device="cuda"))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("system", SYSTEMS)
def test_resumption(system: str, precision: Precision, judge: Judge, tmp_path: Path) -> None:
    judge(
        checks.resumption(
            system, image_size_px=224, precision=precision, device="cuda", folder=tmp_path
        )
    )


@pytest.mark.parametrize("system", SYSTEMS)
def test_accumulation(system: str, judge: Judge) -> None:
    judge(checks.accumulation(system, image_size_px=224, device="cuda"))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("system", SYSTEMS)
def test_memory(system: str, precision: Precision, judge: Judge) -> None:
    judge(
        checks.memory(system, image_size_px=224, precision=precision, device="cuda", batch_size=64)
    )


def test_feed(judge: Judge, tmp_path: Path) -> None:
    folder = sets.write("imagenet-1k", tmp_path, sets.pictures())
    block = {"reader": "imagenet", "path": str(folder)}
    packed = build.packed(
        catalog.resolve("few", block, base_dir=tmp_path), cache_dir=tmp_path / "cache"
    )
    for system in SYSTEMS:
        judge(
            checks.feed(
                system, packed.split("train"), image_size_px=224, precision="bfloat16",
                device="cuda", batch_size=128,
            )
        )  # fmt: skip


@pytest.mark.parametrize("name", ["data-size", "fewshot-size", "speed"])
def test_public_jobs(name: str, judge: Judge, tmp_path: Path) -> None:
    suite = suites.make(name, tmp_path, on_gpu=True)
    finished = suites.run(suite)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    graph = graph_of(str(suite), None, None, suites.LIMIT_STEPS, scale="public")
    results = Store(tmp_path / "runs").results(job.job_id for job in graph.jobs)
    for kind in sorted({job.spec.kind for job in graph.jobs}):
        jobs = [job for job in graph.jobs if job.spec.kind == kind]
        costs = [results[job.job_id].cost for job in jobs if job.job_id in results]
        peak_gib = max(cost.peak_memory_gib or 0 for cost in costs if cost)
        judge(
            Seen(
                check=f"jobs of kind {kind}, suite {name}",
                measured=f"{len(costs)} done, at most {peak_gib:.1f} GiB",
                bound=f"{len(jobs)} done",
                passed=len(costs) == len(jobs),
            )
        )
