"""Cards of the sets that come with the harness: digits, micro VTAB tasks, fractals.

They need no download. Digits (natural), gratings (specialized) and sprites (structured) stand in
for the three groups of VTAB in smoke runs: numbers on them say that the machinery works, nothing
about the published benchmark. Fractals are an upstream set of any size.
"""

from __future__ import annotations

from typing import NamedTuple

from bench.facts import NATURAL, SPECIALIZED, STRUCTURED
from bench.specs import Args, DatasetCard, SplitCard, content_id

IMAGE_SIZE_PX = 16
"""Side of sprites and gratings."""

SPRITES_COUNTS = {"train": 1200, "val": 400, "test": 400}
"""Images of each split; VTAB-1k takes 800 of train and 200 of val."""

SPRITES_VERSION = 1
"""Bumped when the same arguments give other pixels."""


FORMULA_VERSION = 1
"""Version of the generator of fractals: bumped when the same arguments give other pixels."""


class MicroTask(NamedTuple):
    """One task on generated images."""

    title: str
    group: str
    """Group of VTAB that it stands in for."""
    num_classes: int
    asks: str
    """What the label is, in words."""


SPRITES = {
    "sprites-location": MicroTask(
        "Sprites, location", STRUCTURED, 8, "column of eight that the shape's centre lies in"
    ),
    "sprites-orientation": MicroTask(
        "Sprites, orientation", STRUCTURED, 6, "orientation of a bar or ellipse, of six"
    ),
    "gratings": MicroTask(
        "Gratings", SPECIALIZED, 6, "orientation of the stripes, of six, at any frequency"
    ),
}
"""Generated tasks by card name; `sprites.py` paints them."""

_DIGITS_ARGS: Args = {"num_test": 500, "seed": 0}


def _digits() -> DatasetCard:
    return DatasetCard(
        name="digits",
        title="Handwritten digits",
        reader="digits",
        args=_DIGITS_ARGS,
        num_classes=10,
        class_names=tuple("0123456789"),
        splits={
            "train": SplitCard(num_examples=1297, selector="what the test split leaves"),
            "test": SplitCard(num_examples=500, selector="stratified, drawn once with seed 0"),
        },
        group=NATURAL,
        digest=content_id({"reader": "digits", "version": 1, **_DIGITS_ARGS}),
        source="UCI Optical Recognition of Handwritten Digits (E. Alpaydin, C. Kaynak), the 1,797 "
        "test images as scikit-learn carries them: 8 x 8 grey, values 0 to 16 scaled to 0 to 255",
        licence="CC BY 4.0 (UCI Machine Learning Repository)",
        how_to_get="comes with scikit-learn",
    )


def _sprites(name: str, task: MicroTask) -> DatasetCard:
    args: Args = {"task": name, "seed": 0}
    return DatasetCard(
        name=name,
        title=task.title,
        reader="sprites",
        args=args,
        num_classes=task.num_classes,
        splits={
            split: SplitCard(num_examples=num, selector="generated, label and factors drawn")
            for split, num in SPRITES_COUNTS.items()
        },
        group=task.group,
        digest=content_id({"reader": "sprites", "version": SPRITES_VERSION, **args}),
        version=SPRITES_VERSION,
        source=f"generated; asks for the {task.asks}; factors after dSprites (Matthey et al., "
        "2017)",
        licence="generated here; free of terms",
        how_to_get="generated on first use",
    )


def formula_card(
    name: str,
    *,
    num_classes: int,
    images_per_class: int,
    image_size_px: int,
    seed: int = 0,
    title: str = "",
) -> DatasetCard:
    """Return the card of a formula-driven upstream set; its digest is that of its arguments."""
    args: Args = {
        "num_classes": num_classes,
        "images_per_class": images_per_class,
        "image_size_px": image_size_px,
        "seed": seed,
    }
    return DatasetCard(
        name=name,
        title=title or f"Fractals {num_classes:,} x {images_per_class:,}",
        reader="formula",
        args=args,
        num_classes=num_classes,
        splits={
            "train": SplitCard(
                num_examples=num_classes * images_per_class,
                selector="all generated images, class by class",
            )
        },
        digest=content_id({"reader": "formula", "version": FORMULA_VERSION, **args}),
        version=FORMULA_VERSION,
        source="Iterated function systems after Kataoka et al., Pre-training without Natural "
        "Images (arXiv:2101.08515); parameters after Anderson and Farrell, Improving Fractal "
        "Pre-training (arXiv:2110.03091)",
        licence="generated here; free of terms",
        how_to_get="generated on first use",
    )


CARDS = (
    _digits(),
    *(_sprites(name, task) for name, task in SPRITES.items()),
    formula_card(
        "fractals", num_classes=64, images_per_class=256, image_size_px=16, title="Fractals"
    ),
)
"""Each card's digest is of the generator's arguments."""
