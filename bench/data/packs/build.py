"""Packing: small images of one size as arrays, decoded once; all others as encoded originals.

A packed set (`read.py`) is written next to its place under a kernel lock, chunk by chunk, synced
and renamed, so that it is whole or absent, and built once however many ask at the same time. A
build that was interrupted goes on where it stopped. A damaged set is noticed on opening and built
again.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from bench.data.getting.download import cure
from bench.data.packs.looks import content_of
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
from bench.data.packs.write import NOTES, Progress, Sizes, Writer, num_noted
from bench.data.readers import reader_of
from bench.data.sources.base import Named, Source
from bench.data.sources.pool import mapped
from bench.errors import DataError
from bench.files import clear_stale, replace_folder, write_text
from bench.paths import CachePaths
from bench.specs import DatasetCard

MAX_ARRAY_BYTES = 1 << 36
"""Squares of more pixels are kept encoded where their reader has files: 64 GiB."""

WAIT_S = 1.0
"""Between two looks at how far another process is that packs the same set."""

SMALL_PIXELS = 1 << 14
"""Image files of one size up to this (128 x 128) are decoded once: reading them takes less than
decoding, and the pixels are the same."""


def packed(
    card: DatasetCard,
    *,
    cache_dir: Path,
    num_workers: int = 1,
    packing: Packing | None = None,
    on_progress: Progress | None = None,
) -> Packed:
    """Return the packed form of a data set, building it under `cache_dir` where it is missing.

    The packing is chosen by the images' sizes unless it is given; it changes no pixel. Raises
    DataError when the data are missing, damaged or not what the card says, or when there is no
    room.
    """
    check_located(card)
    folder = CachePaths(cache_dir).packed(card.digest)
    opened = open_packed(folder)
    if opened is not None and packing in (None, opened.packing):
        return opened
    with _locked(card, cache_dir, on_progress):
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
def _locked(card: DatasetCard, cache_dir: Path, on_progress: Progress | None) -> Iterator[None]:
    """Hold the lock of a data set; its folder is made where there is none.

    Who waits for another process that packs the set is told how far that one is.
    """
    lock = FileLock(CachePaths(cache_dir).lock(card.digest))
    while not lock.is_locked:
        _make_folder(cache_dir)
        try:
            lock.acquire(timeout=WAIT_S)
        except FileNotFoundError:  # removed by one whose own data were wrong
            continue
        except Timeout:
            done = num_noted(CachePaths(cache_dir).partial(card.digest))
            if on_progress is not None:
                on_progress(done, sum(split.num_examples for split in card.splits.values()))
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
    sizes_px = _sizes(card, source)
    packing = packing or _choose(card, source, sizes_px, folder.parent)
    _check_room(card, source, packing, sizes_px, folder.parent)
    partial = CachePaths(folder.parent).partial(folder.name)
    goes_on = partial.exists()
    try:
        build = Writer(card, source, partial, packing, sizes_px, on_progress)
        for split in card.splits:
            build.write(split, num_workers=num_workers)
        _check_unchanged(card)
        _write_manifest(card, partial, packing, sizes_px, build, digest=folder.name)
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


def _sizes(card: DatasetCard, source: Source) -> Sizes:
    """Return the size of each split's images, None where each has its own or they are not small."""
    sizes_px = {split: source.size_px(split) for split in card.splits}
    if None not in sizes_px.values():
        return sizes_px
    size_px = _one_small_size(card, source)
    return dict.fromkeys(card.splits, size_px)


def _one_small_size(card: DatasetCard, source: Source) -> tuple[int, int] | None:
    """Return the size that all images of a set have, if it is small; most sets end at the second.

    A file that is no image has none: whoever packs the set tells of all of these at once.
    """
    found: tuple[int, int] | None = None
    for split in card.splits:
        sizes_px = mapped(_size_px, source.encoded(split, start=0), os.cpu_count() or 1)
        with closing(sizes_px):
            for size_px in sizes_px:
                small = 0 < size_px[0] * size_px[1] <= SMALL_PIXELS
                if not small or found not in (None, size_px):
                    return None
                found = size_px
    return found


def _size_px(item: Named) -> tuple[int, int]:
    from bench.data.decode import size_of

    content = content_of(item)
    try:
        return size_of(content, name=item[0])
    except DataError:
        return (0, 0)


def _array_bytes(card: DatasetCard, sizes_px: Sizes) -> int:
    sizes = [
        (split.num_examples, *(sizes_px[name] or (0, 0))) for name, split in card.splits.items()
    ]
    return sum(num * (height * width * 3 + 8) for num, height, width in sizes)


def bytes_needed(card: DatasetCard) -> int:
    """Return what the packed form of a data set takes on disk, about; raises DataError."""
    source = reader_of(card).open(card)
    sizes_px = {split: source.size_px(split) for split in card.splits}
    return source.encoded_bytes() if None in sizes_px.values() else _array_bytes(card, sizes_px)


def _choose(card: DatasetCard, source: Source, sizes_px: Sizes, folder: Path) -> Packing:
    """Keep images of their own sizes encoded, and squares of too many pixels."""
    if None in sizes_px.values():
        return "encoded"
    room = min(MAX_ARRAY_BYTES, 0.95 * shutil.disk_usage(folder).free)
    return "encoded" if _array_bytes(card, sizes_px) > room and source.encoded_bytes() else "arrays"


def _check_room(
    card: DatasetCard, source: Source, packing: Packing, sizes_px: Sizes, folder: Path
) -> None:
    if packing == "arrays" and None in sizes_px.values():
        raise DataError(
            f"{card.name}: its images are of many sizes, which no array holds",
            hint="Leave the packing out, or squash them to squares of one size (image_size_px)",
        )
    needed = _array_bytes(card, sizes_px) if packing == "arrays" else source.encoded_bytes()
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
    card: DatasetCard,
    folder: Path,
    packing: Packing,
    sizes_px: Sizes,
    build: Writer,
    *,
    digest: str,
) -> None:
    (folder / NOTES).unlink(missing_ok=True)
    for split in card.splits:
        build.rows_file(split).unlink(missing_ok=True)
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    files = {name: fingerprint(folder / name, known=build.blocks.get(name, ())) for name in names}
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "digest": digest,
        "name": card.name,
        "reader": card.reader,
        "version": card.version,
        "num_classes": card.num_classes,
        "sizes_px": sizes_px,
        "packing": packing,
        "lent": build.lent,
        "splits": {name: split.num_examples for name, split in card.splits.items()},
        "files": files,
        "content_sha256": digest_of(files),
    }
    write_text(folder / MANIFEST, json.dumps(manifest, indent=1))
