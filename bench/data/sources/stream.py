"""Streaming from shards: sets larger than the disk's cache, in a repeatable order.

An epoch permutes the shards, takes `window_shards` of them at a time and permutes the examples
within each window. It is a function of (seed, epoch) alone, so that any step can be repeated,
resumed at, and split among workers without playing back what came before. Memory holds the index
of one window, not of the set.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from bench.data import decode, decoders
from bench.data.sources.shards import ShardSet

WINDOW_SHARDS = 16
"""Shards of an epoch that are mixed with each other; more mixes better and seeks more."""


@lru_cache(maxsize=4)
def _permutation(num: int, *key: int) -> np.ndarray:
    return np.random.default_rng(key).permutation(num)


@dataclass(frozen=True)
class Order:
    """The order in which an epoch visits the examples of a set."""

    counts: tuple[int, ...]
    """Examples of each shard."""
    seed: int
    """Seed of all epochs."""
    window_shards: int = WINDOW_SHARDS
    """Shards that are mixed with each other."""

    @property
    def num_examples(self) -> int:
        """Examples of an epoch."""
        return sum(self.counts)

    def places(self, start: int, num: int) -> np.ndarray:
        """Return (shard, row) of `num` examples (num, 2) from position `start` of the stream.

        The stream is one epoch after another, each example once in each.
        """
        parts = []
        while num > 0:
            epoch, offset = divmod(start, self.num_examples)
            places = self._within(epoch, offset, num)
            parts.append(places)
            start, num = start + len(places), num - len(places)
        return np.concatenate(parts) if parts else np.empty((0, 2), dtype=np.int64)

    def _within(self, epoch: int, offset: int, num: int) -> np.ndarray:
        """Return at most `num` places from `offset` of an epoch, up to the end of its window."""
        shards = _permutation(len(self.counts), self.seed, epoch)
        first = 0
        for window, begin in enumerate(range(0, len(shards), self.window_shards)):
            members = shards[begin : begin + self.window_shards]
            size = sum(self.counts[shard] for shard in members)
            if offset < first + size:
                inside = offset - first
                chosen = _permutation(size, self.seed, epoch, window)[inside : inside + num]
                ends = np.cumsum([self.counts[shard] for shard in members])
                which = np.searchsorted(ends, chosen, side="right")
                rows = chosen - (ends[which] - np.take(self.counts, members[which]))
                return np.stack((members[which], rows), axis=1)
            first += size
        raise AssertionError("an offset within the epoch lies in one of its windows")


class Fetched:
    """Images that were read from where they lie, not yet decoded."""

    def __init__(self, contents: Sequence[bytes], names: Sequence[str]) -> None:
        self._contents, self._names = contents, names
        named = zip(contents, names, strict=True)
        self.sizes_N2 = np.array([decode.size_of(content, name=name) for content, name in named])
        """Height and width of every image."""

    def each(self, rows: np.ndarray, work: Callable[[int, np.ndarray], None]) -> None:
        """Decode some images and call `work(place, image_HW4)` on each; raises DataError."""

        def one(place: int) -> None:
            row = int(rows[place])
            work(place, decode.original_4(self._contents[row], name=self._names[row]))

        decoders.each(one, range(len(rows)))


class ShardBatches:
    """Batches of a streamed set, addressed by step."""

    def __init__(
        self,
        shard_set: ShardSet,
        *,
        batch_size: int,
        seed: int,
        squared_px: int | None,
        window_shards: int = WINDOW_SHARDS,
    ) -> None:
        self._set = shard_set
        self._order = Order(
            tuple(shard.num_examples for shard in shard_set.shards), seed, window_shards
        )
        self.batch_size = batch_size
        """Images of a batch."""
        self._squared_px = squared_px

    def places(self, step: int) -> np.ndarray:
        """Return (shard, row) of every image of a step's batch."""
        return self._order.places(step * self.batch_size, self.batch_size)

    def at(
        self, step: int, rows_B: np.ndarray | None = None
    ) -> tuple[np.ndarray | Fetched, np.ndarray]:
        """Return the images and labels_B (int64) of a step, or of some places in its batch.

        Images are fetched originals; or images_BHWC (uint8), where they are to be squares.
        """
        chosen = self.places(step) if rows_B is None else self.places(step)[rows_B]
        places = [(int(shard), int(row)) for shard, row in chosen]
        labels_B = np.array([self._set.label(*place) for place in places], dtype=np.int64)
        if self._squared_px is None:
            contents = [self._set.content(*place) for place in places]
            return Fetched(contents, [self._set.name(*place) for place in places]), labels_B
        size_px = (self._squared_px, self._squared_px)
        images_BHWC = np.empty((len(places), *size_px, 3), dtype=np.uint8)

        def fill(index: int) -> None:
            content, name = self._set.content(*places[index]), self._set.name(*places[index])
            images_BHWC[index] = decode.squashed_of(content, size_px=size_px, name=name)

        decoders.each(fill, range(len(places)))
        return images_BHWC, labels_B
