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
from contextlib import suppress
from pathlib import Path
from typing import Any

from bench.files import read_json, write_text
from bench.paths import FAILURE, RESULT, WorkPaths

VERSION = 1
"""Bumped when the index means something else."""

_Seen = tuple[int, int, int, str, list[str]]
"""Inode, time of change in ns, size, digest of the record, files that belong to it."""


class Index:
    """Digests of the records in the job folders of a work folder."""

    def __init__(self, paths: WorkPaths) -> None:
        self._paths = paths
        self._seen = _load(paths.results_index)
        self._changed = False

    def digests(self, job_ids: Iterable[str]) -> dict[str, str]:
        """Return the digest of each job's outcome: its result, or else its last failure.

        A result counts only where the files that it names are there.
        """
        found = {}
        for job_id in job_ids:
            folder = os.fspath(self._paths.job(job_id).folder)
            digest = self._digest(folder, RESULT) or self._digest(folder, FAILURE)
            if digest:
                found[job_id] = digest
        if self._changed:
            self._save()
        return found

    def _digest(self, folder: str, name: str) -> str:
        try:
            stat = os.stat(f"{folder}/{name}")
        except OSError:
            return ""
        key = f"{os.path.basename(folder)}/{name}"
        stamp = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
        known = self._seen.get(key)
        if known is None or tuple(known[:3]) != stamp:
            digest, files = _read(f"{folder}/{name}")
            known = self._seen[key] = (*stamp, digest, files)
            self._changed = True
        whole = all(os.path.isfile(f"{folder}/{file}") for file in known[4])
        return known[3] if whole else ""

    def _save(self) -> None:
        text = json.dumps({"version": VERSION, "seen": self._seen}, separators=(",", ":"))
        with suppress(OSError):  # a work folder of others: it is read all the same
            write_text(self._paths.results_index, text, sync=False)


def _load(file: Path) -> dict[str, Any]:
    data = read_json(file)
    try:
        if data["version"] != VERSION:
            return {}
        return {key: seen for key, seen in data["seen"].items() if len(seen) == 5}
    except (KeyError, TypeError, AttributeError):
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
