"""From the name of a published set to its card with files: locate, unpack, check, note.

`vitbench data prepare NAME` does this once; suites then find the set by its name (`home.py`).
"""

from __future__ import annotations

from pathlib import Path

from bench.data import catalog, imagenet
from bench.data.getting import archives, download, home, locating
from bench.data.readers import arrays
from bench.errors import DataError, UnknownName
from bench.specs import DatasetBlock, DatasetCard

DEFAULT_PUBLISHED_SIZE_PX = 384
"""Side at which published image files are packed: what the paper fine-tunes at. Arrays keep theirs.
"""


def is_generated(card: DatasetCard) -> bool:
    """Return whether a set needs no files of a user's."""
    return bool(card.digest) and "path" not in card.args


def obtain(
    name: str,
    *,
    path: Path | None = None,
    reader: str = "",
    size_px: int | None = None,
    skip_damaged: bool = False,
    stream: bool = False,
    fetch: bool = False,
) -> DatasetCard:
    """Return the card of a published set with its files located and counted; raises DataError.

    The files are looked for at `path`, else in the data home. `fetch` downloads them there first.
    The reader is found by the files' layout unless it is named. `stream` leaves shards unpacked.
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
    published_px = imagenet.OWN_SIZES_PX.get(reader, DEFAULT_PUBLISHED_SIZE_PX)
    side = size_px or (None if _native(reader) else published_px)
    block = DatasetBlock(
        reader=reader, path=str(place), image_size_px=side, skip_damaged=skip_damaged, stream=stream
    )
    return catalog.resolve(name, block, base_dir=Path("/"))


def _native(reader: str) -> bool:
    """Return whether a reader knows the side of its images before they are decoded."""
    return reader in arrays.readers()


def _found(card: DatasetCard, folder: Path, reader: str) -> tuple[str, Path]:
    """Return reader and path, unpacking archives that lie there where nothing else does."""
    if reader:
        from bench.data.readers.sources import READERS

        if reader not in READERS:
            raise UnknownName("reader", reader, READERS)
        return reader, folder
    try:
        return locating.find(card, folder)
    except DataError:
        packed = archives.archives_in(folder)
        if not packed or card.reader == "shards":
            raise
    for archive in packed:
        archives.extract(archive, folder / archive.name.split(".")[0])
    return locating.find(card, folder)
