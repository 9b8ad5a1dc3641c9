"""Writing a packed set chunk by chunk, so that an interrupted build goes on where it stopped."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.data.packs import lent, read
from bench.data.packs.looks import ROW, decoded, looks_at, looks_file, seen
from bench.data.packs.read import ENTRY, FORMAT, Packing
from bench.data.readers import reader_of
from bench.data.readers.base import SkipsDamaged
from bench.data.sources.base import Detailed, Hashed, Source
from bench.data.sources.pool import mapped
from bench.errors import DataError
from bench.files import clear_stale, write_text
from bench.specs import DatasetCard

CHUNK_BYTES = 1 << 28
"""Pixels (or encoded images) written between two notes of progress: 256 MiB."""

TOLD_IMAGES = 256
"""Images between two calls that tell how far it is."""

NUM_NAMED = 5
"""Damaged images that are named besides the first."""

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
        self.blocks: dict[str, list[str]] = {}
        """SHA-256 of the first blocks of files, by name: hashed as they were written."""
        self._done = self._resumed()

    def _resumed(self) -> dict[str, int]:
        """Return the images already written, by split; begins anew where the notes do not fit."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            notes = json.loads(self._notes.read_text(encoding="utf-8"))
            if notes["format"] == FORMAT and notes["packing"] == self._packing:
                done = {str(split): int(num) for split, num in notes["done"].items()}
                self.blocks = {name: list(known) for name, known in notes["blocks"].items()}
                clear_stale(self._folder)
                return done
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir()
        return {}

    def write(self, split: str, *, num_workers: int) -> None:
        """Write the labels and all images of a split, from where the notes say."""
        labels_N = self._source.labels(split)
        check_labels(
            labels_N,
            num_classes=self._card.num_classes,
            where=f"{self._card.name}, {split}",
            class_names=self._card.class_names,
        )
        np.save(read.labels_file(self._folder, split), labels_N, allow_pickle=False)
        details_NF = self._source.details(split) if isinstance(self._source, Detailed) else None
        if details_NF is not None:
            np.save(read.details_file(self._folder, split), details_NF, allow_pickle=False)
        if self._packing == "arrays":
            self._write_arrays(split, num_workers=num_workers)
        elif self._borrowed(split):
            self._note(split, self._card.splits[split].num_examples)
        else:
            self._write_encoded(split, num_workers=num_workers)

    def _write_arrays(self, split: str, *, num_workers: int) -> None:
        num, size_px = self._card.splits[split].num_examples, self._sizes_px[split]
        assert size_px is not None  # images of their own sizes are packed encoded
        height, width = size_px
        file = read.images_file(self._folder, split)
        done = len(self._known(split, file))
        images_NHWC = np.lib.format.open_memmap(
            file, mode="r+" if done else "w+", dtype=np.uint8, shape=(num, height, width, 3)
        )
        _reserve(file)
        row_bytes = height * width * 3
        chunk = max(1, CHUNK_BYTES // row_bytes)
        for start in range(done, num, chunk):
            part_BHWC = images_NHWC[start : start + chunk]
            try:
                self._source.write(split, part_BHWC, start=start, num_workers=num_workers)
            except DataError as error:
                raise self._with_others(error, num_workers=num_workers) from error
            images_NHWC.flush()
            looks = looks_at(part_BHWC.view(np.ndarray), num_workers).tolist()
            rows = [(row_bytes, height, width, look) for look in looks]
            end = images_NHWC.offset + (start + len(rows)) * row_bytes
            self._keep(split, file, rows, end=end)
        self._save_looks(split, self._rows(split))

    def _write_encoded(self, split: str, *, num_workers: int) -> None:
        file = read.encoded_file(self._folder, split)
        known = self._known(split, file)
        done, end = len(known), int(known["num_bytes"].sum())
        work = partial(seen, size_px=self._sizes_px[split])
        images = mapped(work, self._source.encoded(split, start=done), num_workers)
        with open(file, "r+b" if done else "wb") as out, contextlib.closing(images):
            out.truncate(end)
            noted = out.seek(end)
            rows: list[tuple[Any, ...]] = []
            for image in images:
                out.write(image.content)
                end += len(image.content)
                rows.append(image.row())
                if end - noted >= CHUNK_BYTES:
                    out.flush()
                    self._keep(split, file, rows, end=end)
                    rows, noted = [], end
                elif len(rows) % TOLD_IMAGES == 0:
                    self._tell(len(rows))
        self._keep(split, file, rows, end=end)
        rows_N = self._rows(split)
        self._refuse_damaged(split, rows_N)
        entries = np.zeros(len(rows_N) + 1, dtype=ENTRY)
        entries["offset"][1:] = rows_N["num_bytes"].cumsum()
        entries["height"][:-1], entries["width"][:-1] = rows_N["height"], rows_N["width"]
        np.save(read.entries_file(self._folder, split), entries, allow_pickle=False)
        self._save_looks(split, rows_N)

    def _refuse_damaged(self, split: str, rows_N: np.ndarray) -> None:
        """Raise DataError with the first image that does not decode, and how many do not."""
        damaged = np.flatnonzero(rows_N["height"] == 0)
        if not len(damaged):
            return
        name, content_of = next(self._source.encoded(split, start=int(damaged[0])))
        starts = damaged[1 : 1 + NUM_NAMED].tolist()
        named = [next(self._source.encoded(split, start=start))[0] for start in starts]
        try:
            decoded(content_of(), name=name)
        except DataError as error:
            num_more, where = len(damaged) - 1, f" of {split}"
            raise self._among(error, named, num_more=num_more, where=where) from error
        raise DataError(f"{name}: changed while it was read", hint="Run again")

    def _with_others(self, error: DataError, *, num_workers: int) -> DataError:
        """Return the error of one image with the names of all others that do not decode."""
        damaged = reader_of(self._card).damaged(self._card, num_workers=num_workers)
        others = [
            found.partition(": ")[0] for found in damaged if not found.startswith(error.message)
        ]
        if len(others) == len(damaged):
            return error  # of something else
        return self._among(error, others[:NUM_NAMED], num_more=len(others))

    def _among(
        self, error: DataError, named: Sequence[str], *, num_more: int, where: str = ""
    ) -> DataError:
        """Return the error of one damaged image with the number and some names of the others."""
        names = ", ".join(Path(name).name for name in named) + ", ..." * (num_more > len(named))
        more = f" (and {num_more:,} more{where}: {names})" if num_more else ""
        options = reader_of(self._card).options
        may_skip = options is not None and issubclass(options, SkipsDamaged)
        cure = "; --skip-damaged (skip_damaged = true) leaves such files out" if may_skip else ""
        return DataError(f"{error.message}{more}", hint=f"{error.hint}{cure}")

    def _borrowed(self, split: str) -> bool:
        """Note where the images are, if another set holds them all; else their hashes."""
        if not isinstance(self._source, Hashed):
            return False
        hashes_N = self._source.hashes(split)
        loan = lent.find(self._folder.parent, hashes_N, size_px=self._sizes_px[split])
        if loan is None:
            np.save(read.hashes_file(self._folder, split), hashes_N, allow_pickle=False)
            return False
        np.save(read.rows_file(self._folder, split), loan.rows_N, allow_pickle=False)
        looks_N = loan.packed.looks(loan.split)[loan.rows_N]
        np.save(looks_file(self._folder, split), looks_N, allow_pickle=False)
        self.lent[split] = loan.note()
        return True

    # --- notes ------------------------------------------------------------------------------

    def _known(self, split: str, file: Path) -> np.ndarray:
        """Return what an earlier build noted of the images in a file (ROW); none where it is not.

        What it wrote beyond its last note is dropped.
        """
        rows_N = np.empty(0, ROW)
        with contextlib.suppress(OSError):
            noted_N = np.fromfile(self.rows_file(split), ROW, self._done.get(split, 0))
            if noted_N["num_bytes"].sum() <= file.stat().st_size:
                rows_N = noted_N
        if not len(rows_N):
            self.blocks.pop(file.name, None)
        with open(self.rows_file(split), "ab") as out:
            out.truncate(rows_N.nbytes)
        self._done[split] = len(rows_N)
        return rows_N

    def _rows(self, split: str) -> np.ndarray:
        return np.fromfile(self.rows_file(split), ROW)

    def rows_file(self, split: str) -> Path:
        """Return the file of the notes on each image of a split (ROW)."""
        return self._folder / f".{split}.rows"

    def _keep(self, split: str, file: Path, rows: Sequence[tuple[Any, ...]], *, end: int) -> None:
        """Note images that were written, up to byte `end` of a file."""
        with open(self.rows_file(split), "ab") as out:
            out.write(np.array(rows, dtype=ROW).tobytes())
        known = self.blocks.get(file.name, ())
        self.blocks[file.name] = read.whole_blocks(file, end, known=known)
        self._note(split, self._done.get(split, 0) + len(rows))

    def _save_looks(self, split: str, rows_N: np.ndarray) -> None:
        np.save(looks_file(self._folder, split), rows_N["look"], allow_pickle=False)

    def _note(self, split: str, done: int) -> None:
        """Say how far it is, to the caller and to a later build."""
        self._done[split] = done
        notes = {
            "format": FORMAT, "packing": self._packing, "done": self._done, "blocks": self.blocks
        }  # fmt: skip
        write_text(self._notes, json.dumps(notes), sync=False)
        self._tell(0)

    def _tell(self, num_more: int) -> None:
        if self._on_progress is not None:
            self._on_progress(sum(self._done.values()) + num_more, self._total)


def num_noted(folder: Path) -> int:
    """Return the images that the notes of a set being packed count, 0 where there are none."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        notes = json.loads((folder / NOTES).read_text(encoding="utf-8"))
        return sum(map(int, notes["done"].values()))
    return 0


def _reserve(file: Path) -> None:
    """Take a file's room on disk: pages of a mapped file that find none end the process."""
    if hasattr(os, "posix_fallocate"):
        with open(file, "r+b") as out:
            try:
                os.posix_fallocate(out.fileno(), 0, os.fstat(out.fileno()).st_size)
            except OSError as error:
                if error.errno == errno.ENOSPC:  # else the file system cannot promise room
                    raise


def check_labels(
    labels_N: np.ndarray, *, num_classes: int, where: str, class_names: Sequence[str] = ()
) -> None:
    """Raise DataError unless every label lies in [0, num_classes) and there are two classes."""
    wrong = np.flatnonzero((labels_N < 0) | (labels_N >= num_classes))
    if len(wrong):
        raise DataError(
            f"{where}: label {labels_N[wrong[0]]} of image {wrong[0]} is not in 0 to "
            f"{num_classes - 1} ({len(wrong):,} such labels)",
            hint="Correct the labels, or the number of classes",
        )
    if split_is_constant(labels_N):
        label = int(labels_N[0])
        name = f' ("{class_names[label]}")' if class_names else ""
        raise DataError(
            f"{where}: every image has label {label}{name}",
            hint="A classifier needs examples of two classes",
        )


def split_is_constant(labels_N: np.ndarray) -> bool:
    """Return whether more than one example carries one and the same label throughout."""
    return len(labels_N) > 1 and bool((labels_N == labels_N[0]).all())
