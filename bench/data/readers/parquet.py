"""Parquet files of encoded images and labels, read row group by row group with pyarrow.

Files are named after their split (train-00000-of-00002.parquet) or lie in folders of its name; the
column of images holds bytes, or {bytes, path} as Hugging Face writes it.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

from bench.data.readers.base import DrawnOptions, SkipsDamaged
from bench.data.readers.common import RowReader
from bench.data.sources import files
from bench.data.sources.rows import (
    IMAGE_COLUMNS,
    LABEL_COLUMNS,
    RowSet,
    RowSplit,
    column,
    image_bytes,
    numbered,
)
from bench.errors import DataError

BATCH_ROWS = 64
"""Rows read at a time."""

_SPLIT = re.compile(r"(train|test|validation|valid|val)(?![a-z0-9])", re.IGNORECASE)
_HINT = "Name the files after their split, such as train-00000-of-00002.parquet"
_GET_AGAIN = "Get the file again"


class ColumnOptions(DrawnOptions, SkipsDamaged):
    """Options of tables."""

    image_column: str = ""
    """Column of images, where its name is unusual."""
    label_column: str = ""
    """Column of labels, where its name is unusual."""


def read_parquet(options: ColumnOptions) -> RowSet:
    """Open a Parquet file or a folder of them; raises DataError."""
    path = Path(options.path)
    return open_files(
        path,
        split_files(path),
        image_column=options.image_column,
        label_column=options.label_column,
    )


def split_files(path: Path) -> dict[str, list[Path]]:
    """Return the files of each split in name order; a file that names no split is of train."""
    if not path.exists():
        raise DataError(f"{path}: no such file or folder", hint="Check path in the suite file")
    parts: dict[str, list[Path]] = {}
    for file in [path] if path.is_file() else sorted(path.rglob("*.parquet")):
        named = file.name if path.is_file() else file.relative_to(path).as_posix()
        match = _SPLIT.match(file.name) or _SPLIT.search(named)
        split = match.group(1).lower() if match else "train"
        parts.setdefault("val" if split.startswith("val") else split, []).append(file)
    if not parts:
        raise DataError(f"{path}: no .parquet files", hint=_HINT)
    if path.is_dir():
        files.refuse_incomplete(file for found in parts.values() for file in found)
    if "train" not in parts:
        raise DataError(f"{path}: no training files, but {', '.join(parts)}", hint=_HINT)
    return parts


def open_files(
    where: Path,
    parts: dict[str, list[Path]],
    *,
    image_column: str = "",
    label_column: str = "",
    class_names: Sequence[str] = (),
    selectors: dict[str, str] | None = None,
    rule: Callable[[Sequence[Any]], list[int]] | None = None,
) -> RowSet:
    """Open the files of each split as one set; raises DataError.

    `rule` turns the values of the label column into labels.
    """
    values: dict[str, list[Any]] = {}
    tables: dict[str, list[_File]] = {}
    names: Sequence[str] = class_names
    num_bytes = 0
    for split, paths in parts.items():
        values[split], tables[split] = [], []
        for path in paths:
            file = _open(path, image_column, label_column)
            found = file.labels()
            values[split] += rule(found) if rule else found
            tables[split].append(file)
            names = names or file.class_names()
            num_bytes += path.stat().st_size
    labels, names = numbered(values, names, where=str(where))
    splits = {
        split: RowSplit(
            labels[split],
            (selectors or {}).get(split, f"{len(paths)} Parquet files"),
            partial(_contents, tuple(tables[split])),
        )
        for split, paths in parts.items()
    }
    return RowSet(splits, num_bytes, tuple(names))


@dataclass(frozen=True)
class _File:
    """One Parquet file, its columns known."""

    path: Path
    image: str
    label: str
    num_rows: int

    def labels(self) -> list[Any]:
        found: list[Any] = self._table().read(columns=[self.label]).column(0).to_pylist()
        return found

    def class_names(self) -> list[str]:
        """Return the names that Hugging Face keeps in the schema, if any."""
        metadata = self._table().schema_arrow.metadata or {}
        try:
            info = json.loads(metadata.get(b"huggingface", b"{}"))
            return [str(name) for name in info["info"]["features"][self.label]["names"]]
        except (ValueError, KeyError, TypeError):
            return []

    def contents(self, start: int) -> Iterator[tuple[str, bytes]]:
        """Yield (name, bytes) from row `start` on, reading only the row groups that are needed."""
        table = self._table()
        sizes = [table.metadata.row_group(group).num_rows for group in range(table.num_row_groups)]
        ends = list(accumulate(sizes))
        first = bisect_right(ends, start)
        row = ends[first - 1] if first else 0
        groups = range(first, len(sizes))
        for batch in table.iter_batches(BATCH_ROWS, row_groups=groups, columns=[self.image]):
            for value in batch.column(0).to_pylist():
                if row >= start:
                    name = f"{self.path}, row {row}"
                    yield name, image_bytes(value, name=name)
                row += 1

    def _table(self) -> Any:
        import pyarrow.parquet

        return pyarrow.parquet.ParquetFile(self.path)


def _open(path: Path, image_column: str, label_column: str) -> _File:
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as table:
            names = table.schema_arrow.names
            num_rows = table.metadata.num_rows
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path}: not a Parquet file ({error})", hint=_GET_AGAIN) from error
    where = str(path)
    image = column(names, image_column, IMAGE_COLUMNS, what="image", where=where)
    label = column(names, label_column, LABEL_COLUMNS, what="label", where=where)
    return _File(path, image, label, num_rows)


def _contents(files: tuple[_File, ...], start: int) -> Iterator[tuple[str, bytes]]:
    import pyarrow

    for file in files:
        if start >= file.num_rows:
            start -= file.num_rows
            continue
        try:
            yield from file.contents(start)
        except (pyarrow.ArrowException, OSError) as error:
            raise DataError(
                f"{file.path}: damaged Parquet file ({error})", hint=_GET_AGAIN
            ) from error
        start = 0


READERS = (
    RowReader(
        name="parquet",
        options=ColumnOptions,
        rows=read_parquet,
        content=(".parquet",),
        suffix=".parquet",
        marks=(("*.parquet",), ("train/*.parquet",), ("data/*.parquet",)),
    ),
)
