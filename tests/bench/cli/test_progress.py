"""What a person reads while a suite runs."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from bench.cli.listing import duration
from bench.cli.progress import SuiteProgress
from bench.jobs import _Scored
from bench.plan.spec import JobGraph
from bench.schedule import Event
from bench.specs import JobResult, PlannedJob
from bench.store import Store


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "0 s"), (59.4, "59 s"), (60, "1 min 00 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")],
)
def test_durations_are_said_as_people_say_them(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_counts_jobs_and_shows_loss_speed_and_failures(
    tmp_path: Path,
    make_job: Callable[..., PlannedJob],
    make_graph: Callable[..., JobGraph],
    make_result: Callable[..., JobResult],
    monkeypatch: pytest.MonkeyPatch,
    terminal: bool,
) -> None:
    monkeypatch.setattr("bench.cli.progress.PLAIN_EVERY_S", 0.0)
    monkeypatch.setattr("bench.cli.progress.REFRESH_EVERY_S", 0.0)
    monkeypatch.setenv("TERM", "xterm")
    store = Store(tmp_path)
    store.create()
    jobs = [make_job(name, seed=seed) for seed, name in enumerate(("before", "now", "bad"))]
    with store.claim(jobs[1].spec) as claim:
        claim.report({"step": 1, "num_steps": 1, "loss": 1.25, "images_per_s": 4321.0})
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=160)
    with store.claim(jobs[2].spec) as claim:
        claim.report({"step": 9, "num_steps": 9, "loss": 9.0})
    with store.claim(jobs[2].spec) as claim:
        claim.report({"step": 1, "num_steps": 9, "loss": 7.5})
    graph = make_graph(tuple(jobs))
    done = {jobs[0].job_id: make_result(jobs[0])}
    with SuiteProgress(
        graph, done, jobs[1:], store=store, num_slots=1, console=console
    ) as progress:
        progress.on_event(Event("started", jobs[1]))
        progress.on_poll()
        progress.on_event(Event("done", jobs[1], make_result(jobs[1])))
        progress.on_event(Event("waiting", jobs[2], words="being worked on by vm, process 7"))
        progress.on_event(Event("started", jobs[2]))
        progress.on_poll()
        failed = JobResult(job_id=jobs[2].job_id, status="failed", error="[red]\x1b[2Jboom")
        progress.on_event(Event("failed", jobs[2], failed))
        progress.on_poll()
    shown = out.getvalue()
    assert "1/3 jobs done, 1 running" in shown
    assert "loss 1.250, 4,321 images/s" in shown
    assert "waiting bad: being worked on by vm, process 7" in shown
    assert "loss 7.500" in shown  # of the newest attempt, which has not come as far
    assert "loss 9.000" not in shown
    assert "3/3 jobs done, 0 running" in shown
    assert "[red] [2Jboom" in shown  # shown as it is: no markup, no control characters


def test_scoring_is_told_by_images_and_no_rate_is_nothing(
    tmp_path: Path,
    make_job: Callable[..., PlannedJob],
    make_graph: Callable[..., JobGraph],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bench.cli.progress.PLAIN_EVERY_S", 0.0)
    store = Store(tmp_path)
    store.create()
    job = make_job("now", seed=0)
    out = io.StringIO()
    with (
        store.claim(job.spec) as claim,
        SuiteProgress(
            make_graph((job,)), {}, [job], store=store, num_slots=1,
            console=Console(file=out, width=160),
        ) as progress,
    ):  # fmt: skip
        progress.on_event(Event("started", job))
        claim.report({"step": 1, "num_steps": 1, "loss": 1.25, "images_per_s": 0.31})
        progress.on_poll()
        scored = _Scored(store.paths.job(job.job_id).scored)
        monkeypatch.setattr("bench.jobs.SCORED_EVERY_S", 0.0)
        scored(64, 50_000)
        scored(12_800, 50_000)
        progress.on_poll()
        claim.commit(JobResult(job_id=job.job_id, status="done"))
    lines = out.getvalue().splitlines()
    assert lines[0].endswith("now: loss 1.250, 0.31 images/s")
    assert "now: 12,800 of 50,000 images scored, " in lines[1]
    assert not store.paths.job(job.job_id).scored.exists()
