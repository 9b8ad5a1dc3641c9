"""Images that need no files: fractals, sprites and gratings, and scikit-learn's digits."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from bench.data.cards.generated import formula_card
from bench.data.readers.base import DatasetOptions, Reader
from bench.data.sources.base import MAX_CLASSES, Source, Unencoded, Whole
from bench.errors import DataError
from bench.specs import Args, DatasetCard

if TYPE_CHECKING:
    import numpy as np

PARALLEL_FROM_IMAGES = 50_000
"""Fractals from which a pool of processes pays for its start."""


def _numbers(args: Args) -> dict[str, int]:
    return {key: int(value) for key, value in args.items()}  # type: ignore[arg-type]


# --- fractals -------------------------------------------------------------------------------


class FormulaOptions(DatasetOptions):
    """Options of fractals: how many, and from which seed."""

    num_classes: int = Field(gt=1, le=MAX_CLASSES)
    """Number of classes."""
    images_per_class: int = Field(gt=0, le=1_000_000)
    """Images per class."""
    image_size_px: int = Field(gt=0, le=4096)
    """Side of the square images, in pixels."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    """Seed of the generator."""


class FormulaReader(Reader[FormulaOptions]):
    """Fractals of iterated function systems (`sources/fractals.py`)."""

    def card(
        self, name: str, options: FormulaOptions, *, base_dir: Path, claim: DatasetCard | None
    ) -> DatasetCard:
        """Return the card; its digest is that of the arguments."""
        del base_dir, claim
        return formula_card(name, **options.model_dump(exclude={"reader"}))

    def open(self, card: DatasetCard) -> Source:
        """Return the generator."""
        return Fractals(**_numbers(card.args))


class Fractals(Unencoded):
    """Fractals: class by class, each class generated in one call."""

    def __init__(
        self, *, num_classes: int, images_per_class: int, image_size_px: int, seed: int
    ) -> None:
        self._side_px = image_size_px
        self._num_classes, self._per_class = num_classes, images_per_class
        self._seed = seed

    def size_px(self, split: str) -> tuple[int, int]:
        """Return height and width of the images."""
        del split
        return self._side_px, self._side_px

    def num_examples(self) -> dict[str, int]:
        """Return the number of images of each split."""
        return {"train": self._num_classes * self._per_class}

    def labels(self, split: str) -> np.ndarray:
        """Return the labels of a split."""
        import numpy as np

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
            tasks.append((self._seed, label, instances, self._side_px))
        parallel = num_workers > 1 and len(images_BHWC) >= PARALLEL_FROM_IMAGES
        with _processes(num_workers if parallel else 1) as pool:
            done = pool.map(_one_class, tasks, chunksize=4) if pool else map(_one_class, tasks)
            place = 0
            for class_BHWC in done:
                images_BHWC[place : place + len(class_BHWC)] = class_BHWC
                place += len(class_BHWC)


def _one_class(task: tuple[int, int, tuple[int, int], int]) -> np.ndarray:
    import numpy as np

    from bench.data.sources import fractals

    seed, label, (first, last), side = task
    return fractals.images(
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


# --- small sets -----------------------------------------------------------------------------


class SpritesReader(Reader[DatasetOptions]):
    """Sprites and gratings of a micro task (`sources/sprites.py`)."""

    def open(self, card: DatasetCard) -> Source:
        """Return the generated images."""
        from bench.data.sources.sprites import generate

        task, seed = str(card.args["task"]), int(card.args["seed"])  # type: ignore[arg-type]
        return Whole({split: generate(task, split, seed=seed) for split in card.splits})


class DigitsReader(Reader[DatasetOptions]):
    """The 1,797 handwritten digits of scikit-learn, 8 x 8 grey, with a fixed stratified split."""

    def open(self, card: DatasetCard) -> Source:
        """Return the digits as scikit-learn carries them."""
        import numpy as np
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
        args = _numbers(card.args)
        share = args["num_test"] / len(labels_N)
        train, test = held_out_indices(labels_N, share, seed=args["seed"])
        return Whole(
            {
                split: (images_NHWC[rows], labels_N[rows])
                for split, rows in (("train", train), ("test", test))
            }
        )


READERS = (
    FormulaReader(name="formula", options=FormulaOptions, synthetic=True),
    SpritesReader(name="sprites", synthetic=True),
    DigitsReader(name="digits"),
)
