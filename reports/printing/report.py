"""A report as files: written whole, and read again without rendering anything."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.files import clear_stale, read_json, write_bytes, write_text
from reports.printing.table import Table
from reports.printing.terminal import terminal

INDEX = "report.json"
"""File that holds the key and the list of files; written last."""


@dataclass(frozen=True)
class Report:
    """A written report."""

    key: str
    """Digest of everything that went in."""
    tables: Mapping[str, Table]
    """Tables by name; `overview` is the comparison with timings next to it."""
    files: dict[str, Path]
    """Files by name relative to the report's folder, e.g. `tables/comparison.md`."""
    findings: tuple[str, ...]
    """What was found, in sentences."""
    status: str
    """How many jobs are done, failed, skipped and not run."""
    cautions: tuple[str, ...] = ()
    """What weakens the numbers, in sentences."""
    failures: tuple[str, ...] = ()
    """Name and error of every failed job."""
    verdicts: Mapping[str, str] = field(default_factory=dict)
    """Verdict by the id of each job behind a cell that answers a published number."""

    def told_cautions(self, limit: int) -> list[str]:
        """Return at most so many cautions, and how many more the page has."""
        more = len(self.cautions) - limit
        return [*self.cautions[:limit], *([f"and {more:,} more on the page"] if more > 0 else [])]

    def terminal(self, *, width: int | None = None, color: bool = False) -> str:
        """Return the comparison with timings, for a terminal."""
        return terminal(self.tables["overview"], width=width, color=color)


class _Tables(Mapping[str, Table]):
    """Tables read from their files when they are asked for."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        self._files = files
        self._read: dict[str, Table] = {}

    def __getitem__(self, name: str) -> Table:
        if name not in self._read:
            data = json.loads(self._files[name].read_text(encoding="utf-8"))
            self._read[name] = Table.from_json(data)
        return self._read[name]

    def __contains__(self, name: object) -> bool:
        return name in self._files

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def load(out_dir: Path, key: str) -> Report | None:
    """Return the report of exactly this key from `out_dir`; None where it is not whole there."""
    index = _index(out_dir)
    try:
        if index["key"] != key:
            return None
        files = {name: out_dir / name for name in index["files"]}
        if any(path.stat().st_size != index["files"][name] for name, path in files.items()):
            return None
        return Report(
            key=key,
            tables=_Tables({name: files[data_name(name)] for name in index["tables"]}),
            files=files,
            findings=tuple(index["findings"]),
            status=index["status"],
            cautions=tuple(index["cautions"]),
            failures=tuple(index["failures"]),
            verdicts=index["verdicts"],
        )
    except (OSError, KeyError, TypeError):
        return None


def write(report: Report, contents: Mapping[str, bytes], out_dir: Path) -> None:
    """Write all files, the index last; files of an older report that are obsolete are removed."""
    old = set(_index(out_dir).get("files", ()))
    for folder in {(out_dir / name).parent for name in (INDEX, *contents)}:
        clear_stale(folder)
    for name, content in contents.items():
        write_bytes(out_dir / name, content, sync=False)
    index = {
        "key": report.key,
        "files": {name: len(content) for name, content in contents.items()},
        "findings": report.findings,
        "status": report.status,
        "cautions": report.cautions,
        "failures": report.failures,
        "verdicts": dict(report.verdicts),
        "tables": list(report.tables),
    }
    write_text(out_dir / INDEX, json.dumps(index, ensure_ascii=False), sync=False)
    for name in old - set(contents):
        path = (out_dir / name).resolve()
        if path.is_relative_to(out_dir.resolve()):
            path.unlink(missing_ok=True)


def data_name(table: str) -> str:
    """Return the file that holds a table's data."""
    return f"data/{table}.json"


def data_bytes(table: Table) -> bytes:
    """Return a table's data as a file."""
    return json.dumps(table.to_json(), ensure_ascii=False).encode()


def _index(out_dir: Path) -> dict[str, Any]:
    found = read_json(out_dir / INDEX)
    return found if isinstance(found, dict) else {}
