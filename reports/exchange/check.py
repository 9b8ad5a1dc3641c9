"""Committed tables against what the records say now: which cells differ, and which are stale.

Compared are the CSV files of a report, wide (one line a row: means, verdicts) and long (one line a
value, with the versions behind it). A number may differ by a tolerance: `tolerances.toml` next to
the tables says it by column or by unit,

    [tolerances]
    fraction = 0.002            # accuracies: a fifth of a point
    digits_test_top1 = 0.01     # a column's own, by its name in the CSV file

and otherwise `TOLERANCES` holds. Texts must be equal. Job ids are not compared: they change with
every version, and the versions say so in words. Tables of timings are left out.
"""

from __future__ import annotations

import csv
import io
import math
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bench.errors import SuiteError, UserError, suggest
from reports.printing.csv import long_csv, wide_csv
from reports.printing.table import Table

TOLERANCES = {"fraction": 0.001, "nats": 0.005}
"""Largest difference that counts as none, by unit: a tenth of a point, rounding between machines.
Other numbers may differ by `RELATIVE` of their size."""
RELATIVE = 1e-6
MAX_BYTES = 256 * 2**20
"""Largest committed file that is read."""

_LONG = ("quantity", "seed", "value", "unit", "reason", "job_ids", "versions")

Kind = Literal["differs", "gone", "new", "stale"]


@dataclass(frozen=True)
class Difference:
    """One cell that is not as it was committed."""

    table: str
    """File of the table, e.g. `comparison.long.csv`."""
    cell: str
    """Names of the row, the column and the seed."""
    kind: Kind
    """`differs`, `gone` (committed, not made now), `new`, or `stale` (other versions)."""
    committed: str
    """What was committed; the versions where it is stale."""
    now: str
    """What there is now."""
    difference: float | None = None
    """Now minus committed, where both are numbers."""

    def __str__(self) -> str:
        size = "" if self.difference is None else f" ({self.difference:+.4g})"
        words = {
            "gone": f"committed {self.committed}, not there now",
            "new": f"not committed, now {self.now}",
        }
        text = words.get(self.kind, f"committed {self.committed}, now {self.now}{size}")
        return f"{self.kind:8} {self.table}: {self.cell}: {text}"


def check(
    tables: Mapping[str, Table], folder: Path, *, versions: Mapping[str, str]
) -> list[Difference]:
    """Return the cells of the committed tables in `folder` that differ from `tables`.

    `versions` are those behind each job by its id. Raises UserError where nothing is committed, or
    a file is damaged.
    """
    where = folder / "tables" if (folder / "tables").is_dir() else folder
    columns = [column.key for table in tables.values() for column in table.columns]
    units = {column.base_unit for table in tables.values() for column in table.columns}
    tolerances = _tolerances(where.parent if where != folder else where, {*columns, *units} - {""})
    found: list[Difference] = []
    num_files = 0
    for name, table in tables.items():
        for suffix, text in (
            (".csv", wide_csv(table)),
            (".long.csv", long_csv(table, versions=versions)),
        ):
            path = where / f"{name}{suffix}"
            if path.is_file():
                num_files += 1
                found += _compare(path, text, table, tolerances)
    if not num_files:
        raise UserError(
            f"{folder}: no tables there", hint="Write them first: vitbench report SUITE --out DIR"
        )
    return found


def _compare(
    path: Path, text: str, table: Table, tolerances: Mapping[str, float]
) -> Iterator[Difference]:
    is_long = path.name.endswith(".long.csv")
    names = [column.key for column in table.columns if column.header]
    before = _cells(path.name, _read(path), names, is_long=is_long)
    after = _cells(path.name, text, names, is_long=is_long)
    units = {column.key: column.base_unit for column in table.columns}
    for key in dict.fromkeys((*before, *after)):
        column, cell = key[-1], " / ".join(filter(None, key))
        old, new = before.get(key), after.get(key)
        if old is None or new is None:
            kind: Kind = "new" if old is None else "gone"
            yield Difference(path.name, cell, kind, _shown(old), _shown(new))
            continue
        if is_long:
            column = key[-2]
        unit = units.get(column.removesuffix("_std"), "")
        allowed = tolerances.get(column, tolerances.get(unit))
        size = _distance(old.value, new.value)
        if size is None:
            differs = old.value != new.value
        else:
            differs = not math.isclose(
                float(old.value), float(new.value), rel_tol=RELATIVE, abs_tol=allowed or 0.0
            )
        if differs:
            yield Difference(path.name, cell, "differs", old.value, new.value, size)
        if old.versions and new.versions and old.versions != new.versions:
            was, is_now = _only(old.versions, new.versions), _only(new.versions, old.versions)
            yield Difference(path.name, cell, "stale", was, is_now)


@dataclass(frozen=True)
class _Cell:
    value: str
    versions: str = ""


def _shown(cell: _Cell | None) -> str:
    return "" if cell is None else cell.value or "no value"


def _only(first: str, second: str) -> str:
    """Return the words of `first` that `second` lacks."""
    return " ".join(word for word in first.split() if word not in second.split()) or first


def _distance(old: str, new: str) -> float | None:
    try:
        return float(new) - float(old)
    except ValueError:
        return None


def _cells(
    name: str, text: str, names: Sequence[str], *, is_long: bool
) -> dict[tuple[str, ...], _Cell]:
    """Return the cells of a CSV text by row names, column and, in the long form, seed."""
    try:
        rows = list(csv.DictReader(io.StringIO(text), strict=True))
    except csv.Error as error:
        raise UserError(f"{name}: {error}") from error
    if any(None in row or None in row.values() for row in rows):
        raise UserError(f"{name}: damaged: a line does not have one value per column")
    found: dict[tuple[str, ...], _Cell] = {}
    for row in rows:
        lead = tuple(row.get(column, "") for column in names)
        for key, cell in _row_cells(name, row, names, is_long=is_long):
            whole = (*lead, *key)
            count = 2
            while whole in found:  # rows of one name are told apart by their order
                whole = (*lead[:-1], f"{lead[-1] if lead else ''} (no. {count})", *key)
                count += 1
            found[whole] = cell
    return found


def _row_cells(
    name: str, row: Mapping[str, str], names: Sequence[str], *, is_long: bool
) -> Iterator[tuple[tuple[str, ...], _Cell]]:
    if not is_long:
        yield from (((column,), _Cell(row[column])) for column in row if column not in names)
        return
    missing = [column for column in _LONG[:-1] if column not in row]
    if missing:
        raise UserError(f"{name}: damaged: no column {missing[0]!r}")
    seed = f"seed {row['seed']}" if row["seed"] else ""
    yield (row["quantity"], seed), _Cell(row["value"], row.get("versions", ""))


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"{path.name}: larger than {MAX_BYTES >> 20} MiB")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path.name}: {error}") from error


def _tolerances(folder: Path, known: set[str]) -> dict[str, float]:
    """Return the tolerances by column or unit; raises SuiteError for what makes no sense."""
    path = folder / "tolerances.toml"
    if not path.is_file():
        return dict(TOLERANCES)
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{path.name}: {error}") from error
    for key in set(data) - {"tolerances"}:
        raise SuiteError(path.name, key, "unknown table", hint="Known: [tolerances]")
    given = data.get("tolerances", {})
    for name, value in given.items():
        if name not in known | set(TOLERANCES):
            raise SuiteError(
                path.name, f"tolerances.{name}", "no such column or unit",
                hint=suggest(name, known, kind="column"),
            )  # fmt: skip
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
            raise SuiteError(path.name, f"tolerances.{name}", "must be a number, zero or more")
    return {**TOLERANCES, **given}
