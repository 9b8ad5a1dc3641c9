"""Readers: from a data set card to uint8 images and labels, split by split.

A reader turns a card into a Source, which says how many images each split has and writes them into
arrays that the caller provides (`prepare.py` gives it memory-mapped files). Images come out square,
RGB, uint8; labels as int64 in [0, num_classes).
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from bench.data import micro
from bench.data.readers import arrays, formula, layouts, rows
from bench.data.readers.file_sources import Encoded, ImageFiles, Shards
from bench.data.readers.pool import in_threads
from bench.errors import DataError, UnknownName
from bench.specs import DatasetCard

PARALLEL_FROM_IMAGES = 50_000
"""Formula images from which a pool of processes pays for its start."""


class Source(Protocol):
    """Where the images of one data set come from."""

    image_size_px: int
    """Side of the square images."""

    def num_examples(self) -> dict[str, int]:
        """Return the number of images of each split."""
        ...

    def labels(self, split: str) -> np.ndarray:
        """Return the labels of a split, labels_N (int64)."""
        ...

    def write(self, split: str, images_BHWC: np.ndarray, *, start: int, num_workers: int) -> None:
        """Fill the array with the images of a split from `start` on; raises DataError."""
        ...

    def encoded_bytes(self) -> int:
        """Return the bytes of all image files, 0 where the reader has no such files."""
        ...

    def encoded(self, split: str, *, start: int, num_workers: int) -> Iterator[bytes]:
        """Yield the bytes of each image file from `start` on, each known to decode."""
        ...


@runtime_checkable
class Detailed(Protocol):
    """A source that knows more of an image than one label (`scoring.judge`)."""

    def details(self, split: str) -> np.ndarray | None:
        """Return details_NF (int64), or None where labels are all there is."""
        ...


def open_source(card: DatasetCard) -> Source:
    """Return the source of a card; raises DataError when the data are not there."""
    if card.reader not in READERS:
        raise UnknownName("reader", card.reader, READERS, where=card.name)
    return READERS[card.reader](card)


class Whole:
    """Base of small sets that are made or read at once: subclasses give images and labels."""

    image_size_px: int

    def __init__(self, splits: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
        self._splits = splits
        """(images_NHWC, labels_N) by split."""

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

    def encoded_bytes(self) -> int:
        """Return 0: there are no image files."""
        return 0

    def encoded(self, split: str, *, start: int, num_workers: int) -> Iterator[bytes]:
        """Yield nothing: there are no image files."""
        del split, start, num_workers
        return iter(())


# --- scikit-learn's digits ------------------------------------------------------------------


class Digits(Whole):
    """The 1,797 handwritten digits of scikit-learn, 8 x 8 grey, with a fixed stratified split."""

    image_size_px = 8

    def __init__(self, card: DatasetCard) -> None:
        from sklearn.datasets import load_digits

        from bench.data.splits import held_out_indices

        bunch = load_digits()
        values_NHW = bunch.images
        if values_NHW.shape != (1797, 8, 8) or values_NHW.max() != 16:
            raise DataError(
                "digits: scikit-learn's copy is not the one known here",
                hint="Install scikit-learn as pinned in requirements.lock",
            )
        grey_NHW = np.round(values_NHW * (255 / 16)).astype(np.uint8)
        images_NHWC = np.repeat(grey_NHW[..., None], 3, axis=-1)
        labels_N = bunch.target.astype(np.int64)
        share = int(card.args["num_test"]) / len(labels_N)  # type: ignore[arg-type]
        train, test = held_out_indices(labels_N, share, seed=int(card.args["seed"]))  # type: ignore[arg-type]
        super().__init__(
            {
                split: (images_NHWC[rows], labels_N[rows])
                for split, rows in (("train", train), ("test", test))
            }
        )


# --- images from formulas -------------------------------------------------------------------


class Sprites(Whole):
    """Sprites and gratings of a micro task."""

    image_size_px = micro.IMAGE_SIZE_PX

    def __init__(self, card: DatasetCard) -> None:
        from bench.data.readers.sprites import generate

        seed = int(card.args["seed"])  # type: ignore[arg-type]
        super().__init__(
            {split: generate(str(card.args["task"]), split, seed=seed) for split in card.splits}
        )


class Formula(Whole):
    """Fractals: class by class, each class generated in one call."""

    def __init__(self, card: DatasetCard) -> None:
        args = {key: int(value) for key, value in card.args.items()}  # type: ignore[arg-type]
        self.image_size_px = args["image_size_px"]
        self._num_classes = args["num_classes"]
        self._per_class = args["images_per_class"]
        self._seed = args["seed"]

    def num_examples(self) -> dict[str, int]:
        """Return the number of images of each split."""
        return {"train": self._num_classes * self._per_class}

    def labels(self, split: str) -> np.ndarray:
        """Return the labels of a split."""
        del split
        return np.repeat(np.arange(self._num_classes), self._per_class)

    def write(self, split: str, images_BHWC: np.ndarray, *, start: int, num_workers: int) -> None:
        """Generate the images from `start` on, in processes where there is enough to do."""
        del split
        per_class, stop = self._per_class, start + len(images_BHWC)
        tasks = []
        for label in range(start // per_class, -(-stop // per_class)):
            first, last = max(start, label * per_class), min(stop, (label + 1) * per_class)
            instances = (first - label * per_class, last - label * per_class)
            tasks.append((self._seed, label, instances, self.image_size_px))
        parallel = num_workers > 1 and len(images_BHWC) >= PARALLEL_FROM_IMAGES
        with _processes(num_workers if parallel else 1) as pool:
            done = pool.map(_one_class, tasks, chunksize=4) if pool else map(_one_class, tasks)
            place = 0
            for class_BHWC in done:
                images_BHWC[place : place + len(class_BHWC)] = class_BHWC
                place += len(class_BHWC)


def _one_class(task: tuple[int, int, tuple[int, int], int]) -> np.ndarray:
    seed, label, (first, last), side = task
    return formula.images(
        seed=seed, class_index=label, instances_N=np.arange(first, last), image_size_px=side
    )


@contextmanager
def _processes(num_workers: int) -> Iterator[Executor | None]:
    """Yield a pool of fresh processes, or None for one worker: forking a threaded one may hang."""
    if num_workers <= 1:
        yield None
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(num_workers, mp_context=context) as pool:
        yield pool


# --- arrays ---------------------------------------------------------------------------------


class Arrays(Whole):
    """Images that come as arrays: idx files, CIFAR's batches, .npz, .mat, STL-10's binaries."""

    def __init__(self, card: DatasetCard) -> None:
        args = card.args
        self.image_size_px = int(args["image_size_px"])  # type: ignore[arg-type]
        self._set = arrays.read(
            card.reader,
            Path(str(args["path"])),
            test_share=float(args["test_share"]),  # type: ignore[arg-type]
            seed=int(args["seed"]),  # type: ignore[arg-type]
        )

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
        if content.size_px == (self.image_size_px, self.image_size_px):
            images_BHWC[:] = images[..., None] if images.ndim == 3 else images
            return
        from bench.data.decode import square_array

        def resize(index: int) -> None:
            images_BHWC[index] = square_array(images[index], self.image_size_px)

        in_threads(resize, range(len(images)), num_workers)


READERS: dict[str, Callable[[DatasetCard], Source]] = {
    "digits": Digits,
    "sprites": Sprites,
    "formula": Formula,
    "shards": Shards,
    **dict.fromkeys(layouts.READERS, ImageFiles),
    **dict.fromkeys(arrays.readers(), Arrays),
    **dict.fromkeys(rows.READERS, Encoded),
}
