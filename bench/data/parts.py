"""Which images of a batch are where: parts that workers hold, and pieces that they take in turn.

A batch stays one batch however it is parted: every image is in one part, and what is drawn for it
belongs to its place in the batch.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Part:
    """One worker's share of every batch, or one piece of that share; the default is all of it."""

    piece: int = 0
    """Which piece of the worker's share, from 0."""
    pieces: int = 1
    """Pieces that every worker takes one after another."""
    rank: int = 0
    """Which worker, from 0."""
    world: int = 1
    """Workers that share a batch."""

    def __post_init__(self) -> None:
        if not (0 <= self.piece < self.pieces and 0 <= self.rank < self.world):
            raise ValueError(f"{self} is no part of a batch")

    @property
    def is_whole(self) -> bool:
        """Whether this is the whole batch."""
        return self.pieces == self.world == 1

    def rows(self, batch_size: int) -> np.ndarray:
        """Return the places in the batch (int64, ascending) of the images of this part.

        Image i and its mirror B - 1 - i, which mixup mixes it with, are in the same part, so that
        reversing the part finds the partner; only with more parts than pairs is each image alone.
        Raises ValueError where there are more parts than images.
        """
        import numpy as np  # whoever only plans how many pieces there are needs none of it

        index, parts = self.rank * self.pieces + self.piece, self.world * self.pieces
        if parts > batch_size:
            raise ValueError(f"a batch of {batch_size} images has no {parts} parts")
        pairs = (batch_size + 1) // 2
        num = pairs if parts <= pairs else batch_size
        rows = np.arange(index * num // parts, (index + 1) * num // parts)
        return rows if num == batch_size else np.union1d(rows, batch_size - 1 - rows)

    def following(self) -> Part | None:
        """Return the piece after this one; None at the end of the batch."""
        return replace(self, piece=self.piece + 1) if self.piece + 1 < self.pieces else None

    def first(self) -> Part:
        """Return the piece that a batch begins with."""
        return replace(self, piece=0)


WHOLE = Part()


def most_pieces(batch_size: int, *, world: int, keeps_pairs: bool) -> int:
    """Return the most pieces that a worker's share can be taken in.

    With `keeps_pairs` (mixup) an image and its partner stay together.
    """
    return max(1, ((batch_size + 1) // 2 if keeps_pairs else batch_size) // world)


def largest_part(batch_size: int, parts: int) -> int:
    """Return the most images that one of some parts of a batch can have."""
    pairs = (batch_size + 1) // 2
    if parts <= pairs:
        return min(batch_size, 2 * -(-pairs // parts))
    return -(-batch_size // parts)


def fewest_pieces(batch_size: int, *, num_images: int, world: int = 1, most: int) -> int | None:
    """Return the fewest pieces, `most` at most, of at most `num_images` images each.

    None where even `most` pieces have more.

    >>> fewest_pieces(512, num_images=100, most=512)
    6
    """
    fewest = 1 + bisect_left(
        range(1, most + 1), True, key=lambda n: largest_part(batch_size, n * world) <= num_images
    )
    return fewest if fewest <= most else None
