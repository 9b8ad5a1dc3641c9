"""Sources whose images are encoded files: in folders, in rows, in shards.

They decode to squares, or give the bytes as they are for packing without decoding.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np

from bench.data.decode import load_rgb, square, square_image
from bench.data.readers import folders, layouts, rows, shards
from bench.data.readers.pool import in_threads, mapped
from bench.errors import DataError
from bench.specs import DatasetCard

# --- image files ----------------------------------------------------------------------------


def image_files(card: DatasetCard) -> folders.Folder:
    """Return the files of a card that is read from image files, damaged ones too."""
    return layouts.READERS[card.reader](
        Path(str(card.args["path"])),
        test_share=float(card.args["test_share"]),  # type: ignore[arg-type]
        seed=int(card.args["seed"]),  # type: ignore[arg-type]
    )


class ImageFiles:
    """Image files in a user's class folders, a CSV or an owner's layout, as squares of one size."""

    def __init__(self, card: DatasetCard) -> None:
        self.image_size_px = int(card.args["image_size_px"])  # type: ignore[arg-type]
        self._folder = image_files(card)
        if card.args.get("skip_damaged"):
            from bench.data.readers.damaged import without_damaged

            self._folder, _ = without_damaged(self._folder)

    def num_examples(self) -> dict[str, int]:
        """Return the number of images of each split."""
        return {split: len(files) for split, files in self._folder.splits.items()}

    def labels(self, split: str) -> np.ndarray:
        """Return the labels of a split."""
        return np.array([label for _, label in self._folder.splits[split]], dtype=np.int64)

    def write(self, split: str, images_BHWC: np.ndarray, *, start: int, num_workers: int) -> None:
        """Decode every file from `start` on; raises DataError at the first that is no image."""
        files = self._folder.splits[split]

        def decode(index: int) -> None:
            path = self._folder.root / files[start + index][0]
            images_BHWC[index] = square_image(path, size_px=self.image_size_px)

        # Decoding and resizing release the interpreter's lock: threads share the output array.
        in_threads(decode, range(len(images_BHWC)), num_workers)

    def details(self, split: str) -> np.ndarray | None:
        """Return what scoring needs beside the labels, details_NF padded with -1, or None."""
        found = [self._folder.details.get(path, ()) for path, _ in self._folder.splits[split]]
        width = max(map(len, found), default=0)
        if not width:
            return None
        return np.array([(*row, *[-1] * (width - len(row))) for row in found], dtype=np.int64)

    def encoded_bytes(self) -> int:
        """Return the bytes of all image files."""
        root = self._folder.root
        try:
            return sum(
                os.stat(root / path).st_size
                for items in self._folder.splits.values()
                for path, _ in items
            )
        except OSError as error:
            raise DataError(f"{error.filename}: cannot be read ({error.strerror})") from error

    def encoded(self, split: str, *, start: int, num_workers: int) -> Iterator[bytes]:
        """Yield the bytes of each image file from `start` on."""
        paths = [self._folder.root / path for path, _ in self._folder.splits[split][start:]]
        return checked(((str(path), path.read_bytes) for path in paths), num_workers)


# --- encoded rows: Parquet, Hugging Face, exports -------------------------------------------


class Encoded:
    """Images that lie encoded in the rows of files, decoded to squares of one size."""

    def __init__(self, card: DatasetCard) -> None:
        self.image_size_px = int(card.args["image_size_px"])  # type: ignore[arg-type]
        self._set = rows.open_rows(card)

    def num_examples(self) -> dict[str, int]:
        """Return the number of images of each split."""
        return {split: len(part.labels_N) for split, part in self._set.splits.items()}

    def labels(self, split: str) -> np.ndarray:
        """Return the labels of a split."""
        return self._set.splits[split].labels_N

    def write(self, split: str, images_BHWC: np.ndarray, *, start: int, num_workers: int) -> None:
        """Decode the images from `start` on."""

        def decode(item: tuple[int, tuple[str, bytes]]) -> None:
            place, (name, content) = item
            image = load_rgb(io.BytesIO(content), name=name)
            images_BHWC[place] = square(image, self.image_size_px)

        contents = islice(self._set.splits[split].contents(start), len(images_BHWC))
        in_threads(decode, enumerate(contents), num_workers)

    def encoded_bytes(self) -> int:
        """Return the bytes of the files that hold the images."""
        return self._set.num_bytes

    def encoded(self, split: str, *, start: int, num_workers: int) -> Iterator[bytes]:
        """Yield the bytes of each image from `start` on."""
        contents = self._set.splits[split].contents(start)
        return checked(((name, partial(_same, content)) for name, content in contents), num_workers)


def _same(content: bytes) -> bytes:
    return content


# --- shards ---------------------------------------------------------------------------------


class Shards:
    """Webdataset shards, decoded to squares of one size. `shards.py` streams them unpacked."""

    def __init__(self, card: DatasetCard) -> None:
        self.image_size_px = int(card.args["image_size_px"])  # type: ignore[arg-type]
        parts = shards.split_folders(Path(str(card.args["path"])))
        self._sets = {split: shards.open_shards(path) for split, path in parts.items()}

    def num_examples(self) -> dict[str, int]:
        """Return the number of images of each split."""
        return {split: shard_set.num_examples for split, shard_set in self._sets.items()}

    def labels(self, split: str) -> np.ndarray:
        """Return the labels of a split."""
        return self._sets[split].labels()

    def write(self, split: str, images_BHWC: np.ndarray, *, start: int, num_workers: int) -> None:
        """Decode every example from `start` on, shard by shard."""
        shard_set = self._sets[split]

        def decode(task: tuple[int, tuple[int, int]]) -> None:
            index, (shard, row) = task
            images_BHWC[index], _ = shard_set.image(shard, row, size_px=self.image_size_px)

        places = islice(shard_set.places(), start, start + len(images_BHWC))
        in_threads(decode, enumerate(places), num_workers)

    def encoded_bytes(self) -> int:
        """Return the bytes of all images."""
        every = (item for one in self._sets.values() for item in one.shards)
        return sum(int(item.entries()["bytes"].sum(dtype=np.int64)) for item in every)

    def encoded(self, split: str, *, start: int, num_workers: int) -> Iterator[bytes]:
        """Yield the bytes of each image from `start` on."""
        shard_set = self._sets[split]
        named = (
            (
                f"{shard_set.shards[shard].path}, example {row}",
                partial(shard_set.content, shard, row),
            )
            for shard, row in islice(shard_set.places(), start, None)
        )
        return checked(named, num_workers)


# --- bytes -----------------------------------------------------------------------------------


def checked(named: Iterable[tuple[str, Callable[[], bytes]]], num_workers: int) -> Iterator[bytes]:
    """Yield the bytes of each named image, once it is known to decode; raises DataError."""

    def read(item: tuple[str, Callable[[], bytes]]) -> bytes:
        name, content_of = item
        try:
            content = content_of()
        except OSError as error:
            raise DataError(f"{name}: cannot be read ({error.strerror})") from error
        load_rgb(io.BytesIO(content), name=name)
        return content

    return mapped(read, named, num_workers)
