"""Bundles of a whole suite: packed here, verified and rendered from nothing but the bundle."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reports
from bench import digests
from bench.cli import sharing, wiring
from bench.errors import CheckpointError, UserError
from bench.paths import WorkPaths
from bench.specs import JobResult
from bench.store import Store, bundle
from reports.exchange.compare import compare

pytestmark = pytest.mark.ordinary


@pytest.fixture
def suite(made: Any, tmp_path: Path) -> tuple[Any, Store]:
    """The made-up suite in a work folder, with hits, learning curves and a failed job."""
    block = made.graph.suite.report.model_copy(update={"figures": ()})
    spec = made.graph.suite.model_copy(update={"report": block})
    graph = made.graph.model_copy(update={"suite": spec})
    store = Store(tmp_path / "runs")
    store.create()
    for job in graph.jobs:
        folder = store.folder(job.job_id)
        folder.mkdir()
        result = made.results[job.job_id]
        for name in result.files:
            (folder / name).write_bytes(b"x")
        (folder / "result.json").write_text(result.model_dump_json(indent=1))
        if job.job_id in made.curves:
            lines = "".join(json.dumps(line) + "\n" for line in made.curves[job.job_id])
            (folder / "progress.jsonl").write_text(lines)
        hits_N = made.hits(job.job_id)
        if hits_N is not None:
            np.savez_compressed(folder / "hits.npz", hits=hits_N)
    failed = graph.jobs[-1]
    (store.folder(failed.job_id) / "result.json").unlink()
    error = f"cannot read {tmp_path}/images/cat.png"
    store.record_failure(
        made.results[failed.job_id].model_copy(
            update={"status": "failed", "error": error, "metrics": {}}
        )
    )
    return graph, store


def test_another_machine_verifies_and_renders_it(suite: tuple[Any, Store], tmp_path: Path) -> None:
    graph, store = suite
    path = tmp_path / "a.zip"
    evidence, digest = sharing.pack(graph, store, path)
    assert (len(evidence.results), len(evidence.hits)) == (108, 27)
    again = tmp_path / "b.zip"
    assert sharing.pack(graph, store, again)[1] == digest
    assert again.read_bytes() == path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            assert str(tmp_path).encode() not in archive.read(name), name
    found = sharing.verify(path)
    assert found.num_equal == found.num_tables > 20
    assert found.differences == ()
    assert found.evidence.digest == digest
    page = sharing.render(found.evidence, tmp_path / "out")
    assert "<title>" in page.read_text()
    ours = wiring.make_report(graph, store)
    for name in ("pairs.md", "images.long.csv", "training.tex"):
        made = (tmp_path / "out" / "tables" / name).read_bytes()
        assert made == ours.files[f"tables/{name}"].read_bytes(), name


def test_a_value_changed_with_care_is_found_by_rendering(
    suite: tuple[Any, Store], tmp_path: Path
) -> None:
    graph, store = suite
    path = tmp_path / "a.zip"
    evidence, _ = sharing.pack(graph, store, path)
    table = evidence.tables["tables/comparison.long.csv"].decode()
    line = table.splitlines()[1]
    value = line.split(",")[4]
    forged = table.replace(line, line.replace(value, "0.99"), 1).encode()
    tables = {**evidence.tables, "tables/comparison.long.csv": forged}
    bundle.write(path, replace(evidence, tables=tables))
    found = sharing.verify(path)
    assert found.num_equal == found.num_tables - 1
    assert [(d.committed, d.now) for d in found.differences] == [("0.99", value)]


def test_a_work_folder_and_its_bundle_compare_equal(
    suite: tuple[Any, Store], tmp_path: Path
) -> None:
    graph, store = suite
    path = tmp_path / "a.zip"
    sharing.pack(graph, store, path)
    wiring.make_report(graph, store)
    for of in (None, graph):
        found = compare(sharing.side(store.workdir, of), sharing.side(path, of))
        assert found.num_shared == 107
        assert found.values == ()
    (tmp_path / "empty" / "jobs").mkdir(parents=True)
    with pytest.raises(UserError, match="no job is done there"):
        sharing.side(tmp_path / "empty", None)


def test_a_report_of_unchanged_records_reads_none(
    suite: tuple[Any, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, store = suite
    made = wiring.make_report(graph, store)
    assert made.failures[0].endswith("images/cat.png")

    def never(*_: object, **__: object) -> None:
        raise AssertionError("nothing changed")

    monkeypatch.setattr(reports, "build", never)
    monkeypatch.setattr(Store, "outcomes", never)
    again = wiring.make_report(graph, store)
    assert again == made


def test_nothing_run_is_told(made: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing was run"):
        sharing.pack(made.graph, Store(tmp_path / "runs"), tmp_path / "a.zip")
    assert not (tmp_path / "a.zip").exists()


def test_hits_of_another_job_are_refused(suite: tuple[Any, Store], tmp_path: Path) -> None:
    graph, store = suite
    evidence, _ = sharing.pack(graph, store, tmp_path / "a.zip")
    job_id = next(iter(evidence.hits))
    file = io.BytesIO()
    np.savez(file, hits=np.zeros(3, dtype=bool))
    result = evidence.results[job_id]
    told = result.model_copy(update={"files": {**result.files, "hits.npz": "0" * 64}})
    bundle.write(
        tmp_path / "b.zip",
        replace(evidence, results={**evidence.results, job_id: told},
                hits={**evidence.hits, job_id: file.getvalue()}),
    )  # fmt: skip
    with pytest.raises(UserError, match=r"hits.npz is not the file of its result"):
        sharing.verify(tmp_path / "b.zip")


# --- public weights -------------------------------------------------------------------------

STARTED = """
name = "started"
title = "From public weights"
claim = "A start."

[[weights]]
systems = ["vit-b16"]
weights = "in21k"

[[transfer]]
kind = "knn"
neighbours = [5]
datasets = ["digits"]
protocol = "vit-fewshot"
"""
ONE, TWO = "1" * 64, "2" * 64


def started(folder: Path, sha256: str) -> Path:
    """Return the bundle of a suite whose one done job loaded the weights of this digest."""
    file = folder / "started.toml"
    file.write_text(STARTED, encoding="utf-8")
    graph = wiring.graph_of(str(file), None, None, None)
    job = next(job for job in graph.jobs if job.spec.kind == "weights")
    values = {"weights": "in21k", digests.VALUE: sha256}
    result = JobResult(job_id=job.job_id, status="done", values=values)
    path = folder / f"{sha256[:4]}.zip"
    evidence = bundle.Evidence(graph, {job.job_id: result}, {}, {}, (), {}, {})
    bundle.write(path, replace(evidence, tables=sharing._tables(evidence)))
    return path


def test_digests_of_weights_travel_with_a_bundle(tmp_path: Path) -> None:
    path = started(tmp_path, ONE)
    (used,) = bundle.read(path).weights
    assert (used.sha256, used.name, used.owners) == (ONE, "in21k of vit-b16", ())
    workdir = tmp_path / "runs"
    (line,) = sharing.verify(path, workdir=workdir).weights
    assert line == (
        f"weights in21k of vit-b16: sha256 {ONE} (of the first use: its owner publishes none); "
        "not used here yet"
    )
    assert not workdir.exists()
    cache = WorkPaths(workdir).cache
    digests.record("in21k", used.address, digests.Stated(ONE, "here"), cache)
    assert sharing.verify(path, workdir=workdir).weights[0].endswith("; the same file here")


def test_a_bundle_of_other_weights_than_this_machines_is_refused(tmp_path: Path) -> None:
    path, other = started(tmp_path, ONE), started(tmp_path, TWO)
    (used,) = bundle.read(path).weights
    cache = WorkPaths(tmp_path / "runs").cache
    digests.record("in21k", used.address, digests.Stated(ONE, "here"), cache)
    with pytest.raises(CheckpointError) as verified:
        sharing.verify(other, workdir=tmp_path / "runs")
    with pytest.raises(CheckpointError) as compared:
        compare(sharing.side(path, None), sharing.side(other, None))
    for error, place in ((verified, cache.weights_record), (compared, path)):
        words = str(error.value)
        for part in ("in21k", ONE, TWO, f"job {used.job_id} of {other}", str(place), "run what"):
            assert part in words
    assert compare(sharing.side(path, None), sharing.side(path, None)).num_shared == 1
