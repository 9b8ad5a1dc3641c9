"""Every name in a work folder stands once, in `bench/paths.py`: nobody else spells one."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.paths import CachePaths, WorkPaths

REPOSITORY = Path(__file__).resolve().parents[2]
OWNER = REPOSITORY / "bench" / "paths.py"

FILES = (
    "spec.json", "result.json", "failure.json", "error.txt", "progress.jsonl", "hits.npz",
    "model.safetensors", "features.npy", "features.json", "results.index", "mlflow.db",
    "mlflow.lock", "mlartifacts", "graph.json", "weights.json", "weights.lock",
    "kernels.json", "fastest.json", "fastest.lock",
)  # fmt: skip
"""Names that mean nothing else: no other text of the code holds them."""
FOLDERS = (
    "jobs",
    "data",
    "reports",
    "checkpoints",
    "features",
    "mirrored",
    "lock",
    "attempts",
    "drivers",
)
"""Words that mean other things too: nobody else puts them into a path."""
OTHERS = {
    ("bench/models/fetch.py", "checkpoints"): "torch.hub's folder",
    ("bench/models/fetch.py", "model.safetensors"): "the Hugging Face hub's name",
    ("bench/data/cards/imagenet.py", "data"): "timm's folder",
    ("bench/doctor/weights.py", "checkpoints"): "torch.hub's folder",
    ("bench/doctor/weights.py", "model.safetensors"): "the Hugging Face hub's name",
}


def texts(path: Path) -> Iterator[tuple[str, bool]]:
    """Yield every text of a file, docstrings aside, and whether it is a part of a path."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documents = {
        node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)
    }  # texts that stand alone
    joined = {
        node.right
        for node in ast.walk(tree)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)
    }
    for node in ast.walk(tree):
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if is_text and node not in documents:
            yield node.value, node in joined


def spelled(path: Path) -> set[str]:
    """Return the names of the work folder that a file spells."""
    found = set()
    for text, is_joined in texts(path):
        found |= {name for name in FILES if name in text}
        found |= {name for name in FOLDERS if is_joined and text == name}
    return found


def test_the_paths_spell_every_name() -> None:
    assert spelled(OWNER) == {*FILES, *FOLDERS}
    whole = [text for text, _ in texts(OWNER)]
    assert all(whole.count(name) == 1 for name in FILES)


@pytest.mark.parametrize("room", ["bench", "baselines", "reports"])
def test_nobody_else_spells_a_name_of_the_work_folder(room: str) -> None:
    found = {
        (path.relative_to(REPOSITORY).as_posix(), name)
        for path in (REPOSITORY / room).rglob("*.py")
        if path != OWNER
        for name in spelled(path)
    }
    assert not found - set(OTHERS)


WRITING = ("os.replace", "os.rename", "os.fsync", "tempfile.mkstemp", "tempfile.NamedTemporaryFile")
"""What makes a file appear whole."""
WRITERS = {"bench/files.py", "bench/data/sources/export_tfds.py"}
"""The one module that does it, and a script that is copied elsewhere and knows nothing of ours."""


def test_one_module_makes_files_appear_whole() -> None:
    found = {
        path.relative_to(REPOSITORY).as_posix()
        for room in ("bench", "baselines", "reports")
        for path in (REPOSITORY / room).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and ast.unparse(node) in WRITING
    }
    assert found == WRITERS


def test_a_work_folder_lies_as_it_always_did() -> None:
    paths = WorkPaths(Path("/w"))
    job = paths.job("0123456789abcdef")
    features = paths.cache.features("abc")
    assert [
        str(path.relative_to("/w"))
        for path in (
            job.spec, job.result, job.failure, job.error, job.progress, job.attempt(2),
            job.checkpoints, job.weights, job.hits, paths.cache.packed("abc"),
            paths.cache.partial("abc"), paths.cache.lock("abc"), paths.cache.machine_lock("host"),
            features.array, features.sidecar, features.lock, paths.results_index,
            paths.mlflow_database, paths.mlflow_lock, paths.driver("a"), paths.artifacts,
            paths.ledger("toy-smoke"), paths.report("toy-smoke"), paths.graph("toy-smoke"),
            paths.cache.weights_record, paths.cache.weights_lock, job.kernels,
            paths.cache.kernels, paths.cache.kernels_lock,
        )
    ] == [
        "jobs/0123456789abcdef/spec.json", "jobs/0123456789abcdef/result.json",
        "jobs/0123456789abcdef/failure.json", "jobs/0123456789abcdef/error.txt",
        "jobs/0123456789abcdef/progress.jsonl", "jobs/0123456789abcdef/attempts/2",
        "jobs/0123456789abcdef/checkpoints",
        "jobs/0123456789abcdef/model.safetensors", "jobs/0123456789abcdef/hits.npz",
        "data/abc", "data/abc.partial", "data/abc.lock", "data/profile-host.lock",
        "data/features/abc/features.npy", "data/features/abc/features.json",
        "data/features/abc/lock", "results.index", "mlflow.db", "mlflow.lock", "drivers/a",
        "mlartifacts", "mirrored/toy-smoke.jsonl", "reports/toy-smoke",
        "reports/toy-smoke/graph.json", "data/weights.json", "data/weights.lock",
        "jobs/0123456789abcdef/kernels.json", "data/fastest.json", "data/fastest.lock",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["", "../x", "0123456789ABCDEF", "0123456789abcde", "a" * 17])
def test_what_is_no_job_id_has_no_folder(name: str) -> None:
    with pytest.raises(BenchError, match="not a job id"):
        WorkPaths(Path("/w")).job(name)


def test_what_is_there_is_found_in_order(tmp_path: Path) -> None:
    paths = WorkPaths(tmp_path)
    assert list(paths.each_job()) == paths.graphs() == paths.cache.partials() == []
    for name in ("b" * 16, "a" * 16, "notes"):
        (paths.jobs / name).mkdir(parents=True)
    assert [job.folder.name for job in paths.each_job()] == ["a" * 16, "b" * 16]
    for suite in ("two", "one"):
        paths.report(suite).mkdir(parents=True)
        paths.graph(suite).touch()
    assert paths.graphs() == [paths.graph("one"), paths.graph("two")]
    CachePaths(tmp_path / "data").partial("ab").mkdir(parents=True)
    assert paths.cache.partials() == [paths.cache.partial("ab")]
