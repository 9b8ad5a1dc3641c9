"""The page on one's own pictures, followed to the letter in an empty folder."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.ordinary

PAGE = Path(__file__).resolve().parents[2] / "docs" / "own-pictures.md"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OF_THE_MACHINE = re.compile(r"about .* here|\d+ min \d\d s|\d+ s\b")

Run = Callable[..., subprocess.CompletedProcess[str]]


def commands(text: str) -> list[tuple[str, str]]:
    """Return each command of a block, and what the page says that it prints."""
    found = re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]
    return [(one.partition("\n")[0], one.partition("\n")[2].strip("\n")) for one in found]


def test_every_command_of_the_page_works_and_prints_what_it_says(
    vitbench: Run, tmp_path: Path
) -> None:
    """Runs take two steps here; what follows from numbers is another then."""
    asked = []
    for language, text in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        if language == "python":
            subprocess.run([sys.executable, "-c", text], cwd=tmp_path, check=True, timeout=60)
            continue
        for command, printed in commands(text):
            program, verb, *words = command.split()
            assert program == "vitbench", command
            short = ["--limit-steps", "2", "--seeds", "1"] if verb in ("run", "report") else []
            done = vitbench(verb, *words, *short, cwd=tmp_path)
            assert done.returncode == 0, f"{command}\n{done.stderr}"
            if verb not in ("run", "report"):
                said = [OF_THE_MACHINE.sub("", part) for part in (done.stdout, printed)]
                assert said[1].strip() in said[0], command
            asked.append(verb)
    assert asked[:2] == ["init", "run"]
    assert (tmp_path / "runs" / "reports" / "figures" / "index.html").is_file()
