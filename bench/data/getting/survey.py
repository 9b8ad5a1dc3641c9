"""What lies at a path, whatever it is: layout, splits, classes, images that do not decode.

For files that no suite names yet: `vitbench data verify PATH`. Nothing is packed or written.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from bench.data.getting import recognize
from bench.data.getting.archives import SUFFIXES as ARCHIVES
from bench.data.readers import READERS, options_of
from bench.data.sources.folder import LAYOUT_HINT, images_in
from bench.errors import DataError
from bench.specs import Record


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
    if path.name.endswith(ARCHIVES):
        raise DataError(f"{path}: an archive", hint="Unpack it, then verify the folder")
    name, place = next(recognize.search(path), ("", path))
    if not name:
        return _loose(path, num_workers=num_workers)
    options = options_of("path", {"reader": name, "path": str(place)})
    card = READERS[name].card("path", options, base_dir=Path("/"), claim=None)
    damaged = READERS[name].damaged(card, num_workers=num_workers)
    splits = {split: part.num_examples for split, part in card.splits.items()}
    return PathFindings(
        path=str(place),
        reader=name,
        num_images=sum(splits.values()),
        num_classes=card.num_classes,
        splits=splits,
        num_damaged=len(damaged),
        problems=tuple(damaged),
    )


def _loose(path: Path, *, num_workers: int) -> PathFindings:
    """Decode image files that lie in no layout, at any depth."""
    from bench.data.sources.image_files import damaged_files

    root = path if path.is_dir() else path.parent
    found = list(images_in(path, path)) if path.is_dir() else [path.name]
    paths = sorted(Path(name).as_posix() for name in found)
    if not paths:
        raise DataError(f"{path}: no images", hint=LAYOUT_HINT)
    damaged = damaged_files(root, paths, num_workers=num_workers)
    return PathFindings(
        path=str(path),
        reader="",
        num_images=len(paths),
        num_damaged=len(damaged),
        problems=tuple(damaged.values()),
    )
