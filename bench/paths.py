"""Every name of a file or folder in a work folder, each in one place.

WORKDIR/
    jobs/<job_id>/       one folder per job: `JobPaths`
    data/                what all jobs share: `CachePaths`
    data/weights.json    the digest of each file of public weights, from its first use on
    data/fastest.json    the fastest kernels for each kind of work on each machine
    data/memory.json     what jobs held in memory, against what was forecast
    data/rehearsals.json what `rehearse` measured on each machine
    results.index        what job folders hold, known without reading them again
    mlflow.db, mlflow.lock, mlartifacts/        MLflow's store
    mirrored/<suite>.jsonl                      which results have arrived there
    drivers/             who carries results there now
    reports/<suite>/     tables, figures and page; graph.json is the planned suite
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.errors import BenchError

RESULT = "result.json"
FAILURE = "failure.json"
PROGRESS = "progress.jsonl"
WEIGHTS = "model.safetensors"
"""Weights that a training job leaves behind."""
HITS = "hits.npz"
"""Whether each test image was classified right (bool), in the order of the split."""
LABELS, CLASSES = "labels", "classes"
"""Arrays of that file: the label of each test image and, under `classes/<metric>`, the class that
it was taken for. What older versions left lacks them."""
GRAPH = "graph.json"

_JOB_ID = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class JobPaths:
    """What lies in the folder of one job."""

    folder: Path

    @property
    def spec(self) -> Path:
        """What the job is: its JobSpec."""
        return self.folder / "spec.json"

    @property
    def result(self) -> Path:
        """Its JobResult, present exactly when the job is done."""
        return self.folder / RESULT

    @property
    def failure(self) -> Path:
        """The last failure, until a later attempt succeeds."""
        return self.folder / FAILURE

    @property
    def error(self) -> Path:
        """The traceback of that failure."""
        return self.folder / "error.txt"

    @property
    def progress(self) -> Path:
        """One line per report of the training loop."""
        return self.folder / PROGRESS

    @property
    def scored(self) -> Path:
        """How far the scoring of a split is, while it goes on."""
        return self.folder / "scored.json"

    @property
    def records(self) -> tuple[Path, ...]:
        """What is reported of the job, whoever works on it."""
        return (self.spec, self.result, self.failure, self.error, self.progress)

    @property
    def attempts(self) -> Path:
        """The folder of the claims: one file per attempt, named by its number."""
        return self.folder / "attempts"

    def attempt(self, number: int) -> Path:
        """Return the claim of an attempt: who makes it, and how it ended."""
        return self.attempts / str(number)

    @property
    def kernels(self) -> Path:
        """The kernels that a long job chose, for whoever resumes it."""
        return self.folder / "kernels.json"

    @property
    def checkpoints(self) -> Path:
        """The folder of what an attempt continues from; empty once the job is done."""
        return self.folder / "checkpoints"

    @property
    def weights(self) -> Path:
        """The weights that a training job leaves behind."""
        return self.folder / WEIGHTS

    @property
    def hits(self) -> Path:
        """The file of per-image hits."""
        return self.folder / HITS


@dataclass(frozen=True)
class FeaturePaths:
    """What lies in the folder of one split's frozen features."""

    folder: Path

    @property
    def array(self) -> Path:
        """The features z_ND, float32."""
        return self.folder / "features.npy"

    @property
    def sidecar(self) -> Path:
        """Their SHA-256 and shape."""
        return self.folder / "features.json"

    @property
    def lock(self) -> Path:
        """The kernel lock held while they are computed."""
        return self.folder / "lock"


@dataclass(frozen=True)
class CachePaths:
    """What all jobs share: packed data sets and frozen features, by digest; digests of weights."""

    folder: Path

    @property
    def weights_record(self) -> Path:
        """Digests of public weights by address: `bench/digests.py`."""
        return self.folder / "weights.json"

    @property
    def rehearsals(self) -> Path:
        """What rehearsals measured, by machine: `bench/rehearse/notes.py`."""
        return self.folder / "rehearsals.json"

    @property
    def weights_lock(self) -> Path:
        """The kernel lock held while a digest is added to them."""
        return self.folder / "weights.lock"

    @property
    def kernels(self) -> Path:
        """The fastest kernels by work and machine: `bench/training/fastest.py`."""
        return self.folder / "fastest.json"

    @property
    def kernels_lock(self) -> Path:
        """The lock held while one is added to them."""
        return self.folder / "fastest.lock"

    @property
    def memory_record(self) -> Path:
        """What jobs held against what was forecast, by device: `bench/plan/learned.py`."""
        return self.folder / "memory.json"

    @property
    def memory_lock(self) -> Path:
        """The kernel lock held while a job's memory is added to it."""
        return self.folder / "memory.lock"

    def packed(self, digest: str) -> Path:
        """Return the folder of a packed data set."""
        return self.folder / digest

    def partial(self, digest: str) -> Path:
        """Return the folder of a data set that is being packed; a later packing continues there."""
        return self.folder / f"{digest}.partial"

    def partials(self) -> list[Path]:
        """Return the folders of data sets whose packing has not ended, in order."""
        return sorted(self.folder.glob("*.partial"))

    def lock(self, digest: str) -> Path:
        """Return the kernel lock held while a data set is packed."""
        return self.folder / f"{digest}.lock"

    def locks(self) -> list[Path]:
        """Return the kernel locks that are there, in order."""
        return sorted(self.folder.glob("*.lock"))

    def machine_lock(self, host: str) -> Path:
        """Return the kernel lock held while a job has a machine for itself."""
        return self.folder / f"profile-{host}.lock"

    def features(self, digest: str) -> FeaturePaths:
        """Return the files of one split's features."""
        return FeaturePaths(self.folder / "features" / digest)


@dataclass(frozen=True)
class WorkPaths:
    """What lies in a work folder."""

    root: Path

    @property
    def jobs(self) -> Path:
        """The folder of the job folders."""
        return self.root / "jobs"

    def job(self, job_id: str) -> JobPaths:
        """Return the files of a job; raises BenchError for what is not a job id."""
        if not _JOB_ID.fullmatch(job_id):
            raise BenchError(f"{job_id!r} is not a job id")
        return JobPaths(self.jobs / job_id)

    def each_job(self) -> Iterator[JobPaths]:
        """Yield the files of every job that has a folder, in order of the ids."""
        if self.jobs.is_dir():
            for name in sorted(path.name for path in self.jobs.iterdir()):
                if _JOB_ID.fullmatch(name):
                    yield self.job(name)

    @property
    def cache(self) -> CachePaths:
        """Packed data and features, shared by all jobs."""
        return CachePaths(self.root / "data")

    @property
    def results_index(self) -> Path:
        """Stamps and digests of what job folders hold."""
        return self.root / "results.index"

    @property
    def mlflow_database(self) -> Path:
        """MLflow's database."""
        return self.root / "mlflow.db"

    @property
    def mlflow_lock(self) -> Path:
        """The kernel lock held while the database is made, and by who writes to it."""
        return self.root / "mlflow.lock"

    def driver(self, name: str) -> Path:
        """Return the file that a driver holds while its run in MLflow is open."""
        return self.root / "drivers" / name

    @property
    def artifacts(self) -> Path:
        """The folder of the files that MLflow's runs carry."""
        return self.root / "mlartifacts"

    def ledger(self, suite: str) -> Path:
        """Return the file that says which results of a suite have arrived in MLflow."""
        return self.root / "mirrored" / f"{suite}.jsonl"

    def report(self, suite: str) -> Path:
        """Return the folder of a suite's report."""
        return self.root / "reports" / suite

    def graph(self, suite: str) -> Path:
        """Return the planned suite that a report was made of."""
        return self.report(suite) / GRAPH

    def graphs(self) -> list[Path]:
        """Return the planned suites of all reports, in order of their names."""
        return sorted((self.root / "reports").glob(f"*/{GRAPH}"))
