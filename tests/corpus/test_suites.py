"""Every broken suite is told when it is planned: an error with its key, or a note.

Renew `tests/golden/corpus/suites.json` with VITBENCH_REGENERATE=1, and read what changed: each line
must name the file, the key, the cause, and the nearest name or the cure where there is one.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.corpus.broken_suites import FILES, OPTIONS, PLACES, SOUND, WORDS
from tests.corpus.conftest import Known, Told


def check(result: tuple[int, list[str]], name: str, known: Known) -> None:
    code, lines = result
    assert lines, "called sound"
    assert code == (0 if lines[0].startswith("note: ") else 2), lines
    assert code == 0 or len(lines) == 1, lines
    known("suites", name, lines)


def write(folder: Path, content: bytes) -> str:
    (folder / "mine.toml").write_bytes(content)
    return "mine.toml"


def test_the_suite_is_sound(told: Told, tmp_path: Path) -> None:
    assert told("plan", write(tmp_path, SOUND.encode())) == (0, [])


@pytest.mark.parametrize("name", WORDS)
def test_what_is_broken_in_a_suite_is_told(
    name: str, told: Told, known: Known, tmp_path: Path
) -> None:
    old, new = WORDS[name]
    assert SOUND.count(old) == 1, old
    check(told("plan", write(tmp_path, SOUND.replace(old, new).encode())), name, known)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_suite_is_told(
    name: str, told: Told, known: Known, tmp_path: Path
) -> None:
    check(told("plan", write(tmp_path, FILES[name])), name, known)


@pytest.mark.parametrize("name", OPTIONS)
def test_a_wrong_option_is_told(name: str, told: Told, known: Known, tmp_path: Path) -> None:
    check(told("plan", write(tmp_path, SOUND.encode()), *OPTIONS[name]), name, known)


@pytest.mark.parametrize("name", PLACES)
def test_a_suite_that_is_not_there_is_told(
    name: str, told: Told, known: Known, tmp_path: Path
) -> None:
    check(told("plan", PLACES[name](tmp_path)), name, known)
