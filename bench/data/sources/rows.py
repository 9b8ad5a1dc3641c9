"""Images that lie encoded in the rows of files: labels at once, images one after another.

Labels that are whole numbers stay what they are; texts are numbered in sorted order.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from bench.data.sources import files
from bench.data.sources.base import Named, check_num_classes
from bench.data.sources.pool import in_threads
from bench.errors import DataError

if TYPE_CHECKING:
    import numpy as np

VERSION = 1
"""Bumped when the same files give other images, labels or splits."""

IMAGE_COLUMNS = ("image", "img", "images", "jpg", "jpeg", "png", "webp")
LABEL_COLUMNS = ("label", "labels", "fine_label", "cls", "class", "target")

Damaged = Mapping[str, Sequence[int]]
"""Rows of each split that do not decode."""

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
        """Classes: as many as there are names, or as the largest training label asks for."""
        trained = [self.splits["train"]] if "train" in self.splits else self.splits.values()
        largest = max(int(split.labels_N.max(initial=-1)) for split in trained)
        return len(self.class_names) or largest + 1


def read(
    found: RowSet, *, where: str, test_share: float, seed: int, damaged: Damaged | None = None
) -> RowSet:
    """Check the rows and leave `damaged` ones out; without a test split, one is drawn, stratified.

    Raises DataError.
    """
    import numpy as np

    if damaged is not None:
        found = _without(found, damaged)
    for split, part in found.splits.items():
        if not len(part.labels_N):
            raise DataError(
                f"{where}, {split}: no images", hint="Check that the files are complete"
            )
    check_num_classes(found.num_classes, where=where)
    for split, part in found.splits.items():
        wrong = np.flatnonzero((part.labels_N < 0) | (part.labels_N >= found.num_classes))
        if len(wrong):
            raise DataError(
                f"{where}, {split}: row {wrong[0]} has label {part.labels_N[wrong[0]]}, not one of "
                f"0 to {found.num_classes - 1} ({len(wrong):,} such rows)",
                hint="Correct the labels, or leave these rows out: every class must be in train",
            )
    return _with_test(found, test_share, seed)


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


def known_damaged(found: RowSet, content: dict[str, Any]) -> Damaged:
    """Return the rows that do not decode, remembered by what identifies their content."""
    return files.remembered(
        {"damaged": VERSION, **content},
        lambda: {split: sorted(rows) for split, rows in damaged_rows(found).items()},
    )


def _without(found: RowSet, damaged: Damaged) -> RowSet:
    """Leave out rows; how many is said in the selectors."""
    import numpy as np

    total = sum(len(rows) for rows in damaged.values())
    left_out = f"; {total:,} damaged files of the set left out"
    splits = {}
    for split, part in found.splits.items():
        sound = np.setdiff1d(np.arange(len(part.labels_N)), damaged[split])
        splits[split] = _part(part, sound, part.selector + left_out)
    return replace(found, splits=splits)


def _with_test(found: RowSet, share: float, seed: int) -> RowSet:
    """What reports is called test, also where the owner says validation; else it is drawn."""
    from bench.data.splits import held_out_indices

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
    import numpy as np

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
                    hint="Labels are whole numbers from 0, or texts that are all in train",
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


class Encoded:
    """Images in rows: at their own sizes, or squashed to squares where a side is given."""

    def __init__(self, content: RowSet, *, image_size_px: int | None) -> None:
        self._square_px = image_size_px
        self._set = content

    def size_px(self, split: str) -> tuple[int, int] | None:
        """Return height and width where images are squashed."""
        del split
        return (self._square_px, self._square_px) if self._square_px else None

    def num_examples(self) -> dict[str, int]:
        """Return the number of images of each split."""
        return {split: len(part.labels_N) for split, part in self._set.splits.items()}

    def labels(self, split: str) -> np.ndarray:
        """Return the labels of a split."""
        return self._set.splits[split].labels_N

    def write(self, split: str, images_BHWC: np.ndarray, *, start: int, num_workers: int) -> None:
        """Decode the images from `start` on."""
        from bench.data.decode import squashed_of

        def decode(item: tuple[int, tuple[str, bytes]]) -> None:
            place, (name, content) = item
            images_BHWC[place] = squashed_of(content, size_px=images_BHWC.shape[1:3], name=name)

        contents = islice(self._set.splits[split].contents(start), len(images_BHWC))
        in_threads(decode, enumerate(contents), num_workers)

    def encoded_bytes(self) -> int:
        """Return the bytes of the files that hold the images."""
        return self._set.num_bytes

    def encoded(self, split: str, *, start: int) -> Iterator[Named]:
        """Yield each image from `start` on."""
        contents = self._set.splits[split].contents(start)
        return ((name, partial(bytes, content)) for name, content in contents)
