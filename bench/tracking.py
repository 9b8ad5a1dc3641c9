"""MLflow: the browsable mirror of the job folders.

One experiment per suite; one parent run per invocation that did work, carrying the tables and
figures; under it one run per job, with a readable name, parameters, metrics, learning curve,
cost and lineage. Only the driver writes, in a thread of its own and in batches; when MLflow is
locked, slow or broken, nothing waits for it and nothing is lost: the job folders are the truth,
a ledger says what has arrived, and the next run (or `vitbench sync`) catches up.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import BenchError
from bench.specs import JobGraph, JobResult, PlannedJob, canonical_json, content_id
from bench.store import Store

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

TAG = "vitbench."
_MAX_TAG_CHARS = 8000
_METRIC_BATCH = 1000


def tracking_uri(workdir: Path) -> str:
    """Return the address of the work folder's MLflow database."""
    return f"sqlite:///{workdir.resolve() / 'mlflow.db'}"


def quiet_mlflow() -> None:
    """Set what MLflow reads at import: no telemetry, no pickles, no chatter."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["DO_NOT_TRACK"] = "true"
    os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
    logging.getLogger("alembic").setLevel(logging.ERROR)


def connect(workdir: Path) -> MlflowClient:
    """Open the work folder's MLflow store, created once under a lock.

    Two processes that meet on a fresh store would both migrate it, and all but one would fail.
    """
    from filelock import FileLock

    quiet_mlflow()
    from mlflow import MlflowClient

    workdir = workdir.resolve()
    with FileLock(workdir / "mlflow.lock"):
        fresh = not (workdir / "mlflow.db").exists()
        client = MlflowClient(tracking_uri=tracking_uri(workdir))
        client.search_experiments(max_results=1)  # creates and migrates the database
        if fresh:
            _use_write_ahead_log(workdir / "mlflow.db")
    return client


def _use_write_ahead_log(database: Path) -> None:
    """Let readers (the UI) and the writer work at the same time; the mode stays in the file."""
    import sqlite3

    connection = sqlite3.connect(database)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
    finally:
        connection.close()


def _experiment(client: MlflowClient, workdir: Path, suite: str) -> str:
    found = client.get_experiment_by_name(suite)
    if found is not None:
        return str(found.experiment_id)
    artifacts = workdir.resolve() / "mlartifacts" / suite
    tags = {"mlflow.experimentKind": "custom_model_development"}  # the UI for training runs
    return str(client.create_experiment(suite, artifact_location=artifacts.as_uri(), tags=tags))


class Ledger:
    """Which job results have arrived in one experiment: job id -> (digest of result, run id)."""

    def __init__(self, workdir: Path, suite: str) -> None:
        self._path = workdir / "mirrored" / f"{suite}.jsonl"
        self._entries: dict[str, tuple[str, str]] = {}
        if self._path.is_file():
            for line in self._path.read_text(encoding="utf-8").splitlines():
                try:
                    entry = json.loads(line)
                    self._entries[entry["job"]] = (entry["result"], entry["run"])
                except (ValueError, KeyError):
                    continue  # a line cut short by a crash: that job is looked up in MLflow

    def has(self, result: JobResult) -> bool:
        """Tell whether this very result has arrived."""
        return self._entries.get(result.job_id, ("", ""))[0] == content_id(result)

    def add(self, result: JobResult, run_id: str) -> None:
        """Remember that a result has arrived."""
        self._entries[result.job_id] = (content_id(result), run_id)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            entry = {"job": result.job_id, "result": content_id(result), "run": run_id}
            file.write(json.dumps(entry) + "\n")


def missing(graph: JobGraph, outcomes: Mapping[str, JobResult], workdir: Path) -> list[PlannedJob]:
    """Return the jobs whose outcome has not arrived in MLflow yet; imports no MLflow."""
    ledger = Ledger(workdir, graph.suite.name)
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
        self._ledger = Ledger(store.workdir, graph.suite.name)
        self._known: dict[str, str] = {}
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
        timeout_s: float = 120.0,
    ) -> list[str]:
        """Carry over what is queued, close the parent run; return what went wrong, in words."""
        self._queue.put(None)
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            return [*self.errors, f"MLflow did not take everything within {timeout_s:.0f} s"]
        if self._client is not None and self._parent_id:
            try:
                self._close_parent(outcomes, tuple(files), root, note)
            except Exception as error:
                self.errors.append(_words(error))
        return self.errors

    # in the thread

    def _work(self) -> None:
        try:
            self._open()
        except Exception as error:
            self.errors.append(_words(error))
        while (item := self._queue.get()) is not None:
            if self._client is None:
                continue
            try:
                self._carry(*item)
            except Exception as error:
                self.errors.append(_words(error))

    def _open(self) -> None:
        workdir = self._store.workdir
        client = connect(workdir)
        suite = self._graph.suite
        self._experiment_id = _experiment(client, workdir, suite.name)
        _end_abandoned(client, self._experiment_id)
        self._known = _known_runs(client, self._experiment_id)
        started = time.strftime("%Y-%m-%d %H:%M")
        run = client.create_run(
            self._experiment_id,
            run_name=f"{suite.name} {started}",
            tags={
                f"{TAG}role": "suite",
                f"{TAG}suite": suite.name,
                f"{TAG}claim": suite.claim,
                f"{TAG}command": self._command,
                "mlflow.source.name": "vitbench",
                "mlflow.source.type": "LOCAL",
            },
        )
        self._parent_id = run.info.run_id
        self._client = client

    def _carry(self, job: PlannedJob, result: JobResult, reused: bool) -> None:
        assert self._client is not None
        key = _arrival_key(result)
        if key not in self._known:
            self._known[key] = self._create(self._client, job, result, reused)
        self._ledger.add(result, self._known[key])

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
            tags={"mlflow.parentRunId": self._parent_id, "mlflow.source.name": "vitbench"},
        )
        run_id: str = run.info.run_id
        progress = self._store.progress(job.job_id)
        points = [
            Metric(name, float(line[name]), start_ms + index, int(line["step"]))
            for index, line in enumerate(progress)
            for name in ("loss", "lr")
            if isinstance(line.get(name), int | float)
        ]
        points += [Metric(name, value, now_ms, 0) for name, value in _metrics(job, result).items()]
        tags = _tags(job, result, reused)
        if self._graph.suite.limit_steps is not None:
            tags["limited"] = f"at most {self._graph.suite.limit_steps} steps"
        head, rest = points[:_METRIC_BATCH], points[_METRIC_BATCH:]
        client.log_batch(
            run_id,
            metrics=head,
            params=[Param(name, value) for name, value in _params(job, result).items()],
            tags=[RunTag(name, value) for name, value in tags.items()],
        )
        for start in range(0, len(rest), _METRIC_BATCH):
            client.log_batch(run_id, metrics=rest[start : start + _METRIC_BATCH])
        status = "FINISHED" if result.status == "done" else "FAILED"
        client.set_terminated(run_id, status=status, end_time=now_ms)
        return run_id

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


def _arrival_key(result: JobResult) -> str:
    return f"{result.job_id}:{content_id(result)}"


def _known_runs(client: MlflowClient, experiment_id: str) -> dict[str, str]:
    """Return run ids by arrival key: what an earlier driver wrote just before it died."""
    found: dict[str, str] = {}
    token = None
    while True:
        page = client.search_runs(
            [experiment_id],
            filter_string=f"tags.`{TAG}role` = 'job' AND attributes.status != 'RUNNING'",
            max_results=5000,
            page_token=token,
        )
        found.update({run.data.tags[f"{TAG}arrival"]: run.info.run_id for run in page})
        token = page.token
        if not token:
            return found


def _end_abandoned(client: MlflowClient, experiment_id: str) -> None:
    """Mark what a killed driver left open, so that the UI does not show it as running for ever."""
    for run in client.search_runs([experiment_id], "attributes.status = 'RUNNING'"):
        client.set_terminated(run.info.run_id, status="KILLED")


def _params(job: PlannedJob, result: JobResult) -> dict[str, str]:
    """Return what a person filters and compares by in the UI."""
    labels, spec = job.labels, job.spec
    params: dict[str, Any] = {
        "system": labels.system,
        "family": labels.family,
        "upstream": labels.upstream,
        "upstream_examples": labels.upstream_examples,
        "downstream": labels.downstream,
        "kind": spec.kind,
        "stage": labels.stage,
        "protocol": labels.protocol,
        "image_size_px": spec.protocol.image_size_px,
        "seed": spec.seed,
        "recipe": labels.recipe,
        "learning_rate": result.values.get("learning_rate"),
    }
    if spec.recipe is not None:
        recipe = spec.recipe.model_dump(exclude_none=True, exclude={"source"})
        params |= {f"recipe.{name}": value for name, value in recipe.items()}
    params |= {f"params.{name}": value for name, value in spec.params.items()}
    return {name: str(value) for name, value in params.items() if value not in (None, "")}


def _metrics(job: PlannedJob, result: JobResult) -> dict[str, float]:
    found = {
        name: metric.value for name, metric in result.metrics.items() if metric.value is not None
    }
    found["exaflops"] = job.exaflops
    found["num_params"] = float(job.num_params)
    if result.cost is not None:
        found["core_s"] = result.cost.core_s
        found["wall_s"] = result.cost.wall_s
        found["peak_memory_gib"] = result.cost.peak_memory_gib
        if result.cost.images_per_s is not None:
            found["images_per_s"] = result.cost.images_per_s
    return found


def _tags(job: PlannedJob, result: JobResult, reused: bool) -> dict[str, str]:
    tags = {
        f"{TAG}role": "job",
        f"{TAG}job_id": job.job_id,
        f"{TAG}arrival": _arrival_key(result),
        **_in_tags(canonical_json(result)),
        "family": job.labels.family,
        "upstream": job.labels.upstream,
        "downstream": job.labels.downstream or "(pre-training)",
        "stage": job.labels.stage,
        "protocol": job.labels.protocol or job.spec.protocol.name,
    }
    if reused:
        tags[f"{TAG}reused"] = "done earlier in this work folder"
    for role, needed in job.spec.needs.items():
        tags[f"{TAG}input.{role}"] = needed
    if result.error:
        tags[f"{TAG}error"] = result.error
    return {name: value[:_MAX_TAG_CHARS] for name, value in tags.items()}


def _in_tags(text: str) -> dict[str, str]:
    """Spread a record over as many tags as it needs; MLflow bounds the length of one."""
    starts = range(0, len(text), _MAX_TAG_CHARS)
    return {
        f"{TAG}result.{index}": text[start : start + _MAX_TAG_CHARS]
        for index, start in enumerate(starts)
    }


def _from_tags(tags: Mapping[str, str]) -> str:
    parts = sum(name.startswith(f"{TAG}result.") for name in tags)
    return "".join(tags[f"{TAG}result.{index}"] for index in range(parts))


def read_results(workdir: Path, graph: JobGraph) -> dict[str, JobResult]:
    """Return the outcomes of a suite's jobs as MLflow holds them, by job id.

    Raises BenchError when the work folder has no MLflow store or no such experiment.
    """
    if not (workdir / "mlflow.db").is_file():
        raise BenchError(f"{workdir}: no MLflow store there", hint="Run the suite first")
    client = connect(workdir)
    found = client.get_experiment_by_name(graph.suite.name)
    if found is None:
        raise BenchError(f"MLflow has no experiment {graph.suite.name!r}")
    wanted = {job.job_id for job in graph.jobs}
    outcomes: dict[str, JobResult] = {}
    token = None
    while True:
        page = client.search_runs(
            [found.experiment_id],
            filter_string=f"tags.`{TAG}role` = 'job'",
            order_by=["attributes.start_time ASC"],
            max_results=5000,
            page_token=token,
        )
        for run in page:
            result = JobResult.model_validate_json(_from_tags(run.data.tags))
            if result.job_id in wanted:
                outcomes[result.job_id] = result
        token = page.token
        if not token:
            return outcomes
