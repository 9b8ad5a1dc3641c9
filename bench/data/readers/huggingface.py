"""Hugging Face datasets: folders of `save_to_disk`, and names on the hub at a fixed revision.

The library `datasets` reads both. From the hub the user's machine downloads, once; a name moves,
so a revision (a commit) is asked for and identifies the content.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from bench.data.readers.common import RowReader
from bench.data.readers.parquet import ColumnOptions
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

COMMIT = re.compile(r"[0-9a-f]{40}")
"""What identifies a version on the hub."""

SPLITS = {"validation": "val", "valid": "val"}
"""Split names that mean another here."""


class HubOptions(ColumnOptions):
    """Options of Hugging Face's data sets."""

    revision: str = ""
    """Commit on the hub, where `path` is a name there."""
    config: str = ""
    """Configuration on the hub."""


def is_saved(path: Path) -> bool:
    """Return whether a folder was written by `save_to_disk`."""
    return (path / "dataset_dict.json").is_file() or (path / "state.json").is_file()


def check_hub_name(name: str, revision: str) -> None:
    """Raise DataError unless name and revision fix what is read."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+|[\w-]+", name):
        raise DataError(
            f"{name}: a revision is given, but this is not a name on the hub",
            hint='Write path = "OWNER/NAME", or leave revision out for a folder',
        )
    if not COMMIT.fullmatch(revision):
        raise DataError(
            f'{name}: revision "{revision}" is not a commit of 40 hex digits',
            hint="Take one from the History of its Files page: branches and tags move",
        )


def read_huggingface(options: HubOptions) -> RowSet:
    """Open a saved data set, or one on the hub where `revision` is given; raises DataError."""
    path, hub = options.path, bool(options.revision)
    tables = _hub(path, options.config, options.revision) if hub else _saved(Path(path))
    values: dict[str, list[Any]] = {}
    splits: dict[str, Any] = {}
    names: tuple[str, ...] = ()
    num_bytes = 0
    for split, table in tables.items():
        where = f"{path}, {split}"
        image = column(
            table.column_names, options.image_column, IMAGE_COLUMNS, what="image", where=where
        )
        label = column(
            table.column_names, options.label_column, LABEL_COLUMNS, what="label", where=where
        )
        values[split] = table.with_format("arrow")[label].to_pylist() if len(table) else []
        names = names or tuple(getattr(table.features[label], "names", None) or ())
        num_bytes += int(table.data.nbytes)
        splits[split] = partial(_contents, _undecoded(table, image), image, where)
    if "train" not in values:
        raise DataError(
            f"{path}: no split named train, but {', '.join(tables)}",
            hint="Save a DatasetDict with train and test",
        )
    labels, names = numbered(values, names, where=path)
    found = {
        split: RowSplit(labels[split], f"split {split} of {path}", contents)
        for split, contents in splits.items()
    }
    return RowSet(found, num_bytes, names)


def _saved(path: Path) -> dict[str, Any]:
    if not path.is_dir():
        raise DataError(f"{path}: no such folder", hint="Check path in the suite file")
    if not is_saved(path):
        raise DataError(
            f"{path}: not a folder of datasets.save_to_disk",
            hint="Write it with datasets.load_dataset(NAME).save_to_disk(FOLDER)",
        )
    try:
        import datasets

        opened = datasets.load_from_disk(str(path))
    except Exception as error:  # pyarrow, JSON and the library's own, all meaning damage
        raise DataError(
            f"{path}: damaged ({type(error).__name__}: {_line(error)})", hint="Save it again"
        ) from error
    return _by_split(opened)


def _hub(name: str, config: str, revision: str) -> dict[str, Any]:
    check_hub_name(name, revision)
    import datasets

    try:
        opened = datasets.load_dataset(name, config or None, revision=revision)
    except Exception as error:  # requests', the hub's and the library's own
        raise DataError(
            f"{name}: cannot be fetched from the hub ({type(error).__name__}: {_line(error)})",
            hint=f'With a connection: datasets.load_dataset("{name}").save_to_disk(FOLDER), then '
            "point path to the folder",
        ) from error
    return _by_split(opened)


def _by_split(opened: Any) -> dict[str, Any]:
    parts = opened if hasattr(opened, "keys") else {"train": opened}
    return {SPLITS.get(str(name), str(name)): table for name, table in parts.items()}


def _undecoded(table: Any, image: str) -> Any:
    """Return the table with images as bytes: decoding is ours, the same for every reader."""
    import datasets

    if isinstance(table.features[image], datasets.Image):
        return table.cast_column(image, datasets.Image(decode=False))
    return table


def _contents(table: Any, image: str, where: str, start: int) -> Iterator[tuple[str, bytes]]:
    for row, value in enumerate(
        table.select_columns([image]).select(range(start, len(table))), start=start
    ):
        name = f"{where}, row {row}"
        yield name, image_bytes(value[image], name=name)


def _line(error: Exception) -> str:
    return str(error).split("\n")[0][:200]


class HuggingFaceReader(RowReader[HubOptions]):
    """Saved data sets, whose content is that of their files, or names on the hub at a commit."""

    def place(self, name: str, options: HubOptions, base_dir: Path) -> str:
        """Return the path, or the name on the hub."""
        return options.path if options.revision else super().place(name, options, base_dir)

    def identity(self, options: HubOptions) -> dict[str, Any]:
        """Return what identifies the content: the files, or name and commit."""
        if not options.revision:
            return super().identity(options)
        check_hub_name(options.path, options.revision)
        return {"hub": options.path, "revision": options.revision}


READERS = (
    HuggingFaceReader(
        name="huggingface",
        options=HubOptions,
        rows=read_huggingface,
        content=(".arrow", "state.json", "dataset_info.json", "dataset_dict.json"),
        marks=(("dataset_dict.json",), ("state.json", "dataset_info.json")),
    ),
)
