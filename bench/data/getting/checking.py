"""What lies at a path, whatever it is: layout, splits, classes, images that do not decode.

For files that no suite names yet: `vitbench data verify PATH`. Nothing is packed or written.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from bench.data import catalog
from bench.data.getting import locating
from bench.data.readers import folders, rows
from bench.data.readers.damaged import damaged_files
from bench.errors import DataError
from bench.specs import DatasetBlock, DatasetCard, Record


class PathFindings(Record):
    """What was found at a path."""

    path: str
    """Where the files lie."""
    reader: str
    """Reader that fits the layout, empty where none does: image files are counted then."""
    num_images: int
    """Images over all splits."""
    num_classes: int = 0
    """Classes, 0 without a layout."""
    splits: dict[str, int] = Field(default_factory=dict)
    """Images of each split; test is drawn where the files have none."""
    num_damaged: int = 0
    """Images that do not decode."""
    problems: tuple[str, ...] = ()
    """One message for each."""


def check_path(path: Path, *, num_workers: int = 1) -> PathFindings:
    """Count and decode what lies at a path; raises DataError where it cannot be read at all."""
    path = path.expanduser().absolute()
    if not path.exists():
        raise DataError(f"{path}: no such file or folder", hint="Check the path")
    if locating.is_archive(path):
        raise DataError(f"{path}: an archive", hint="Unpack it, then verify the folder")
    reader, place = next(locating.search(path), ("", path))
    if not reader:
        return _loose(path, num_workers=num_workers)
    block = DatasetBlock(reader=reader, path=str(place))
    card = catalog.resolve("path", block, base_dir=Path("/"))
    damaged = damaged_in(card, num_workers=num_workers)
    splits = {name: split.num_examples for name, split in card.splits.items()}
    return PathFindings(
        path=str(place),
        reader=reader,
        num_images=sum(splits.values()),
        num_classes=card.num_classes,
        splits=splits,
        num_damaged=len(damaged),
        problems=tuple(damaged),
    )


def _loose(path: Path, *, num_workers: int) -> PathFindings:
    """Decode image files that lie in no layout, at any depth."""
    root = path if path.is_dir() else path.parent
    found = list(folders.images_in(path, path)) if path.is_dir() else [path.name]
    paths = sorted(Path(name).as_posix() for name in found)
    if not paths:
        raise DataError(f"{path}: no images", hint=folders.LAYOUT_HINT)
    damaged = damaged_files(root, paths, num_workers=num_workers)
    return PathFindings(
        path=str(path),
        reader="",
        num_images=len(paths),
        num_damaged=len(damaged),
        problems=tuple(damaged.values()),
    )


def damaged_in(card: DatasetCard, *, num_workers: int = 1) -> list[str]:
    """Decode every image of a card's files and return the message of each that fails."""
    from bench.data.readers import layouts
    from bench.data.readers.file_sources import image_files

    if card.reader in rows.READERS:
        found = rows.READERS[card.reader](card.args)
        return [text for part in rows.damaged_rows(found).values() for text in part.values()]
    if card.reader == "shards":
        return _damaged_in_shards(Path(str(card.args["path"])), num_workers=num_workers)
    if card.reader not in layouts.READERS:
        return []  # arrays are checked whole when they are read
    folder = image_files(card)
    paths = [path for items in folder.splits.values() for path, _ in items]
    return list(damaged_files(folder.root, paths, num_workers=num_workers).values())


def _damaged_in_shards(path: Path, *, num_workers: int) -> list[str]:
    from bench.data.readers import shards
    from bench.data.readers.pool import in_threads

    problems: list[str] = []
    for folder in shards.split_folders(path).values():
        one = shards.open_shards(folder)

        def check(place: tuple[int, int], one: shards.ShardSet = one) -> None:
            try:
                one.image(*place, size_px=1)
            except DataError as error:
                problems.append(str(error))

        in_threads(check, one.places(), num_workers)
    return sorted(problems)
