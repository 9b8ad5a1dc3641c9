"""Job folders: the truth about what was done.

    WORKDIR/jobs/<job_id>/
        spec.json        what the job is (its JobSpec)
        result.json      present exactly when the job is done; written atomically
        failure.json     the last failure, until a later attempt succeeds
        error.txt        the traceback of that failure
        progress.jsonl   one line per report of the training loop
        attempt          number of the newest attempt; fences off a late writer
        lock             kernel lock held while an attempt works: the claim

A job is done when its `result.json` is there and the files it names are there. The kernel frees
the lock of a process that dies, so a killed job can be claimed again at once.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import BenchError, StaleAttempt, UserError
from bench.specs import JobResult, JobSpec, canonical_json
from bench.store.index import Index

if TYPE_CHECKING:
    import numpy as np


def write_atomic(path: Path, text: str) -> None:
    """Write `text` to `path` so that a reader, or a crash, sees all of it or nothing."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@dataclass(frozen=True)
class Claim:
    """The right to work on one job: its folder, locked, and the number of this attempt."""

    job_id: str
    folder: Path
    attempt: int

    def report(self, line: Mapping[str, Any]) -> None:
        """Append one line to the job's progress."""
        with (self.folder / "progress.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({**line, "attempt": self.attempt}) + "\n")

    def check(self) -> None:
        """Raise StaleAttempt when a newer attempt has claimed the folder."""
        if _read_attempt(self.folder) != self.attempt:
            raise StaleAttempt(f"attempt {self.attempt} of job {self.job_id} is no longer current")

    def commit(self, result: JobResult) -> None:
        """Make the job done."""
        self.check()
        write_atomic(self.folder / "result.json", result.model_dump_json(indent=1))
        for leftover in ("failure.json", "error.txt"):
            (self.folder / leftover).unlink(missing_ok=True)
        shutil.rmtree(self.folder / "checkpoints", ignore_errors=True)


class Store:
    """The job folders of one work folder."""

    def __init__(self, workdir: Path) -> None:
        self.workdir = workdir.resolve()
        self.jobs = self.workdir / "jobs"

    def create(self) -> None:
        """Make the work folder; raises UserError when it cannot be written to."""
        try:
            self.jobs.mkdir(parents=True, exist_ok=True, mode=0o700)
            probe = self.jobs / f".probe.{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise UserError(
                f"--workdir {self.workdir}: {error.strerror}",
                hint="Choose a folder that can be written to",
            ) from error

    @property
    def cache(self) -> Path:
        """Folder of packed data and features, shared by all jobs."""
        return self.workdir / "data"

    def folder(self, job_id: str) -> Path:
        """Return the folder of a job (which may not be there yet)."""
        if not (len(job_id) == 16 and set(job_id) <= set("0123456789abcdef")):
            raise BenchError(f"{job_id!r} is not a job id")
        return self.jobs / job_id

    def result(self, job_id: str) -> JobResult | None:
        """Return the result of a done job; None when it is missing, damaged or lost its files."""
        folder = self.folder(job_id)
        result = _read_result(folder / "result.json", job_id)
        if result is None or result.status != "done":
            return None
        return result if all(os.path.isfile(folder / name) for name in result.files) else None

    def results(self, job_ids: Iterable[str]) -> dict[str, JobResult]:
        """Return the results of those of `job_ids` that are done."""
        found = {job_id: self.result(job_id) for job_id in job_ids}
        return {job_id: result for job_id, result in found.items() if result is not None}

    def digests(self, job_ids: Iterable[str]) -> dict[str, str]:
        """Return a digest of what `outcomes` would return; unchanged files are not read.

        The digests are kept in `WORKDIR/results.index`.
        """
        ids = [job_id for job_id in job_ids if self.folder(job_id)]
        return Index(self.jobs, self.workdir / "results.index").digests(ids)

    def failure(self, job_id: str) -> JobResult | None:
        """Return the last failure of a job that is not done."""
        return _read_result(self.folder(job_id) / "failure.json", job_id)

    def outcomes(self, job_ids: Iterable[str]) -> dict[str, JobResult]:
        """Return what is known of each job: its result, or else its last failure."""
        ids = tuple(job_ids)
        outcomes = self.results(ids)
        for job_id in ids:
            if job_id not in outcomes and (failure := self.failure(job_id)) is not None:
                outcomes[job_id] = failure
        return outcomes

    def record_failure(self, result: JobResult, *, traceback: str = "") -> None:
        """Keep why a job failed or was skipped; a later success removes it."""
        folder = self.folder(result.job_id)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomic(folder / "failure.json", result.model_dump_json(indent=1))
        if traceback:
            write_atomic(folder / "error.txt", traceback)

    def progress(self, job_id: str) -> list[dict[str, Any]]:
        """Return the learning curve of a job: for each step the line of the newest attempt."""
        path = self.folder(job_id) / "progress.jsonl"
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []
        by_step: dict[int, dict[str, Any]] = {}
        for line in lines:
            try:
                entry = json.loads(line)
                by_step[int(entry["step"])] = entry
            except (ValueError, KeyError, TypeError):
                continue  # the last line of a killed attempt may be cut short
        return [by_step[step] for step in sorted(by_step)]

    def hits(self, job_id: str) -> np.ndarray | None:
        """Return hits_N of a job, whether each test image was classified right, where it has them.

        Few-shot jobs have one such row per number of shots and draw, and are not read here.
        """
        import numpy as np

        try:
            with np.load(self.folder(job_id) / "hits.npz", allow_pickle=False) as arrays:
                return arrays.get("hits")
        except (OSError, ValueError):
            return None

    @contextmanager
    def claim(self, spec: JobSpec, *, timeout_s: float = 60.0) -> Iterator[Claim]:
        """Hold the job's lock while the block runs, under a new attempt number.

        Waits up to `timeout_s` for another process that works on the same job (a driver that was
        killed leaves workers that live a little longer); raises BenchError after that.
        """
        from filelock import FileLock, Timeout

        job_id = spec.job_id
        folder = self.folder(job_id)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = FileLock(folder / "lock")
        try:
            lock.acquire(timeout=timeout_s)
        except Timeout as error:
            raise BenchError(
                f"job {job_id} is being worked on by another process",
                hint="Wait for it, or stop it and run again",
            ) from error
        try:
            for leftover in folder.glob(".*.tmp"):  # of an attempt that was killed while writing
                leftover.unlink()
            attempt = _read_attempt(folder) + 1
            write_atomic(folder / "spec.json", canonical_json(spec))
            write_atomic(folder / "attempt", str(attempt))
            yield Claim(job_id=job_id, folder=folder, attempt=attempt)
        finally:
            lock.release()


def _read_attempt(folder: Path) -> int:
    try:
        return int((folder / "attempt").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return 0


def _read_result(path: Path, job_id: str) -> JobResult | None:
    try:
        result = JobResult.model_validate_json(path.read_bytes())
    except (OSError, ValueError):
        return None
    return result if result.job_id == job_id else None
