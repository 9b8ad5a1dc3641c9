"""Job folders: atomic results, claims that the kernel frees, late writers fenced off."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import files
from bench.errors import BenchError, JobHeld, StaleAttempt, UserError
from bench.specs import JobResult, PlannedJob
from bench.store import Store

FORK = multiprocessing.get_context("fork")
Make = Callable[..., PlannedJob]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "runs")
    made.create()
    return made


def test_a_committed_result_is_read_back_equal(
    store: Store, make_job: Make, make_result: Callable[..., JobResult]
) -> None:
    job = make_job("a", seed=1)
    assert store.result(job.job_id) is None
    with store.claim(job.spec) as claim:
        claim.commit(make_result(job))
    assert store.result(job.job_id) == make_result(job)
    assert store.results([job.job_id]) == {job.job_id: make_result(job)}


def test_a_result_whose_file_is_gone_is_not_done(
    store: Store, make_job: Make, make_result: Callable[..., JobResult]
) -> None:
    job = make_job("a", seed=1)
    with store.claim(job.spec) as claim:
        (claim.folder / "model.safetensors").write_bytes(b"x")
        result = make_result(job).model_copy(update={"files": {"model.safetensors": "digest"}})
        claim.commit(result)
    assert store.result(job.job_id) is not None
    (store.folder(job.job_id) / "model.safetensors").unlink()
    assert store.result(job.job_id) is None


@pytest.mark.parametrize("damage", ["", "{", '{"job_id": "other", "status": "done"}'])
def test_a_damaged_result_is_not_done(store: Store, make_job: Make, damage: str) -> None:
    job = make_job("a", seed=1)
    store.folder(job.job_id).mkdir()
    (store.folder(job.job_id) / "result.json").write_text(damage)
    assert store.result(job.job_id) is None


def test_success_removes_the_failure(
    store: Store, make_job: Make, make_result: Callable[..., JobResult]
) -> None:
    job = make_job("a", seed=1)
    store.record_failure(
        JobResult(job_id=job.job_id, status="failed", error="boom"), traceback="Traceback"
    )
    assert store.outcomes([job.job_id])[job.job_id].error == "boom"
    with store.claim(job.spec) as claim:
        claim.commit(make_result(job))
    assert store.outcomes([job.job_id])[job.job_id].status == "done"
    assert not (store.folder(job.job_id) / "error.txt").exists()


def test_a_late_writer_is_refused(
    store: Store, make_job: Make, make_result: Callable[..., JobResult]
) -> None:
    job = make_job("a", seed=1)
    with store.claim(job.spec) as first:
        pass
    with store.claim(job.spec) as second:
        assert second.attempt == first.attempt + 1
        with pytest.raises(StaleAttempt, match="no longer current"):
            first.commit(make_result(job, value=0.1))
        second.commit(make_result(job, value=0.9))
    found = store.result(job.job_id)
    assert found is not None
    assert found.metrics["train_loss"].value == 0.9


def _hold(workdir: Path, job: PlannedJob) -> None:
    with Store(workdir).claim(job.spec):
        (workdir / "held").touch()
        time.sleep(60)


def test_the_claim_of_a_killed_process_is_free_at_once(store: Store, make_job: Make) -> None:
    job = make_job("a", seed=1)
    process = FORK.Process(target=_hold, args=(store.workdir, job))
    process.start()
    try:
        while not (store.workdir / "held").exists():
            time.sleep(0.01)
        with pytest.raises(JobHeld, match=f"worked on by .*, process {process.pid}, since 20"):
            store.claim(job.spec).__enter__()
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        with store.claim(job.spec) as claim:
            assert claim.attempt == 2
    finally:
        process.kill()


def _write_checkpoint(workdir: Path, job: PlannedJob) -> None:
    with (
        Store(workdir).claim(job.spec) as claim,
        files.replacing(claim.paths.checkpoints / "step-1.safetensors") as temporary,
    ):
        temporary.write_bytes(b"half")
        (workdir / "held").touch()
        time.sleep(60)


def test_the_next_claim_clears_what_a_killed_attempt_left(store: Store, make_job: Make) -> None:
    job = make_job("a", seed=1)
    process = FORK.Process(target=_write_checkpoint, args=(store.workdir, job))
    process.start()
    while not (store.workdir / "held").exists():
        time.sleep(0.01)
    process.kill()
    process.join()
    folder = store.folder(job.job_id)
    assert len(list(folder.rglob("*.tmp"))) == 1
    with store.claim(job.spec):
        assert not list(folder.rglob("*.tmp"))


def test_a_full_disk_leaves_a_job_undone(
    store: Store, make_job: Make, make_result: Callable[..., JobResult]
) -> None:
    job = make_job("a", seed=1)
    store.record_failure(JobResult(job_id=job.job_id, status="failed", error="boom"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with store.claim(job.spec) as claim:
        (claim.paths.checkpoints).mkdir()
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
        try:
            with pytest.raises(OSError, match="large"):
                claim.commit(make_result(job))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert store.outcomes([job.job_id])[job.job_id].error == "boom"
    assert store.paths.job(job.job_id).checkpoints.is_dir()
    assert not list(store.folder(job.job_id).rglob("*.tmp"))


def test_any_file_of_a_job_is_found_by_its_name(store: Store, make_job: Make) -> None:
    job = make_job("a", seed=1)
    assert store.file(job.job_id, "logits.npz") is None
    with store.claim(job.spec) as claim:
        (claim.folder / "logits.npz").write_bytes(b"x")
    assert store.file(job.job_id, "logits.npz") == store.folder(job.job_id) / "logits.npz"
    for name in ("", ".", "..", "../x", "/etc/passwd", "a/b", "a\0"):
        with pytest.raises(BenchError, match="not the name of a file"):
            store.file(job.job_id, name)


def test_progress_keeps_the_newest_attempt_of_each_step(store: Store, make_job: Make) -> None:
    job = make_job("a", seed=1)
    with store.claim(job.spec) as claim:
        claim.report({"step": 1, "loss": 3.0})
        claim.report({"step": 2, "loss": 2.0})
    with store.claim(job.spec) as claim:
        claim.report({"step": 2, "loss": 2.5})
        with (claim.folder / "progress.jsonl").open("a") as file:
            file.write('{"step": 3, "lo')  # a killed attempt
    lines = store.progress(job.job_id)
    assert [(line["step"], line["loss"], line["attempt"]) for line in lines] == [
        (1, 3.0, 1),
        (2, 2.5, 2),
    ]


def test_an_unwritable_work_folder_is_told_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--workdir"):
        Store(tmp_path / "file" / "runs").create()


def test_a_job_id_cannot_be_a_path(store: Store) -> None:
    with pytest.raises(BenchError, match="not a job id"):
        store.folder("../../../../etc/pass")
