"""The verb `rehearse`: a table or JSON, and exit codes that say whether a suite can be run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import environment
from bench.cli import app as cli
from bench.paths import WorkPaths
from bench.rehearse import notes

SUITE = """
name = "tiny"
title = "Tiny"
claim = "Nothing."
[[pretrain]]
systems = ["vit-micro"]
dataset = "digits"
recipe = "micro-pretrain"
protocol = "micro"
[[transfer]]
kind = "fewshot"
datasets = ["digits"]
protocol = "micro"
shots = [1]
"""

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Run the command in this process; returns exit code, output and error output."""
    monkeypatch.setenv("VITBENCH_WORKDIR", str(tmp_path / "runs"))

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["vitbench", *map(str, words)])
        try:
            cli.main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return call
