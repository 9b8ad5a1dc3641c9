"""A source: the images and labels of one data set, split by split.

A source says how many images each split has and writes them into arrays that the caller provides
(`packs/write.py` gives it memory-mapped files), or yields them as the encoded originals that they
are. Images come out RGB, uint8; labels as int64 in [0, num_classes).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from bench.errors import DataError

if TYPE_CHECKING:
    import numpy as np


Named = tuple[str, "Callable[[], bytes]"]
"""An encoded image: its name for messages, and what reads its bytes."""


MAX_CLASSES = 1 << 20
"""More classes are labels that are none, such as numbers of the images."""


def check_num_classes(num_classes: int, *, where: str) -> None:
    """Raise DataError where the largest label asks for more classes than any set has."""
    if num_classes > MAX_CLASSES:
        raise DataError(
            f"{where}: the largest label is {num_classes - 1:,}, which asks for as many classes",
            hint="Labels count the classes from 0",
        )


class Source(Protocol):
    """Where the images of one data set come from."""

    def size_px(self, split: str) -> tuple[int, int] | None:
        """Return height and width of the images of a split; None where each has its own."""
        ...

    def num_examples(self) -> dict[str, int]:
        """Return the number of images of each split."""
        ...

    def labels(self, split: str) -> np.ndarray:
        """Return the labels of a split, labels_N (int64)."""
        ...

    def write(self, split: str, images_BHWC: np.ndarray, *, start: int, num_workers: int) -> None:
        """Fill the array with the images of a split from `start` on; raises DataError.

        Images of another size than the array's are squashed to it.
        """
        ...

    def encoded_bytes(self) -> int:
        """Return the bytes of all image files, 0 where there are no such files."""
        ...

    def encoded(self, split: str, *, start: int) -> Iterator[Named]:
        """Yield each image file from `start` on; nothing where there are no such files."""
        ...


@runtime_checkable
class Detailed(Protocol):
    """A source that knows more of an image than one label (`scoring.judge`)."""

    def details(self, split: str) -> np.ndarray | None:
        """Return details_NF (int64), or None where labels are all there is."""
        ...


@runtime_checkable
class Hashed(Protocol):
    """A source that knows the content of its image files without decoding them."""

    def hashes(self, split: str) -> np.ndarray:
        """Return the SHA-256 of each image file of a split, 32 bytes each (V32)."""
        ...


class Unencoded:
    """Base of sources that have no image files."""

    def encoded_bytes(self) -> int:
        """Return 0: there are no image files."""
        return 0

    def encoded(self, split: str, *, start: int) -> Iterator[Named]:
        """Yield nothing: there are no image files."""
        del split, start
        return iter(())


class Whole(Unencoded):
    """A small set that is made or read at once."""

    def __init__(self, splits: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
        self._splits = splits
        """(images_NHWC, labels_N) by split."""

    def size_px(self, split: str) -> tuple[int, int]:
        """Return height and width of the images of a split."""
        height, width = self._splits[split][0].shape[1:3]
        return int(height), int(width)

    def num_examples(self) -> dict[str, int]:
        """Return the number of images of each split."""
        return {split: len(labels_N) for split, (_, labels_N) in self._splits.items()}

    def labels(self, split: str) -> np.ndarray:
        """Return the labels of a split."""
        return self._splits[split][1]

    def write(self, split: str, images_BHWC: np.ndarray, *, start: int, num_workers: int) -> None:
        """Copy the images of a split from `start` on."""
        del num_workers
        images_BHWC[:] = self._splits[split][0][start : start + len(images_BHWC)]
