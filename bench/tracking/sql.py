"""Runs read in bulk from MLflow's SQLite file: one plain, read-only query each.

MLflow's `search_runs` makes an object of every metric, parameter and tag of every run. The records
of this project lie whole in tags, so that one query is enough. The tables are MLflow's own and may
change with it: a schema that these queries were not tested with is refused, and the caller asks
MLflow itself. Nothing here imports MLflow.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.tracking.database import TAG

KNOWN_SCHEMAS = ("dc11669786a5",)
"""Versions of MLflow's tables that these queries are tested with: that of MLflow 3.17."""

_EXPERIMENT = "SELECT experiment_id FROM experiments WHERE name = ? AND lifecycle_stage = 'active'"

# "/" follows "." in ASCII: the range of keys that begin with the prefix, read along the index.
_PART = f"CAST(substr(tags.key, {len(TAG) + len('result.') + 1}) AS INTEGER)"
_RECORDS = f"""
    SELECT runs.run_uuid, {_PART} AS part, tags.value
    FROM tags JOIN runs ON runs.run_uuid = tags.run_uuid
    WHERE tags.key >= '{TAG}result.' AND tags.key < '{TAG}result/'
      AND runs.experiment_id = ? AND runs.lifecycle_stage = 'active'
    ORDER BY runs.start_time, runs.run_uuid, part
"""


class UnknownSchema(sqlite3.DatabaseError):
    """The tables are of an MLflow that these queries were not tested with."""


def records(database: Path, suite: str) -> list[str] | None:
    """Return the JSON texts of the results of a suite's runs, oldest run first.

    None where there is no such experiment. Raises sqlite3.Error (UnknownSchema among them) where
    the file cannot be read this way.
    """
    with _opened(database) as connection:
        found = connection.execute(_EXPERIMENT, (suite,)).fetchone()
        if found is None:
            return None
        texts: dict[str, str] = {}
        for run_id, _, value in connection.execute(_RECORDS, found):
            texts[run_id] = texts[run_id] + value if run_id in texts else value
        return list(texts.values())


@contextmanager
def _opened(database: Path) -> Iterator[sqlite3.Connection]:
    """Open the file for reading alone and check its schema."""
    connection = sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True, timeout=5.0)
    try:
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        if row is None or row[0] not in KNOWN_SCHEMAS:
            raise UnknownSchema(f"schema {row[0] if row else 'without a version'}")
        yield connection
    finally:
        connection.close()
