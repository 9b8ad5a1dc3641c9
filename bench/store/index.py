"""What job folders hold, known without reading them again: an index of file stamps and digests.

A file whose inode, time of change and size are those of last time holds what it held: records are
written to a temporary name and renamed, so that a new record is a new inode. The index is a cache
and nothing more: without it, or with a damaged one, every record is read.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

VERSION = 1
"""Bumped when the index means something else."""

_Seen = tuple[int, int, int, str, list[str]]
"""Inode, time of change in ns, size, digest of the record, files that belong to it."""


class Index:
    """Digests of the records under a folder of job folders."""

    def __init__(self, jobs: Path, file: Path) -> None:
        self._jobs = os.fspath(jobs)
        self._file = file
        self._seen = _load(file)
        self._changed = False

    def digests(self, job_ids: Iterable[str]) -> dict[str, str]:
        """Return the digest of each job's outcome: its result, or else its last failure.

        A result counts only where the files that it names are there.
        """
        found = {}
        for job_id in job_ids:
            digest = self._digest(job_id, "result.json") or self._digest(job_id, "failure.json")
            if digest:
                found[job_id] = digest
        if self._changed:
            self._save()
        return found

    def _digest(self, job_id: str, name: str) -> str:
        folder = f"{self._jobs}/{job_id}"
        try:
            stat = os.stat(f"{folder}/{name}")
        except OSError:
            return ""
        key, stamp = f"{job_id}/{name}", (stat.st_ino, stat.st_mtime_ns, stat.st_size)
        known = self._seen.get(key)
        if known is None or tuple(known[:3]) != stamp:
            digest, files = _read(f"{folder}/{name}")
            known = self._seen[key] = (*stamp, digest, files)
            self._changed = True
        whole = all(os.path.isfile(f"{folder}/{file}") for file in known[4])
        return known[3] if whole else ""

    def _save(self) -> None:
        text = json.dumps({"version": VERSION, "seen": self._seen}, separators=(",", ":"))
        temporary = self._file.with_name(f".{self._file.name}.{os.getpid()}.tmp")
        try:
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(self._file)
        except OSError:
            temporary.unlink(missing_ok=True)  # a work folder of others: it is read all the same


def _load(file: Path) -> dict[str, Any]:
    try:
        data = json.loads(file.read_bytes())
        if data["version"] != VERSION:
            return {}
        return {key: seen for key, seen in data["seen"].items() if len(seen) == 5}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _read(path: str) -> tuple[str, list[str]]:
    """Return the digest of a record and the files that it names; no digest where it is damaged."""
    try:
        with open(path, "rb") as file:
            content = file.read()
        files = json.loads(content).get("files", {})
        return hashlib.sha256(content).hexdigest(), [str(name) for name in files]
    except (OSError, ValueError, AttributeError):
        return "", []
