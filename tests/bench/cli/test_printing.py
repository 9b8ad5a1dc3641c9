"""Facts as a person reads them: nested, in words, and never a thousand items."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.cli.printing import print_facts, ui_command

Run = Callable[..., tuple[int, str, str]]


def test_facts_are_printed_by_their_parts(capsys: pytest.CaptureFixture[str]) -> None:
    print_facts(
        {
            "num_classes": 40,
            "class_names": [f"class {number}" for number in range(40)],
            "labels": list(range(3)),
            "problems": ["train: 1,200 copies, all alike", "test: 3 copies"],
            "splits": {"train": {"per_class": [5] * 40}, "test": {"per_class": list(range(40))}},
            "note": "",
        }
    )
    assert capsys.readouterr().out.splitlines() == [
        "num classes              40",
        "class names              class 0, class 1, ... class 39 (40)",
        "labels                   0, 1, 2",
        "problems                 train: 1,200 copies, all alike; test: 3 copies",
        "splits",
        "  train",
        "    per class            5 each",
        "  test",
        "    per class            0 to 39",
    ]


class Stored:
    workdir = Path("/tmp/my runs")


def test_the_command_that_is_printed_can_be_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/usr/my tools/vitbench", "run"])
    words = shlex.split(ui_command(Stored()))  # type: ignore[arg-type]
    assert words == ["/usr/my tools/vitbench", "ui", "--workdir", "/tmp/my runs"]


NARROW = [
    (["ls", "systems"], "hybrid-r50-vit-b16"),
    (["ls", "recipes"], "vit-finetune-imagenet-code"),
    (["ls", "suites"], "position-embeddings"),
    (["plan", "quickstart"], "hybrid-micro"),
    (["status", "quickstart"], "candidate"),
]


@pytest.mark.parametrize(("words", "name"), NARROW, ids=lambda value: str(value))
def test_a_narrow_terminal_wraps_and_cuts_no_name(
    run: Run, monkeypatch: pytest.MonkeyPatch, words: list[str], name: str
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    _, out, _ = run(*words)
    assert name in out
    assert "…" not in out


IN_A_TERMINAL = """
import os, pty, sys
def read(fd):
    return os.read(fd, 65536)
command = [sys.executable, "-m", "bench.cli", *sys.argv[1:]]
sys.exit(os.waitstatus_to_exitcode(pty.spawn(command, read)))
"""


@pytest.mark.ordinary
@pytest.mark.parametrize("plain", [{"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=str)
@pytest.mark.parametrize(
    "words",
    [["ls", "suites"], ["plan", "quickstart"], ["data", "prepare", "digits"], ["--help"]],
    ids=" ".join,
)
def test_no_sequence_reaches_a_terminal_that_wants_none(
    words: list[str], plain: dict[str, str], tmp_path: Path
) -> None:
    command = [sys.executable, "-c", IN_A_TERMINAL, *words]
    if words[0] != "--help" and words[0] != "ls":
        command += ["--workdir", str(tmp_path)]
    environment = {**os.environ, "TERM": "xterm-256color", **plain}
    done = subprocess.run(command, env=environment, capture_output=True, check=True, timeout=120)
    assert b"\x1b" not in done.stdout
    assert done.stdout
