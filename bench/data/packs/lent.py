"""Images that another packed set holds already: they are read from there, not copied.

ImageNet-ReaL asks for 46,837 of ImageNet's 50,000 validation images, by other labels. Files are
told apart by the SHA-256 of their content, so neither names nor folders matter. The set that lends
has to be packed first; where it goes away or changes, the borrower is packed again, by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.data.packs import read
from bench.data.packs.read import Packed


@dataclass(frozen=True)
class Loan:
    """A split of another set that holds every image of a split."""

    packed: Packed
    """The set that lends."""
    split: str
    """Its split."""
    rows_N: np.ndarray
    """Where each image is in it, int64."""

    def note(self) -> dict[str, Any]:
        """Return what the borrower's manifest says of it."""
        content = self.packed.content_digest
        return {"digest": self.packed.digest, "split": self.split, "content_sha256": content}


def find(folder: Path, hashes_N: np.ndarray, *, size_px: tuple[int, int] | None) -> Loan | None:
    """Return the split of a sound set under `folder` that holds all of these images, if any.

    `hashes_N` are SHA-256 digests, as 32 bytes each (V32). Images have to come out at one size, or
    each at its own (None), in both sets.
    """
    for packed in _sound_with_hashes(folder):
        for split in packed.manifest["splits"]:
            file = read.hashes_file(packed.folder, split)
            if not file.is_file() or packed.size_px(split) != size_px:
                continue  # another set lends this one, or it is seen at another size
            rows_N = _rows(np.load(file, allow_pickle=False), hashes_N)
            if rows_N is not None:
                return Loan(packed, split, rows_N)
    return None


def _sound_with_hashes(folder: Path) -> Iterator[Packed]:
    """Yield packed sets that are whole: others may be half written, by another process too."""
    for path in sorted(folder.iterdir()):
        if any(path.glob(read.hashes_file(path, "*").name)):
            packed = read.open_packed(path)
            if packed is not None:
                yield packed


def _rows(there_M: np.ndarray, hashes_N: np.ndarray) -> np.ndarray | None:
    """Return where each hash is in `there_M`; None where one is not."""
    order = np.argsort(there_M)
    places = np.searchsorted(there_M, hashes_N, sorter=order)
    rows_N = order[places.clip(max=len(there_M) - 1)]
    return rows_N if np.array_equal(there_M[rows_N], hashes_N) else None
