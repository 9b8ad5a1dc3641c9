"""Doctor: real problems planted in real files and folders, each found with its cure."""

from __future__ import annotations

import json
import shutil
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.cli import app as cli
from bench.data import catalog, decode
from bench.data.cards import imagenet
from bench.data.packs import build
from bench.doctor import Check, datasets, examine, folder
from bench.errors import SuiteError
from bench.paths import WorkPaths
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
    (only_one_class, "problem", "data mine", "only one class", "two classes"),
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
    shutil.copy(
        suite.parent / "images" / "train" / "cat" / "0.png",
        suite.parent / "images" / "test" / "cat" / "copy.png",
    )
    card = catalog.resolve("mine", block, base_dir=suite.parent)
    build.packed(card, cache_dir=suite.parent / "cache")
    checks = amiss(datasets.one_set(card, cache_dir=suite.parent / "cache"))
    assert [check.found for check in checks] == [
        "1 test images are also training images (test/cat/copy.png)",
        "2 test images have the pixels of a training image",
    ]
    (suite.parent / "cache" / card.digest / "manifest.json").write_text("{}")
    checks = amiss(datasets.one_set(card, cache_dir=suite.parent / "cache"))
    assert "is damaged or of another version" in checks[0].found
    assert checks[1].found == "1 test images are also training images (test/cat/copy.png)"


def test_a_test_image_that_was_chosen_on_is_told_where_the_set_is_packed(suite: Path) -> None:
    val = suite.parent / "images" / "val"
    shutil.copytree(suite.parent / "images" / "test", val)
    block = {"reader": "image_folder", "path": "images", "image_size_px": 16}
    card = catalog.resolve("mine", block, base_dir=suite.parent)
    before = [
        check.found for check in amiss(datasets.one_set(card, cache_dir=suite.parent / "cache"))
    ]
    assert len(before) == 1
    build.packed(card, cache_dir=suite.parent / "cache")
    checks = amiss(datasets.one_set(card, cache_dir=suite.parent / "cache"))
    assert checks[0].found == before[0]


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


def test_a_part_of_a_published_set_is_told(suite: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = {"train": SplitCard(num_examples=9), "test": SplitCard(num_examples=8)}
    card = catalog.published("eurosat").model_copy(update={"splits": counts, "num_classes": 2})
    monkeypatch.setitem(catalog.CARDS._found[0], "eurosat", card)
    text = suite.read_text().replace("mine]", "eurosat]").replace('["mine"]', '["eurosat"]')
    suite.write_text(text + "part = true\n")
    told, refused = (
        check for check in amiss(checks_of(suite)) if check.topic in ("data eurosat", "suite")
    )
    assert (told.status, refused.status) == ("warning", "problem")
    assert told.found == (
        "a part of the set, for rehearsals alone: 8 of 9 train, 8 of 8 test images"
    )
    assert "eurosat is here in part" in refused.found
    limited = amiss(checks_of(suite, "limit_steps=2"))
    assert [check for check in limited if check.topic != "ports"] == [told]


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
