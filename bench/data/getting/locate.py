"""From the name of a published set to its card with files: find, unpack, check.

`vitbench data prepare NAME` does this once and notes the card; suites then find the set by its name
(`home.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.data import catalog, home
from bench.data.getting import archives, download, recognize
from bench.data.readers import READERS, reader_of
from bench.errors import DataError
from bench.specs import DatasetCard


def is_generated(card: DatasetCard) -> bool:
    """Return whether a set needs no files of a user's."""
    return bool(card.digest) and "path" not in card.args


def locate(
    name: str,
    *,
    path: Path | None = None,
    reader: str = "",
    size_px: int | None = None,
    skip_damaged: bool = False,
    stream: bool = False,
    fetch: bool = False,
    part: bool = False,
) -> DatasetCard:
    """Return the card of a published set with its files located and counted; raises DataError.

    The files are looked for at `path`, else in the data home. `fetch` downloads them there first.
    The reader is found by the files' layout unless it is named. `stream` leaves shards unpacked.
    `part` takes files that are not complete, for rehearsals.
    """
    card = catalog.published(name)
    if is_generated(card):
        return card
    reason = card.refusal
    if reason:
        raise DataError(f"{name}: {reason}", hint=card.how_to_get)
    folder = path.expanduser().absolute() if path is not None else home.folder_of(name)
    if fetch:
        download.fetch(card, folder)
    reader, place = _found(card, folder, reader)
    block: dict[str, Any] = {"reader": reader, "path": str(place)}
    said = {"image_size_px": size_px, "skip_damaged": skip_damaged, "stream": stream, "part": part}
    block |= {key: value for key, value in said.items() if value}
    return catalog.resolve(name, block, base_dir=Path("/"))


def _found(card: DatasetCard, folder: Path, reader: str) -> tuple[str, Path]:
    """Return reader and path, unpacking archives that lie there where nothing else does."""
    if reader:
        return READERS.named(reader).name, folder
    try:
        return recognize.find(card, folder)
    except DataError:
        packed = archives.archives_in(folder)
        if not packed or reader_of(card).reads_archives:
            raise
    for archive in packed:
        archives.extract(archive, folder / archive.name.split(".")[0])
    return recognize.find(card, folder)
