"""What tests of packing pack, and how they stop it."""

from __future__ import annotations

from pathlib import Path

from bench.data import catalog
from bench.data.cards.generated import formula_card
from bench.specs import DatasetCard

SMALL = formula_card("small", num_classes=3, images_per_class=20, image_size_px=8)


def folder_card(path: Path, **fields: object) -> DatasetCard:
    block = {"reader": "image_folder", "path": str(path), "image_size_px": 8, **fields}
    return catalog.resolve("mine", block, base_dir=Path("/nowhere"))


class Stopped(Exception):
    """Takes the place of a signal between two chunks."""
