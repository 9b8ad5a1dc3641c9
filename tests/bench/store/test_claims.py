"""Attempts that follow each other: what an older one leaves, or still writes, changes nothing."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bench.errors import JobHeld, StaleAttempt
from bench.specs import JobResult, PlannedJob
from bench.store import Store, holds

FORK = multiprocessing.get_context("fork")
Make = Callable[..., PlannedJob]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "runs")
    made.create()
    return made


def lines_of(store: Store, job: PlannedJob) -> list[tuple[int, float, int]]:
    found = store.progress(job.job_id)
    return [(line["step"], line["loss"], line["attempt"]) for line in found]


# --- progress -------------------------------------------------------------------------------


def test_late_lines_of_an_older_attempt_are_no_progress(store: Store, make_job: Make) -> None:
    """Written by a process that hung, after the next attempt began: at any step."""
    job = make_job("a", seed=1)
    with store.claim(job.spec) as first:
        first.report({"step": 1, "loss": 3.0})
        first.report({"step": 2, "loss": 2.0})
    with store.claim(job.spec) as second:
        late = first.paths.progress.open("a")
        late.write('{"step": 3, "loss": 1.0, "attempt": 1}\n')
        late.flush()
        assert lines_of(store, job) == [(1, 3.0, 1), (2, 2.0, 1)]
        second.report({"step": 2, "loss": 2.5})
        late.write('{"step": 2, "loss": 0.1, "attempt": 1}\n{"step": 9, "loss": 0.1, "attempt"')
        late.close()
        assert lines_of(store, job) == [(1, 3.0, 1), (2, 2.5, 2)]
    with store.claim(job.spec) as third:  # its beginning is not lost in the line cut short
        third.paths.progress.open("a").write('{"step": 3, "loss": 0.2, "attempt": 2}\n')
        third.report({"step": 3, "loss": 0.5})
    assert lines_of(store, job) == [(1, 3.0, 1), (2, 2.5, 2), (3, 0.5, 3)]


def test_an_attempt_that_was_given_up_is_stopped_at_its_next_line(
    store: Store, make_job: Make
) -> None:
    job = make_job("a", seed=1)
    with store.claim(job.spec) as first:
        pass
    with (
        store.claim(job.spec),
        pytest.raises(StaleAttempt, match=f"attempt 1 of job {job.job_id} is no longer current"),
    ):
        first.report({"step": 1, "loss": 3.0})
    assert lines_of(store, job) == []


# --- leftovers ------------------------------------------------------------------------------


def leave_everything(workdir: Path, job: PlannedJob) -> None:
    with Store(workdir).claim(job.spec) as claim:
        claim.report({"step": 1, "loss": 3.0})
        claim.paths.checkpoints.mkdir()
        (claim.paths.checkpoints / "step-1.json").write_text("{}")
        (claim.paths.checkpoints / "notes").write_text("a kind's own")
        folder = claim.folder
        (folder / ".vitbench.far.away.org-1.7.0123456789ab.tmp").write_bytes(b"x")
        (folder / "model.safetensors").write_bytes(b"whole, and never committed")
        (folder / "model.safetensors.part").write_bytes(b"x")
        (folder / "tmp8x2k1").write_bytes(b"x")
        np.savez(folder / "hits.npz", hits=np.ones(3))
        archive = zipfile.ZipFile(folder / "weights.pt", "w")
        archive.open("data/0", "w").write(b"torch's own, not closed")
        (folder / "tune" / "trial-0").mkdir(parents=True)
        (folder / "tune" / "trial-0" / "state.json").write_text("{}")
        (folder / "link").symlink_to("/")
        (workdir / "held").touch()
        time.sleep(60)


def test_what_a_killed_attempt_left_is_gone_whatever_its_name(
    store: Store, make_job: Make, make_result: Callable[..., JobResult]
) -> None:
    job = make_job("a", seed=1)
    process = FORK.Process(target=leave_everything, args=(store.workdir, job))
    process.start()
    while not (store.workdir / "held").exists():
        time.sleep(0.01)
    process.kill()
    process.join()
    folder = store.folder(job.job_id)
    assert len(list(folder.iterdir())) == 12
    with store.claim(job.spec) as claim:
        assert {path.name for path in folder.iterdir()} == {
            "spec.json", "progress.jsonl", "attempts", "checkpoints",
        }  # fmt: skip
        assert {path.name for path in claim.paths.checkpoints.iterdir()} == {"step-1.json", "notes"}
        assert lines_of(store, job) == [(1, 3.0, 1)]
        claim.paths.weights.write_bytes(b"x")
        # Written late, by a child of the killed process or on another node.
        (folder / ".vitbench.far.away.org-1.7.0123456789ab.tmp").write_bytes(b"x")
        (folder / "state").mkdir()
        claim.commit(make_result(job).model_copy(update={"files": {claim.paths.weights.name: "d"}}))
    assert {path.name for path in folder.iterdir()} == {
        "spec.json", "progress.jsonl", "attempts", "result.json", "model.safetensors",
    }  # fmt: skip
    before = store.result(job.job_id)
    with store.claim(job.spec):  # one who comes too late takes nothing away
        pass
    assert before is not None
    assert store.result(job.job_id) == before


# --- another machine ------------------------------------------------------------------------


def work_far_away(workdir: Path, job: PlannedJob, result: JobResult) -> None:
    holds.machine = lambda: "far.away.org-1"
    holds.BEAT_S = 0.02
    with Store(workdir).claim(job.spec) as claim:
        (workdir / "held").touch()
        while not (workdir / "go on").exists():
            time.sleep(0.01)
        try:
            claim.commit(result)
        except StaleAttempt as error:
            (workdir / "refused").write_text(str(error))


def test_a_job_of_a_machine_that_fell_silent_is_taken_over_and_its_late_result_refused(
    store: Store,
    make_job: Make,
    make_result: Callable[..., JobResult],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(holds, "SILENT_S", 0.5)
    job = make_job("a", seed=1)
    process = FORK.Process(
        target=work_far_away, args=(store.workdir, job, make_result(job, value=0.1))
    )
    process.start()
    assert process.pid is not None
    while not (store.workdir / "held").exists():
        time.sleep(0.01)
    end_s = time.monotonic() + 1
    while time.monotonic() < end_s:
        assert store.holder(job.job_id) is not None
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGSTOP)
    with pytest.raises(JobHeld):
        store.claim(job.spec).__enter__()
    while store.holder(job.job_id) is not None:
        time.sleep(0.02)
    with store.claim(job.spec) as claim:
        assert claim.attempt == 2
        (store.workdir / "go on").touch()
        os.kill(process.pid, signal.SIGCONT)
        process.join()
        assert "attempt 1 of job" in (store.workdir / "refused").read_text()
        claim.commit(make_result(job, value=0.9))
    found = json.loads(store.paths.job(job.job_id).result.read_text())
    assert found["metrics"]["train_loss"]["value"] == 0.9
