"""Every broken data set is told before anything is trained: as an error, or as a note of `run`.

Renew `tests/golden/corpus/data.json` with VITBENCH_REGENERATE=1, and read what changed: each line
must name the file, the class or the split, the cause, and the cure where there is one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.corpus.broken_data import BROKEN, SOUND
from tests.corpus.conftest import Known, Told

pytestmark = pytest.mark.ordinary

SUITE = """
name = "mine"
title = "Mine"
claim = "What is broken is told."

[recipe.short]
steps = 1
batch_size = 2
optimizer = "adam"
base_lr = 3e-3
schedule = "cosine"

[[pretrain]]
systems = ["vit-micro"]
upstream = "{name}"
recipe = "short"
protocol = "pretrain-micro"

[[transfer]]
kind = "knn"
datasets = ["{name}"]
protocol = "fewshot-micro"
neighbours = [1]

[dataset.{name}]
"""


def suite(folder: Path, block: dict[str, Any]) -> Path:
    keys = dict(block)
    name = keys.pop("name", "mine")
    lines = [f"{key} = {json.dumps(value)}\n" for key, value in keys.items()]
    path = folder / "mine.toml"
    path.write_text(SUITE.format(name=name) + "".join(lines), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_told(name: str, told: Told, known: Known, tmp_path: Path) -> None:
    code, lines = told("run", suite(tmp_path, BROKEN[name](tmp_path / "set")), "--local")
    assert lines, "called sound"
    assert code == (0 if lines[0].startswith("note: ") else 2), lines
    assert code == 0 or len(lines) == 1, lines
    assert code == 0 or not (tmp_path / "runs").exists()
    assert not (tmp_path / "ran").exists()  # no code of a pickle
    known("data", name, lines)


@pytest.mark.parametrize("name", SOUND)
def test_what_is_odd_and_sound_is_not(name: str, told: Told, tmp_path: Path) -> None:
    block = SOUND[name](tmp_path / "set")
    assert told("run", suite(tmp_path, block), "--local") == (0, [])
