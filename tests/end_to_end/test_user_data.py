"""A user's own pictures, by editing the TOML alone, and what is said when they are wrong."""

from __future__ import annotations

import csv
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.store import Store

pytestmark = pytest.mark.ordinary

Run = Callable[..., subprocess.CompletedProcess[str]]

OWN_FILES = """
[dataset.cifar10-jpeg-part]
reader = "image_folder"
path = "cifar10-jpeg"
image_size_px = 32

[dataset.mnist-part]
reader = "idx"
path = "{mnist}"

"""
"""Real files of both ends; MNIST's training part is short, so that its card's name is not free."""


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Real picture files: bright discs and dark bars, of several sizes, modes and formats."""
    rng = np.random.default_rng(0)
    for name in ("disc", "bar"):
        folder = tmp_path / "pictures" / name
        folder.mkdir(parents=True)
        for index in range(20):
            side = int(rng.integers(20, 40))
            y, x = np.mgrid[:side, :side] / side - rng.uniform(0.4, 0.6, (2, 1, 1))
            shape = (x**2 + y**2 < 0.1) if name == "disc" else (np.abs(x) < 0.1)
            grey = (200 * shape + rng.integers(0, 40, (side, side))).astype(np.uint8)
            image = Image.fromarray(grey)
            image = image.convert("RGB") if index % 2 else image
            image.save(folder / f"{index:02d}.{'jpg' if index % 3 else 'png'}")
    return tmp_path / "pictures"


@pytest.fixture
def own_suite(suite_file: Path) -> Path:
    """The tiny suite with pictures of the user's own downstream: only the TOML is edited."""
    text = suite_file.read_text().replace('datasets = ["digits"]', 'datasets = ["mine"]')
    text = text.replace("[dataset.shapes]", '[dataset.mine]\nreader = "image_folder"\n'
                        'path = "pictures"\nimage_size_px = 16\n\n[dataset.shapes]')  # fmt: skip
    suite_file.write_text(text)
    return suite_file


def test_own_pictures_run_downstream(
    own_suite: Path, pictures: Path, vitbench: Run, tmp_path: Path
) -> None:
    shutil.copytree(pictures / "disc", pictures / "Train" / "disc")
    shutil.copytree(pictures / "bar", pictures / "Train" / "bar")
    (pictures / "Test").mkdir()
    for name in ("disc", "bar"):
        (pictures / name).rename(pictures / "Test" / name)  # every test image was trained on
    words = ["run", own_suite, "--local", "--seeds", "1", "--workdir", tmp_path / "runs"]
    finished = vitbench(*words, "--set", "transfer[0].held_out=0.2")
    assert finished.returncode == 0, finished.stderr
    assert (
        "\nnote: mine: test: 40 images are also in train (such as Test/bar/00.png is"
        in finished.stdout
    )
    page = (tmp_path / "runs/reports/tiny/index.html").read_text()
    assert "40 train (Train/), 40 test (Test/)" in page
    assert "Note: test: 40 images are also in train" in page
    table = (tmp_path / "runs/reports/tiny/tables/comparison.long.csv").read_text()
    assert "mine" in table
    assert "fewshot_top1" in table
    with (tmp_path / "runs/reports/tiny/tables/per_class.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["class"]: row["num_images"] for row in rows} == {"disc": "20", "bar": "20"}
    assert "What each class was taken for" in page


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        ("corrupt", "disc/03.png"),
        ("empty class", "bar"),
        ("no folder", "pictures"),
        ("shots", "shots"),
    ],
)
def test_wrong_pictures_are_told_and_nothing_is_written(
    own_suite: Path, pictures: Path, vitbench: Run, tmp_path: Path, spoil: str, expected: str
) -> None:
    if spoil == "corrupt":
        path = pictures / "disc" / "03.png"
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif spoil == "empty class":
        for path in (pictures / "bar").iterdir():
            path.unlink()
    elif spoil == "no folder":
        pictures.rename(tmp_path / "elsewhere")
    else:
        own_suite.write_text(own_suite.read_text().replace("shots = [1, 5]", "shots = [1, 500]"))
    words = ["run", own_suite, "--local", "--workdir", tmp_path / "runs"]
    finished = vitbench(*words, "--set", "transfer[0].held_out=0.2")
    assert finished.returncode == 2, finished.stdout + finished.stderr
    assert len(finished.stderr.strip().splitlines()) == 1
    assert expected in finished.stderr
    assert not (tmp_path / "runs").exists()


@pytest.fixture
def cifar_folders(shared_data: Path, tmp_path: Path) -> Path:
    """CIFAR-10's first 40 training and 10 test images of each class, as folders of JPEG files."""
    for split, count in (("train", 40), ("test", 10)):
        path = shared_data / "cifar10-jpeg" / f"cifar10-jpeg-{split}.tar.gz"
        with tarfile.open(path) as archive:
            for member in archive:
                content = archive.extractfile(member)
                if content is not None and int(Path(member.name).stem) < count:
                    (tmp_path / member.name).parent.mkdir(parents=True, exist_ok=True)
                    (tmp_path / member.name).write_bytes(content.read())
    return tmp_path / "cifar10-jpeg"


@pytest.mark.slow
def test_cifar_jpegs_to_mnist_by_toml_alone(
    suite_file: Path, cifar_folders: Path, shared_data: Path, vitbench: Run, tmp_path: Path
) -> None:
    """Real files at both ends: JPEG folders to pre-train on, MNIST's own files to transfer to."""
    text = suite_file.read_text().replace('upstream = "shapes"', 'upstream = "cifar10-jpeg-part"')
    text = text.replace('datasets = ["digits"]', 'datasets = ["mnist-part"]')
    own = OWN_FILES.format(mnist=shared_data / "mnist" / "MNIST" / "raw")
    suite_file.write_text(text.replace("[dataset.shapes]", f"{own}[dataset.shapes]"))
    words = ["run", suite_file, "--seeds", "1", "--workdir", tmp_path / "runs"]
    finished = vitbench(*words, "--set", "pretrain[0].num_examples=[100,400]")
    assert finished.returncode == 0, finished.stdout + finished.stderr
    table = tmp_path / "runs" / "reports" / "tiny" / "tables" / "comparison.long.csv"
    rows = list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))
    scores = [row for row in rows if row["quantity"] == "mnist-part_fewshot_top1/5"]
    assert {(row["system"], row["upstream_examples"]) for row in scores} == {
        (system, size) for system in ("ViT-micro/4", "BiT-micro") for size in ("100", "400")
    }
    assert all(float(row["value"]) > 0.15 for row in scores)  # guessing: 0.10 +- 0.003
    store = Store(tmp_path / "runs")
    for row in rows:
        if "top1" in row["quantity"]:
            result = store.results([row["job_ids"]])[row["job_ids"]]
            name = row["quantity"].removeprefix("mnist-part_")
            assert result.metrics[name].n == 10_000  # MNIST's whole test part
