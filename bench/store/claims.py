"""The right to work on a job: a kernel lock on its folder, and the number of the attempt.

The kernel frees the lock of a process that dies, so a killed job can be claimed again at once. The
attempt's number, newest in the file `attempt`, fences off a late writer.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import BenchError, StaleAttempt
from bench.files import clear_stale, write_text
from bench.paths import JobPaths
from bench.specs import JobResult, JobSpec, canonical_json


@dataclass(frozen=True)
class Claim:
    """The right to work on one job: its folder, locked, and the number of this attempt."""

    job_id: str
    paths: JobPaths
    attempt: int

    @property
    def folder(self) -> Path:
        """The folder of the job."""
        return self.paths.folder

    def report(self, line: Mapping[str, Any]) -> None:
        """Append one line to the job's progress."""
        with self.paths.progress.open("a", encoding="utf-8") as file:
            file.write(json.dumps({**line, "attempt": self.attempt}) + "\n")

    def check(self) -> None:
        """Raise StaleAttempt when a newer attempt has claimed the folder."""
        if _read_attempt(self.paths) != self.attempt:
            raise StaleAttempt(f"attempt {self.attempt} of job {self.job_id} is no longer current")

    def commit(self, result: JobResult) -> None:
        """Make the job done."""
        self.check()
        write_text(self.paths.result, result.model_dump_json(indent=1))
        for leftover in (self.paths.failure, self.paths.error):
            leftover.unlink(missing_ok=True)
        shutil.rmtree(self.paths.checkpoints, ignore_errors=True)


@contextmanager
def claim(paths: JobPaths, spec: JobSpec, *, timeout_s: float) -> Iterator[Claim]:
    """Hold the lock of a job's folder while the block runs, under a new attempt number.

    Waits up to `timeout_s` for another process that works on the same job (a driver that was
    killed leaves workers that live a little longer); raises BenchError after that.
    """
    from filelock import FileLock, Timeout

    job_id = spec.job_id
    paths.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = FileLock(paths.lock)
    try:
        lock.acquire(timeout=timeout_s)
    except Timeout as error:
        raise BenchError(
            f"job {job_id} is being worked on by another process",
            hint="Wait for it, or stop it and run again",
        ) from error
    try:
        clear_stale(paths.folder, recursive=True)
        attempt = _read_attempt(paths) + 1
        write_text(paths.spec, canonical_json(spec))
        write_text(paths.attempt, str(attempt))
        yield Claim(job_id=job_id, paths=paths, attempt=attempt)
    finally:
        lock.release()


def _read_attempt(paths: JobPaths) -> int:
    try:
        return int(paths.attempt.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return 0
