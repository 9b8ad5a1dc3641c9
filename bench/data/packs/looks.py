"""What is kept of one look at each image: the SHA-256 of its pixels, and whether it is flat.

Whoever packs an image has its pixels at hand, so it is looked at then, and never decoded for it
again: copies, and images that two splits or two sets share, are found from this file alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bench.data.sources.base import Named
from bench.data.sources.pool import mapped
from bench.errors import DataError

LOOK = np.dtype([("sha256", "V32"), ("is_flat", "?")])
"""One image: the SHA-256 of its pixels (as squares where the set is squashed), of one colour."""

ROW = np.dtype([("num_bytes", "<i8"), ("height", "<i4"), ("width", "<i4"), ("look", LOOK)])
"""What is noted of each image while its split is packed."""

SUFFIX = ".looks.npy"


class Seen(NamedTuple):
    """An image file that was read, decoded and looked at."""

    content: bytes
    """Its bytes; none where they do not decode."""
    size_px: tuple[int, int]
    """Height and width of the upright image; (0, 0) where it does not decode."""
    look: tuple[bytes, bool]
    """A row of LOOK."""

    def row(self) -> tuple[Any, ...]:
        """Return a row of ROW."""
        return (len(self.content), *self.size_px, self.look)


def looks_file(folder: Path, split: str) -> Path:
    """Return the .npy of what was seen of each image of a split (LOOK)."""
    return folder / f"{split}{SUFFIX}"


def look(image_HWC: np.ndarray) -> tuple[bytes, bool]:
    """Return what is kept of an image, as a row of LOOK."""
    pixels = np.ascontiguousarray(image_HWC).reshape(-1)  # hashed where they are
    return hashlib.sha256(pixels.data).digest(), _is_flat(image_HWC)


def looks_at(images: Iterable[Any], num_workers: int) -> np.ndarray:
    """Return a look at each image (LOOK), by threads."""
    return np.array(list(mapped(look, images, num_workers)), dtype=LOOK)


def seen(item: Named, *, size_px: tuple[int, int] | None) -> Seen:
    """Return an image file read, decoded and looked at, as a square where a size is given.

    Raises DataError where it cannot be read; of one that does not decode nothing is kept.
    """
    from bench.data.decode import squashed_array

    content = content_of(item)
    try:
        image_HWC = decoded(content, name=item[0])
    except DataError:
        return Seen(b"", (0, 0), (bytes(32), False))
    height, width = image_HWC.shape[:2]
    if size_px is not None:
        image_HWC = squashed_array(image_HWC, size_px)
    return Seen(content, (height, width), look(image_HWC))


def content_of(item: Named) -> bytes:
    """Return the bytes of an image file; raises DataError."""
    name, read = item
    try:
        return read()
    except OSError as error:
        raise DataError(f"{name}: cannot be read ({error.strerror})") from error


def decoded(content: bytes, *, name: str) -> np.ndarray:
    """Return the pixels in the bytes of an image file, uint8 (H, W, 3); raises DataError."""
    from bench.data import decode

    return decode.original(content, name=name)


def _is_flat(image_HWC: np.ndarray) -> bool:
    """Return whether all pixels are alike; of nearly every image the first row tells."""
    first_C = image_HWC[0, 0]
    return bool((image_HWC[0] == first_C).all() and (image_HWC == first_C).all())
