"""The MLflow store of a work folder: its address, its creation, its experiments."""

from __future__ import annotations

import logging
import os
import shutil
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from bench import files
from bench.paths import WorkPaths

if TYPE_CHECKING:
    from mlflow import MlflowClient

TAG = "vitbench."
"""Prefix of the tags that only this project reads."""


def tracking_uri(workdir: Path) -> str:
    """Return the address of the work folder's MLflow database."""
    return f"sqlite:///{WorkPaths(workdir.resolve()).mlflow_database}"


def quiet_mlflow() -> None:
    """Set what MLflow reads at import: no telemetry, no pickles, no chatter."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["DO_NOT_TRACK"] = "true"
    os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
    logging.getLogger("alembic").setLevel(logging.ERROR)


def exclusive(workdir: Path) -> AbstractContextManager[object]:
    """Keep other drivers from making the MLflow store, and from writing to it, in the block.

    MLflow itself has no way to say "make this where it is not there yet": two processes that meet
    on a fresh store would both migrate it, and two that carry the same job would make two runs.
    """
    from filelock import FileLock

    return FileLock(WorkPaths(workdir.resolve()).mlflow_lock)


def connect(workdir: Path) -> MlflowClient:
    """Open the work folder's MLflow store, made by whoever comes first."""
    quiet_mlflow()
    from mlflow import MlflowClient

    paths = WorkPaths(workdir.resolve())
    with exclusive(workdir):
        if not paths.mlflow_database.exists():
            _create(paths)
        client = MlflowClient(tracking_uri=tracking_uri(workdir))
        client.search_experiments(max_results=1)  # opens it, and says at once what is wrong with it
    return client


def _create(paths: WorkPaths) -> None:
    """Make the database aside, and give it its name when it is whole.

    MLflow makes its tables in hundreds of steps that SQLite cannot take back as one; what a driver
    killed among them left is no database that MLflow would open or mend, ever.
    """
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    files.clear_stale(paths.root)
    with files.scratch_folder(paths.root) as folder:
        database = folder / paths.mlflow_database.name
        SqlAlchemyStore(f"sqlite:///{database}", paths.artifacts.as_uri()).engine.dispose()
        _use_write_ahead_log(database)
        with files.replacing(paths.mlflow_database) as temporary:
            shutil.copyfile(database, temporary)


def _use_write_ahead_log(database: Path) -> None:
    """Let readers (the UI) and the writer work at the same time; the mode stays in the file."""
    import sqlite3

    connection = sqlite3.connect(database)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
    finally:
        connection.close()


def experiment(client: MlflowClient, workdir: Path, suite: str, *, note: str = "") -> str:
    """Return the id of a suite's experiment, made with a description where there is none."""
    found = client.get_experiment_by_name(suite)
    if found is not None:
        return str(found.experiment_id)
    artifacts = WorkPaths(workdir.resolve()).artifacts / suite
    tags = {
        "mlflow.experimentKind": "custom_model_development",  # the UI for training runs
        "mlflow.note.content": note,
    }
    return str(client.create_experiment(suite, artifact_location=artifacts.as_uri(), tags=tags))
