"""Writing a packed set chunk by chunk, so that an interrupted build goes on where it stopped."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bench.data.packs import read
from bench.data.packs.read import FORMAT, Packing
from bench.data.sources.base import Detailed, Source
from bench.errors import DataError
from bench.specs import DatasetCard

CHUNK_BYTES = 1 << 28
"""Pixels (or encoded images) written between two notes of progress: 256 MiB."""

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
        on_progress: Progress | None,
    ) -> None:
        self._card, self._source, self._folder = card, source, folder
        self._packing, self._on_progress = packing, on_progress
        self._total = sum(split.num_examples for split in card.splits.values())
        self._notes = folder / "progress.json"
        self._done = self._resumed()

    def _resumed(self) -> dict[str, int]:
        """Return the images already written, by split; begins anew where the notes do not fit."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            notes = json.loads(self._notes.read_text(encoding="utf-8"))
            if notes["format"] == FORMAT and notes["packing"] == self._packing:
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
        num, side = self._card.splits[split].num_examples, self._source.image_size_px
        file = read.images_file(self._folder, split)
        if done and not file.is_file():
            done = 0
        images_NHWC = np.lib.format.open_memmap(
            file,
            mode="r+" if done else "w+",
            dtype=np.uint8,
            shape=(num, side, side, 3),
        )
        chunk = max(1, CHUNK_BYTES // (side * side * 3))
        for start in range(done, num, chunk):
            part_BHWC = images_NHWC[start : start + chunk]
            self._source.write(split, part_BHWC, start=start, num_workers=num_workers)
            if start + len(part_BHWC) < num:
                images_NHWC.flush()
            self._note(split, start + len(part_BHWC))
        images_NHWC.flush()

    def _write_encoded(self, split: str, done: int, *, num_workers: int) -> None:
        file, offsets_file = (
            read.encoded_file(self._folder, split), read.offsets_file(self._folder, split),
        )  # fmt: skip
        offsets = [0]
        if done and file.is_file() and offsets_file.is_file():
            offsets = np.load(offsets_file, allow_pickle=False).tolist()[: done + 1]
        written = 0
        with open(file, "r+b" if len(offsets) > 1 else "wb") as out:
            out.truncate(offsets[-1])
            out.seek(offsets[-1])
            start = len(offsets) - 1
            for content in self._source.encoded(split, start=start, num_workers=num_workers):
                out.write(content)
                offsets.append(offsets[-1] + len(content))
                written += len(content)
                if written >= CHUNK_BYTES:
                    out.flush()
                    np.save(offsets_file, np.array(offsets), allow_pickle=False)
                    self._note(split, len(offsets) - 1)
                    written = 0
        np.save(offsets_file, np.array(offsets), allow_pickle=False)
        self._note(split, len(offsets) - 1)

    def _note(self, split: str, done: int) -> None:
        """Say how far it is, to the caller and to a later build."""
        self._done[split] = done
        notes = {"format": FORMAT, "packing": self._packing, "done": self._done}
        fresh = self._notes.with_suffix(".new")
        fresh.write_text(json.dumps(notes), encoding="utf-8")
        os.replace(fresh, self._notes)
        if self._on_progress is not None:
            self._on_progress(sum(self._done.values()), self._total)


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
