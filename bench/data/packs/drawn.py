"""A data set of which some splits have few images: what a job of a limited run reads.

Images stay where they are, and are read when they are asked for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import numpy as np

from bench.data.packs.read import Images, Originals, Split, Splits
from bench.data.splits import drawn_rows


class Drawn:
    """A data set with at most so many images in each of `splits`; other splits are whole.

    `by_details`: scoring averages over the cells that details name (corruption, severity), so
    these are drawn from alike, and not the classes.
    """

    def __init__(
        self,
        whole: Splits,
        splits: Collection[str],
        num_images: int,
        *,
        by_details: bool = False,
    ) -> None:
        self._whole = whole
        self._splits = splits
        self._num_images = num_images
        self._by_details = by_details
        self._drawn: dict[str, Split] = {}

    def split(self, name: str) -> Split:
        """Open a split, drawn by `drawn_rows`; one that has no more images is as it was."""
        if name not in self._drawn:
            self._drawn[name] = self._draw(name)
        return self._drawn[name]

    def _draw(self, name: str) -> Split:
        found = self._whole.split(name)
        if name not in self._splits or len(found.labels_N) <= self._num_images:
            return found
        images, details = found.images_NHWC, found.details_NF
        cells = details if self._by_details else None
        rows_N = drawn_rows(found.labels_N, self._num_images, details_NF=cells)
        return Split(
            images.taking(rows_N) if isinstance(images, Originals) else _Rows(images, rows_N),
            found.labels_N[rows_N],
            None if details is None else details[rows_N],
        )


class _Rows:
    """Some images of one size, read from all of them when they are asked for."""

    def __init__(self, images: Images, rows_N: np.ndarray) -> None:
        self._images = images
        self._rows_N = rows_N

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, H, W, 3)."""
        return (len(self), *self._images.shape[1:])

    def __len__(self) -> int:
        return len(self._rows_N)

    def __iter__(self) -> Iterator[Any]:
        return (self._images[int(row)] for row in self._rows_N)

    def __getitem__(self, rows: Any, /) -> Any:
        return self._images[self._rows_N[rows]]
