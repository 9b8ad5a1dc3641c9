"""What layouts of a sort have in common: image files, arrays, images encoded in rows.

ImageFileReader  give `scan`, from a path to files, labels and splits
ArrayReader      give `read`, from a path to an `ArraySet`
RowReader        give `rows`, from the options to a `RowSet`
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.data.readers.base import (
    SEED,
    TEST_SHARE,
    AtPath,
    DrawnOptions,
    Facts,
    FileOptions,
    FileReader,
    SkipsDamaged,
)
from bench.data.sources import arrays, files, rows
from bench.data.sources import folder as folders
from bench.data.sources.arrays import ArraySet
from bench.data.sources.base import Source
from bench.data.sources.folder import Folder
from bench.data.sources.rows import RowSet
from bench.errors import DataError
from bench.specs import DatasetCard, SplitCard, content_id

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, kw_only=True)
class ImageFileReader(FileReader[AtPath]):
    """A layout of image files."""

    scan: Callable[..., Folder]
    """(path) -> Folder; with DrawnOptions (path, *, test_share, seed) -> Folder. Opens no image."""

    def facts(self, options: AtPath) -> Facts:
        """Return what is found; the digest is of the files' paths, labels and bytes."""
        folder, left_out = self._sound(options)
        content = {
            "reader": "image_folder",  # the same files in any layout are the same data
            "version": folders.VERSION,
            "image_size_px": options.image_size_px,
            "files": folders.content_digest(folder),
        }
        splits = {
            split: SplitCard(num_examples=len(items), selector=folder.selectors[split] + left_out)
            for split, items in folder.splits.items()
        }
        names = folder.class_names
        return Facts(content_id(content), options.image_size_px, len(names), names, splits)

    def open(self, card: DatasetCard) -> Source:
        """Return the files."""
        from bench.data.sources.image_files import ImageFiles

        options = self.of(card)
        return ImageFiles(self._sound(options)[0], image_size_px=options.image_size_px)

    def damaged(self, card: DatasetCard, *, num_workers: int = 1) -> list[str]:
        """Decode every file."""
        from bench.data.sources.image_files import damaged_files

        folder = self.image_files(card)
        paths = [path for items in folder.splits.values() for path, _ in items]
        return list(damaged_files(folder.root, paths, num_workers=num_workers).values())

    def image_files(self, card: DatasetCard) -> Folder:
        """Return the files of a card, damaged ones too."""
        return self._scanned(self.of(card))

    def _scanned(self, options: AtPath) -> Folder:
        path = Path(options.path)
        if isinstance(options, DrawnOptions):
            return self.scan(path, test_share=options.test_share, seed=options.seed)
        return self.scan(path)

    def _sound(self, options: AtPath) -> tuple[Folder, str]:
        """Return the files to read, and what to say of those left out."""
        folder = self._scanned(options)
        if not _skips_damaged(options):
            return folder, ""
        from bench.data.sources.image_files import without_damaged

        folder, num_damaged = without_damaged(folder)
        return folder, f"; {num_damaged:,} damaged files of the set left out"


@dataclass(frozen=True, kw_only=True)
class ArrayReader(FileReader[AtPath]):
    """A layout of arrays."""

    read: arrays.Read
    """Reads the files at a path."""

    def facts(self, options: AtPath) -> Facts:
        """Return what is found; the digest is of the files' bytes, and of the split if drawn."""
        found = self._content(options)
        height, width = found.splits["train"].size_px
        asked_px = options.image_size_px
        share, seed = _drawn(options)
        content = {
            "reader": self.name,
            "version": arrays.VERSION,
            "image_size_px": asked_px or (height if height == width else [height, width]),
            "files": files.hashes(arrays.root_of(Path(options.path)), found.files),
            "split": {} if found.has_test else {"share": share, "seed": seed},
        }
        splits = _splits(
            {name: (part.labels_N, part.selector) for name, part in found.splits.items()}
        )
        squared_px = None if (height, width) == (asked_px, asked_px) else asked_px
        names = found.class_names
        return Facts(content_id(content), squared_px, found.num_classes, names, splits)

    def open(self, card: DatasetCard) -> Source:
        """Return the arrays."""
        options = self.of(card)
        return arrays.Arrays(self._content(options), image_size_px=options.image_size_px)

    def _content(self, options: AtPath) -> ArraySet:
        share, seed = _drawn(options)
        return arrays.read(self.read, Path(options.path), test_share=share, seed=seed)


@dataclass(frozen=True, kw_only=True)
class RowReader(FileReader[AtPath]):
    """A layout of images encoded in the rows of files."""

    rows: Callable[[AtPath], RowSet]
    """Opens the files."""
    content: tuple[str, ...]
    """Endings of the files' names."""

    def identity(self, options: AtPath) -> dict[str, Any]:
        """Return what identifies the content of the files: JSON; raises DataError."""
        path = Path(options.path)
        if not path.exists():
            raise DataError(f"{path}: no such file or folder", hint="Check path in the suite file")
        if path.is_file():
            return dict(files.hashes(path.parent, [path.name]))
        names = sorted(
            file.relative_to(path).as_posix()
            for file in path.rglob("*")
            if file.name.endswith(self.content) and not file.name.startswith("cache-")
        )
        return dict(files.hashes(path, names))

    def facts(self, options: AtPath) -> Facts:
        """Return what is found; it is remembered by content, since labels take long to read."""
        args = self.args(options)
        identity = {
            "reader": self.name,
            "version": rows.VERSION,
            "content": self.identity(options),
            "arguments": {key: value for key, value in args.items() if key != "path"},
        }

        def found() -> dict[str, Any]:
            content = self._content(options)
            parts = {name: (part.labels_N, part.selector) for name, part in content.splits.items()}
            return {
                "class_names": content.class_names,
                "num_classes": content.num_classes,
                "splits": {name: card.model_dump() for name, card in _splits(parts).items()},
            }

        known = files.remembered(identity, found)
        splits = {name: SplitCard.model_validate(card) for name, card in known["splits"].items()}
        names = tuple(known["class_names"])
        squared_px = options.image_size_px
        return Facts(content_id(identity), squared_px, known["num_classes"], names, splits)

    def open(self, card: DatasetCard) -> Source:
        """Return the rows."""
        options = self.of(card)
        return rows.Encoded(self._content(options), image_size_px=options.image_size_px)

    def damaged(self, card: DatasetCard, *, num_workers: int = 1) -> list[str]:
        """Decode every row."""
        del num_workers
        by_split = rows.damaged_rows(self.rows(self.of(card)))
        return [message for part in by_split.values() for message in part.values()]

    def _content(self, options: AtPath) -> RowSet:
        found, damaged = self.rows(options), None
        if _skips_damaged(options):
            content = {"reader": self.name, "content": self.identity(options)}
            damaged = rows.known_damaged(found, content)
        share, seed = _drawn(options)
        return rows.read(found, where=options.path, test_share=share, seed=seed, damaged=damaged)


def _splits(parts: Mapping[str, tuple[np.ndarray, str]]) -> dict[str, SplitCard]:
    return {
        name: SplitCard(num_examples=len(labels_N), selector=selector)
        for name, (labels_N, selector) in parts.items()
    }


def _drawn(options: FileOptions) -> tuple[float, int]:
    """Return share and seed of the draw for test."""
    return (
        (options.test_share, options.seed)
        if isinstance(options, DrawnOptions)
        else (TEST_SHARE, SEED)
    )


def _skips_damaged(options: FileOptions) -> bool:
    """Return whether images that do not decode are left out."""
    return isinstance(options, SkipsDamaged) and options.skip_damaged
