"""The index of job folders: nothing unchanged is read again, and everything changed is."""

from __future__ import annotations

import builtins
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.specs import JobResult, PlannedJob
from bench.store import Store

Make = Callable[..., Any]


@pytest.fixture
def filled(tmp_path: Path, make_job: Make, make_result: Make) -> tuple[Store, list[PlannedJob]]:
    store = Store(tmp_path / "runs")
    store.create()
    jobs = [make_job(f"job {seed}", seed=seed) for seed in range(4)]
    for job in jobs[:2]:
        with store.claim(job.spec) as claim:
            (claim.folder / "model.safetensors").write_bytes(b"x")
            files = {"model.safetensors": "digest"}
            claim.commit(make_result(job).model_copy(update={"files": files}))
    store.record_failure(JobResult(job_id=jobs[2].job_id, status="failed", error="boom"))
    return store, jobs


def ids(jobs: list[PlannedJob]) -> list[str]:
    return [job.job_id for job in jobs]


def test_it_knows_the_jobs_that_have_an_outcome(filled: tuple[Store, list[PlannedJob]]) -> None:
    store, jobs = filled
    digests = store.digests(ids(jobs))
    assert set(digests) == set(store.outcomes(ids(jobs))) == set(ids(jobs[:3]))
    assert len(set(digests.values())) == 3
    assert Store(store.workdir).digests(ids(jobs)) == digests


def test_unchanged_records_are_not_read_again(
    filled: tuple[Store, list[PlannedJob]], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, jobs = filled
    digests = store.digests(ids(jobs))
    opened = []
    plain = builtins.open

    def spy(file: Any, *rest: Any, **named: Any) -> Any:
        opened.append(str(file))
        return plain(file, *rest, **named)

    monkeypatch.setattr(builtins, "open", spy)
    assert store.digests(ids(jobs)) == digests
    assert not [name for name in opened if name.endswith(".json")]


def test_a_new_result_of_the_same_size_is_seen(
    filled: tuple[Store, list[PlannedJob]], make_result: Make
) -> None:
    store, jobs = filled
    before = store.digests(ids(jobs))
    for value in (0.6, 0.7, 0.8):
        with store.claim(jobs[0].spec) as claim:
            claim.commit(make_result(jobs[0], value=value))
        after = store.digests(ids(jobs))
        assert after[jobs[0].job_id] != before[jobs[0].job_id]
        assert after[jobs[1].job_id] == before[jobs[1].job_id]
        before = after


def test_a_result_without_its_files_is_no_outcome(
    filled: tuple[Store, list[PlannedJob]],
) -> None:
    store, jobs = filled
    before = store.digests(ids(jobs))
    (store.folder(jobs[0].job_id) / "model.safetensors").unlink()
    assert store.digests(ids(jobs)) == {k: v for k, v in before.items() if k != jobs[0].job_id}
    store.record_failure(JobResult(job_id=jobs[0].job_id, status="failed", error="gone"))
    assert set(store.digests(ids(jobs))) == set(store.outcomes(ids(jobs))) == set(before)


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"version": 0, "seen": {}}'])
def test_a_damaged_index_is_made_again(filled: tuple[Store, list[PlannedJob]], damage: str) -> None:
    store, jobs = filled
    digests = store.digests(ids(jobs))
    index = store.workdir / "results.index"
    index.write_text(damage)
    assert store.digests(ids(jobs)) == digests
    assert len(json.loads(index.read_text())["seen"]) == 3


def test_nothing_is_made_where_nothing_is(tmp_path: Path, make_job: Make) -> None:
    assert Store(tmp_path / "runs").digests([make_job("a", seed=1).job_id]) == {}
    assert not (tmp_path / "runs").exists()
