"""Images that lie encoded in the rows of files: Parquet, Hugging Face datasets, TFDS exports.

    parquet       *.parquet named after their split (train-00000-of-00002.parquet) or in folders of
                  its name; an image column of bytes, or of {bytes, path} as Hugging Face writes it
    huggingface   a folder written by `datasets.save_to_disk`, or a name on the hub with a revision
    tfds-export   what `export_tfds.py` writes: Parquet in TensorFlow Datasets' order, manifest.json

Labels are read at once, images one after another when they are asked for. Labels that are whole
numbers stay what they are; texts are numbered in sorted order.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from bench.data.readers import files
from bench.data.splits import held_out_indices
from bench.errors import DataError
from bench.specs import Args, DatasetCard

VERSION = 1
"""Bumped when the same files give other images, labels or splits."""

IMAGE_COLUMNS = ("image", "img", "images", "jpg", "jpeg", "png", "webp")
LABEL_COLUMNS = ("label", "labels", "fine_label", "cls", "class", "target")

CONTENT = {
    "parquet": (".parquet",),
    "huggingface": (".arrow", "state.json", "dataset_info.json", "dataset_dict.json"),
    "tfds-export": (".parquet", "manifest.json"),
}
"""Names, by their ends, of the files that a reader reads."""

Contents = Callable[[int], Iterator[tuple[str, bytes]]]


@dataclass(frozen=True)
class RowSplit:
    """One split: labels at once, image files one after another."""

    labels_N: np.ndarray
    """int64."""
    selector: str
    """How the split was selected, in words."""
    contents: Contents
    """Yields (name for messages, bytes) of each image from a row on."""


@dataclass(frozen=True)
class RowSet:
    """A data set in rows."""

    splits: dict[str, RowSplit]
    """Splits by name: train and test, perhaps val and others."""
    num_bytes: int
    """Size of the files (or tables) that hold the images."""
    class_names: tuple[str, ...] = ()
    """Class names in label order, where known."""

    @property
    def num_classes(self) -> int:
        """Classes: as many as there are names, or as the largest label asks for."""
        largest = max(int(split.labels_N.max()) for split in self.splits.values())
        return len(self.class_names) or largest + 1


def open_rows(card: DatasetCard) -> RowSet:
    """Open the files of a card; raises DataError naming what is wrong and the cure."""
    return read(card.reader, card.args)


def read(reader: str, args: Args) -> RowSet:
    """Open the files that `args` of a card or block names; a set without test is split by a draw.

    Raises DataError.
    """
    found = READERS[reader](args)
    if args.get("skip_damaged"):
        found = _without_damaged(found, reader, args)
    for split, part in found.splits.items():
        where = f"{args['path']}, {split}"
        if not len(part.labels_N):
            raise DataError(f"{where}: no images", hint="Check that the files are complete")
        wrong = np.flatnonzero((part.labels_N < 0) | (part.labels_N >= found.num_classes))
        if len(wrong):
            raise DataError(
                f"{where}: row {wrong[0]} has label {part.labels_N[wrong[0]]}, not one of 0 to "
                f"{found.num_classes - 1} ({len(wrong):,} such rows)",
                hint="Leave out rows without a label, or correct them",
            )
    return _with_test(found, float(args["test_share"]), int(args["seed"]))  # type: ignore[arg-type]


def identity(reader: str, args: Args) -> dict[str, Any]:
    """Return what identifies the content of the files that `args` names: JSON."""
    path = Path(str(args["path"]))
    if reader == "huggingface" and args.get("revision"):
        from bench.data.readers.huggingface import check_hub_name

        check_hub_name(str(path), str(args["revision"]))
        return {"hub": str(path), "revision": str(args["revision"])}
    if not path.exists():
        raise DataError(f"{path}: no such file or folder", hint="Check path in the suite file")
    if path.is_file():
        return dict(files.hashes(path.parent, [path.name]))
    names = sorted(
        file.relative_to(path).as_posix()
        for file in path.rglob("*")
        if file.name.endswith(CONTENT[reader]) and not file.name.startswith("cache-")
    )
    return dict(files.hashes(path, names))


def damaged_rows(found: RowSet) -> dict[str, dict[int, str]]:
    """Decode every image; return the message of each that fails, by split and row."""
    from bench.data.decode import load_rgb

    def failure(item: tuple[str, bytes]) -> str:
        name, content = item
        try:
            load_rgb(io.BytesIO(content), name=name)
        except DataError as error:
            return str(error)
        return ""

    damaged: dict[str, dict[int, str]] = {}
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for split, part in found.splits.items():
            contents, row = part.contents(0), 0
            damaged[split] = {}
            while chunk := list(islice(contents, 256)):
                for message in pool.map(failure, chunk):
                    if message:
                        damaged[split][row] = message
                    row += 1
    return damaged


def _without_damaged(found: RowSet, reader: str, args: Args) -> RowSet:
    """Leave out the rows whose images do not decode; how many is said in the selectors."""
    key = {"damaged": VERSION, "reader": reader, "content": identity(reader, args)}
    damaged = files.remembered(
        key, lambda: {split: sorted(rows) for split, rows in damaged_rows(found).items()}
    )
    total = sum(len(rows) for rows in damaged.values())
    left_out = f"; {total:,} damaged files of the set left out"
    splits = {}
    for split, part in found.splits.items():
        sound = np.setdiff1d(np.arange(len(part.labels_N)), damaged[split])
        splits[split] = _part(part, sound, part.selector + left_out)
    return replace(found, splits=splits)


def _with_test(found: RowSet, share: float, seed: int) -> RowSet:
    """What reports is called test, also where the owner says validation; else it is drawn."""
    splits = dict(found.splits)
    if "test" not in splits and "val" in splits:
        splits["test"] = splits.pop("val")
    if "test" not in splits:
        whole = splits["train"]
        selector = f"{whole.selector}, {share:g} drawn for test, stratified, with seed {seed}"
        train, test = held_out_indices(whole.labels_N, share, seed=seed)
        splits["train"] = _part(whole, train, selector)
        splits["test"] = _part(whole, test, selector)
    return replace(found, splits=splits)


def _part(whole: RowSplit, rows: np.ndarray, selector: str) -> RowSplit:
    """Return some rows, in ascending order, of a split."""

    def contents(start: int) -> Iterator[tuple[str, bytes]]:
        if start >= len(rows):
            return
        wanted = iter(rows[start:].tolist())
        row = next(wanted)
        for index, item in enumerate(whole.contents(row), start=row):
            if index == row:
                yield item
                following = next(wanted, None)
                if following is None:
                    return
                row = following

    return RowSplit(whole.labels_N[rows], selector, contents)


def numbered(
    values: Mapping[str, Sequence[Any]], names: Sequence[str], *, where: str
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Return labels by split as numbers, and the class names; raises DataError.

    Whole numbers stay what they are; texts are numbered by their sorted order in train.
    """
    first = next((value for part in values.values() for value in part if value is not None), None)
    if isinstance(first, str):
        known = sorted({str(value) for value in values["train"] if value is not None})
        number = {name: label for label, name in enumerate(known)}
        names = known
    labels: dict[str, np.ndarray] = {}
    for split, part in values.items():
        labels_N = np.empty(len(part), dtype=np.int64)
        for row, value in enumerate(part):
            label = number.get(value) if isinstance(first, str) else value
            if not isinstance(label, int) or isinstance(label, bool):
                raise DataError(
                    f"{where}, {split}: row {row} has label {value!r}",
                    hint="Labels are whole numbers from 0, or texts that all stand in train",
                )
            labels_N[row] = label
        labels[split] = labels_N
    return labels, tuple(names)


def column(
    names: Sequence[str], wanted: str, usual: Sequence[str], *, what: str, where: str
) -> str:
    """Return the column that holds images or labels; raises DataError listing what there is."""
    if wanted:
        if wanted in names:
            return wanted
    else:
        found = [name for name in usual if name in names]
        if found:
            return found[0]
    asked = f'no column "{wanted}"' if wanted else f"no column of {what}s by a usual name"
    raise DataError(
        f"{where}: {asked}, but {', '.join(names)}",
        hint=f'Name it in the suite: {what}_column = "..."',
    )


def image_bytes(value: Any, *, name: str) -> bytes:
    """Return the bytes of an image cell: bytes, or {bytes, path}; raises DataError."""
    if isinstance(value, dict):
        value = value.get("bytes")
    if not isinstance(value, bytes) or not value:
        raise DataError(
            f"{name}: no image bytes",
            hint="Write the images into the files (Hugging Face: save_to_disk embeds them)",
        )
    return value


def _parquet(args: Args) -> RowSet:
    from bench.data.readers import parquet

    return parquet.read_parquet(
        Path(str(args["path"])),
        image_column=str(args.get("image_column", "")),
        label_column=str(args.get("label_column", "")),
    )


def _huggingface(args: Args) -> RowSet:
    from bench.data.readers import huggingface

    return huggingface.read_huggingface(
        str(args["path"]),
        revision=str(args.get("revision", "")),
        config=str(args.get("config", "")),
        image_column=str(args.get("image_column", "")),
        label_column=str(args.get("label_column", "")),
    )


def _export(args: Args) -> RowSet:
    from bench.data.readers import tfds

    return tfds.read_export(Path(str(args["path"])))


READERS: dict[str, Callable[[Args], RowSet]] = {
    "parquet": _parquet,
    "huggingface": _huggingface,
    "tfds-export": _export,
}
"""Readers by name; each opens what the arguments of a card name."""
