"""Which reader fits the files at a path: by the names that its layout must have.

Nothing is read but folder listings. Files need not lie at the path itself: a folder or two down is
found too, as archives and torchvision leave them (`mnist/MNIST/raw`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from bench.data.getting.archives import SUFFIXES as ARCHIVES
from bench.data.readers import folders
from bench.errors import DataError
from bench.specs import DatasetCard

MAX_DEPTH = 3
"""Folders below the path that are looked into."""

MAX_FOLDERS = 64
"""Subfolders of one folder beyond which it is data, not a place that holds data."""

MARKS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("cifar", ("batches.meta", "data_batch_1")),
    ("cifar", ("meta", "train", "test")),
    ("idx", ("train-images-idx3-ubyte",)),
    ("idx", ("train-images-idx3-ubyte.gz",)),
    ("idx", ("train-images.idx3-ubyte",)),
    ("stl10", ("train_X.bin", "train_y.bin")),
    ("svhn", ("train_32x32.mat",)),
    ("oxford-pets", ("annotations", "images")),
    ("oxford-flowers", ("setid.mat", "imagelabels.mat")),
    ("dtd", ("labels", "images")),
    ("vtab-folder", ("train800", "val200", "test")),
    ("eurosat", ("2750",)),
    ("huggingface", ("dataset_dict.json",)),
    ("huggingface", ("state.json", "dataset_info.json")),
)
"""Names that a folder must hold for a reader, the first that fits."""

_BY_SUFFIX = {".npz": "arrays", ".csv": "csv", ".parquet": "parquet"}


def detect(path: Path) -> str:
    """Return the reader that fits a file or folder, empty where none does."""
    if path.is_file():
        return _BY_SUFFIX.get(path.suffix, "")
    names = set(_names(path))
    for reader, needed in MARKS:
        if names.issuperset(needed):
            return reader
    if "manifest.json" in names and any(name.endswith(".parquet") for name in names):
        return "tfds-export"
    for suffix, reader in ((".parquet", "parquet"), (".tar", "shards")):
        inner = [
            name for part in ("train", "data") if part in names for name in _names(path / part)
        ]
        if any(name.endswith(suffix) for name in (*names, *inner)):
            return reader
    return "image_folder" if _has_classes(path, names) else ""


def find(card: DatasetCard, path: Path) -> tuple[str, Path]:
    """Return reader and path of a card's files at or below `path`; raises DataError.

    The card's own reader is preferred; any other layout that is known will do.
    """
    if not path.exists():
        raise DataError(f"{card.name}: {path}: no such folder", hint=cure(card))
    if path.is_dir() and _fits(card, path):
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


def cure(card: DatasetCard) -> str:
    """Return what a user does to have a data set, in one line."""
    from bench.data.getting import download

    command, terms = (
        f"vitbench data prepare {card.name}",
        f"(terms: {card.licence or 'not stated'})",
    )
    by_hand = f"{card.how_to_get}, then `{command} --path FOLDER`"
    if download.offers(card):
        return f"`{command} --download` {terms}, or by hand: {by_hand}"
    return f"{by_hand} {terms}"


def _fits(card: DatasetCard, path: Path) -> bool:
    """Return whether a reader without marks of its own (ImageNet's, VTAB's) is meant."""
    marked = {reader for reader, _ in MARKS} | {"image_folder", "tfds-export", "parquet", "shards"}
    return (
        card.reader not in marked
        and card.reader not in _BY_SUFFIX.values()
        and (detect(path) in ("", "image_folder", "arrays"))
    )


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


def _has_classes(path: Path, names: set[str]) -> bool:
    """Return whether two folders hold images, as classes do, perhaps under train/."""
    inner = path / "train" if "train" in names else path
    with_images = 0
    for name in _names(inner):
        if (inner / name).is_dir() and _holds_image(inner / name):
            with_images += 1
            if with_images == 2:
                return True
    return False


def _holds_image(folder: Path) -> bool:
    return next(folders.images_in(folder, folder), None) is not None


def is_archive(path: Path) -> bool:
    """Return whether a path is an archive by its name."""
    return path.name.endswith(ARCHIVES)
