"""Image files as a source: given as the bytes that they are, or decoded to squares.

By default a file that does not decode stops a suite with its name. With `skip_damaged = true` it is
left out, and the card says how many were, so that no table hides it. Which files are sound is
remembered by content.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from bench.data.decode import load_rgb, squashed
from bench.data.sources import files
from bench.data.sources.base import Named
from bench.data.sources.folder import VERSION, Folder
from bench.data.sources.pool import in_threads
from bench.errors import DataError


class ImageFiles:
    """Image files: at their own sizes, or squashed to squares where a side is given."""

    def __init__(self, folder: Folder, *, image_size_px: int | None) -> None:
        self._square_px = image_size_px
        self._folder = folder

    def size_px(self, split: str) -> tuple[int, int] | None:
        """Return height and width where images are squashed."""
        del split
        return (self._square_px, self._square_px) if self._square_px else None

    def num_examples(self) -> dict[str, int]:
        """Return the number of images of each split."""
        return {split: len(items) for split, items in self._folder.splits.items()}

    def labels(self, split: str) -> np.ndarray:
        """Return the labels of a split."""
        return np.array([label for _, label in self._folder.splits[split]], dtype=np.int64)

    def write(self, split: str, images_BHWC: np.ndarray, *, start: int, num_workers: int) -> None:
        """Decode every file from `start` on; raises DataError at the first that is not an image."""
        items = self._folder.splits[split]

        def decode(index: int) -> None:
            path = self._folder.root / items[start + index][0]
            images_BHWC[index] = squashed(path, size_px=images_BHWC.shape[1:3])

        # Decoding and resizing release the interpreter's lock: threads share the output array.
        in_threads(decode, range(len(images_BHWC)), num_workers)

    def details(self, split: str) -> np.ndarray | None:
        """Return what scoring needs besides the labels, details_NF padded with -1, or None."""
        found = [self._folder.details.get(path, ()) for path, _ in self._folder.splits[split]]
        width = max(map(len, found), default=0)
        if not width:
            return None
        return np.array([(*row, *[-1] * (width - len(row))) for row in found], dtype=np.int64)

    def hashes(self, split: str) -> np.ndarray:
        """Return the SHA-256 of each image file of a split, 32 bytes each (V32)."""
        paths = [path for path, _ in self._folder.splits[split]]
        found = files.hashes(self._folder.root, paths)
        return np.frombuffer(b"".join(bytes.fromhex(found[path]) for path in paths), dtype="V32")

    def encoded_bytes(self) -> int:
        """Return the bytes of all image files."""
        root = self._folder.root
        try:
            return sum(
                os.stat(root / path).st_size
                for items in self._folder.splits.values()
                for path, _ in items
            )
        except OSError as error:
            raise DataError(f"{error.filename}: cannot be read ({error.strerror})") from error

    def encoded(self, split: str, *, start: int) -> Iterator[Named]:
        """Yield each image file from `start` on."""
        paths = (self._folder.root / path for path, _ in self._folder.splits[split][start:])
        return ((str(path), path.read_bytes) for path in paths)


# --- files that do not decode ---------------------------------------------------------------


def damaged_files(root: Path, paths: Iterable[str], *, num_workers: int = 1) -> dict[str, str]:
    """Decode every file and return the message of each that fails, by path."""

    def failure(path: str) -> str:
        try:
            load_rgb(root / path, name=str(root / path))
        except DataError as error:
            return str(error)
        return ""

    paths = list(paths)
    with ThreadPoolExecutor(max(1, num_workers)) as pool:
        messages = zip(paths, pool.map(failure, paths), strict=True)
        return {path: message for path, message in messages if message}


def without_damaged(folder: Folder) -> tuple[Folder, int]:
    """Return the folder without files that do not decode, and how many these are.

    Raises DataError when a class loses all its training images.
    """
    paths = sorted({path for items in folder.splits.values() for path, _ in items})
    hashes = files.hashes(folder.root, paths)
    sound = _known_sound()
    unknown = [path for path in paths if hashes[path] not in sound]
    damaged = damaged_files(folder.root, unknown, num_workers=os.cpu_count() or 1)
    if len(damaged) < len(unknown):
        _remember(sound | {hashes[path] for path in unknown if path not in damaged})
    splits = {
        split: [item for item in items if item[0] not in damaged]
        for split, items in folder.splits.items()
    }
    missing = set(range(len(folder.class_names))) - {label for _, label in splits.get("train", ())}
    if missing and "train" in splits:
        raise DataError(
            f'{folder.root}: no sound training image of class "{folder.class_names[min(missing)]}"',
            hint="Replace its files, or remove the class",
        )
    return replace(folder, splits=splits), len(damaged)


def _memo_file() -> Path:
    return files.memo_folder() / f"sound-{VERSION}.json"


def _known_sound() -> set[str]:
    try:
        return set(map(str, json.loads(_memo_file().read_text(encoding="utf-8"))))
    except (OSError, ValueError, TypeError):
        return set()


def _remember(sound: set[str]) -> None:
    """Keep the hashes of files that decode; a cache that cannot be written is not an error."""
    files.write_json(_memo_file(), sorted(sound))
