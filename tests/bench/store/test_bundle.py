"""Evidence bundles: same bytes, no path of the machine, and nothing damaged or unsafe gets in."""

from __future__ import annotations

import io
import json
import stat
import tracemalloc
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.errors import UserError
from bench.plan.spec import JobGraph
from bench.specs import Cost, DatasetCard, JobResult, PlannedJob
from bench.store import Store, bundle, scrub

Make = Callable[..., Any]


def npz(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


@pytest.fixture
def evidence(make_job: Make, make_graph: Make, make_result: Make) -> bundle.Evidence:
    jobs = tuple(make_job(f"job {seed}", seed=seed) for seed in range(3))
    first = jobs[0].job_id
    return bundle.Evidence(
        graph=make_graph(jobs),
        results={job.job_id: make_result(job, value=0.25) for job in jobs[:2]},
        curves={first: [{"step": 1, "loss": 2.5}, {"step": 2, "loss": 2.0}]},
        hits={first: npz(hits=np.array([True, False, True]))},
        published=(),
        environment={"vitbench": "1", "python": "3"},
        tables={"tables/comparison.csv": b"a\n1\n", "timings/cost.md": b"| a |\n"},
    )


@pytest.fixture
def packed(evidence: bundle.Evidence, tmp_path: Path) -> Path:
    bundle.write(tmp_path / "a.zip", evidence)
    return tmp_path / "a.zip"


def rewritten(path: Path, change: Callable[[dict[str, bytes]], None], *, sealed: bool) -> Path:
    """Change what is in a bundle; `sealed` makes its manifest fit again."""
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    change(contents)
    if sealed:
        manifest = json.loads(contents[bundle.MANIFEST])
        rest = {k: v for k, v in contents.items() if k != bundle.MANIFEST}
        manifest["files"] = {name: bundle._sha256(content) for name, content in rest.items()}
        contents[bundle.MANIFEST] = json.dumps(manifest).encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return path


def test_what_is_written_is_read_back_equal(evidence: bundle.Evidence, packed: Path) -> None:
    found = bundle.read(packed)
    assert replace(found, digest="") == evidence
    hits_N = found.hits_of(evidence.graph.jobs[0].job_id)
    assert hits_N is not None
    assert hits_N.tolist() == [True, False, True]
    assert found.hits_of(evidence.graph.jobs[1].job_id) is None


def test_the_same_records_give_the_same_bytes(
    evidence: bundle.Evidence, packed: Path, tmp_path: Path
) -> None:
    digest = bundle.write(tmp_path / "b.zip", evidence)
    assert (tmp_path / "b.zip").read_bytes() == packed.read_bytes()
    assert bundle.read(packed).digest == digest
    assert not list(tmp_path.glob(".*"))


def _drop(name: str) -> Callable[[dict[str, bytes]], None]:
    return lambda contents: contents.pop(name) and None


def _put(name: str, content: bytes) -> Callable[[dict[str, bytes]], None]:
    return lambda contents: contents.update({name: content})


def _other_job(contents: dict[str, bytes]) -> None:
    name = next(name for name in contents if name.endswith("result.json"))
    contents[f"jobs/{'0' * 16}/result.json"] = contents.pop(name)


def _other_seed(contents: dict[str, bytes]) -> None:
    graph = json.loads(contents["graph.json"])
    graph["jobs"][0]["spec"]["seed"] = 99
    contents["graph.json"] = json.dumps(graph).encode()


@pytest.mark.parametrize(
    ("change", "sealed", "message"),
    [
        (_put("graph.json", b"{}"), False, "graph.json is not what bundle.json says"),
        (_put("graph.json", b"{}"), True, "not the records of vitbench"),
        (_put("published.json", b"3"), True, "not the records of vitbench"),
        (_drop("graph.json"), False, "graph.json is missing"),
        (_drop("graph.json"), True, "not the records of vitbench: 'graph.json'"),
        (_drop("bundle.json"), False, "no bundle.json: not an evidence bundle"),
        (_put("bundle.json", b"[]"), False, "bundle.json lists no files"),
        (_put("bundle.json", b"{"), False, "damaged or unsafe bundle: Expecting"),
        (_put("bundle.json", b'{"files": {}, "format": 9}'), False, "a bundle of format 9"),
        (_put("report/tables/more.md", b""), False, "more.md is not listed in bundle.json"),
        (_put("../../etc/passwd", b""), True, "a file that no bundle has: '../../etc/passwd'"),
        (_put("/etc/passwd", b""), True, "a file that no bundle has"),
        (_put("report/tables/..", b""), True, "a file that no bundle has"),
        (_put("report/tables/.ssh", b""), True, "a file that no bundle has"),
        (_put("jobs/x/model.safetensors", b""), True, "a file that no bundle has"),
        (_other_job, True, "jobs/0000000000000000/result.json is of another job"),
        (_other_seed, True, "is not that of its specification"),
    ],
)
def test_a_damaged_bundle_is_told_in_one_line(
    packed: Path, change: Callable[[dict[str, bytes]], None], sealed: bool, message: str
) -> None:
    with pytest.raises(UserError, match=message) as error:
        bundle.read(rewritten(packed, change, sealed=sealed))
    assert "\n" not in str(error.value)
    assert error.value.exit_code == 2


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"not a zip file at all" * 99])
def test_what_is_no_archive_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(UserError, match="damaged or unsafe bundle"):
        bundle.read(tmp_path / "a.zip")
    with pytest.raises(UserError, match="no such file"):
        bundle.read(tmp_path / "b.zip")


def test_a_bundle_cut_short_or_flipped_is_told(packed: Path) -> None:
    whole = packed.read_bytes()
    packed.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="damaged"):
        bundle.read(packed)
    for place in range(40, len(whole) // 2, 97):
        packed.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            found = bundle.read(packed)
        except UserError:
            continue
        assert found.graph  # what no reader looks at: a time, an attribute


def test_links_duplicates_and_bombs_are_refused_unread(packed: Path, tmp_path: Path) -> None:
    link = zipfile.ZipInfo("graph.json")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(UserError, match=r"graph.json is a link or not a plain file"):
        bundle.read(tmp_path / "link.zip")
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(packed, "a") as archive:
        archive.writestr("graph.json", "{}")
    with pytest.raises(UserError, match=r"graph.json is in it twice"):
        bundle.read(packed)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("graph.json", bytes(bundle.MAX_FILE_BYTES + 1))
    assert (tmp_path / "bomb.zip").stat().st_size < 2**20
    with pytest.raises(UserError, match=r"graph.json is larger than 256 MiB"):
        bundle.read(tmp_path / "bomb.zip")


def test_a_member_that_lies_about_its_size_is_not_unpacked(tmp_path: Path) -> None:
    path, size = tmp_path / "lie.zip", 64 * 2**20
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bundle.json", bytes(size))
    whole = path.read_bytes()
    assert whole.count(size.to_bytes(4, "little")) == 2  # in its own head and in the directory
    path.write_bytes(whole.replace(size.to_bytes(4, "little"), (100).to_bytes(4, "little")))
    tracemalloc.start()
    with pytest.raises(UserError, match="damaged or unsafe bundle"):
        bundle.read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 2**20


def test_hits_that_are_no_hits_are_told(evidence: bundle.Evidence) -> None:
    job_id = evidence.graph.jobs[0].job_id
    for content in (b"", b"PK", npz(hits=np.array([{"a": 1}], dtype=object))):
        with pytest.raises(UserError, match=r"hits.npz: damaged"):
            bundle.read_hits(content, job_id)
    assert bundle.read_hits(npz(shots_1=np.array([True])), job_id) is None


def test_labels_and_classes_of_test_images_are_read_from_bundles_and_job_folders(
    tmp_path: Path,
) -> None:
    job_id = "0123456789abcdef"
    stored = {"labels": np.array([0, 2], np.int16), "classes/knn_top1/5": np.array([0, 1])}
    content = npz(hits=np.array([True, False]), **stored)
    graph: Any = None
    evidence = bundle.Evidence(
        graph=graph, results={}, curves={}, hits={job_id: content}, published=(), environment={},
        tables={},
    )  # fmt: skip
    store = Store(tmp_path)
    folder = store.paths.job(job_id).folder
    folder.mkdir(parents=True)
    (folder / "hits.npz").write_bytes(content)
    for found in (evidence.answers_of(job_id), store.answers(job_id)):
        assert set(found) == set(stored)
        for name, array in stored.items():
            np.testing.assert_array_equal(found[name], array)
    assert store.hits(job_id) is not None
    (folder / "hits.npz").write_bytes(npz(hits=np.array([True])))  # as older versions left it
    assert store.answers(job_id) == {} == store.answers("f" * 16)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/someone/runs/jobs/x.json", "…/x.json"),
        ("/data", "…/data"),
        ("No such file: '/mnt/my data/a.png'", "No such file: '…/my data/a.png'"),
        ("[Errno 2] /opt/a/b and /opt/c/d: gone", "[Errno 2] …/b and …/d: gone"),
        ("sqlite:////srv/runs/mlflow.db", "…/mlflow.db"),
        ("in /srv/runs/jobs/3", "in …/jobs/3"),
        ("in /srv/runs", "in …"),
        ("ViT-B/16 at 3/4 of https://example.org/a/b, train/test", None),
        ("12 images/s", None),
        ("", None),
    ],
)
def test_paths_are_cut_to_their_last_part(text: str, expected: str | None) -> None:
    found = scrub.text(text, roots=["/srv/runs"])
    assert found == (text if expected is None else expected)
    assert scrub.text(found) == found


def test_records_lose_paths_and_hosts_and_keep_their_ids(
    make_job: Make, make_graph: Make, make_result: Make, tmp_path: Path
) -> None:
    job: PlannedJob = make_job("a", seed=1)
    card = DatasetCard(
        name="toy", title="Toy", reader="image_folder", args={"path": "/home/someone/toy"},
        num_classes=2, splits={}, digest="d",
    )  # fmt: skip
    graph: JobGraph = make_graph((job,)).model_copy(update={"datasets": {"toy": card}})
    cost = Cost(
        device="cpu", device_kind="cpu", wall_s=1, core_s=1, examples=1, images_per_s=None,
        peak_memory_gib=1, worker="secret-host:1234",
    )  # fmt: skip
    result: JobResult = make_result(job).model_copy(
        update={"cost": cost, "error": f"no space in {tmp_path}/runs/jobs"}
    )
    clean, results = scrub.records(graph, {job.job_id: result}, roots=[tmp_path / "runs"])
    text = clean.model_dump_json() + results[job.job_id].model_dump_json()
    assert "someone" not in text
    assert "secret-host" not in text
    assert str(tmp_path) not in text
    assert clean.jobs == graph.jobs
    assert clean.datasets["toy"].args == {"path": "…/toy"}
    found = results[job.job_id]
    assert found.error == "no space in …/jobs"
    assert found.cost is not None
    assert found.cost.worker == "worker 1"
