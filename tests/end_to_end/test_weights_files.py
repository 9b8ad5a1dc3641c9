"""Weights of one's own as a person runs them: files of several layouts, to the page and back."""

from __future__ import annotations

import csv
import hashlib
import html
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from bench import models

Run = Callable[..., subprocess.CompletedProcess[str]]

SUITE = """
name = "own"
title = "Two files of my own"
claim = "They can be compared."

[[weights]]
systems = ["vit-micro"]
file = "files/vit.safetensors"

[[weights]]
systems = ["bit-micro"]
file = "files/bit.npz"
name = "run 7"

[[transfer]]
kind = "knn"
datasets = ["digits"]
protocol = "fewshot-micro"
neighbours = [5]

[[transfer]]
kind = "fewshot"
datasets = ["digits"]
protocol = "fewshot-micro"
shots = [1]

[[pair]]
systems = ["vit-micro", "bit-micro"]
match = "none"

[report]
tables = ["pairs", "images", "ranks", "published"]
figures = ["upstream_size", "fewshot_size", "pretrain_compute", "compute_tradeoff"]
"""


def save(system: str, path: Path, layout: str, *, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    model = models.build(system, num_classes=5, generator=generator)
    path.parent.mkdir(exist_ok=True)
    models.save_weights(model, path, layout=layout)


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    save("vit-micro", tmp_path / "files" / "vit.safetensors", "timm", seed=1)
    save("bit-micro", tmp_path / "files" / "bit.npz", "npz", seed=1)
    path = tmp_path / "own.toml"
    path.write_text(SUITE, encoding="utf-8")
    return path


@pytest.mark.ordinary
def test_files_run_to_a_page_that_says_whose_they_are(suite: Path, vitbench: Run) -> None:
    workdir = suite.parent / "runs"
    sha256 = hashlib.sha256((suite.parent / "files/vit.safetensors").read_bytes()).hexdigest()
    note = (
        "ViT-micro/4 starts from the file vit.safetensors (layout timm, 5 classes, SHA-256 "
        f"{sha256[:12]}...), unverified: not known to be anybody's release; trained on: not stated"
    )
    planned = vitbench("plan", suite, "--workdir", workdir)
    assert f"weights: {note}" in planned.stdout, planned.stdout + planned.stderr
    finished = vitbench("run", suite, "--local", "--workdir", workdir)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert f"weights: {note}" in finished.stdout
    report = workdir / "reports" / "own"
    for name in ("index.html", "tables/comparison.md"):
        text = html.unescape((report / name).read_text(encoding="utf-8"))
        assert note in text, name
        assert "the file bit.npz, called run 7 (layout npz," in text
    rows = list(csv.DictReader((report / "tables/comparison.csv").open(encoding="utf-8")))
    assert len(rows) == 2
    for row in rows:
        assert (row["upstream_examples"], row["exaflops"]) == ("not stated", "not stated")
    pairs = (report / "tables/pairs.md").read_text(encoding="utf-8")
    assert "not stated" in pairs
    assert "| 0 " not in pairs
    assert vitbench("report", suite, "--workdir", workdir, "--check").returncode == 0
    again = vitbench("run", suite, "--local", "--workdir", workdir)
    assert "nothing to do" in again.stdout
    # Other bytes are other jobs; the other file's are kept.
    save("vit-micro", suite.parent / "files" / "vit.safetensors", "timm", seed=2)
    changed = vitbench("plan", suite, "--workdir", workdir)
    assert "6 jobs, 3 done" in changed.stdout


@pytest.mark.ordinary
def test_a_file_that_is_not_there_ends_with_code_2_and_one_line(suite: Path, vitbench: Run) -> None:
    (suite.parent / "files" / "bit.npz").unlink()
    workdir = suite.parent / "runs"
    for verb in ("plan", "run"):
        finished = vitbench(verb, suite, "--workdir", workdir)
        assert finished.returncode == 2
        assert finished.stderr.count("\n") == 1
        assert "weights[1].file: " in finished.stderr
        assert "bit.npz: no such file. A relative path starts at the suite file" in finished.stderr
    assert not workdir.exists()
    looked = vitbench("doctor", suite, "--workdir", workdir)
    assert "bit.npz: no such file" in " ".join(looked.stdout.split())
