"""Doctor: real problems planted in real files and folders, each found with its cure."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import socket
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import baselines
from bench import digests
from bench.cli import app as cli
from bench.data import catalog, decode
from bench.data.cards import imagenet
from bench.data.packs import build
from bench.doctor import Check, before, datasets, examine, folder, machine, weights
from bench.errors import SuiteError
from bench.paths import CachePaths, WorkPaths
from bench.plan.fitting import TOO_LARGE
from bench.specs import DatasetCard, SplitCard
from bench.store import holds

SUITE = """
name = "mine"
title = "Mine"
claim = "None."
[[pretrain]]
systems = ["vit-micro"]
upstream = "UPSTREAM"
recipe = "vit-micro-pretrain"
protocol = "pretrain-micro"
[[transfer]]
kind = "fewshot"
datasets = ["mine"]
protocol = "fewshot-micro"
shots = [1]
[dataset.mine]
reader = "image_folder"
path = "images"
image_size_px = 16
"""


def write_images(root: Path, *, seed: int = 0, num: int = 4) -> Path:
    """Write train/ and test/ with two classes of random PNG files."""
    rng = np.random.default_rng(seed)
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            (root / split / name).mkdir(parents=True)
            for index in range(num):
                pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{index}.png")
    return root


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A suite on image files that nothing is wrong with."""
    monkeypatch.setenv("VITBENCH_DATA", str(tmp_path / "home"))
    write_images(tmp_path / "images")
    path = tmp_path / "mine.toml"
    path.write_text(SUITE.replace("UPSTREAM", "fractals"))
    return path


def checks_of(suite: Path, *settings: str) -> list[Check]:
    return examine(str(suite), workdir=suite.parent / "runs", settings=settings)


def amiss(checks: list[Check]) -> list[Check]:
    return [check for check in checks if check.status != "ok"]


def test_a_sound_suite_has_nothing_amiss(suite: Path) -> None:
    checks = checks_of(suite)
    assert not [check for check in amiss(checks) if check.topic != "ports"]  # others may serve
    topics = {check.topic for check in checks}
    assert {"versions", "cores", "devices", "disk", "work folder", "tracking"} <= topics
    assert {"data fractals", "data mine"} <= topics
    assert not (suite.parent / "runs").exists()


# --- problems planted in a suite and its files ----------------------------------------------


def cut_short(root: Path) -> None:
    file = next((root / "images" / "train" / "cat").iterdir())
    file.write_bytes(file.read_bytes()[:200])


def only_one_class(root: Path) -> None:
    for split in ("train", "test"):
        (root / "images" / split / "dog").rename(root / f"away-{split}")


def no_images(root: Path) -> None:
    for file in (root / "images").rglob("*.png"):
        file.unlink()


def a_class_without_training_images(root: Path) -> None:
    (root / "images" / "test" / "emu").mkdir()
    (root / "images" / "test" / "dog" / "0.png").rename(root / "images" / "test" / "emu" / "0.png")


def a_test_image_in_train(root: Path) -> None:
    copy = (root / "images" / "train" / "cat" / "0.png").read_bytes()
    (root / "images" / "test" / "cat" / "copy.png").write_bytes(copy)


def files_gone(root: Path) -> None:
    (root / "images").rename(root / "elsewhere")


def class_folders_sorted_as_strings(root: Path) -> None:
    for split in ("train", "test"):
        for label in range(12):
            (root / "images" / split / str(label)).mkdir()
            source = root / "images" / split / "cat" / "0.png"
            pixels = np.full((16, 16, 3), label + 20 * len(split), dtype=np.uint8)
            Image.fromarray(pixels).save(root / "images" / split / str(label) / "0.png")
            assert source.exists()
        for name in ("cat", "dog"):
            for file in (root / "images" / split / name).iterdir():
                file.unlink()
            (root / "images" / split / name).rmdir()


def wrong_number_of_classes(root: Path) -> None:
    text = (root / "mine.toml").read_text()
    (root / "mine.toml").write_text(text + "num_classes = 3\n")


def upstream_nobody_has(root: Path) -> None:
    text = (root / "mine.toml").read_text()
    (root / "mine.toml").write_text(text.replace('"fractals"', '"jft-300m"'))


def upstream_not_here(root: Path) -> None:
    text = (root / "mine.toml").read_text()
    (root / "mine.toml").write_text(text.replace('"fractals"', '"cifar10"'))


def an_unknown_data_set(root: Path) -> None:
    text = (root / "mine.toml").read_text()
    (root / "mine.toml").write_text(text.replace('"fractals"', '"fractal"'))


def test_images_upstream(root: Path) -> None:
    write_images(root / "above", seed=1)
    copy = (root / "images" / "test" / "dog" / "1.png").read_bytes()
    (root / "above" / "train" / "dog" / "same.png").write_bytes(copy)
    text = (root / "mine.toml").read_text().replace('"fractals"', '"above"')
    text += '[dataset.above]\nreader = "image_folder"\npath = "above"\nimage_size_px = 24\n'
    (root / "mine.toml").write_text(text)


test_images_upstream.__test__ = False  # type: ignore[attr-defined]


def a_file_in_place_of_the_work_folder(root: Path) -> None:
    (root / "runs").write_text("")


def a_damaged_database(root: Path) -> None:
    (root / "runs").mkdir()
    (root / "runs" / "mlflow.db").write_bytes(b"SQLite format 3\0" + bytes(range(256)) * 40)


def a_database_of_another_mlflow(root: Path) -> None:
    (root / "runs").mkdir()
    with sqlite3.connect(root / "runs" / "mlflow.db") as connection:
        connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
        connection.execute("INSERT INTO alembic_version VALUES ('ffffffffffff')")
    connection.close()


def a_packed_copy_that_changed(root: Path) -> None:
    block = {"reader": "image_folder", "path": "images", "image_size_px": 16}
    card = catalog.resolve("mine", block, base_dir=root)
    packed = build.packed(card, cache_dir=root / "runs" / "data")
    file = next(packed.folder.glob("train.images*"))
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def a_job_that_never_ended(root: Path) -> None:
    job = root / "runs" / "jobs" / "0123456789abcdef"
    (job / "attempts").mkdir(parents=True)
    (job / "attempts" / "1").touch()


def a_half_packed_set(root: Path) -> None:
    (root / "runs" / "data" / "abcdef0123456789.partial").mkdir(parents=True)


PLANTED: list[tuple[Callable[[Path], None], str, str, str, str]] = [
    (cut_short, "problem", "data mine", "1 of 16 images do not decode", "skip_damaged"),
    (only_one_class, "problem", "data mine", "only one class", "two class folders"),
    (no_images, "problem", "data mine", "has no images", "Put images there"),
    (a_class_without_training_images, "problem", "data mine", 'class "emu" of test', "add some"),
    (a_test_image_in_train, "problem", "data mine", "1 test images are also training", "Remove"),
    (files_gone, "problem", "data mine", "no such folder", "Check path"),
    (class_folders_sorted_as_strings, "problem", "data mine", 'strings: "10" is class 2', "zeros"),
    (wrong_number_of_classes, "problem", "data mine", "num_classes is 3", "Leave num_classes out"),
    (upstream_nobody_has, "problem", "data jft-300m", "not public", "use imagenet-21k or fractals"),
    (upstream_not_here, "problem", "data cifar10", "is not here", "vitbench data prepare cifar10"),
    (an_unknown_data_set, "problem", "data fractal", "unknown data set", 'mean "fractals"'),
    (test_images_upstream, "problem", "overlap", "1 test images of mine are in above", "Remove"),
    (a_file_in_place_of_the_work_folder, "problem", "work folder", "is a file", "--workdir"),
    (a_damaged_database, "problem", "tracking", "is damaged", "vitbench sync"),
    (a_database_of_another_mlflow, "problem", "tracking", "another MLflow", "Install the MLflow"),
    (a_packed_copy_that_changed, "warning", "data mine", "damaged", "packs it again"),
    (
        a_job_that_never_ended,
        "warning",
        "locks",
        "started and never finished",
        "Run the suite again",
    ),
    (a_half_packed_set, "warning", "locks", "never fully packed", "continues where it stopped"),
]


@pytest.mark.parametrize(
    ("plant", "status", "topic", "found", "cure"), PLANTED, ids=[row[0].__name__ for row in PLANTED]
)
def test_planted_problems_are_found_with_their_cure(
    suite: Path,
    plant: Callable[[Path], None],
    status: str,
    topic: str,
    found: str,
    cure: str,
) -> None:
    plant(suite.parent)
    hits = [
        check
        for check in amiss(checks_of(suite))
        if check.topic == topic and found in check.found and cure in check.cure
    ]
    assert [check.status for check in hits] == [status]


def test_a_suite_that_cannot_be_read_is_refused(suite: Path) -> None:
    suite.write_text(suite.read_text().replace('"image_folder"', '"image_foldr"'))
    with pytest.raises(SuiteError, match=r'unknown reader "image_foldr".*"image_folder"'):
        checks_of(suite)


# --- problems of a machine, tried on numbers ------------------------------------------------

NOWHERE = CachePaths(Path("/nowhere"))
HERE = machine.Machine(num_cores=2, available_gib=4.0, num_gpus=0, num_tpus=0)
VERSIONS = {name: floor for name, (floor, _) in machine.FLOORS.items()}


@pytest.mark.parametrize(
    ("checks", "status", "found", "cure"),
    [
        ([machine.cores(HERE, num_threads=8)], "problem", "8 threads", "num_threads=2"),
        (
            [machine.memory(HERE, needed_gib=9.5, job="pretrain x")],
            "problem", "pretrain x needs about 9.50", "lower batch_size",
        ),
        (
            machine.too_large({f"{TOO_LARGE} ViT-H/14 at 518 px needs 30 GiB: lower it", "other"}),
            "problem", "ViT-H/14 at 518 px needs 30 GiB", "Lower it",
        ),
        (machine.devices(HERE, gpus=0.5, tpus=0), "problem", "asks for 0.5 GPUs", "gpus=0"),
        (machine.devices(HERE, gpus=0, tpus=4), "problem", "4 TPU chips", "tpus=0"),
        (
            machine.devices(HERE.model_copy(update={"gpu_driver": True}), gpus=1, tpus=0),
            "problem", "a driver is loaded", "CUDA build of torch",
        ),
        (
            [machine.disk(Path("/data"), needed_bytes=5 * 2**30, free_bytes=2**30)],
            "problem", "1.0 GiB free at /data", "Free 4.00 GiB",
        ),
        (
            [machine.disk(Path("/data"), needed_bytes=9 * 2**30, free_bytes=10 * 2**30)],
            "warning", "about 9.00 needed", "Free some space",
        ),
        (
            machine.versions({**VERSIONS, "torch": "2.9.1+cpu"}, python=(3, 12)),
            "problem", "torch 2.9.1+cpu is older than 2.10", 'pip install "torch>=2.10"',
        ),
        (
            machine.versions({**VERSIONS, "ray": ""}, python=(3, 11)),
            "problem", "ray is not installed", "pip install ray",
        ),
        (machine.versions(VERSIONS, python=(3, 10)), "problem", "Python 3.10", "3.11 or later"),
        (
            [folder.file_system(Path("/mnt/a/b"), "x / ext4\nserver:/ /mnt/a nfs4 rw")],
            "warning", "network file system (nfs4)", "--workdir",
        ),
        ([folder.writable(Path("/proc/nope"))], "problem", "/proc cannot be written", "--workdir"),
        (
            [weights.one("vit-b16", "in21", NOWHERE)],
            "problem", 'unknown weights "in21"', 'mean "in21k"',
        ),
        (
            [weights.one("vit-b16", "jft", NOWHERE)],
            "problem", "not public", "vitbench show vit-b16",
        ),
        ([weights.one("vit-b61", "in21k", NOWHERE)], "problem", "unknown system", 'mean "vit-b16"'),
    ],
)  # fmt: skip
def test_what_a_machine_lacks(checks: list[Check], status: str, found: str, cure: str) -> None:
    assert len(checks) == 1
    assert checks[0].status == status
    assert found in checks[0].found
    assert cure in checks[0].cure


def test_weights_that_are_here_are_told_with_their_digest(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    source = baselines.system("vit-b16").weights[0]
    key = hashlib.sha256(source.url.encode()).hexdigest()[:16]
    place = tmp_path / "torch" / "hub" / "checkpoints"
    place.mkdir(parents=True)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    cache = CachePaths(tmp_path / "runs" / "data")
    (place / f"{key}-ViT-B_16.npz.0a1b.partial").touch()  # of a download that was cut short
    assert weights.one("vit-b16", source.name, cache).status == "warning"
    (place / f"{key}-ViT-B_16.npz").touch()
    check = weights.one("vit-b16", source.name, cache)
    assert (check.status, check.found[-41:]) == ("ok", "(its digest is recorded on its first use)")
    digests.record("w", source.url, digests.Stated("1" * 64, "here"), cache)
    assert weights.one("vit-b16", source.name, cache).found.endswith("(sha256 111111111111...)")
    cache.weights_record.write_text("{")
    damaged = weights.one("vit-b16", source.name, cache)
    assert (damaged.status, "Remove it" in damaged.cure) == ("problem", True)


def test_a_machine_that_has_everything() -> None:
    checks = [
        machine.cores(HERE, num_threads=2),
        machine.memory(HERE, needed_gib=1, job="x", pieces=2),
        machine.memory(HERE.model_copy(update={"available_gib": math.inf}), needed_gib=9, job="x"),
        *machine.devices(HERE.model_copy(update={"num_gpus": 1}), gpus=1, tpus=0),
        machine.disk(Path("/"), needed_bytes=1, free_bytes=10),
        *machine.versions({**VERSIONS, "torch": "2.15.0+cu132"}, python=(3, 14)),
        folder.file_system(Path("/home/me"), "x / ext4\nx /hom nfs rw"),
    ]
    assert {check.status for check in checks} == {"ok"}


def test_a_taken_port_and_a_free_one() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        assert machine.port(number).status == "warning"
    assert machine.port(number).status == "ok"


def test_a_job_that_is_worked_on_is_not_an_interrupted_one(tmp_path: Path) -> None:
    a_job_that_never_ended(tmp_path)
    hold = holds.take(WorkPaths(tmp_path / "runs").job("0123456789abcdef").attempt(2))
    assert hold is not None
    checks = folder.leftovers(tmp_path / "runs")
    hold.release()
    assert [check.found for check in checks] == [
        "another process works on 1 jobs there (0123456789abcdef ...)"
    ]


def test_a_locked_database_is_waited_for_no_longer_than_a_moment(tmp_path: Path) -> None:
    a_database_of_another_mlflow(tmp_path)
    writer = sqlite3.connect(tmp_path / "runs" / "mlflow.db")
    writer.execute("BEGIN EXCLUSIVE")
    check = folder.database(tmp_path / "runs")
    writer.close()
    assert check.status == "warning"
    assert "locked by another program" in check.found


def test_the_installed_mlflow_knows_its_own_schema() -> None:
    versions = folder.schema_versions()
    assert len(versions) > 30
    assert "451aebb31d03" in versions  # the first one of all


@pytest.mark.ordinary
@pytest.mark.xdist_group("mlflow")
def test_a_database_that_mlflow_made_is_whole(tmp_path: Path) -> None:
    from bench.tracking import connect

    connect(tmp_path)
    check = folder.database(tmp_path)
    assert check.status == "ok", check
    content = bytearray((tmp_path / "mlflow.db").read_bytes())
    content[2 * 4096 : 6 * 4096] = bytes(4 * 4096)
    (tmp_path / "mlflow.db").write_bytes(content)
    assert folder.database(tmp_path).status == "problem"


def test_classes_of_imagenet_in_the_devkits_order_are_found() -> None:
    """Its ids are no class numbers: the same WNIDs in another order."""
    right = imagenet.synsets()
    devkit = (*right[500:], *right[:500])
    for names, status in ((right, []), (devkit, ["problem"]), (right[:999], ["problem"])):
        card = DatasetCard(
            name="imagenet-1k", title="ImageNet", reader="image_folder", num_classes=1000,
            class_names=names, splits={"test": SplitCard(num_examples=1)},
        )  # fmt: skip
        checks = datasets.label_order(card)
        assert [check.status for check in checks] == status
        assert all("WNID" in check.cure for check in checks)


def test_an_address_that_answers_and_one_that_does_not() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        address = f"127.0.0.1:{server.getsockname()[1]}"
        assert before.cluster(address).status == "ok"
        assert before.cluster(f"ray://{address}").status == "ok"
    assert before.cluster(address).status == "problem"
    assert before.cluster("auto").status == "ok"
    for text in ("", "host", "host:port", "host:99999999"):
        assert before.cluster(text).status == "problem", text


def test_files_that_changed_since_they_were_prepared(suite: Path) -> None:
    block = {"reader": "image_folder", "path": "images", "image_size_px": 16}
    card = catalog.resolve("mine", block, base_dir=suite.parent)
    assert amiss(datasets.one_set(card, cache_dir=suite.parent / "cache")) == []
    file = suite.parent / "images" / "train" / "cat" / "0.png"
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(file)
    checks = amiss(datasets.one_set(card, cache_dir=suite.parent / "cache"))
    assert [check.found.partition("images have")[0] for check in checks]
    assert "have changed since they were prepared" in checks[0].found
    assert "vitbench data prepare mine" in checks[0].cure


def test_the_pixels_of_packed_sets_are_compared_too(suite: Path) -> None:
    """The same pixels in another file format: the files differ, the packed images do not."""
    image = Image.open(suite.parent / "images" / "train" / "cat" / "0.png")
    image.save(suite.parent / "images" / "test" / "cat" / "same.bmp")
    block = {"reader": "image_folder", "path": "images", "image_size_px": 16}
    card = catalog.resolve("mine", block, base_dir=suite.parent)
    assert amiss(datasets.one_set(card, cache_dir=suite.parent / "cache")) == []
    build.packed(card, cache_dir=suite.parent / "cache")
    checks = amiss(datasets.one_set(card, cache_dir=suite.parent / "cache"))
    assert [check.found for check in checks] == [
        "1 test images have the pixels of a training image"
    ]


def test_the_command_prints_cures_and_ends_with_one_for_problems(
    suite: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def call(*words: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["vitbench", "doctor", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return int(end.value.code or 0), capsys.readouterr().out

    code, out = call(suite, "--workdir", suite.parent / "runs")
    assert code == 0
    assert "0 to fix" in out
    cut_short(suite.parent)
    code, out = call(suite, "--workdir", suite.parent / "runs")
    assert code == 1
    assert "-> Replace these files" in out
    assert "1 to fix" in out
    code, out = call(suite, "--workdir", suite.parent / "runs", "--json")
    assert code == 1
    assert [check["topic"] for check in json.loads(out) if check["status"] == "problem"] == [
        "data mine"
    ]
    assert call("--workdir", suite.parent / "runs")[0] == 0


def test_no_image_of_a_packed_set_is_decoded_again(
    suite: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = {"reader": "image_folder", "path": "images", "image_size_px": 16}
    card = catalog.resolve("mine", block, base_dir=suite.parent)
    cache = suite.parent / "cache"
    build.packed(card, cache_dir=cache)

    def refused(*words: object, **options: object) -> None:
        raise AssertionError("an image was decoded")

    for name in ("plain_jpeg", "_by_pillow"):
        monkeypatch.setattr(decode, name, refused)
    found = [check.found for check in datasets.one_set(card, cache_dir=cache)]
    assert found[-1] == "packed; no test image has the pixels of a training image"
    shutil.rmtree(cache)
    with pytest.raises(AssertionError, match="was decoded"):
        datasets.one_set(card, cache_dir=cache)
