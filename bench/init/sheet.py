"""A contact sheet: a few training pictures of every class, as the systems will see them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bench.files import replacing
from bench.init.look import Looked

COLUMNS, MAX_CLASSES = 10, 20
TILE_PX, GAP_PX, TEXT_PX = 64, 2, 150
_INK, _PAPER = (40, 40, 40), (255, 255, 255)


def write(looked: Looked, path: Path) -> int:
    """Write the sheet as PNG; return how many classes it shows."""
    from PIL import Image, ImageDraw

    split = looked.packed.split("train")
    shown = min(MAX_CLASSES, looked.card.num_classes)
    step = TILE_PX + GAP_PX
    sheet = Image.new("RGB", (TEXT_PX + COLUMNS * step, shown * step), _PAPER)
    pen = ImageDraw.Draw(sheet)
    for label in range(shown):
        rows_N = np.flatnonzero(split.labels_N == label)
        names, counts = looked.card.class_names, looked.per_class["train"]
        name = names[label] if names else f"class {label}"
        pen.text((4, label * step + 16), _cut(pen, name), fill=_INK)
        pen.text((4, label * step + 32), f"{counts[label]:,} to learn from", fill=_INK)
        for column, row in enumerate(rows_N[:COLUMNS]):
            tile = Image.fromarray(np.asarray(split.images(np.array([row]))[0]))
            tile = tile.resize((TILE_PX, TILE_PX), Image.Resampling.NEAREST)
            sheet.paste(tile, (TEXT_PX + column * step, label * step))
    with replacing(path) as temporary:
        sheet.save(temporary, format="PNG")
    return shown


def _cut(pen: object, name: str) -> str:
    """Return as much of a name as fits beside the pictures."""
    while len(name) > 4 and pen.textlength(name) > TEXT_PX - 8:  # type: ignore[attr-defined]
        name = name[:-2].rstrip("…") + "…"
    return name
