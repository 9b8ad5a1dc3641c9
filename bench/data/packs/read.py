"""Packed data sets on disk: opened, checked, and read split by split.

A packed set is a folder named after the card's digest, with one file of labels per split and its
images in one of two packings:

- arrays: one .npy of uint8 images of one size, decoded once and mapped into memory;
- encoded: the bytes of the image files one after another, with where each begins and how large its
  image is. An image is decoded when it is asked for, and a protocol crops and resizes the original.

Images of one size that were packed encoded (squares that do not fit the disk decoded) come out as
from arrays.

manifest.json holds the SHA-256 of every block. `build.py` writes such folders.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, overload

import numpy as np

from bench.data import decoders
from bench.data.packs.looks import SUFFIX as LOOKS
from bench.data.packs.looks import looks_file
from bench.data.sources.pool import mapped
from bench.data.splits import vtab_rows
from bench.errors import DataError
from bench.facts import VTAB_SPLITS

FORMAT = 3
"""Version of the layout on disk; a folder of another version is built again."""

MANIFEST = "manifest.json"
"""File of a packed set that says what it is, written last."""

BLOCK_BYTES = 1 << 24
"""Unit of the content digests: 16 MiB."""

FULL_CHECK_BYTES = 1 << 26
"""Files up to this size are hashed whole on opening; of larger ones the first and last block."""

Packing = Literal["arrays", "encoded"]
"""How the images of a packed set are kept."""

ENTRY = np.dtype([("offset", "<i8"), ("height", "<i4"), ("width", "<i4")])
"""One encoded image: where its bytes begin, and the size of the upright image. One more entry says
where the last one ends."""


class Images(Protocol):
    """Images of a split that have one size: a mapped array, or files decoded when asked for."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, H, W, 3)."""
        ...

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Any]: ...

    def __getitem__(self, rows: Any, /) -> Any: ...


@dataclass(frozen=True)
class Split:
    """Images and labels of one split; the images stay on disk until they are used."""

    images_NHWC: Images | Originals
    """uint8, RGB: a mapped array, Squashed images, or Originals, each of its own size."""
    labels_N: np.ndarray
    """int64 in [0, num_classes)."""
    details_NF: np.ndarray | None = None
    """What scoring needs besides the labels (`scoring.judge`), int64; None where nothing."""

    def images(self, rows: slice | np.ndarray) -> Any:
        """Return some images: uint8 (B, H, W, 3), or a list of (H, W, 3) where sizes differ."""
        return self.images_NHWC[rows]


class Splits(Protocol):
    """A data set as jobs read it: split by split."""

    def split(self, name: str) -> Split:
        """Open a split; raises DataError where there is none of this name."""
        ...


class _Files:
    """The encoded images of one split, mapped into memory."""

    def __init__(self, folder: Path, split: str) -> None:
        self.bytes = np.memmap(encoded_file(folder, split), dtype=np.uint8, mode="r")
        self.entries = np.load(entries_file(folder, split), mmap_mode="r", allow_pickle=False)
        self.name = f"{folder.name}, {split}"

    def __len__(self) -> int:
        return len(self.entries) - 1

    def content(self, row: int) -> bytes:
        """Return the bytes of one image file."""
        start, stop = self.entries["offset"][row : row + 2]
        return self.bytes[start:stop].tobytes()


class Originals:
    """Images kept as the bytes of their files, each at its own size.

    `rows` chooses some of them (int64), which are decoded when they are asked for.
    """

    def __init__(self, *parts: tuple[_Files, np.ndarray | None]) -> None:
        self._files = [files for files, _ in parts]
        rows = [np.arange(len(files)) if rows is None else rows for files, rows in parts]
        self._part_N = np.repeat(np.arange(len(parts)), [len(part) for part in rows])
        self._row_N = np.concatenate(rows)
        self.sizes_N2 = np.concatenate(
            [
                np.stack((files.entries["height"][part], files.entries["width"][part]), axis=1)
                for files, part in zip(self._files, rows, strict=True)
            ]
        ).astype(np.int64)
        """Height and width of every image."""

    def __len__(self) -> int:
        return len(self._row_N)

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[row] for row in range(len(self)))

    @overload
    def __getitem__(self, rows: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, rows: slice | np.ndarray) -> list[np.ndarray]: ...
    def __getitem__(self, rows: int | slice | np.ndarray) -> np.ndarray | list[np.ndarray]:
        """Return one image, uint8 (H, W, 3), or some; raises DataError."""
        from bench.data.decode import original

        if isinstance(rows, int | np.integer):
            row = range(len(self))[rows]
            return original(self.content(row), name=self.name(row))
        return [self[int(row)] for row in np.arange(len(self))[rows]]

    def taking(self, rows: np.ndarray) -> Originals:
        """Return some of the images, in this order; nothing is decoded."""
        taken = copy.copy(self)
        taken._part_N, taken._row_N = self._part_N[rows], self._row_N[rows]
        taken.sizes_N2 = self.sizes_N2[rows]
        return taken

    def content(self, row: int) -> bytes:
        """Return the bytes of one image file."""
        return self._files[self._part_N[row]].content(int(self._row_N[row]))

    def name(self, row: int) -> str:
        """Return what one image is called in messages."""
        return f"{self._files[self._part_N[row]].name}, image {self._row_N[row]}"

    def each(self, rows: np.ndarray, work: Callable[[int, np.ndarray], None]) -> None:
        """Decode some images by the job's decoders and call `work(place, image_HW4)` on each.

        Pixels have a fourth byte that means nothing (`decode.original_4`). Raises DataError.
        """
        from bench.data.decode import original_4

        def one(place: int) -> None:
            row = int(rows[place])
            work(place, original_4(self.content(row), name=self.name(row)))

        decoders.each(one, range(len(rows)))


class Squashed:
    """Images kept as the bytes of their files, squashed to one size when they are decoded."""

    def __init__(self, originals: Originals, size_px: tuple[int, int]) -> None:
        self._originals = originals
        self._size_px = size_px

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, H, W, 3), as of the decoded array."""
        return (len(self), *self._size_px, 3)

    def __len__(self) -> int:
        return len(self._originals)

    def __iter__(self) -> Iterator[np.ndarray]:
        for start in range(0, len(self), 256):
            yield from self[start : start + 256]

    @overload
    def __getitem__(self, rows: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray: ...
    def __getitem__(self, rows: int | slice | np.ndarray) -> np.ndarray:
        if isinstance(rows, int | np.integer):
            return self._decode(range(len(self))[rows])
        chosen = np.arange(len(self))[rows]
        images_BHWC = np.empty((len(chosen), *self.shape[1:]), dtype=np.uint8)

        def fill(place: int) -> None:
            images_BHWC[place] = self._decode(int(chosen[place]))

        decoders.each(fill, range(len(chosen)))
        return images_BHWC

    def _decode(self, row: int) -> np.ndarray:
        from bench.data.decode import squashed_of

        content, name = self._originals.content(row), self._originals.name(row)
        return squashed_of(content, size_px=self._size_px, name=name)


@dataclass(frozen=True)
class Packed:
    """A packed data set, opened."""

    folder: Path
    """Where it lies."""
    manifest: dict[str, Any]
    """What was packed: card, counts and digests."""

    @property
    def digest(self) -> str:
        """The digest of the card."""
        return str(self.manifest["digest"])

    @property
    def content_digest(self) -> str:
        """The SHA-256 over all packed pixels (or encoded images) and labels."""
        return str(self.manifest["content_sha256"])

    @property
    def packing(self) -> Packing:
        """How the images are kept."""
        return "encoded" if self.manifest.get("packing") == "encoded" else "arrays"

    def size_px(self, split: str) -> tuple[int, int] | None:
        """Return height and width of a split's images; None where each has its own."""
        found = self.manifest["sizes_px"][split]
        return None if found is None else (int(found[0]), int(found[1]))

    def shorter_sides(self, split: str) -> list[int]:
        """Return the shorter side of each image of a split, in pixels; one for all of one size."""
        size_px = self.size_px(split)
        if size_px is not None:
            return [min(size_px)]
        sides: list[int] = Originals(self._files(split)).sizes_N2.min(axis=1).tolist()
        return sides

    def split(self, name: str) -> Split:
        """Open a split; pages are read from disk as they are used and shared among processes.

        The splits of VTAB-1k (`splits.vtab_rows`) are there for every set; they are read whole.
        """
        if name in VTAB_SPLITS and name not in self.manifest["splits"]:
            return self._vtab_split(name)
        if name not in self.manifest["splits"]:
            raise DataError(
                f'{self.manifest["name"]}: no split "{name}"',
                hint=f"It has {', '.join(self.manifest['splits'])}",
            )
        labels, details = self.labels(name), None
        if details_file(self.folder, name).name in self.manifest["files"]:
            details = np.load(details_file(self.folder, name), allow_pickle=False)
        if self.packing == "encoded":
            originals, size_px = Originals(self._files(name)), self.size_px(name)
            return Split(Squashed(originals, size_px) if size_px else originals, labels, details)
        # Copy on write: a private, writable view, which torch wraps without a warning.
        images = np.load(images_file(self.folder, name), mmap_mode="c", allow_pickle=False)
        return Split(images.view(np.ndarray), labels, details)

    def labels(self, split: str) -> np.ndarray:
        """Return the labels of a split that was packed, labels_N (int64)."""
        found: np.ndarray = np.load(labels_file(self.folder, split), allow_pickle=False)
        return found

    def looks(self, split: str) -> np.ndarray:
        """Return what was seen of each image of a split when it was packed (looks.LOOK)."""
        return np.load(looks_file(self.folder, split), mmap_mode="r", allow_pickle=False)

    def _files(
        self, split: str, rows: np.ndarray | None = None
    ) -> tuple[_Files, np.ndarray | None]:
        """Return the files of some rows of a split (None: of all), here or where they are lent."""
        lender = self.manifest["lent"].get(split)
        if lender is None:
            return _Files(self.folder, split), rows
        lent_N = np.load(rows_file(self.folder, split), allow_pickle=False)
        there = self.folder.parent / lender["digest"]
        return _Files(there, lender["split"]), lent_N if rows is None else lent_N[rows]

    def _vtab_split(self, name: str) -> Split:
        splits = {
            part: self.split(part) for part in ("train", "val") if part in self.manifest["splits"]
        }
        try:
            parts = vtab_rows(
                name, splits["train"].labels_N, splits["val"].labels_N if "val" in splits else None
            )
        except DataError as error:
            raise DataError(f"{self.manifest['name']}, {error}", hint=error.hint) from error
        labels_N = np.concatenate([splits[part].labels_N[rows] for part, rows in parts])
        if any(self.size_px(part) is None for part, _ in parts):
            return Split(Originals(*(self._files(part, rows) for part, rows in parts)), labels_N)
        return Split(np.concatenate([splits[part].images(rows) for part, rows in parts]), labels_N)


# --- files ----------------------------------------------------------------------------------


def images_file(folder: Path, split: str) -> Path:
    """Return the .npy of a split's decoded images."""
    return folder / f"{split}.images.npy"


def labels_file(folder: Path, split: str) -> Path:
    """Return the .npy of a split's labels."""
    return folder / f"{split}.labels.npy"


def details_file(folder: Path, split: str) -> Path:
    """Return the .npy of what scoring needs besides the labels; not there where nothing is."""
    return folder / f"{split}.details.npy"


def encoded_file(folder: Path, split: str) -> Path:
    """Return the file of a split's encoded images, one after another."""
    return folder / f"{split}.encoded.bin"


def hashes_file(folder: Path, split: str) -> Path:
    """Return the .npy of the SHA-256 of each encoded image (V32), where its source knows them."""
    return folder / f"{split}.hashes.npy"


def rows_file(folder: Path, split: str) -> Path:
    """Return the .npy of where each image is in the split of another set that lends them."""
    return folder / f"{split}.rows.npy"


def entries_file(folder: Path, split: str) -> Path:
    """Return the .npy of where each encoded image begins and how large it is (ENTRY)."""
    return folder / f"{split}.entries.npy"


# --- checks ---------------------------------------------------------------------------------


def open_packed(folder: Path) -> Packed | None:
    """Return the packed set when it is there and sound, else None."""
    manifest = read_manifest(folder)
    if manifest is None or problems(folder, manifest, whole=False):
        return None
    if not all(_still_lends(folder.parent, lender) for lender in manifest["lent"].values()):
        return None
    return Packed(folder, manifest)


def _still_lends(cache_dir: Path, lender: dict[str, str]) -> bool:
    packed = open_packed(cache_dir / lender["digest"])
    return packed is not None and packed.content_digest == lender["content_sha256"]


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """Return the manifest of a packed set, None where it is missing or does not fit."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        sound = manifest["format"] == FORMAT and manifest["digest"] == folder.name
        sound = sound and digest_of(manifest["files"]) == manifest["content_sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return manifest if sound else None


def problems(folder: Path, manifest: dict[str, Any], *, whole: bool) -> list[str]:
    """Compare files with their hashes, of large ones the ends alone unless `whole`."""
    found = []
    for name, entry in manifest["files"].items():
        path = folder / name
        try:
            size = path.stat().st_size
            if size != entry["bytes"]:
                found.append(f"{path}: {size:,} bytes in place of {entry['bytes']:,}")
                continue
            blocks = entry["blocks_sha256"]
            ends = range(0, len(blocks), max(1, len(blocks) - 1))
            chosen = range(len(blocks)) if whole or size <= FULL_CHECK_BYTES else ends
            for index, sha256 in zip(chosen, _block_hashes(path, chosen), strict=True):
                if sha256 != blocks[index]:
                    found.append(f"{path}: block {index} has changed")
        except OSError as error:
            found.append(f"{path}: {error.strerror}")
    return found


def fingerprint(path: Path, *, known: Sequence[str] = ()) -> dict[str, Any]:
    """Return the size of a file and the SHA-256 of each block, of which the first may be known."""
    num_bytes = path.stat().st_size
    missing = range(len(known), -(-num_bytes // BLOCK_BYTES))
    return {"bytes": num_bytes, "blocks_sha256": [*known, *_block_hashes(path, missing)]}


def whole_blocks(path: Path, num_bytes: int, *, known: Sequence[str]) -> list[str]:
    """Return the SHA-256 of each whole block of a file's first bytes, given those that are known.

    A file that grows is hashed so while it is still in the system's memory.
    """
    return [*known, *_block_hashes(path, range(len(known), num_bytes // BLOCK_BYTES))]


def _block_hashes(path: Path, indices: Sequence[int]) -> Iterator[str]:
    """Yield the SHA-256 of some blocks of a file, read by threads; raises OSError."""

    def sha256(index: int) -> str:
        with open(path, "rb") as file:
            file.seek(index * BLOCK_BYTES)
            return hashlib.sha256(file.read(BLOCK_BYTES)).hexdigest()

    return mapped(sha256, indices, os.cpu_count() or 1, batch_size=1)


def digest_of(files: dict[str, Any]) -> str:
    """Return the SHA-256 over the fingerprints of all files of images and labels.

    Looks at images follow from them.
    """
    names = sorted(name for name in files if not name.endswith(LOOKS))
    lines = (f"{name} {' '.join(files[name]['blocks_sha256'])}" for name in names)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
