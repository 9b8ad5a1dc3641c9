"""Job folders: the truth about what was done.

A job is done when its `result.json` is there and the files that it names are there. What lies in
a job's folder is defined in `bench/paths.py`, how a job is worked on in `claims.py`.
"""

from __future__ import annotations

import json
import os
import tempfile
import zipfile
from collections.abc import Iterable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import BenchError, UserError
from bench.files import clear_stale, write_text
from bench.paths import CLASSES, LABELS, WorkPaths
from bench.specs import JobResult, JobSpec
from bench.store.claims import Claim, claim, newest_claim, preempted
from bench.store.holds import Holder, Watch
from bench.store.index import Index

if TYPE_CHECKING:
    import numpy as np


class Store:
    """The job folders of one work folder."""

    def __init__(self, workdir: Path) -> None:
        self.workdir = workdir.resolve()
        self.paths = WorkPaths(self.workdir)
        self._watch = Watch()

    def create(self) -> None:
        """Make the work folder; raises UserError when it cannot be written to."""
        jobs = self.paths.jobs
        try:
            jobs.mkdir(parents=True, exist_ok=True, mode=0o700)
            with tempfile.TemporaryFile(dir=jobs):
                pass
        except OSError as error:
            raise UserError(
                f"--workdir {self.workdir}: {error.strerror}",
                hint="Choose a folder that can be written to",
            ) from error
        clear_stale(self.workdir)

    def folder(self, job_id: str) -> Path:
        """Return the folder of a job (which may not be there yet)."""
        return self.paths.job(job_id).folder

    def claim(self, spec: JobSpec) -> AbstractContextManager[Claim]:
        """Work on a job while the block runs, as a new attempt.

        Raises JobHeld where another process works on it.
        """
        return claim(self.paths.job(spec.job_id), spec)

    def holder(self, job_id: str) -> Holder | None:
        """Return who works on a job, None where nobody does.

        Asked again and again, it gives up the processes of other machines that fell silent.
        """
        return self._watch.holder(newest_claim(self.paths.job(job_id)))

    def preempted(self, job_id: str) -> bool:
        """Tell whether the newest attempt at a job ended because its process was told to end."""
        return preempted(self.paths.job(job_id))

    def num_saved_steps(self, job_id: str) -> int:
        """Return the steps that a job need not do again, summed over its training runs."""
        newest: dict[Path, int] = {}
        for path in self.paths.job(job_id).checkpoints.rglob("step-*.json"):
            step = int(path.stem.removeprefix("step-"))
            newest[path.parent] = max(step, newest.get(path.parent, 0))
        return sum(newest.values())

    # --- outcomes

    def result(self, job_id: str) -> JobResult | None:
        """Return the result of a done job; None when it is missing, damaged or lost its files."""
        paths = self.paths.job(job_id)
        result = _read_result(paths.result, job_id)
        if result is None or result.status != "done":
            return None
        return result if all(os.path.isfile(paths.folder / name) for name in result.files) else None

    def results(self, job_ids: Iterable[str]) -> dict[str, JobResult]:
        """Return the results of those of `job_ids` that are done."""
        found = {job_id: self.result(job_id) for job_id in job_ids}
        return {job_id: result for job_id, result in found.items() if result is not None}

    def digests(self, job_ids: Iterable[str]) -> dict[str, str]:
        """Return a digest of what `outcomes` would return; unchanged files are not read."""
        return Index(self.paths).digests(job_ids)

    def failure(self, job_id: str) -> JobResult | None:
        """Return the last failure of a job that is not done."""
        return _read_result(self.paths.job(job_id).failure, job_id)

    def outcomes(self, job_ids: Iterable[str]) -> dict[str, JobResult]:
        """Return what is known about each job: its result, or else its last failure."""
        ids = tuple(job_ids)
        outcomes = self.results(ids)
        for job_id in ids:
            if job_id not in outcomes and (failure := self.failure(job_id)) is not None:
                outcomes[job_id] = failure
        return outcomes

    def record_failure(self, result: JobResult, *, traceback: str = "") -> None:
        """Keep why a job failed or was skipped; a later success removes it.

        Nothing is written where another process works on the job by now: it will tell.
        """
        if self.holder(result.job_id) is not None:
            return
        paths = self.paths.job(result.job_id)
        paths.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with suppress(FileNotFoundError):  # cleared by one who claims the job at this moment
            write_text(paths.failure, result.model_dump_json(indent=1))
            if traceback:
                write_text(paths.error, traceback)

    # --- files

    def file(self, job_id: str, name: str) -> Path | None:
        """Return a file that a job left in its folder, by its name there; None if it has none.

        Raises BenchError for a name that leads out of the folder.
        """
        if name in ("", ".", "..") or "/" in name or "\0" in name:
            raise BenchError(f"{name!r} is not the name of a file of a job")
        path = self.folder(job_id) / name
        return path if path.is_file() else None

    def progress(self, job_id: str) -> list[dict[str, Any]]:
        """Return the learning curve of a job: for each step the line of the newest attempt."""
        try:
            lines = self.paths.job(job_id).progress.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []
        by_step: dict[int, dict[str, Any]] = {}
        newest = 0
        for line in lines:
            try:
                entry = json.loads(line)
                late = entry["attempt"] < newest
                newest = max(newest, entry["attempt"])
                if not late:
                    by_step[int(entry["step"])] = entry
            except (ValueError, KeyError, TypeError):
                continue  # the beginning of an attempt, or a line that a killed one cut short
        return [by_step[step] for step in sorted(by_step)]

    def scored(self, job_id: str) -> dict[str, Any] | None:
        """Return how far a job's scoring is (done, total, images_per_s), where that is the newest.

        None where it trains, or where nothing was said yet.
        """
        paths = self.paths.job(job_id)
        with suppress(OSError, ValueError):
            said_ns = paths.scored.stat().st_mtime_ns
            if not paths.progress.exists() or paths.progress.stat().st_mtime_ns < said_ns:
                found: dict[str, Any] = json.loads(paths.scored.read_text(encoding="utf-8"))
                return found
        return None

    def hits(self, job_id: str) -> np.ndarray | None:
        """Return hits_N of a job, whether each test image was classified right, where it has them.

        Few-shot jobs have one such row per number of shots and draw, and are not read here.
        """
        return self._of_images(job_id, "hits").get("hits")

    def answers(self, job_id: str) -> dict[str, np.ndarray]:
        """Return the label of each test image of a job and the classes that it was taken for.

        They go by `labels` and `classes/<metric>`; nothing for a job that left none.
        """
        return self._of_images(job_id, LABELS, f"{CLASSES}/")

    def _of_images(self, job_id: str, *starts: str) -> dict[str, np.ndarray]:
        """Return the arrays of a job's file of hits whose names start so."""
        import numpy as np

        try:
            with np.load(self.paths.job(job_id).hits, allow_pickle=False) as arrays:
                return {name: arrays[name] for name in arrays.files if name.startswith(starts)}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile):
            return {}


def _read_result(path: Path, job_id: str) -> JobResult | None:
    try:
        result = JobResult.model_validate_json(path.read_bytes())
    except (OSError, ValueError):
        return None
    return result if result.job_id == job_id else None
