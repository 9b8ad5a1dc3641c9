"""The verb `rehearse`: a table or JSON, and exit codes that say whether a suite can be run."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import environment
from bench.cli.rehearse import _saved_gib_per_s
from bench.paths import WorkPaths
from bench.plan import plan_with_catalogue, rehearsed, suites
from bench.schedule.order import JOB_OVERHEAD_S, Estimates

HEAD = ("rehearse", "head", "--scale", "smoke")

Run = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--gpu", "h10"], 'unknown GPU "h10". Did you mean "h100"?'),
        (["--budget", "-1"], "--budget -1.0: dollars are not below zero"),
        (["--seeds", "99"], "--seeds 99: the suite has "),
        (["--limit-steps", "0"], "--limit-steps 0: must be at least 1"),
    ],
)
def test_wrong_words_are_reported_in_one_line(run: Run, words: list[str], expected: str) -> None:
    code, _, err = run(*HEAD, *words)
    assert code == 2
    assert err.startswith("vitbench: ")
    assert expected in err
    assert err.count("\n") == 1


@pytest.mark.ordinary
def test_what_is_measured_here_is_kept_for_the_planner(run: Run, tmp_path: Path) -> None:
    code, out, _ = run(*HEAD, "--json")
    found = json.loads(out)
    assert code == 0
    assert found["measured"]
    assert found["red_lines"] == []
    assert found["usd"] == 0
    assert found["num_jobs"] == 18
    assert 0 < found["hours"] < 24
    machine = environment.machine("cpu")
    kept = rehearsed.read(WorkPaths(tmp_path / "runs").cache, machine)
    assert len(kept) == len(found["rows"])
    assert all(one.image_s for one in kept.values())
    graph = plan_with_catalogue(suites.load("head", scale="smoke"), {})
    seconds = rehearsed.seconds(graph, WorkPaths(tmp_path / "runs").cache)
    assert set(seconds) == {job.job_id for job in graph.jobs if job.exaflops}
    estimates = Estimates(graph, {}, rehearsed_s=seconds)
    for job in graph.jobs:
        if job.job_id in seconds:
            assert estimates.seconds(job) == JOB_OVERHEAD_S + seconds[job.job_id]


@pytest.mark.ordinary
def test_a_budget_of_nothing_is_a_red_line_on_a_gpu(run: Run, tmp_path: Path) -> None:
    code, out, _ = run(*HEAD, "--on", "cuda", "--budget", "0")
    assert code == 1
    assert "over the budget of $0" in " ".join(out.split())
    assert "raises" not in out
    assert not WorkPaths(tmp_path / "runs").cache.rehearsals.exists()


def test_a_folder_that_takes_no_file_is_no_reason_to_stop() -> None:
    """What is missing there is a red line, and not the end of the rehearsal."""
    assert _saved_gib_per_s(Path("/proc")) == math.inf
