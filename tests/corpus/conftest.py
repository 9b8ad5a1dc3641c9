"""Golden messages: what each broken thing must be told as, one file for each corpus."""

from __future__ import annotations

import faulthandler
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.cli import app as cli
from reports.printing.escape import plain

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "corpus"

MOST_S = 60
"""Seconds that the command may take: it needs a tenth of one."""

Told = Callable[..., tuple[int, list[str]]]
Known = Callable[[str, str, list[str]], None]


@pytest.fixture
def told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Told:
    """Run the command in this process up to its first job; returns its end and what it told.

    That is its error, or its notes: lines that stand alone in a log, safe for a terminal, without
    a traceback. The test's folder is HERE in them.
    """
    monkeypatch.setenv("VITBENCH_WORKDIR", str(tmp_path / "runs"))
    monkeypatch.setenv("VITBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VITBENCH_DEBUG", "")
    monkeypatch.chdir(tmp_path)

    def stop(*_: object, **__: object) -> None:
        raise SystemExit(0)

    monkeypatch.setattr(cli, "execute", stop)

    def call(*words: object) -> tuple[int, list[str]]:
        monkeypatch.setattr("sys.argv", ["vitbench", *map(str, words)])
        capsys.readouterr()  # what libraries said as they wrote the files
        faulthandler.dump_traceback_later(MOST_S, exit=True, file=sys.__stderr__)  # it waits
        with pytest.raises(SystemExit) as ended:
            cli.main()
        faulthandler.cancel_dump_traceback_later()
        out, err = capsys.readouterr()
        notes = [line for line in out.splitlines() if line.startswith("note: ")]
        errors = [line for line in err.splitlines() if line]
        lines = [line.replace(str(tmp_path), "HERE") for line in (*errors, *notes)]
        assert "Traceback" not in err
        assert [plain(line) for line in lines] == lines
        return int(ended.value.code or 0), lines

    return call


@pytest.fixture
def known() -> Known:
    """Compare with what is known of a corpus; VITBENCH_REGENERATE=1 writes it instead."""

    def compare(corpus: str, name: str, lines: list[str]) -> None:
        path = GOLDEN / f"{corpus}.json"
        golden = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        if os.environ.get("VITBENCH_REGENERATE"):
            path.parent.mkdir(exist_ok=True)
            text = json.dumps({**golden, name: lines}, indent=1, ensure_ascii=False, sort_keys=True)
            path.write_text(text + "\n", encoding="utf-8")
        else:
            assert lines == golden[name]

    return compare
