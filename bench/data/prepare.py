"""Packing: decode a data set once, then read it as memory-mapped arrays for ever after.

A packed set is a folder named after the card's digest: one .npy of uint8 images and one of labels
per split, and manifest.json with the SHA-256 of every block. It is written beside its place under a
kernel lock, synced and renamed, so that it is whole or absent, and built once however many ask at
the same time. A damaged one is noticed on opening and built again.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from bench.data import catalog
from bench.data.sources import Source, open_source
from bench.data.splits import held_out_indices, subset_indices
from bench.errors import DataError
from bench.specs import DatasetBlock, DatasetCard

__all__ = [
    "Packed",
    "Split",
    "held_out_indices",
    "packed",
    "packed_sets",
    "subset_indices",
    "verify",
]

FORMAT = 1
"""Version of the layout on disk; a folder of another version is built again."""

BLOCK_BYTES = 1 << 24
"""Unit of the content digests: 16 MiB."""

FULL_CHECK_BYTES = 1 << 26
"""Arrays up to this size are hashed whole on opening; of larger ones the first and last block."""


@dataclass(frozen=True)
class Split:
    """Images and labels of one split; the images are mapped from disk, not loaded."""

    images_NHWC: np.ndarray
    """uint8, RGB, square."""
    labels_N: np.ndarray
    """int64 in [0, num_classes)."""


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
        """The SHA-256 over all packed pixels and labels."""
        return str(self.manifest["content_sha256"])

    def split(self, name: str) -> Split:
        """Open a split; pages are read from disk as they are used and shared among processes."""
        if name not in self.manifest["splits"]:
            raise DataError(
                f'{self.manifest["name"]}: no split "{name}"',
                hint=f"It has {', '.join(self.manifest['splits'])}",
            )
        # Copy on write: a private, writable view, which torch wraps without a warning.
        images = np.load(_images_file(self.folder, name), mmap_mode="c", allow_pickle=False)
        labels = np.load(_labels_file(self.folder, name), allow_pickle=False)
        return Split(images.view(np.ndarray), labels)


def packed(card: DatasetCard, *, cache_dir: Path, num_workers: int = 1) -> Packed:
    """Return the packed form of a data set, building it under `cache_dir` where it is missing.

    Raises DataError when the data are missing, damaged or not what the card says, or when there is
    no room.
    """
    if not re.fullmatch(r"[0-9a-f]{8,64}", card.digest):
        raise DataError(f"{card.name}: the data are not located", hint=card.how_to_get)
    folder = cache_dir / card.digest
    opened = _open(folder)
    if opened is not None:
        return opened
    _make_folder(cache_dir)
    with FileLock(cache_dir / f"{card.digest}.lock"):
        opened = _open(folder)  # another process may have built it meanwhile
        if opened is None:
            _build(card, folder, num_workers=num_workers)
            opened = _open(folder)
    if opened is None:
        raise DataError(f"{folder}: does not read back as written", hint="Check the disk")
    return opened


def packed_sets(cache_dir: Path) -> list[Packed]:
    """Return every packed set under `cache_dir` that opens, in order of name and digest."""
    folders = sorted(cache_dir.iterdir()) if cache_dir.is_dir() else []
    opened = [_open(folder) for folder in folders if re.fullmatch(r"[0-9a-f]+", folder.name)]
    return sorted(
        (item for item in opened if item is not None),
        key=lambda item: (item.manifest["name"], item.digest),
    )


def verify(folder: Path) -> list[str]:
    """Hash every byte of a packed set and return what is wrong, in words; empty when sound."""
    manifest = _manifest(folder)
    if manifest is None:
        return [f"{folder}: no manifest of format {FORMAT}"]
    return _problems(folder, manifest, whole=True)


# --- opening --------------------------------------------------------------------------------


def _images_file(folder: Path, split: str) -> Path:
    return folder / f"{split}.images.npy"


def _labels_file(folder: Path, split: str) -> Path:
    return folder / f"{split}.labels.npy"


def _open(folder: Path) -> Packed | None:
    """Return the packed set when it is there and sound, else None."""
    manifest = _manifest(folder)
    if manifest is None or _problems(folder, manifest, whole=False):
        return None
    return Packed(folder, manifest)


def _manifest(folder: Path) -> dict[str, Any] | None:
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        sound = manifest["format"] == FORMAT and manifest["digest"] == folder.name
        sound = sound and _content_digest(manifest["files"]) == manifest["content_sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return manifest if sound else None


def _problems(folder: Path, manifest: dict[str, Any], *, whole: bool) -> list[str]:
    problems = []
    for name, entry in manifest["files"].items():
        path = folder / name
        try:
            size = path.stat().st_size
            if size != entry["bytes"]:
                problems.append(f"{path}: {size:,} bytes in place of {entry['bytes']:,}")
                continue
            blocks = entry["blocks_sha256"]
            small = whole or size <= FULL_CHECK_BYTES
            chosen = range(len(blocks)) if small else (0, len(blocks) - 1)
            with open(path, "rb") as file:
                for index in chosen:
                    file.seek(index * BLOCK_BYTES)
                    if hashlib.sha256(file.read(BLOCK_BYTES)).hexdigest() != blocks[index]:
                        problems.append(f"{path}: block {index} has changed")
        except OSError as error:
            problems.append(f"{path}: {error.strerror}")
    return problems


def _content_digest(files: dict[str, Any]) -> str:
    lines = (f"{name} {' '.join(files[name]['blocks_sha256'])}" for name in sorted(files))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


# --- building -------------------------------------------------------------------------------


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder}: cannot be created ({error.strerror})") from error


def _build(card: DatasetCard, folder: Path, *, num_workers: int) -> None:
    """Write a packed set beside its place and move it there; the caller holds the lock."""
    for leftover in folder.parent.glob(f"{folder.name}.partial-*"):
        shutil.rmtree(leftover, ignore_errors=True)  # of a build that was killed
    source = open_source(card)
    _check_counts(card, source)
    _check_room(card, source, folder.parent)
    partial = folder.with_name(f"{folder.name}.partial-{os.getpid()}")
    try:
        partial.mkdir()
        for split in card.splits:
            _write_split(card, source, partial, split, num_workers=num_workers)
        _check_unchanged(card)
        _write_manifest(card, source, partial, digest=folder.name)
        if folder.exists():  # damaged; readers that map it keep their pages
            shutil.rmtree(folder)
        os.rename(partial, folder)
        _sync(folder.parent)
    except OSError as error:
        raise DataError(
            f"{card.name}: cannot be packed into {folder.parent} ({error.strerror})"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _check_counts(card: DatasetCard, source: Source) -> None:
    found = source.num_examples()
    for split, expected in card.splits.items():
        if found.get(split) != expected.num_examples:
            raise DataError(
                f"{card.name}: {split} has {found.get(split, 0):,} images, "
                f"{expected.num_examples:,} expected",
                hint="The files changed while the suite was read: run it again",
            )


def _check_unchanged(card: DatasetCard) -> None:
    """Refuse files that are no longer those whose digest the card carries."""
    if "path" not in card.args:
        return
    block = DatasetBlock.model_validate({"reader": card.reader, **card.args})
    if catalog.resolve(card.name, block, base_dir=Path("/")).digest != card.digest:
        raise DataError(
            f"{card.name}: files under {card.args['path']} changed while they were read",
            hint="Let the other writer finish, then run again",
        )


def _check_room(card: DatasetCard, source: Source, folder: Path) -> None:
    num_images = sum(split.num_examples for split in card.splits.values())
    needed = num_images * (source.image_size_px**2 * 3 + 8)
    free = shutil.disk_usage(folder).free
    if needed > 0.95 * free:
        raise DataError(
            f"{card.name}: packing needs {needed / 2**30:.1f} GiB, {folder} has "
            f"{free / 2**30:.1f} GiB free",
            hint="Free some space, choose another work folder or a smaller image_size_px",
        )


def _write_split(
    card: DatasetCard, source: Source, folder: Path, split: str, *, num_workers: int
) -> None:
    num, side = card.splits[split].num_examples, source.image_size_px
    images = np.lib.format.open_memmap(
        _images_file(folder, split), mode="w+", dtype=np.uint8, shape=(num, side, side, 3)
    )
    labels_N = np.empty(num, dtype=np.int64)
    source.write(split, images, labels_N, num_workers=num_workers)
    check_labels(labels_N, num_classes=card.num_classes, where=f"{card.name}, {split}")
    images.flush()
    del images
    np.save(_labels_file(folder, split), labels_N, allow_pickle=False)


def check_labels(labels_N: np.ndarray, *, num_classes: int, where: str) -> None:
    """Raise DataError unless every label lies in [0, num_classes) and there are two classes."""
    wrong = np.flatnonzero((labels_N < 0) | (labels_N >= num_classes))
    if len(wrong):
        raise DataError(
            f"{where}: label {labels_N[wrong[0]]} of image {wrong[0]} is not in 0 to "
            f"{num_classes - 1} ({len(wrong):,} such labels)",
            hint="Correct the labels, or the number of classes",
        )
    if split_is_constant(labels_N):
        raise DataError(
            f"{where}: every image has label {labels_N[0]}",
            hint="A classifier needs examples of two classes",
        )


def split_is_constant(labels_N: np.ndarray) -> bool:
    """Return whether more than one example carries one and the same label throughout."""
    return len(labels_N) > 1 and bool((labels_N == labels_N[0]).all())


def _write_manifest(card: DatasetCard, source: Source, folder: Path, *, digest: str) -> None:
    files = {path.name: _fingerprint(path) for path in sorted(folder.iterdir())}
    manifest = {
        "format": FORMAT,
        "digest": digest,
        "name": card.name,
        "reader": card.reader,
        "version": card.version,
        "num_classes": card.num_classes,
        "image_size_px": source.image_size_px,
        "splits": {name: split.num_examples for name, split in card.splits.items()},
        "files": files,
        "content_sha256": _content_digest(files),
    }
    with open(folder / "manifest.json", "w", encoding="utf-8") as file:
        json.dump(manifest, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    _sync(folder)


def _fingerprint(path: Path) -> dict[str, Any]:
    """Sync a file and return its size and the SHA-256 of each block."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        blocks = [hashlib.sha256(block).hexdigest() for block in _blocks(file)]
    return {"bytes": path.stat().st_size, "blocks_sha256": blocks}


def _blocks(file: Any) -> Iterator[bytes]:
    while block := file.read(BLOCK_BYTES):
        yield block


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
