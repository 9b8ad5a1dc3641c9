"""A distribution of others, made of the documentation's own examples, in a fresh environment.

It adds a job kind, a family, a data set, a reader, a table, a figure and a suite; one of its tables
is broken. Its suite runs to its table, and the broken one is named and left out.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = [pytest.mark.ordinary, pytest.mark.xdist_group("wheel")]

Run = Callable[..., subprocess.CompletedProcess[str]]

REPOSITORY = Path(__file__).resolve().parents[2]

PROJECT = """
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "my-package"
version = "1.2"

[tool.setuptools]
packages = ["my_package", "my_package.suites"]

[tool.setuptools.package-data]
"my_package.suites" = ["*.toml"]

[project.entry-points."vitbench.kinds"]
length = "my_package.length:CARD"

[project.entry-points."vitbench.families"]
mlp = "my_package.mlp:FAMILY"

[project.entry-points."vitbench.readers"]
lists = "my_package.lists:READERS"

[project.entry-points."vitbench.datasets"]
blobs = "my_package.blobs:CARD"

[project.entry-points."vitbench.tables"]
seed_range = "my_package.seed_range:TABLE"
lost = "my_package.nowhere:TABLE"

[project.entry-points."vitbench.figures"]
params_accuracy = "my_package.params_accuracy:FIGURE"

[project.entry-points."vitbench.suites"]
mine = "my_package.suites"
"""

SUITE = """
name = "perceptrons"
title = "A perceptron and a ViT"
claim = "What others add runs like what is ours."
seeds = [0, 1]

[dataset.spots]
reader = "lists"
path = "to be set"

[recipe.short]
steps = 20
batch_size = 16
optimizer = "adam"
base_lr = 3e-3
schedule = "cosine"

[[pretrain]]
systems = ["vit-micro", "mlp-micro"]
upstream = "fractals"
num_examples = [64]
recipe = "short"
protocol = "pretrain-micro"

[[transfer]]
kind = "fewshot"
datasets = ["spots"]
protocol = "fewshot-micro"
shots = [2]

[[transfer]]
kind = "length"
datasets = ["spots"]
protocol = "fewshot-micro"

[[pair]]
systems = ["vit-micro", "mlp-micro"]
match = "none"

[report]
tables = ["comparison", "pairs", "seed_range"]
figures = ["params_accuracy"]
"""

EXAMPLES = {
    "job-kinds.md": ("length.py", "length_job.py"),
    "families.md": ("mlp.py",),
    "readers.md": ("lists.py",),
    "datasets.md": ("blobs.py",),
    "tables.md": ("seed_range.py",),
    "figures.md": ("params_accuracy.py",),
}
"""Pages of docs/extending, and the modules that their Python blocks are."""


def write_package(folder: Path) -> None:
    package = folder / "my_package"
    (package / "suites").mkdir(parents=True)
    for part in (package, package / "suites"):
        (part / "__init__.py").write_text("")
    for page, modules in EXAMPLES.items():
        text = (REPOSITORY / "docs" / "extending" / page).read_text(encoding="utf-8")
        blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
        for module, block in zip(modules, blocks, strict=True):
            (package / module).write_text(block, encoding="utf-8")
    (package / "suites" / "perceptrons.toml").write_text(SUITE, encoding="utf-8")
    (folder / "pyproject.toml").write_text(PROJECT, encoding="utf-8")


def write_spots(folder: Path) -> None:
    """Images of two classes: bright to the left, bright to the right."""
    import numpy as np
    from PIL import Image

    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for split, num in (("train", 16), ("test", 12)):
        rows = []
        for index in range(num):
            pixels = rng.integers(0, 120, size=(12, 16, 3), dtype=np.uint8)
            side = index % 2
            pixels[:, 8 * side : 8 * side + 8] += 120
            name = f"{split}{index}.png"
            Image.fromarray(pixels).save(folder / "images" / name)
            rows.append(f"{name} {('left', 'right')[side]}")
        (folder / f"{split}.txt").write_text("\n".join(rows) + "\n")


def wheel(source: Path) -> Path:
    out = source.parent / f"{source.name}-dist"
    words = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out)]
    done = subprocess.run([*words, str(source)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def run(
    tmp_path_factory: pytest.TempPathFactory,
) -> Run:
    """Return what runs the command in an environment where both are installed."""
    root = tmp_path_factory.mktemp("others")
    write_package(root / "theirs")
    ours = root / "ours"
    ours.mkdir()
    for name in ("bench", "baselines", "reports", "suites"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(REPOSITORY / name, ours / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, ours / name)
    environment = root / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    site = next((environment / "lib").glob("python*")) / "site-packages"
    for built in (wheel(ours), wheel(root / "theirs")):
        zipfile.ZipFile(built).extractall(site)  # what an installer does with a pure wheel
    # The dependencies of this environment, without the checkout itself.
    here = next(path for path in sys.path if path.endswith("site-packages"))

    def command(*words: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(environment / "bin" / "python"), "-m", "bench.cli", *map(str, words)],
            capture_output=True, text=True, check=False, timeout=400, cwd=root,
            env={
                **os.environ, "COLUMNS": "160",
                "PYTHONPATH": os.pathsep.join([str(site), here]),
            },
        )  # fmt: skip

    return command


def test_a_suite_of_others_runs_to_its_table(run: Run, tmp_path: Path) -> None:
    write_spots(tmp_path / "spots")
    setting = f"dataset.spots.path={json.dumps(str(tmp_path / 'spots'))}"
    work = tmp_path / "work"
    done = run("run", "perceptrons", "--set", setting, "--workdir", work)
    assert done.returncode == 0, done.stderr
    assert "plug-in lost is left out (my-package: No module named 'my_package.nowhere')" in (
        done.stderr
    )
    folder = work / "reports" / "perceptrons"
    comparison = (folder / "tables" / "comparison.md").read_text(encoding="utf-8")
    assert "MLP-micro" in comparison
    assert "Length" in comparison
    pairs = (folder / "tables" / "pairs.html").read_text(encoding="utf-8")
    assert "ViT-micro/4 − MLP-micro" in pairs
    assert "Range over seeds" in (folder / "tables" / "seed_range.md").read_text(encoding="utf-8")
    assert (folder / "figures" / "params_accuracy.svg").is_file()
    again = run("run", "perceptrons", "--set", setting, "--workdir", work)
    assert "nothing to do" in again.stdout


def test_each_thing_says_where_it_comes_from(
    run: Run,
) -> None:
    rows = json.loads(run("ls", "plugins", "--json").stdout)
    found = {(row["what"], row["name"]): row for row in rows}
    assert set(found) == {
        ("job kind", "length"), ("family", "mlp"), ("data set", "blobs"), ("reader", "lists"),
        ("table", "seed_range"), ("table", "lost"), ("figure", "params_accuracy"),
        ("suite", "perceptrons"),
    }  # fmt: skip
    assert {row["from"] for row in rows} == {"my-package"}
    assert "No module named" in found["table", "lost"]["left_out"]
    for things, name in (
        ("systems", "mlp-micro"), ("datasets", "blobs"), ("kinds", "length"),
        ("readers", "lists"), ("suites", "perceptrons"), ("figures", "params_accuracy"),
    ):  # fmt: skip
        listed = {
            row["name"]: row["from"] for row in json.loads(run("ls", things, "--json").stdout)
        }
        assert listed[name] == "my-package"
        assert "vitbench" in listed.values()


def test_the_nearest_name_and_the_reason_are_told_for_a_broken_one(
    run: Run,
) -> None:
    done = run("plan", "perceptrons", "--set", 'report.tables=["lost"]')
    assert done.returncode == 2
    assert "my_package.nowhere" in done.stderr
