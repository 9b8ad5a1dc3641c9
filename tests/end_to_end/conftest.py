"""A suite small enough for tests, run as a person runs it: a process with real Ray and MLflow."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

TINY = """
name = "tiny"
title = "A suite for tests"
claim = "Small suites run like large ones."
seeds = [0, 1]

[dataset.shapes]
reader = "formula"
num_classes = 4
images_per_class = 16
image_size_px = 12

[recipe.pretrain]
steps = 30
batch_size = 16
optimizer = "adam"
base_lr = 3e-3
schedule = "cosine"
warmup_steps = 5
weight_decay = 0.03
clip_norm = 1.0

[recipe.finetune]
steps = 10
batch_size = 16
optimizer = "sgd"
schedule = "cosine"
clip_norm = 1.0

[[pretrain]]
systems = ["vit-micro", "bit-micro"]
upstream = "shapes"
num_examples = [32]
recipe = "pretrain"
protocol = "pretrain-micro"

[[transfer]]
kind = "finetune"
datasets = ["digits"]
protocol = "finetune-micro"
recipe = "finetune"
learning_rates = [0.03, 0.1]

[[transfer]]
kind = "fewshot"
datasets = ["digits"]
protocol = "fewshot-micro"
shots = [1, 5]
draws = 2

[[pair]]
systems = ["vit-micro", "bit-micro"]
"""


@pytest.fixture(scope="session")
def tiny() -> str:
    """The text of the tiny suite."""
    return TINY


@pytest.fixture
def suite_file(tmp_path: Path) -> Path:
    """The tiny suite without figures, which take as long as its jobs."""
    path = tmp_path / "tiny.toml"
    path.write_text(f"{TINY}\n[report]\nfigures = []\n", encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def command() -> Callable[..., list[str]]:
    """Return the words that start the command in this environment."""
    return lambda *words: [sys.executable, "-m", "bench.cli", *map(str, words)]


@pytest.fixture(scope="session")
def vitbench(command: Callable[..., list[str]]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command to its end."""

    def run(*words: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command(*words), capture_output=True, text=True, timeout=300, check=False,
            cwd=cwd, env={**os.environ, "COLUMNS": "140"},
        )  # fmt: skip

    return run
