"""Which reader fits the files at a path: by the marks of its layout.

Nothing is read but folder listings. Files need not lie at the path itself: a folder or two down is
found too, as archives and torchvision leave them (`mnist/MNIST/raw`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from bench.data.getting.download import cure
from bench.data.readers import READERS, reader_of
from bench.errors import DataError
from bench.specs import DatasetCard

MAX_DEPTH = 3
"""Folders below the path that are looked into."""

MAX_FOLDERS = 64
"""Subfolders of one folder beyond which it is data, not a place that holds data."""

INNER = ("train", "data")
"""Folders whose names marks may ask for too."""


def detect(path: Path) -> str:
    """Return the reader that fits a file or folder, empty where none does."""
    if path.is_file():
        fitting = (name for name, reader in READERS.items() if reader.suffix == path.suffix)
        return next(fitting, "") if path.suffix else ""
    return _marked(path) or next(
        (
            name
            for name, reader in READERS.items()
            if reader.recognizes is not None and reader.recognizes(path)
        ),
        "",
    )


def _marked(path: Path) -> str:
    """Return the reader whose marks fit a folder best, empty where none do."""
    names = _names(path)
    inner = [f"{part}/{name}" for part in INNER if part in names for name in _names(path / part)]
    listing = frozenset((*names, *inner))
    fits = {name: reader.fit(listing) for name, reader in READERS.items()}
    best = max(fits, key=fits.__getitem__)
    return best if fits[best] else ""


def find(card: DatasetCard, path: Path) -> tuple[str, Path]:
    """Return reader and path of a card's files at or below `path`; raises DataError.

    The card's own reader is preferred; any other layout that is known will do.
    """
    if not path.exists():
        raise DataError(f"{card.name}: {path}: no such folder", hint=cure(card))
    if path.is_dir() and _is_meant(card, path):
        return card.reader, path
    found = list(search(path))
    if not found:
        raise DataError(
            f"{card.name}: {path} holds no layout that is known",
            hint=f"Name the layout with --reader if it is another; else {cure(card)}",
        )
    return min(found, key=lambda item: item[0] != card.reader)


def search(path: Path) -> Iterator[tuple[str, Path]]:
    """Yield (reader, path) of every layout at or below a path, nearest first."""
    for place in _places(path, MAX_DEPTH):
        reader = detect(place)
        if reader:
            yield reader, place


def _is_meant(card: DatasetCard, path: Path) -> bool:
    """Return whether a reader without marks of its own (ImageNet's, VTAB's) is meant."""
    reader = reader_of(card)
    marked = reader.marks or reader.suffix or reader.recognizes is not None
    return not marked and not _marked(path)


def _places(path: Path, depth: int) -> Iterator[Path]:
    """Yield the path and folders below it, nearest first."""
    level = [path]
    for _ in range(depth + 1):
        yield from level
        below: list[Path] = []
        for folder in level:
            inner = [folder / name for name in _names(folder) if (folder / name).is_dir()]
            if len(inner) <= MAX_FOLDERS:
                below += sorted(inner)
        level = below


def _names(path: Path) -> list[str]:
    try:
        return sorted(entry for entry in os.listdir(path) if not entry.startswith("."))
    except OSError:
        return []
