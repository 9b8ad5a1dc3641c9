"""Packed data sets on disk: opened, checked, and read split by split.

A packed set is a folder named after the card's digest, with one file of labels per split and its
images in one of two packings, which give the same pixels:

- arrays: one .npy of uint8 images, decoded once and mapped into memory;
- encoded: the bytes of the image files one after another, and their offsets; an image is decoded
  when it is asked for. For sets whose decoded pixels do not fit the disk.

manifest.json holds the SHA-256 of every block. `build.py` writes such folders.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Protocol, overload

import numpy as np

from bench.data.splits import vtab_rows
from bench.errors import DataError
from bench.facts import VTAB_SPLITS

FORMAT = 1
"""Version of the layout on disk; a folder of another version is built again."""

BLOCK_BYTES = 1 << 24
"""Unit of the content digests: 16 MiB."""

FULL_CHECK_BYTES = 1 << 26
"""Files up to this size are hashed whole on opening; of larger ones the first and last block."""

Packing = Literal["arrays", "encoded"]
"""How the images of a packed set are kept."""


class Images(Protocol):
    """Images of a split: a memory-mapped array, or files that are decoded when asked for."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, side, side, 3)."""
        ...

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Any]: ...

    def __getitem__(self, rows: Any, /) -> Any: ...


@dataclass(frozen=True)
class Split:
    """Images and labels of one split; the images stay on disk until they are used."""

    images_NHWC: Images
    """uint8, RGB, square: a mapped array, or EncodedImages."""
    labels_N: np.ndarray
    """int64 in [0, num_classes)."""
    details_NF: np.ndarray | None = None
    """What scoring needs beside the labels (`scoring.judge`), int64; None where nothing."""

    def images(self, rows: slice | np.ndarray) -> np.ndarray:
        """Return some images, uint8 (B, side, side, 3), decoded where they are kept encoded."""
        images_BHWC: np.ndarray = self.images_NHWC[rows]
        return images_BHWC


class EncodedImages:
    """Images kept as the bytes of their files, decoded to squares by a pool of threads."""

    def __init__(self, folder: Path, split: str, *, size_px: int) -> None:
        self._bytes = np.memmap(encoded_file(folder, split), dtype=np.uint8, mode="r")
        self._offsets = np.load(offsets_file(folder, split), allow_pickle=False)
        self._name = f"{folder.name}, {split}"
        self._size_px = size_px

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, side, side, 3), as of the decoded array."""
        return (len(self), self._size_px, self._size_px, 3)

    def __len__(self) -> int:
        return len(self._offsets) - 1

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

        for _ in _decoders().map(fill, range(len(chosen))):
            pass
        return images_BHWC

    def content(self, row: int) -> bytes:
        """Return the bytes of one image file."""
        return self._bytes[self._offsets[row] : self._offsets[row + 1]].tobytes()

    def _decode(self, row: int) -> np.ndarray:
        from bench.data.decode import square_of

        name = f"{self._name}, image {row}"
        return square_of(self.content(row), size_px=self._size_px, name=name)


@lru_cache(maxsize=1)
def _decoders() -> Executor:
    """Return the pool that decodes: decoding releases the interpreter's lock."""
    return ThreadPoolExecutor(len(os.sched_getaffinity(0)), thread_name_prefix="decode")


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
        labels = np.load(labels_file(self.folder, name), allow_pickle=False)
        details = None
        if details_file(self.folder, name).name in self.manifest["files"]:
            details = np.load(details_file(self.folder, name), allow_pickle=False)
        if self.packing == "encoded":
            side = int(self.manifest["image_size_px"])
            return Split(EncodedImages(self.folder, name, size_px=side), labels, details)
        # Copy on write: a private, writable view, which torch wraps without a warning.
        images = np.load(images_file(self.folder, name), mmap_mode="c", allow_pickle=False)
        return Split(images.view(np.ndarray), labels, details)

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
        return Split(
            np.concatenate([splits[part].images(rows) for part, rows in parts]),
            np.concatenate([splits[part].labels_N[rows] for part, rows in parts]),
        )


# --- files ----------------------------------------------------------------------------------


def images_file(folder: Path, split: str) -> Path:
    """Return the .npy of a split's decoded images."""
    return folder / f"{split}.images.npy"


def labels_file(folder: Path, split: str) -> Path:
    """Return the .npy of a split's labels."""
    return folder / f"{split}.labels.npy"


def details_file(folder: Path, split: str) -> Path:
    """Return the .npy of what scoring needs beside the labels; not there where nothing is."""
    return folder / f"{split}.details.npy"


def encoded_file(folder: Path, split: str) -> Path:
    """Return the file of a split's encoded images, one after another."""
    return folder / f"{split}.encoded.bin"


def offsets_file(folder: Path, split: str) -> Path:
    """Return the .npy of where each encoded image begins, and where the last ends (int64)."""
    return folder / f"{split}.offsets.npy"


# --- checks ---------------------------------------------------------------------------------


def open_packed(folder: Path) -> Packed | None:
    """Return the packed set when it is there and sound, else None."""
    manifest = read_manifest(folder)
    if manifest is None or problems(folder, manifest, whole=False):
        return None
    return Packed(folder, manifest)


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """Return the manifest of a packed set, None where it is missing or does not fit."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
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
            small = whole or size <= FULL_CHECK_BYTES
            chosen = range(len(blocks)) if small else (0, len(blocks) - 1)
            with open(path, "rb") as file:
                for index in chosen:
                    file.seek(index * BLOCK_BYTES)
                    if hashlib.sha256(file.read(BLOCK_BYTES)).hexdigest() != blocks[index]:
                        found.append(f"{path}: block {index} has changed")
        except OSError as error:
            found.append(f"{path}: {error.strerror}")
    return found


def fingerprint(path: Path) -> dict[str, Any]:
    """Sync a file and return its size and the SHA-256 of each block."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        blocks = [hashlib.sha256(block).hexdigest() for block in _blocks(file)]
    return {"bytes": path.stat().st_size, "blocks_sha256": blocks}


def digest_of(files: dict[str, Any]) -> str:
    """Return the SHA-256 over the fingerprints of all files."""
    lines = (f"{name} {' '.join(files[name]['blocks_sha256'])}" for name in sorted(files))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _blocks(file: Any) -> Iterator[bytes]:
    while block := file.read(BLOCK_BYTES):
        yield block
