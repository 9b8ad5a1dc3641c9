"""Packing: decode a data set once, then always read it as memory-mapped arrays.

A packed set (`read.py`) is written next to its place under a kernel lock, chunk by chunk, synced
and renamed, so that it is whole or absent, and built once however many ask at the same time. A
build that was interrupted goes on where it stopped. A damaged set is noticed on opening and built
again.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock

from bench.data.getting.download import cure
from bench.data.packs.read import (
    FORMAT,
    MANIFEST,
    Packed,
    Packing,
    digest_of,
    fingerprint,
    open_packed,
    problems,
    read_manifest,
)
from bench.data.packs.write import NOTES, Progress, Writer
from bench.data.readers import reader_of
from bench.data.sources.base import Source
from bench.errors import DataError
from bench.files import clear_stale, replace_folder, write_text
from bench.paths import CachePaths
from bench.specs import DatasetCard

MAX_ARRAY_BYTES = 1 << 36
"""Sets of more pixels are kept encoded where their reader has files: 64 GiB."""


def packed(
    card: DatasetCard,
    *,
    cache_dir: Path,
    num_workers: int = 1,
    packing: Packing | None = None,
    on_progress: Progress | None = None,
) -> Packed:
    """Return the packed form of a data set, building it under `cache_dir` where it is missing.

    The packing is chosen by size unless it is given; both give the same pixels. Raises DataError
    when the data are missing, damaged or not what the card says, or when there is no room.
    """
    check_located(card)
    folder = CachePaths(cache_dir).packed(card.digest)
    opened = open_packed(folder)
    if opened is not None and packing in (None, opened.packing):
        return opened
    with _locked(cache_dir, card.digest):
        opened = open_packed(folder)  # another process may have built it meanwhile
        if opened is None or packing not in (None, opened.packing):
            _build(card, folder, packing, num_workers=num_workers, on_progress=on_progress)
            opened = open_packed(folder)
    if opened is None:
        raise DataError(f"{folder}: does not read back as written", hint="Check the disk")
    return opened


def check_located(card: DatasetCard) -> None:
    """Raise DataError, with how to get them, where the images of a card have not been located."""
    if re.fullmatch(r"[0-9a-f]{8,64}", card.digest):
        return
    reason = card.refusal
    if reason:
        raise DataError(f"{card.name}: {reason}", hint=card.how_to_get)
    raise DataError(f"{card.name}: the data are not located", hint=cure(card))


def packed_sets(cache_dir: Path) -> list[Packed]:
    """Return every packed set under `cache_dir` that opens, in order of name and digest."""
    folders = sorted(cache_dir.iterdir()) if cache_dir.is_dir() else []
    names = [folder for folder in folders if re.fullmatch(r"[0-9a-f]+", folder.name)]
    opened = [open_packed(folder) for folder in names]
    return sorted(
        (item for item in opened if item is not None),
        key=lambda item: (item.manifest["name"], item.digest),
    )


def verify(folder: Path) -> list[str]:
    """Hash every byte of a packed set and return what is wrong, in words; empty when sound."""
    manifest = read_manifest(folder)
    if manifest is None:
        return [f"{folder}: no manifest of format {FORMAT}"]
    return problems(folder, manifest, whole=True)


# --- building -------------------------------------------------------------------------------


@contextmanager
def _locked(cache_dir: Path, digest: str) -> Iterator[None]:
    """Hold the lock of a data set; its folder is made where there is none."""
    lock = FileLock(CachePaths(cache_dir).lock(digest))
    while not lock.is_locked:
        _make_folder(cache_dir)
        with suppress(FileNotFoundError):  # removed by one whose own data were wrong
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder}: cannot be created ({error.strerror})") from error


def _build(
    card: DatasetCard,
    folder: Path,
    packing: Packing | None,
    *,
    num_workers: int,
    on_progress: Progress | None,
) -> None:
    """Write a packed set next to its place and move it there; the caller holds the lock."""
    clear_stale(folder.parent)
    source = reader_of(card).open(card)
    _check_counts(card, source)
    packing = packing or _choose(card, source, folder.parent)
    _check_room(card, source, packing, folder.parent)
    partial = CachePaths(folder.parent).partial(folder.name)
    goes_on = partial.exists()
    try:
        build = Writer(card, source, partial, packing, on_progress)
        for split in card.splits:
            build.write(split, num_workers=num_workers)
        _check_unchanged(card)
        _write_manifest(card, source, partial, packing, digest=folder.name)
        # What was there is damaged, or packed otherwise; readers that map it keep their pages.
        replace_folder(partial, folder)
    except OSError as error:
        raise DataError(
            f"{card.name}: cannot be packed into {folder.parent} ({error.strerror})",
            hint="Free some space or choose another work folder; packing goes on where it stopped",
        ) from error
    except DataError:
        # Wrong data: nothing worth going on with, but what another began on files as they are.
        if not goes_on or reader_of(card).digest(card) != card.digest:
            shutil.rmtree(partial, ignore_errors=True)
        raise


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
    if reader_of(card).digest(card) != card.digest:
        raise DataError(
            f"{card.name}: files under {card.args['path']} changed while they were read",
            hint="Let the other writer finish, then run again",
        )


def _array_bytes(card: DatasetCard, source: Source) -> int:
    num_images = sum(split.num_examples for split in card.splits.values())
    return num_images * (source.image_size_px**2 * 3 + 8)


def _choose(card: DatasetCard, source: Source, folder: Path) -> Packing:
    """Decode once, unless the pixels are too many and the reader has encoded images."""
    room = min(MAX_ARRAY_BYTES, 0.95 * shutil.disk_usage(folder).free)
    return "encoded" if _array_bytes(card, source) > room and source.encoded_bytes() else "arrays"


def _check_room(card: DatasetCard, source: Source, packing: Packing, folder: Path) -> None:
    needed = _array_bytes(card, source) if packing == "arrays" else source.encoded_bytes()
    free = shutil.disk_usage(folder).free
    if packing == "encoded" and not needed:
        raise DataError(
            f"{card.name}: the {card.reader} reader has no encoded images to keep",
            hint="Pack it as arrays",
        )
    if needed > 0.95 * free:
        raise DataError(
            f"{card.name}: packing needs {needed / 2**30:.1f} GiB, {folder} has "
            f"{free / 2**30:.1f} GiB free",
            hint="Free some space, choose another work folder or a smaller image_size_px",
        )


def _write_manifest(
    card: DatasetCard, source: Source, folder: Path, packing: Packing, *, digest: str
) -> None:
    (folder / NOTES).unlink(missing_ok=True)
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    files = {name: fingerprint(folder / name) for name in names}
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "digest": digest,
        "name": card.name,
        "reader": card.reader,
        "version": card.version,
        "num_classes": card.num_classes,
        "image_size_px": source.image_size_px,
        "packing": packing,
        "splits": {name: split.num_examples for name, split in card.splits.items()},
        "files": files,
        "content_sha256": digest_of(files),
    }
    write_text(folder / MANIFEST, json.dumps(manifest, indent=1))
