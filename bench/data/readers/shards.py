"""Webdataset shards: `.tar` files of `KEY.jpg` and `KEY.cls`, perhaps under train/ and test/."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.data.readers.base import Facts, FileOptions, FileReader
from bench.data.sources.base import Source
from bench.errors import DataError
from bench.specs import DatasetCard, SplitCard, content_id


class ShardOptions(FileOptions):
    """Options of shards."""

    stream: bool = False
    """Read them where they lie, for sets larger than the disk; for pre-training alone."""


class ShardReader(FileReader[ShardOptions]):
    """Shards: packed, or streamed from where they lie."""

    def facts(self, options: ShardOptions) -> Facts:
        """Return what is found; the digest is of the shards' bytes."""
        from bench.data.sources import files, shards
        from bench.data.sources.base import check_num_classes
        from bench.data.sources.stream import WINDOW_SHARDS

        parts = shards.split_folders(Path(options.path))
        sets = {split: shards.open_shards(folder) for split, folder in parts.items()}
        content: dict[str, Any] = {
            "reader": self.name,
            "version": shards.INDEX_VERSION,
            "image_size_px": options.image_size_px,
            "files": {
                split: files.hashes(parts[split], [item.path.name for item in one.shards])
                for split, one in sets.items()
            },
        }
        if options.stream:  # the order of the images is another one, and with it the number
            content["stream"] = WINDOW_SHARDS
        largest = int(sets["train"].labels().max())
        check_num_classes(largest + 1, where=options.path)
        for split, one in sets.items():
            if (most := int(one.labels().max())) > largest:
                raise DataError(
                    f"{parts[split]}: an example has label {most}, but the largest of train is "
                    f"{largest}",
                    hint="What is tested on must be in train",
                )
        splits = {
            split: SplitCard(
                num_examples=one.num_examples,
                selector=f"{len(one.shards)} shards of {parts[split].name}/",
            )
            for split, one in sets.items()
        }
        return Facts(content_id(content), options.image_size_px, largest + 1, (), splits)

    def open(self, card: DatasetCard) -> Source:
        """Return the examples."""
        from bench.data.sources.shards import Shards

        options = self.of(card)
        return Shards(Path(options.path), image_size_px=options.image_size_px)

    def damaged(self, card: DatasetCard, *, num_workers: int = 1) -> list[str]:
        """Decode every example."""
        from bench.data.sources.shards import Shards

        return Shards(Path(self.of(card).path)).damaged(num_workers=num_workers)


READERS = (
    ShardReader(
        name="shards",
        options=ShardOptions,
        marks=(("*.tar",), ("train/*.tar",), ("data/*.tar",)),
        reads_archives=True,
    ),
)
