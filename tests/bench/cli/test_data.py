"""`vitbench data ...` and what suites find of it: prepare once, then use by name."""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.cli.app import main
from bench.data import catalog
from bench.data.sources.shards import write_shard
from bench.specs import SplitCard

Run = Callable[..., tuple[int, str, str]]

SUITE = """
name = "by-name"
title = "A published set by its name"
claim = "It is found."

[[pretrain]]
systems = ["vit-micro"]
upstream = "fractals"
num_examples = [64]
recipe = "vit-micro-pretrain"
protocol = "pretrain-micro"

[[transfer]]
kind = "fewshot"
datasets = ["eurosat"]
protocol = "fewshot-micro"
shots = [1]
"""


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VITBENCH_DATA", raising=False)

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["vitbench", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return call


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A suite that names EuroSAT, published with 8 and 2 images."""
    counts = {"train": SplitCard(num_examples=8), "test": SplitCard(num_examples=2)}
    card = catalog.published("eurosat").model_copy(update={"splits": counts, "num_classes": 2})
    monkeypatch.setitem(catalog.CARDS._found[0], "eurosat", card)
    (tmp_path / "suite.toml").write_text(SUITE)
    return tmp_path / "suite.toml"


def write_eurosat(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in ("Forest", "River"):
        (folder / name).mkdir(parents=True)
        for number in range(1, 6):
            pixels = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{name}_{number}.jpg")
    return folder


@pytest.mark.ordinary
@pytest.mark.xdist_group("mlflow")
def test_a_suite_names_a_set_that_was_prepared_once(run: Run, suite: Path, tmp_path: Path) -> None:
    code, out, err = run("run", suite, "--local")
    assert code == 2
    assert err.count("\n") == 1
    assert "eurosat: the data are not located. `vitbench data prepare eurosat --download`" in err
    assert not (tmp_path / "runs").exists()
    assert run("plan", suite)[0] == 0

    code, _, err = run("data", "prepare", "eurosat")
    assert code == 2
    assert f"{tmp_path}/data/eurosat: no such folder" in err
    write_eurosat(tmp_path / "data" / "eurosat" / "2750")
    code, out, _ = run("data", "prepare", "eurosat", "--size-px", "8")
    assert code == 0
    assert "eurosat" in out
    assert (tmp_path / "data" / "eurosat.card.json").is_file()
    assert run("data", "verify", "eurosat")[:2] == (0, "eurosat: sound\n")
    assert "\npacked\n" in run("data", "show", "eurosat")[1]

    shutil.rmtree(tmp_path / "runs")  # another work folder packs it from the same files
    code, _, err = run("run", suite, "--local")
    assert code == 0, err
    assert "eurosat" in (tmp_path / "runs/reports/by-name/tables/comparison.long.csv").read_text()


def test_options_of_prepare(run: Run, suite: Path, tmp_path: Path) -> None:
    write_eurosat(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "River" / "River_6.jpg").write_bytes(b"no image")
    words = ["data", "prepare", "eurosat", "--path", tmp_path / "elsewhere", "--size-px", "8"]
    code, _, err = run(*words)
    assert code == 2
    assert err.count("\n") == 1
    code, out, _ = run(*words, "--skip-damaged", "--packing", "encoded", "--reader", "eurosat")
    assert code == 0, err
    assert "encoded" in out
    card = catalog.dataset("eurosat")
    assert card.args["skip_damaged"] is True
    assert "1 damaged files of the set left out" in card.splits["train"].selector


def test_paths_are_verified_without_a_name(run: Run, tmp_path: Path) -> None:
    folder = write_eurosat(tmp_path / "pictures")
    code, out, _ = run("data", "verify", folder)
    assert code == 0
    assert "image_folder" in out
    (folder / "River" / "River_1.jpg").write_bytes(b"")
    assert run("data", "verify", "pictures")[0] == 1
    code, out, _ = run("data", "verify", "./pictures")
    assert code == 1
    assert "River_1.jpg: not an image" in out
    assert "1 problems" in out
    assert not (tmp_path / "runs").exists()
    code, _, err = run("data", "verify", "./none")
    assert (code, err.count("\n")) == (2, 1)


def test_shards_are_noted_and_left_where_they_lie(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = {"train": SplitCard(num_examples=6)}
    card = catalog.published("imagenet-21k").model_copy(update={"splits": counts, "num_classes": 2})
    monkeypatch.setitem(catalog.CARDS._found[0], "imagenet-21k", card)
    shards = tmp_path / "tars"
    shards.mkdir()
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(buffer, "PNG")
    examples = [(buffer.getvalue(), ".png", number % 2) for number in range(6)]
    write_shard(shards / "0.tar", examples)
    code, out, err = run(
        "data", "prepare", "imagenet-21k", "--path", shards, "--packing", "streamed"
    )
    assert (code, err) == (0, "")
    assert str(shards) in out
    located = catalog.datasets()["imagenet-21k"]
    assert located.args["stream"] is True
    assert located.digest
    assert not (tmp_path / "runs").exists()  # nothing was packed
