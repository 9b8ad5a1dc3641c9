"""The right to work on a job: the newest of its attempts, held by a process (`holds.py`).

An attempt is made only when the one before is over: its process released it, died, or fell silent.
So one process at a time works on a job, on however many machines. One that was given up too soon
finds a newer attempt than its own, and is refused.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import JobHeld, Preempted, StaleAttempt
from bench.files import clear_stale, remove, write_text
from bench.paths import JobPaths
from bench.specs import JobResult, JobSpec, canonical_json
from bench.store import holds

PREEMPTED = "preempted"
"""How an attempt ended whose process was told to end."""


@dataclass(frozen=True)
class Claim:
    """The right to work on one job: its folder, and the number of this attempt."""

    job_id: str
    paths: JobPaths
    attempt: int

    @property
    def folder(self) -> Path:
        """The folder of the job."""
        return self.paths.folder

    def report(self, line: Mapping[str, Any]) -> None:
        """Append one line to the job's progress; raises StaleAttempt as `check` does."""
        self.check()
        _append(self.paths, json.dumps({**line, "attempt": self.attempt}) + "\n")

    def check(self) -> None:
        """Raise StaleAttempt when a newer attempt has claimed the folder."""
        if newest_attempt(self.paths) != self.attempt:
            raise StaleAttempt(f"attempt {self.attempt} of job {self.job_id} is no longer current")

    def commit(self, result: JobResult) -> None:
        """Make the job done; of its files those stay that the result names."""
        self.check()
        _clear(self.paths, result.files)
        write_text(self.paths.result, result.model_dump_json(indent=1))
        for leftover in (self.paths.failure, self.paths.error, self.paths.scored):
            leftover.unlink(missing_ok=True)
        shutil.rmtree(self.paths.checkpoints, ignore_errors=True)


@contextmanager
def claim(paths: JobPaths, spec: JobSpec) -> Iterator[Claim]:
    """Work on a job while the block runs, as a new attempt.

    Raises JobHeld where another process works on it.
    """
    paths.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    attempt, hold = _next_attempt(paths, spec.job_id)
    why = "released"
    try:
        if not paths.result.exists():
            _clear(paths)
        write_text(paths.spec, canonical_json(spec))
        # Apart from a line that a killed attempt did not finish; a late one of it comes after.
        _append(paths, f'\n{{"attempt": {attempt}}}\n')
        yield Claim(job_id=spec.job_id, paths=paths, attempt=attempt)
    except Preempted:
        why = PREEMPTED
        raise
    finally:
        hold.release(why)


def newest_attempt(paths: JobPaths) -> int:
    """Return the number of the newest attempt at a job; 0 where there was none."""
    try:
        names = [path.name for path in paths.attempts.iterdir()]
    except FileNotFoundError:
        return 0
    return max((int(name) for name in names if name.isdigit()), default=0)


def newest_claim(paths: JobPaths) -> Path:
    """Return the file whose holder works on a job (which may not be there)."""
    return paths.attempt(newest_attempt(paths))


def preempted(paths: JobPaths) -> bool:
    """Tell whether the newest attempt ended because its process was told to end."""
    return holds.over(newest_claim(paths)) == PREEMPTED


def _next_attempt(paths: JobPaths, job_id: str) -> tuple[int, holds.Hold]:
    while True:
        number = newest_attempt(paths)
        holder = holds.holder(paths.attempt(number))
        if holder is not None:
            raise JobHeld(
                f"job {job_id} is being worked on by {holder}",
                hint="Wait for it, or stop it and run again",
            )
        hold = holds.take(paths.attempt(number + 1))
        if hold is not None:
            return number + 1, hold


def _append(paths: JobPaths, text: str) -> None:
    with paths.progress.open("a", encoding="utf-8") as file:
        file.write(text)


def _clear(paths: JobPaths, committed: Iterable[str] = ()) -> None:
    """Remove what earlier attempts left under whatever name, but what a later one goes on from."""
    kept = {path.name for path in (*paths.records, paths.attempts, paths.checkpoints)}
    for path in paths.folder.iterdir():
        if path.name not in kept and path.name not in committed:
            remove(path)
    clear_stale(paths.folder, recursive=True)
