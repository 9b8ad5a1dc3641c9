"""Writing a packed set chunk by chunk, so that an interrupted build goes on where it stopped."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bench.data.packs import lent, read
from bench.data.packs.read import ENTRY, FORMAT, Packing
from bench.data.sources.base import Detailed, Hashed, Named, Source
from bench.data.sources.pool import mapped
from bench.errors import DataError
from bench.files import clear_stale, replacing, write_text
from bench.specs import DatasetCard

CHUNK_BYTES = 1 << 28
"""Pixels (or encoded images) written between two notes of progress: 256 MiB."""

NOTES = "progress.json"
"""File of a set being packed that says how far it is."""

Sizes = dict[str, tuple[int, int] | None]
"""Height and width of the images of each split; None where each image has its own."""

Progress = Callable[[int, int], None]
"""Called with (images packed, images in all) as packing goes on."""


class Writer:
    """A packed set being written chunk by chunk, with notes from which a later build goes on."""

    def __init__(
        self,
        card: DatasetCard,
        source: Source,
        folder: Path,
        packing: Packing,
        sizes_px: Sizes,
        on_progress: Progress | None,
    ) -> None:
        self._card, self._source, self._folder, self._sizes_px = card, source, folder, sizes_px
        self._packing, self._on_progress = packing, on_progress
        self._total = sum(split.num_examples for split in card.splits.values())
        self._notes = folder / NOTES
        self.lent: dict[str, dict[str, str]] = {}
        """Splits whose images another set holds: which, and where."""
        self._done = self._resumed()

    def _resumed(self) -> dict[str, int]:
        """Return the images already written, by split; begins anew where the notes do not fit."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            notes = json.loads(self._notes.read_text(encoding="utf-8"))
            if notes["format"] == FORMAT and notes["packing"] == self._packing:
                clear_stale(self._folder)
                return {str(split): int(num) for split, num in notes["done"].items()}
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir()
        return {}

    def write(self, split: str, *, num_workers: int) -> None:
        """Write the labels and all images of a split, from where the notes say."""
        labels_N = self._source.labels(split)
        check_labels(
            labels_N, num_classes=self._card.num_classes, where=f"{self._card.name}, {split}"
        )
        np.save(read.labels_file(self._folder, split), labels_N, allow_pickle=False)
        details_NF = self._source.details(split) if isinstance(self._source, Detailed) else None
        if details_NF is not None:
            np.save(read.details_file(self._folder, split), details_NF, allow_pickle=False)
        done = self._done.get(split, 0)
        if self._packing == "encoded":
            self._write_encoded(split, done, num_workers=num_workers)
        else:
            self._write_arrays(split, done, num_workers=num_workers)

    def _write_arrays(self, split: str, done: int, *, num_workers: int) -> None:
        num, size_px = self._card.splits[split].num_examples, self._sizes_px[split]
        assert size_px is not None  # images of their own sizes are packed encoded
        height, width = size_px
        file = read.images_file(self._folder, split)
        if done and not file.is_file():
            done = 0
        images_NHWC = np.lib.format.open_memmap(
            file,
            mode="r+" if done else "w+",
            dtype=np.uint8,
            shape=(num, height, width, 3),
        )
        chunk = max(1, CHUNK_BYTES // (height * width * 3))
        for start in range(done, num, chunk):
            part_BHWC = images_NHWC[start : start + chunk]
            self._source.write(split, part_BHWC, start=start, num_workers=num_workers)
            if start + len(part_BHWC) < num:
                images_NHWC.flush()
            self._note(split, start + len(part_BHWC))
        images_NHWC.flush()

    def _write_encoded(self, split: str, done: int, *, num_workers: int) -> None:
        if self._borrowed(split):
            self._note(split, self._card.splits[split].num_examples)
            return
        file = read.encoded_file(self._folder, split)
        entries_file = read.entries_file(self._folder, split)
        entries = np.zeros(self._card.splits[split].num_examples + 1, dtype=ENTRY)
        if done and file.is_file() and entries_file.is_file():
            entries[: done + 1] = np.load(entries_file, allow_pickle=False)[: done + 1]
        else:
            done = 0
        end = noted = int(entries["offset"][done])
        images = mapped(decoded, self._source.encoded(split, start=done), num_workers)
        with open(file, "r+b" if done else "wb") as out, contextlib.closing(images):
            out.truncate(end)
            out.seek(end)
            for row, (content, size_px) in enumerate(images, start=done):
                out.write(content)
                entries[row] = (end, *size_px)
                end += len(content)
                entries["offset"][row + 1] = end
                if end - noted >= CHUNK_BYTES:
                    out.flush()
                    _save(entries_file, entries)
                    self._note(split, row + 1)
                    noted = end
        _save(entries_file, entries)
        self._note(split, len(entries) - 1)

    def _borrowed(self, split: str) -> bool:
        """Note where the images are, if another set holds them all; else their hashes."""
        if not isinstance(self._source, Hashed):
            return False
        hashes_N = self._source.hashes(split)
        loan = lent.find(self._folder.parent, hashes_N)
        if loan is None:
            np.save(read.hashes_file(self._folder, split), hashes_N, allow_pickle=False)
            return False
        np.save(read.rows_file(self._folder, split), loan.rows_N, allow_pickle=False)
        self.lent[split] = loan.note()
        return True

    def _note(self, split: str, done: int) -> None:
        """Say how far it is, to the caller and to a later build."""
        self._done[split] = done
        notes = {"format": FORMAT, "packing": self._packing, "done": self._done}
        write_text(self._notes, json.dumps(notes), sync=False)
        if self._on_progress is not None:
            self._on_progress(sum(self._done.values()), self._total)


def _save(file: Path, entries: np.ndarray) -> None:
    """Write the entries whole: a later build goes on from them."""
    with replacing(file, sync=False) as temporary, temporary.open("wb") as out:
        np.save(out, entries, allow_pickle=False)


def decoded(item: Named) -> tuple[bytes, tuple[int, int]]:
    """Return the bytes of an image and its size, once it is known to decode; raises DataError."""
    from bench.data.decode import original

    name, content_of = item
    try:
        content = content_of()
    except OSError as error:
        raise DataError(f"{name}: cannot be read ({error.strerror})") from error
    height, width = original(content, name=name).shape[:2]
    return content, (height, width)


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
