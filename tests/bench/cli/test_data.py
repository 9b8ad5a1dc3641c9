"""`vitbench data ...` and what suites find of it: prepare once, then use by name."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from bench.cli.counting import counted
from bench.data import catalog
from bench.data.sources.shards import write_shard
from bench.specs import SplitCard
from tests.signals import heed_everything

Run = Callable[..., tuple[int, str, str]]
REPOSITORY = Path(__file__).resolve().parents[3]

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
def run(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run the command in the test's folder, without a home for data."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VITBENCH_DATA", raising=False)
    return run


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A suite that names EuroSAT, published with 8 and 2 images."""
    counts = {"train": SplitCard(num_examples=8), "test": SplitCard(num_examples=2)}
    card = catalog.published("eurosat").model_copy(update={"splits": counts, "num_classes": 2})
    monkeypatch.setitem(catalog.CARDS._found[0], "eurosat", card)
    (tmp_path / "suite.toml").write_text(SUITE)
    return tmp_path / "suite.toml"


def write_eurosat(folder: Path, *, num: int = 5) -> Path:
    rng = np.random.default_rng(0)
    for name in ("Forest", "River"):
        (folder / name).mkdir(parents=True)
        for number in range(1, num + 1):
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


@pytest.mark.ordinary
@pytest.mark.xdist_group("mlflow")
def test_a_suite_is_rehearsed_on_a_part_of_a_published_set_and_says_so(
    run: Run, suite: Path, tmp_path: Path
) -> None:
    write_eurosat(tmp_path / "some", num=3)
    prepare = ["data", "prepare", "eurosat", "--path", tmp_path / "some", "--size-px", "8"]
    code, _, err = run(*prepare)
    assert (code, err.count("\n")) == (2, 1)
    assert "for rehearsals alone: --part, or part = true in a suite" in err
    code, out, err = run(*prepare, "--part")
    assert code == 0, err
    counts = "eurosat: 4 of 8 train, 2 of 2 test images"
    assert out.splitlines()[-1].startswith(f"{counts}: a part, for rehearsals alone: `vitbench run")

    code, out, err = run("plan", suite)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "transfer[0]: eurosat is here in part (4 of 8 train, 2 of 2 test images), for" in err
    assert "Add --limit-steps 2" in err
    assert run("run", suite, "--local")[0] == 2

    words = f"{counts}: a rehearsal on a part"
    code, out, err = run("plan", suite, "--limit-steps", "2")
    assert code == 0, err
    assert f"note: {words}\n" in out
    code, out, err = run("run", suite, "--local", "--limit-steps", "2")
    assert code == 0, err
    assert f"note: {words}\n" in out
    page = (tmp_path / "runs/reports/by-name/index.html").read_text()
    assert f"Not a result. {words}." in page
    assert "No published number is answered: the suite was rehearsed on a part" in page
    assert run("ls", "suites")[0] == 0  # whatever they name


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


STOPPABLE = """
import sys, time
from pathlib import Path
from bench.cli.app import main
from bench.data import catalog, decode
from bench.data.packs import write
from bench.specs import SplitCard

counts = {"train": SplitCard(num_examples=48), "test": SplitCard(num_examples=12)}
card = catalog.published("eurosat").model_copy(update={"splits": counts, "num_classes": 2})
catalog.CARDS._found[0]["eurosat"] = card
write.CHUNK_BYTES = 40_000
original, pause_s = decode.original, float(sys.argv.pop())

def slowly(content, *, name):
    with open("decoded.txt", "a") as out:
        print(name, file=out)
    time.sleep(pause_s)
    return original(content, name=name)

decode.original = slowly
main()
"""


def prepare_slowly(folder: Path, *, pause_s: float) -> subprocess.Popen[str]:
    words = ["data", "prepare", "eurosat", "--packing", "encoded", str(pause_s)]
    own = {
        "PYTHONPATH": str(REPOSITORY),
        "VITBENCH_CACHE": str(folder / "cache"),
        "VITBENCH_DATA": str(folder / "data"),
    }
    return subprocess.Popen(
        [sys.executable, "-c", STOPPABLE, *words],
        cwd=folder,
        env={**os.environ, **own},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_everything,
    )


@pytest.mark.ordinary
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_prepare_goes_on_where_it_was(tmp_path: Path, number: signal.Signals) -> None:
    write_eurosat(tmp_path / "data" / "eurosat" / "2750", num=30)
    process = prepare_slowly(tmp_path, pause_s=0.05)
    while not list(tmp_path.glob("runs/data/*.partial/progress.json")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "`vitbench data prepare eurosat` again, with the same options, to go on" in err
    assert "Traceback" not in err
    assert not (tmp_path / "data" / "eurosat.card.json").exists()  # not usable yet
    (notes,) = tmp_path.glob("runs/data/*.partial/progress.json")
    kept = sum(json.loads(notes.read_text())["done"].values())
    assert 0 < kept < 60

    (tmp_path / "decoded.txt").unlink()
    both = [prepare_slowly(tmp_path, pause_s=0) for _ in range(2)]
    outs = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], outs
    assert outs[0][0] == outs[1][0]
    assert len((tmp_path / "decoded.txt").read_text().splitlines()) == 60 - kept
    assert (tmp_path / "data" / "eurosat.card.json").is_file()


def test_a_count_says_how_fast_and_how_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an earlier call did counts as done, not as speed."""
    clock = iter([0.0, 0.0, 5.0, 20.0, 21.0])
    monkeypatch.setattr("bench.cli.counting.time.monotonic", lambda: next(clock))
    out = io.StringIO()
    tell = counted("x: packing", Console(file=out))
    for done in (1000, 1100, 1200, 1300):
        tell(done, 2000)
    assert out.getvalue() == "x: packing: 1,200 of 2,000, 10/s, about 1 min 20 s left\n"
