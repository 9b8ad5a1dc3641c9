"""Every suite at its smoke scale to its table; and what happens where nobody can do the work."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.cli.wiring import graph_of
from bench.plan.spec import JobGraph
from bench.plan.suites import names
from bench.specs import PlannedJob
from bench.store import Store

Run = Callable[..., subprocess.CompletedProcess[str]]


# --- smoke ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One work folder for all suites, so that what they share is done once."""
    return tmp_path_factory.mktemp("suites") / "runs"


def chance(job: PlannedJob, num_tested: int) -> float:
    """Return the accuracy that guessing exceeds once in some 700 tests (three deviations)."""
    share = 1 / job.spec.data.num_classes
    return share + 3 * (share * (1 - share) / num_tested) ** 0.5


@pytest.mark.slow
@pytest.mark.xdist_group("suites")
@pytest.mark.parametrize("name", [name for name in names() if name != "quickstart"])
def test_a_suite_runs_to_its_table(
    name: str, workdir: Path, command: Callable[..., list[str]]
) -> None:
    finished = subprocess.run(
        command("run", name, "--workdir", workdir),
        capture_output=True, text=True, timeout=1800, check=False,
        env={**os.environ, "COLUMNS": "140"},
    )  # fmt: skip
    assert finished.returncode == 0, finished.stdout + finished.stderr
    graph = graph_of(name, None, None, None)
    results = Store(workdir).results(job.job_id for job in graph.jobs)
    assert {job.name for job in graph.jobs if job.job_id not in results} == set()
    reported = 0
    for job in graph.jobs:
        for metric in results[job.job_id].metrics.values():
            if job.labels.downstream and metric.value is not None and "top1" in metric.name:
                assert metric.value > chance(job, metric.n), f"{job.name}: {metric}"
                reported += 1
            elif job.labels.stage == "profile" and metric.value is not None:
                assert metric.value > 0, f"{job.name}: {metric}"
                reported += 1
    assert reported
    report = workdir / "reports" / f"{name}-smoke"
    assert (report / "index.html").is_file()
    table = (report / "timings" / "overview.md").read_text(encoding="utf-8")
    assert all(job.labels.title in table for job in graph.jobs)
    assert graph.suite.title in finished.stdout


# --- what nobody can do ---------------------------------------------------------------------

MIXED = """
name = "mixed"
title = "Weights that were never released next to jobs that can be done"
claim = "What nobody can do is reported, and the rest is done."

[[pretrain]]
systems = ["vit-micro"]
upstream = "fractals"
num_examples = [64]
recipe = "vit-micro-pretrain"
protocol = "pretrain-micro"

[[weights]]
systems = ["vit-b32"]
weights = "jft"

[[transfer]]
kind = "fewshot"
systems = ["vit-micro"]
datasets = ["digits"]
protocol = "fewshot-micro"
shots = [5]

[[transfer]]
kind = "fewshot"
systems = ["vit-b32"]
datasets = ["cifar100"]
protocol = "vit-fewshot"
shots = [5]
"""


def graph_at(path: Path) -> JobGraph:
    return graph_of(str(path), None, None, None)


@pytest.mark.ordinary
def test_refused_jobs_are_skipped_with_the_reason_and_the_rest_is_done(
    tmp_path: Path, vitbench: Run
) -> None:
    path, workdir = tmp_path / "mixed.toml", tmp_path / "runs"
    path.write_text(MIXED, encoding="utf-8")
    finished = vitbench("run", path, "--local", "--workdir", workdir)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "4 jobs, 2 refused (weights jft of vit-b32: not public: the paper's JFT-300M" in (
        finished.stdout
    )
    outcomes = Store(workdir).outcomes(job.job_id for job in graph_at(path).jobs)
    assert sorted(result.status for result in outcomes.values()) == ["done"] * 2 + ["skipped"] * 2
    for job in graph_at(path).jobs:
        if job.refused:
            assert outcomes[job.job_id].error == job.refused
    again = vitbench("run", path, "--local", "--workdir", workdir)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "4 jobs, 2 reused (done before), 2 refused" in again.stdout
    assert "nothing to do" in again.stdout


@pytest.mark.ordinary
def test_a_suite_that_is_refused_whole_runs_nothing(tmp_path: Path, vitbench: Run) -> None:
    workdir = tmp_path / "runs"
    finished = vitbench("run", "head", "--scale", "full", "--workdir", workdir)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "6 jobs, 6 refused (JFT-300M is not public: internal to Google)" in finished.stdout
    assert not list(workdir.glob("jobs/*/result.json"))
    assert not (workdir / "data").exists()
    table = (workdir / "reports/head-full/tables/comparison.md").read_text(encoding="utf-8")
    assert "JFT-300M is not public" in table


@pytest.mark.ordinary
def test_data_that_are_not_there_are_told_before_anything_runs(
    tmp_path: Path, vitbench: Run
) -> None:
    workdir = tmp_path / "runs"
    finished = vitbench(
        "run", "data-size", "--scale", "public", "--set", "gpus=0", "--workdir", workdir
    )
    assert finished.returncode == 2
    assert "imagenet-1k" in finished.stderr
    assert "vitbench data prepare" in finished.stderr
    assert finished.stderr.count("\n") == 1
    assert not workdir.exists()
