"""What lies at a path: layout, classes, splits, sizes of pictures, damaged files, copies.

The pictures are packed on the way, at the size that the suite will see them at, into the work
folder that it will run in: nothing is decoded twice.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from bench.data import catalog
from bench.data.getting import recognize
from bench.data.getting.archives import SUFFIXES as ARCHIVES
from bench.data.packs import build, examine
from bench.data.packs.read import Packed
from bench.data.readers import READERS, reader_of
from bench.data.sources.folder import LAYOUT_HINT
from bench.errors import DataError, UserError
from bench.paths import CachePaths
from bench.specs import DatasetCard

SAMPLED = 500
"""Pictures of each split whose sizes are read, spread evenly."""

SIZES_PX = (16, 32, 64)
"""Sides at which micro systems see pictures."""


@dataclass(frozen=True)
class Looked:
    """What was found, packed for a suite."""

    block: dict[str, Any]
    """The suite's `[dataset.NAME]`, its path absolute."""
    card: DatasetCard
    """Its card."""
    packed: Packed
    """Its pictures, as squares."""
    sides_px: tuple[tuple[int, int], ...]
    """Height and width of the pictures that were looked at."""
    per_class: dict[str, tuple[int, ...]]
    """Pictures of each class, by split."""
    damaged: tuple[str, ...]
    """One message for each file that does not decode."""
    notes: tuple[str, ...]
    """What is odd."""

    @property
    def size_px(self) -> int:
        """Side at which the suite sees them."""
        return int(self.block["image_size_px"])

    @property
    def num_train(self) -> int:
        """Pictures to learn from."""
        return self.card.splits["train"].num_examples


def look(path: Path, *, cache: CachePaths, size_px: int | None = None) -> Looked:
    """Return what lies at a folder or file; raises DataError where no suite can use it."""
    reader, place = _found(path.expanduser().absolute())
    name = _name(path)
    block: dict[str, Any] = {"reader": reader, "path": str(place)}
    card = catalog.resolve(name, block, base_dir=Path("/"))
    if "train" not in card.splits or "test" not in card.splits:
        have = ", ".join(card.splits)
        raise DataError(f"{place}: has {have} alone", hint="Add images to learn from and to test")
    sides_px = tuple(_sizes(card))
    block["image_size_px"] = size_px or fitting(sides_px)
    card, packed, damaged = _packed(name, block, cache)
    found = examine.examine(packed, class_names=card.class_names)
    per_class = {split: part.per_class for split, part in found.splits.items()}
    notes = examine.notes_on(card, cache_dir=cache.folder)
    return Looked(block, card, packed, sides_px, per_class, damaged, notes)


def fitting(sides_px: tuple[tuple[int, int], ...]) -> int:
    """Return the side that fits pictures: the largest that at least half of them need not grow to.

    >>> fitting(((28, 28),)), fitting(((500, 375), (40, 60))), fitting(((8, 8),))
    (32, 64, 16)
    """
    shorter = sorted(min(side) for side in sides_px)
    median = shorter[len(shorter) // 2]
    # A picture may grow by a sixth: MNIST's 28 px are nearer to 32 than to 16.
    return max((side for side in SIZES_PX if side <= median * 7 / 6), default=SIZES_PX[0])


def _found(path: Path) -> tuple[str, Path]:
    """Return reader and place of the layout at or below a path."""
    if not path.exists():
        raise UserError(f"{path}: no such file or folder", hint="Check the path")
    if path.name.endswith(ARCHIVES):
        raise DataError(f"{path}: an archive", hint="Unpack it, then name the folder")
    reader, place = next(recognize.search(path), ("", path))
    if not reader:
        raise DataError(f"{path}: no layout of pictures that is known", hint=LAYOUT_HINT)
    if not hasattr(READERS[reader].options, "model_fields"):
        raise DataError(
            f"{place}: the files of a published set", hint="vitbench data prepare NAME --path PATH"
        )
    return reader, place


def _name(path: Path) -> str:
    """Return a name for the data set, which no published set has.

    >>> _name(Path("/data/My flowers (2)")), _name(Path("mnist"))
    ('my-flowers-2', 'my-mnist')
    """
    name = re.sub(r"[^a-z0-9]+", "-", path.absolute().stem.lower()).strip("-") or "pictures"
    return f"my-{name}" if name in catalog.datasets() else name[:40]


def _sizes(card: DatasetCard) -> Iterator[tuple[int, int]]:
    """Yield height and width of pictures of each split, from the heads of their files."""
    from bench.data.decode import size_of

    source = reader_of(card).open(card)
    for split, part in card.splits.items():
        known = source.size_px(split)
        if known is not None:
            yield known
            continue
        step = max(1, part.num_examples // SAMPLED)
        for name, content_of in islice(source.encoded(split, start=0), 0, None, step):
            try:
                yield size_of(content_of(), name=name)
            except DataError:
                continue  # told when it is packed


def _packed(
    name: str, block: dict[str, Any], cache: CachePaths
) -> tuple[DatasetCard, Packed, tuple[str, ...]]:
    """Return card and squares, damaged files left out where the layout can be read without them."""
    workers = os.cpu_count() or 1
    card = catalog.resolve(name, block, base_dir=Path("/"))
    try:
        return card, build.packed(card, cache_dir=cache.folder, num_workers=workers), ()
    except DataError:
        damaged = tuple(reader_of(card).damaged(card, num_workers=workers))
        fields = getattr(reader_of(card).options, "model_fields", {})
        if not damaged or "skip_damaged" not in fields:
            raise
    block["skip_damaged"] = True
    card = catalog.resolve(name, block, base_dir=Path("/"))
    return card, build.packed(card, cache_dir=cache.folder, num_workers=workers), damaged
