"""Image files of a set: which files, which classes, which splits, which content.

Only the standard library is used, and no image is opened: planning a suite must stay light. The
digest is of the content (paths, labels and bytes), never of time stamps.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bench.data.sources import files
from bench.errors import DataError, printable

VERSION = 1
"""Bumped when the same files give other splits, labels or pixels."""

SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
)
"""File name endings taken for images, whatever their case."""

LAYOUT_HINT = "Expected FOLDER/CLASS/IMAGE, or FOLDER/train/CLASS/IMAGE and FOLDER/test/CLASS/IMAGE"

NOT_DATA = ("__MACOSX", "@eaDir")
"""Folders that systems leave beside a user's own; hidden ones begin with a dot."""

Items = list[tuple[str, int]]
"""(path relative to the folder, with forward slashes; label) of each image."""


@dataclass(frozen=True)
class Folder:
    """The files of an image folder, split and labelled."""

    root: Path
    """Folder that all paths are relative to."""
    class_names: tuple[str, ...]
    """Class names in label order."""
    splits: dict[str, Items]
    """Every image, by split."""
    selectors: dict[str, str]
    """How each split was selected, in words."""
    details: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """What scoring needs to know about an image besides its label, by path; see `scoring.judge`."""


def content_digest(folder: Folder) -> str:
    """Return the SHA-256 over split, path, label and bytes of every file."""
    paths = sorted({path for items in folder.splits.values() for path, _ in items})
    hashes = files.hashes(folder.root, paths)
    total = hashlib.sha256()
    for split in sorted(folder.splits):
        for path, label in folder.splits[split]:
            details = "".join(f"\0{value}" for value in folder.details.get(path, ()))
            total.update(f"{split}\0{path}\0{label}{details}\0{hashes[path]}\n".encode())
    return total.hexdigest()


def classes_of(root: Path, part: Path) -> dict[str, list[str]]:
    """Return the sorted relative image paths of each class folder of `part`."""
    classes: dict[str, list[str]] = {}
    try:
        for name in folders_in(part):
            paths = sorted(images_in(part / name, root))
            if paths:
                classes[name] = paths
            else:
                raise DataError(
                    f"{part / name}: the class folder has no images",
                    hint=f"Put images there ({', '.join(sorted(SUFFIXES))}) or remove the folder",
                )
    except OSError as error:
        where = error.filename or part
        raise DataError(f"{where}: cannot be read ({error.strerror})") from error
    if not classes:
        raise DataError(f"{part}: no images in class folders", hint=LAYOUT_HINT)
    return classes


def folders_in(folder: Path) -> list[str]:
    """Return the sorted names of the folders in one; those that hold no data are left out."""
    found = (entry.name for entry in os.scandir(folder) if entry.is_dir())
    return sorted(name for name in found if name[0] != "." and name not in NOT_DATA)


def images_in(folder: Path, root: Path) -> Iterator[str]:
    """Yield image paths relative to `root`, with forward slashes, from all levels of `folder`."""

    def fail(error: OSError) -> None:
        raise error

    for where, subfolders, names in os.walk(folder, onerror=fail):
        subfolders[:] = [name for name in subfolders if name[0] != "." and name not in NOT_DATA]
        prefix = Path(os.path.relpath(where, root)).as_posix()
        for name in names:
            if os.path.splitext(name)[1].lower() in SUFFIXES and name[0] != ".":
                path = f"{prefix}/{name}"
                if not path.isascii():
                    _check_text(path, root)
                yield path


def _check_text(path: str, root: Path) -> None:
    try:
        path.encode("utf-8")
    except UnicodeEncodeError as error:
        shown = printable(f"{root}/{path}")
        raise DataError(f"{shown}: the name is not UTF-8", hint="Rename it") from error
