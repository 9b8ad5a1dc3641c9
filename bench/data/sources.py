"""Readers: from a data set card to uint8 images and labels, split by split.

A reader turns a card into a Source, which says how many images each split has and writes them into
arrays that the caller provides (`prepare.py` gives it memory-mapped files). Images come out square,
RGB, uint8; labels as int64 in [0, num_classes).
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from bench.data import arrays, folders, formula, shards
from bench.errors import DataError, UnknownName
from bench.specs import DatasetCard

T = TypeVar("T")

PARALLEL_FROM_IMAGES = 50_000
"""Formula images from which a pool of processes pays for its start."""


class Source(Protocol):
    """Where the images of one data set come from."""

    image_size_px: int
    """Side of the square images."""

    def num_examples(self) -> dict[str, int]:
        """Return the number of images of each split."""
        ...

    def write(
        self, split: str, images_NHWC: np.ndarray, labels_N: np.ndarray, *, num_workers: int
    ) -> None:
        """Fill the arrays with all images and labels of a split; raises DataError."""
        ...


def open_source(card: DatasetCard) -> Source:
    """Return the source of a card; raises DataError when the data are not there."""
    if card.reader not in READERS:
        raise UnknownName("reader", card.reader, READERS, where=card.name)
    return READERS[card.reader](card)


# --- scikit-learn's digits ------------------------------------------------------------------


class Digits:
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
        self._images_NHWC = np.repeat(grey_NHW[..., None], 3, axis=-1)
        self._labels_N = bunch.target.astype(np.int64)
        share = int(card.args["num_test"]) / len(self._labels_N)  # type: ignore[arg-type]
        train, test = held_out_indices(self._labels_N, share, seed=int(card.args["seed"]))  # type: ignore[arg-type]
        self._indices = {"train": train, "test": test}

    def num_examples(self) -> dict[str, int]:
        """Return the number of images of each split."""
        return {split: len(indices) for split, indices in self._indices.items()}

    def write(
        self, split: str, images_NHWC: np.ndarray, labels_N: np.ndarray, *, num_workers: int
    ) -> None:
        """Fill the arrays with a split."""
        del num_workers
        images_NHWC[:] = self._images_NHWC[self._indices[split]]
        labels_N[:] = self._labels_N[self._indices[split]]


# --- formula-driven images ------------------------------------------------------------------


class Formula:
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

    def write(
        self, split: str, images_NHWC: np.ndarray, labels_N: np.ndarray, *, num_workers: int
    ) -> None:
        """Generate all classes, in processes where there is enough to do."""
        del split
        per_class = self._per_class
        labels_N[:] = np.repeat(np.arange(self._num_classes), per_class)
        tasks = [
            (self._seed, label, per_class, self.image_size_px) for label in range(self._num_classes)
        ]
        parallel = num_workers > 1 and len(labels_N) >= PARALLEL_FROM_IMAGES
        with _processes(num_workers if parallel else 1) as pool:
            done = pool.map(_one_class, tasks, chunksize=4) if pool else map(_one_class, tasks)
            for label, class_NHWC in enumerate(done):
                images_NHWC[label * per_class : (label + 1) * per_class] = class_NHWC


def _one_class(task: tuple[int, int, int, int]) -> np.ndarray:
    seed, label, per_class, side = task
    return formula.images(
        seed=seed, class_index=label, instances_N=np.arange(per_class), image_size_px=side
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


# --- image folders --------------------------------------------------------------------------


def image_files(card: DatasetCard) -> folders.Folder:
    """Return the files of a card that is read from an image folder or a CSV, damaged ones too."""
    scan = folders.scan_csv if card.reader == "csv" else folders.scan
    return scan(
        Path(str(card.args["path"])),
        test_share=float(card.args["test_share"]),  # type: ignore[arg-type]
        seed=int(card.args["seed"]),  # type: ignore[arg-type]
    )


class ImageFiles:
    """A user's own images, in class folders or named by a CSV, decoded to squares of one size."""

    def __init__(self, card: DatasetCard) -> None:
        self.image_size_px = int(card.args["image_size_px"])  # type: ignore[arg-type]
        self._folder = image_files(card)
        if card.args.get("skip_damaged"):
            from bench.data.damaged import without_damaged

            self._folder, _ = without_damaged(self._folder)

    def num_examples(self) -> dict[str, int]:
        """Return the number of images of each split."""
        return {split: len(files) for split, files in self._folder.splits.items()}

    def write(
        self, split: str, images_NHWC: np.ndarray, labels_N: np.ndarray, *, num_workers: int
    ) -> None:
        """Decode every file; raises DataError at the first that is no image."""
        from bench.data.decode import square_image

        files = self._folder.splits[split]
        labels_N[:] = [label for _, label in files]

        def decode(index: int) -> None:
            path = self._folder.root / files[index][0]
            images_NHWC[index] = square_image(path, size_px=self.image_size_px)

        # Decoding and resizing release the interpreter's lock: threads share the output array.
        _in_threads(decode, range(len(files)), num_workers)


# --- arrays ---------------------------------------------------------------------------------


class Arrays:
    """Images that come as arrays: idx files, CIFAR's batches, .npz."""

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

    def write(
        self, split: str, images_NHWC: np.ndarray, labels_N: np.ndarray, *, num_workers: int
    ) -> None:
        """Copy a split, resized where its images are of another size."""
        content = self._set.splits[split]
        labels_N[:] = content.labels_N
        images = content.images()
        if content.size_px == (self.image_size_px, self.image_size_px):
            images_NHWC[:] = images[..., None] if images.ndim == 3 else images
            return
        from bench.data.decode import square_array

        def resize(index: int) -> None:
            images_NHWC[index] = square_array(images[index], self.image_size_px)

        _in_threads(resize, range(len(images)), num_workers)


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

    def write(
        self, split: str, images_NHWC: np.ndarray, labels_N: np.ndarray, *, num_workers: int
    ) -> None:
        """Decode every example, shard by shard."""
        shard_set = self._sets[split]
        labels_N[:] = shard_set.labels()
        places = (
            (shard, row)
            for shard, item in enumerate(shard_set.shards)
            for row in range(item.num_examples)
        )

        def decode(task: tuple[int, tuple[int, int]]) -> None:
            index, (shard, row) = task
            images_NHWC[index], _ = shard_set.image(shard, row, size_px=self.image_size_px)

        _in_threads(decode, enumerate(places), num_workers)


def _in_threads(work: Callable[[T], None], items: Iterable[T], num_workers: int) -> None:
    """Do the work on every item, a bounded number at a time; the first error ends it."""
    num_workers = max(1, min(num_workers, os.cpu_count() or 1))
    pending = iter(items)
    with ThreadPoolExecutor(num_workers) as pool:
        while chunk := list(islice(pending, 256 * num_workers)):
            for _ in pool.map(work, chunk):
                pass


READERS: dict[str, Callable[[DatasetCard], Source]] = {
    "digits": Digits,
    "formula": Formula,
    "image_folder": ImageFiles,
    "csv": ImageFiles,
    "idx": Arrays,
    "cifar": Arrays,
    "arrays": Arrays,
    "shards": Shards,
}
