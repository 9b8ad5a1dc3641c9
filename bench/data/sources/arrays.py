"""Sets whose images come as arrays: labels at once, pixels when they are asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.data.sources.base import Unencoded, check_num_classes
from bench.data.sources.pool import in_threads
from bench.errors import DataError

if TYPE_CHECKING:
    import numpy as np

VERSION = 1
"""Bumped when the same files give other images, labels or splits."""


@dataclass(frozen=True)
class ArraySplit:
    """One split: labels at once, pixels when they are asked for."""

    labels_N: np.ndarray
    """int64."""
    size_px: tuple[int, int]
    """Height and width."""
    selector: str
    """How the split was selected, in words."""
    images: Callable[[], np.ndarray]
    """Returns uint8 (N, H, W) grey or (N, H, W, 3) RGB."""


@dataclass(frozen=True)
class ArraySet:
    """A data set in arrays."""

    files: tuple[str, ...]
    """Files read, relative to the path's folder."""
    splits: dict[str, ArraySplit]
    """Splits by name."""
    class_names: tuple[str, ...] = ()
    """Class names in label order, where the files have them."""
    has_test: bool = True
    """Whether the files have a test split, else it was drawn."""

    @property
    def num_classes(self) -> int:
        """Classes: as many as there are names, or as the largest training label asks for."""
        return len(self.class_names) or int(self.splits["train"].labels_N.max()) + 1


Read = Callable[[Path], ArraySet]
"""Reads the files at a path; raises DataError naming the file, what is wrong, and the cure."""


def read(read_files: Read, path: Path, *, test_share: float, seed: int) -> ArraySet:
    """Read and check the files at `path`; without a test split, one is drawn, stratified.

    Raises DataError naming the file, what is wrong with it, and the cure.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file or folder", hint="Check path in the suite file")
    found = read_files(path)
    for split, content in found.splits.items():
        if not len(content.labels_N):
            raise DataError(f"{path}, {split}: no images", hint="Check that the files are complete")
    check_num_classes(found.num_classes, where=str(path))
    for split, content in found.splits.items():
        _check(content, where=f"{path}, {split}", num_classes=found.num_classes)
    return found if "test" in found.splits else _with_test(found, test_share, seed)


def root_of(path: Path) -> Path:
    """Return the folder that `ArraySet.files` are relative to."""
    return path if path.is_dir() else path.parent


def _check(split: ArraySplit, *, where: str, num_classes: int) -> None:
    labels_N = split.labels_N
    if 0 in split.size_px:
        raise DataError(f"{where}: images of {split.size_px[0]} x {split.size_px[1]} pixels")
    if labels_N.min() < 0 or labels_N.max() >= num_classes:
        raise DataError(
            f"{where}: labels from {labels_N.min()} to {labels_N.max()}, but there are "
            f"{num_classes} classes",
            hint="Labels must count from 0 and every test class must be in train",
        )


def _with_test(found: ArraySet, share: float, seed: int) -> ArraySet:
    from bench.data.splits import held_out_indices

    whole = found.splits["train"]
    selector = f"{share:g} of all drawn for test, stratified, with seed {seed}"
    train, test = held_out_indices(whole.labels_N, share, seed=seed)

    def part(rows: np.ndarray) -> ArraySplit:
        return ArraySplit(
            whole.labels_N[rows], whole.size_px, selector, lambda: whole.images()[rows]
        )

    splits = {"train": part(train), "test": part(test)}
    return ArraySet(found.files, splits, found.class_names, has_test=False)


def kept(images: np.ndarray) -> np.ndarray:
    """Return the images: of splits whose pixels were read with the labels."""
    return images


class Arrays(Unencoded):
    """Images from arrays: at their own size, or squashed to squares where a side is given."""

    def __init__(self, content: ArraySet, *, image_size_px: int | None) -> None:
        self._square_px = image_size_px
        self._set = content

    def size_px(self, split: str) -> tuple[int, int]:
        """Return height and width of the images of a split."""
        if self._square_px:
            return self._square_px, self._square_px
        return self._set.splits[split].size_px

    def num_examples(self) -> dict[str, int]:
        """Return the number of images of each split."""
        return {split: len(content.labels_N) for split, content in self._set.splits.items()}

    def labels(self, split: str) -> np.ndarray:
        """Return the labels of a split."""
        return self._set.splits[split].labels_N

    def write(self, split: str, images_BHWC: np.ndarray, *, start: int, num_workers: int) -> None:
        """Copy images from `start` on, resized where they are of another size."""
        content = self._set.splits[split]
        images = content.images()[start : start + len(images_BHWC)]
        if content.size_px == images_BHWC.shape[1:3]:
            images_BHWC[:] = images[..., None] if images.ndim == 3 else images
            return
        from bench.data.decode import squashed_array

        def resize(index: int) -> None:
            images_BHWC[index] = squashed_array(images[index], images_BHWC.shape[1:3])

        in_threads(resize, range(len(images)), num_workers)
