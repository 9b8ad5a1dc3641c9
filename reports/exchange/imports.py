"""Numbers of others, read from their CSV files by a small TOML that says what is in them.

    [[import]]
    file = "results-imagenet.csv"          # next to the TOML file
    source = "timm, results/results-imagenet.csv, 2026-08"
    protocol = "timm validate.py"
    dataset = "ImageNet"
    metric = "test_top1"                   # a name in bench/metrics.py
    unit = "%"
    [import.columns]                       # what the file's own columns hold
    system = "model"
    value = "top1"
    resolution = "img_size"
    [import.systems]                       # their name = our name; with it, no other rows are read
    "vit_base_patch16_224.augreg_in21k_ft_in1k" = "ViT-B/16"

What is the same for the whole file is a key of `[[import]]`, what differs by line is a column.
Imported numbers are shown next to measured ones, under their own protocol, and never get a verdict.
"""

from __future__ import annotations

import csv
import math
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from bench import metrics
from bench.errors import SuiteError, UnknownName, UserError, suggest
from bench.specs import Record

MAX_ROWS = 100_000
"""Lines of one file that are read."""
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?")


class ImportedResult(Record):
    """One number of others."""

    system: str
    """System, by our name where the TOML gives one."""
    dataset: str
    """Downstream data set."""
    metric: str
    """Metric, by its name in `bench/metrics.py`."""
    value: float
    """Value in the metric's base unit: accuracies as fractions."""
    printed: str
    """Value as it stands in the file."""
    unit: str
    """Unit as it stands in the file."""
    upstream: str = ""
    """Upstream data set."""
    resolution: str = ""
    """Input size, as it stands in the file."""
    protocol: str
    """How it was measured, in words."""
    n: int = 0
    """Test images behind it, where known."""
    source: str
    """Where it comes from."""
    line: int
    """Line of the file, from 1."""


class _Columns(Record):
    """Columns of the file by what they hold."""

    system: str
    value: str
    dataset: str = ""
    metric: str = ""
    upstream: str = ""
    resolution: str = ""
    protocol: str = ""
    n: str = ""


class _Import(Record):
    """One `[[import]]` table."""

    file: str = Field(min_length=1)
    source: str = Field(min_length=1)
    protocol: str = ""
    dataset: str = ""
    metric: str = ""
    upstream: str = ""
    resolution: str = ""
    unit: Literal["%", "fraction"] = "%"
    columns: _Columns
    systems: dict[str, str] = Field(default={})


def read(path: Path) -> tuple[ImportedResult, ...]:
    """Return the numbers that a TOML file maps, in the order of the files.

    Raises UserError that names file and key, or file and line.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"--import {path}: no such file") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"--import {path}: {error}") from error
    if set(data) != {"import"} or not isinstance(data["import"], list):
        raise SuiteError(path.name, "", "needs [[import]] tables and nothing else")
    found: list[ImportedResult] = []
    for index, table in enumerate(data["import"]):
        block = _block(path, f"import[{index}]", table)
        found += _rows(path, f"import[{index}]", block)
    _refuse_twice(path, found)
    return tuple(found)


def _block(path: Path, key: str, table: object) -> _Import:
    try:
        block = _Import.model_validate(table)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join([key, *(str(part) for part in first["loc"])])
        known = _Columns.model_fields if "columns" in first["loc"] else _Import.model_fields
        hint = suggest(str(first["loc"][-1]), known) if first["type"] == "extra_forbidden" else ""
        raise SuiteError(path.name, place, first["msg"].lower(), hint=hint) from error
    for name in ("dataset", "metric", "upstream", "resolution", "protocol"):
        if getattr(block, name) and getattr(block.columns, name):
            raise SuiteError(
                path.name, f"{key}.{name}", "given for the whole file and as a column",
                hint="Keep one of them",
            )  # fmt: skip
    for name in ("dataset", "metric", "protocol"):
        if not (getattr(block, name) or getattr(block.columns, name)):
            raise SuiteError(
                path.name, f"{key}.{name}", "missing", hint=f"Set it, or [import.columns] {name}"
            )
    return block


def _rows(path: Path, key: str, block: _Import) -> Iterator[ImportedResult]:
    file = path.parent / block.file
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            _check_columns(path, key, block, reader.fieldnames or ())
            for row in reader:
                if reader.line_num > MAX_ROWS:
                    raise UserError(f"{block.file}: more than {MAX_ROWS:,} lines")
                if None in row or None in row.values():
                    raise UserError(
                        f"{block.file}: line {reader.line_num}: not one value per column"
                    )
                name = row[block.columns.system].strip()
                if not block.systems or name in block.systems:
                    yield _result(block, row, reader.line_num)
    except FileNotFoundError as error:
        raise SuiteError(path.name, f"{key}.file", f"{block.file}: no such file") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{block.file}: {error}") from error


def _check_columns(path: Path, key: str, block: _Import, there: Any) -> None:
    for name, column in block.columns.model_dump().items():
        if column and column not in there:
            raise SuiteError(
                path.name, f"{key}.columns.{name}", f'{block.file} has no column "{column}"',
                hint=suggest(column, there, kind="column"),
            )  # fmt: skip


def _result(block: _Import, row: Mapping[str, str], line: int) -> ImportedResult:
    def entry(name: str) -> str:
        column = getattr(block.columns, name)
        return (row[column] if column else getattr(block, name, "")).strip()

    where = f"{block.file}: line {line}"
    system, metric, printed = entry("system"), entry("metric"), entry("value")
    try:
        card = metrics.metric(metric)
    except UnknownName as error:
        raise UserError(f"{where}: {error.message}", hint=error.hint) from error
    value = _number(printed, f"{where}: {block.columns.value}")
    if block.unit == "%":
        value /= 100
    if card.base_unit == "fraction" and not 0 <= value <= 1:
        raise UserError(
            f"{where}: {block.columns.value}: {printed} {block.unit} is not an accuracy",
            hint='unit is "%" or "fraction"',
        )
    count = entry("n")
    return ImportedResult(
        system=block.systems.get(system, system), dataset=entry("dataset"), metric=metric,
        value=value, printed=printed, unit=block.unit, upstream=entry("upstream"),
        resolution=entry("resolution"), protocol=entry("protocol"), source=block.source, line=line,
        n=int(_number(count, f"{where}: {block.columns.n}")) if count else 0,
    )  # fmt: skip


def _number(text: str, where: str) -> float:
    plain = text.replace(",", "") if _THOUSANDS.fullmatch(text) else text
    try:
        value = float(plain)
    except ValueError as error:
        raise UserError(f"{where}: {text!r} is not a number") from error
    if not math.isfinite(value):
        raise UserError(f"{where}: {text!r} is not a number")
    return value


def _refuse_twice(path: Path, found: list[ImportedResult]) -> None:
    """Refuse two numbers of one system, data set and protocol: no column could hold both."""
    met: dict[tuple[str, ...], ImportedResult] = {}
    for row in found:
        key = (
            row.system, row.upstream, row.dataset, row.metric, row.resolution, row.protocol,
            row.source,
        )  # fmt: skip
        if key in met:
            raise UserError(
                f"{path.name}: {row.system} on {row.dataset} is listed twice in {row.source}, "
                f"lines {met[key].line} and {row.line}",
                hint="Tell them apart by upstream, resolution or protocol, or give them two names",
            )
        met[key] = row
