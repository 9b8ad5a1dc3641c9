"""The thread that carries results to MLflow, and the ledger of what has arrived."""

from __future__ import annotations

import json
import queue
import secrets
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.paths import WorkPaths
from bench.plan.spec import JobGraph
from bench.specs import JobResult, PlannedJob, content_id
from bench.store import Store
from bench.store.holds import Hold, holder, take
from bench.tracking import runs, view
from bench.tracking.database import TAG, connect, exclusive, experiment

if TYPE_CHECKING:
    from mlflow import MlflowClient

_METRIC_BATCH = 1000
_DRIVER = f"{TAG}driver"
"""Tag of a suite's run: the file that its driver holds while it lives."""


class Ledger:
    """Which job results have arrived in one experiment: job id -> (digest of result, run id)."""

    def __init__(self, workdir: Path, suite: str) -> None:
        self._path = WorkPaths(workdir).ledger(suite)
        self._entries: dict[str, tuple[str, str]] = {}
        self._verdicts: dict[str, str] = {}
        self._num_read = 0
        self.refresh()

    def refresh(self) -> None:
        """Take in what was added since the last look, by other drivers too."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._num_read)
                added = file.read()
        except FileNotFoundError:
            return
        self._num_read += len(added)
        for line in added.splitlines():
            try:
                entry = json.loads(line)
                if "verdict" in entry:
                    self._verdicts[entry["run"]] = entry["verdict"]
                else:
                    self._entries[entry["job"]] = (entry["result"], entry["run"])
            except (ValueError, KeyError):
                continue  # a line cut short by a crash: that job is looked up in MLflow

    def has(self, result: JobResult) -> bool:
        """Tell whether this very result has arrived."""
        return self._entries.get(result.job_id, ("", ""))[0] == content_id(result)

    def add(self, result: JobResult, run_id: str) -> None:
        """Remember that a result has arrived."""
        self._entries[result.job_id] = (content_id(result), run_id)
        self._append({"job": result.job_id, "result": content_id(result), "run": run_id})

    def unsaid(self, verdicts: Mapping[str, str]) -> dict[str, str]:
        """Return run id -> verdict for the jobs whose run does not carry this verdict yet."""
        runs_of = {job_id: self._entries.get(job_id, ("", ""))[1] for job_id in verdicts}
        return {
            run_id: verdicts[job_id]
            for job_id, run_id in runs_of.items()
            if run_id and self._verdicts.get(run_id) != verdicts[job_id]
        }

    def say(self, run_id: str, verdict: str) -> None:
        """Remember the verdict that a run carries."""
        self._verdicts[run_id] = verdict
        self._append({"run": run_id, "verdict": verdict})

    def _append(self, entry: Mapping[str, str]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")


def missing(graph: JobGraph, outcomes: Mapping[str, JobResult], workdir: Path) -> list[PlannedJob]:
    """Return the jobs whose outcome has not arrived in MLflow yet; imports no MLflow."""
    ledger = Ledger(workdir, graph.suite.label)
    return [
        job for job in graph.jobs if job.job_id in outcomes and not ledger.has(outcomes[job.job_id])
    ]


class Mirror:
    """A thread that carries results to MLflow; its errors are counted, never raised."""

    def __init__(self, graph: JobGraph, store: Store, *, command: str = "") -> None:
        self._graph = graph
        self._store = store
        self._command = command
        self._queue: queue.Queue[tuple[PlannedJob, JobResult, bool] | None] = queue.Queue()
        self._client: MlflowClient | None = None
        self._experiment_id = ""
        self._parent_id = ""
        self._ledger = Ledger(store.workdir, graph.suite.label)
        self._driver = secrets.token_hex(8)
        self._hold: Hold | None = None
        self.errors: list[str] = []
        self._thread = threading.Thread(target=self._work, name="mlflow-mirror", daemon=True)
        self._thread.start()

    def record(self, job: PlannedJob, result: JobResult, *, reused: bool = False) -> None:
        """Queue one outcome; returns at once."""
        if not self._ledger.has(result):
            self._queue.put((job, result, reused))

    def finish(
        self,
        *,
        outcomes: Mapping[str, JobResult],
        files: Iterable[Path] = (),
        root: Path | None = None,
        note: str = "",
        verdicts: Mapping[str, str] | None = None,
        timeout_s: float = 120.0,
    ) -> list[str]:
        """Carry over what is queued, close the parent run; return what went wrong, in words.

        `verdicts` are those of the report, by job id; runs carry them as the tag `verdict`.
        """
        self._queue.put(None)
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            return [*self.errors, f"MLflow did not take everything within {timeout_s:.0f} s"]
        if self._client is not None and self._parent_id:
            try:
                with exclusive(self._store.workdir):
                    self._tell_verdicts(verdicts or {})
                self._close_parent(outcomes, tuple(files), root, note)
            except Exception as error:
                self.errors.append(_words(error))
        if self._hold is not None:
            self._store.paths.driver(self._driver).unlink(missing_ok=True)
            self._hold.release()
        return self.errors

    # in the thread

    def _work(self) -> None:
        try:
            client = connect(self._store.workdir)
            with exclusive(self._store.workdir):
                self._open(client)
        except Exception as error:
            self.errors.append(_words(error))
        while (item := self._queue.get()) is not None:
            if self._client is None:
                continue
            try:
                self._carry(*item)
            except Exception as error:
                self.errors.append(_words(error))

    def _open(self, client: MlflowClient) -> None:
        paths, suite = self._store.paths, self._graph.suite
        self._experiment_id = experiment(client, paths.root, suite.label, note=suite.claim)
        _end_abandoned(client, self._experiment_id, paths)
        self._hold = take(paths.driver(self._driver))
        view.save(client, self._experiment_id, self._graph)
        started = time.strftime("%Y-%m-%d %H:%M")
        run = client.create_run(
            self._experiment_id,
            run_name=f"{suite.label} {started}",
            tags={
                f"{TAG}role": "suite",
                f"{TAG}suite": suite.name,
                f"{TAG}claim": suite.claim,
                f"{TAG}command": self._command,
                _DRIVER: self._driver,
                "mlflow.source.name": "vitbench",
                "mlflow.source.type": "LOCAL",
                **runs.suite_tags(self._graph),
            },
        )
        self._parent_id = run.info.run_id
        self._client = client

    def _carry(self, job: PlannedJob, result: JobResult, reused: bool) -> None:
        assert self._client is not None
        with exclusive(self._store.workdir):
            self._ledger.refresh()
            if not self._ledger.has(result):
                run_id = self._arrived(self._client, result)
                run_id = run_id or self._create(self._client, job, result, reused)
                self._ledger.add(result, run_id)

    def _arrived(self, client: MlflowClient, result: JobResult) -> str | None:
        """Return the run of a result that a driver carried just before it died."""
        found = client.search_runs(
            [self._experiment_id],
            f"tags.`{TAG}arrival` = '{runs.arrival_key(result)}' "
            "AND attributes.status != 'RUNNING'",
            max_results=1,
        )
        return found[0].info.run_id if found else None

    def _create(
        self, client: MlflowClient, job: PlannedJob, result: JobResult, reused: bool
    ) -> str:
        from mlflow.entities import Metric, Param, RunTag

        wall_s = result.cost.wall_s if result.cost else 0.0
        now_ms = int(time.time() * 1000)
        start_ms = now_ms - int(wall_s * 1000)
        run = client.create_run(
            self._experiment_id,
            start_time=start_ms,
            run_name=job.name,
            tags={
                f"{TAG}role": "job",
                "mlflow.parentRunId": self._parent_id,
                "mlflow.source.name": "vitbench",
            },
        )
        run_id: str = run.info.run_id
        progress = self._store.progress(job.job_id)
        points = [
            Metric(name, float(line[name]), start_ms + index, int(line["step"]))
            for index, line in enumerate(progress)
            for name in ("loss", "lr")
            if isinstance(line.get(name), int | float)
        ]
        points += [
            Metric(name, value, now_ms, 0) for name, value in runs.metrics(job, result).items()
        ]
        tags = runs.tags(job, result, reused)
        if self._graph.suite.limit_steps is not None:
            images = job.spec.data.num_evaluated if job.spec.data else None
            scored = f", {images} images of a split" if images else ""
            tags["limited"] = f"at most {self._graph.suite.limit_steps} steps{scored}"
        head, rest = points[:_METRIC_BATCH], points[_METRIC_BATCH:]
        client.log_batch(
            run_id,
            metrics=head,
            params=[Param(name, value) for name, value in runs.params(job, result).items()],
            tags=[RunTag(name, value) for name, value in tags.items()],
        )
        for start in range(0, len(rest), _METRIC_BATCH):
            client.log_batch(run_id, metrics=rest[start : start + _METRIC_BATCH])
        status = "FINISHED" if result.status == "done" else "FAILED"
        client.set_terminated(run_id, status=status, end_time=now_ms)
        return run_id

    def _tell_verdicts(self, verdicts: Mapping[str, str]) -> None:
        assert self._client is not None
        self._ledger.refresh()
        for run_id, verdict in self._ledger.unsaid(verdicts).items():
            self._client.set_tag(run_id, "verdict", verdict)
            self._ledger.say(run_id, verdict)
        counts = Counter(verdicts.values())
        if counts:
            words = ", ".join(f"{count} {word}" for word, count in sorted(counts.items()))
            self._client.set_tag(self._parent_id, "verdict", words)

    def _close_parent(
        self,
        outcomes: Mapping[str, JobResult],
        files: Sequence[Path],
        root: Path | None,
        note: str,
    ) -> None:
        assert self._client is not None
        counts = {"done": 0, "failed": 0, "skipped": 0}
        for result in outcomes.values():
            counts[result.status] += 1
        for name, count in counts.items():
            self._client.log_metric(self._parent_id, f"jobs_{name}", count)
        if note:
            self._client.set_tag(self._parent_id, "mlflow.note.content", note)
        for path in files:
            folder = path.parent.relative_to(root).as_posix() if root else None
            self._client.log_artifact(self._parent_id, str(path), folder if folder != "." else None)
        complete = counts["done"] == len(self._graph.jobs)
        self._client.set_terminated(self._parent_id, status="FINISHED" if complete else "FAILED")


def _words(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"MLflow: {type(error).__name__}: {lines[0] if lines else ''}"


def _end_abandoned(client: MlflowClient, experiment_id: str, paths: WorkPaths) -> None:
    """Put away what drivers that were killed left open; who looks has the store for itself.

    Their own runs are marked as killed, and those of living drivers left alone. The run of a job
    that was not written to its end goes: the job is carried over anew.
    """
    for run in client.search_runs([experiment_id], "attributes.status = 'RUNNING'"):
        role, driver = run.data.tags.get(f"{TAG}role"), run.data.tags.get(_DRIVER, "none")
        if role == "job":
            client.delete_run(run.info.run_id)
        elif role == "suite" and holder(paths.driver(driver)) is None:
            client.set_terminated(run.info.run_id, status="KILLED")
            paths.driver(driver).unlink(missing_ok=True)
