"""VTAB tasks from folders: an export of the exact 1,000 images, CLEVR's scenes, KITTI's boxes.

Labels follow `vtab_labels.py`. CLEVR and KITTI in their owners' layout give as many images as the
benchmark, from the same parts, but not the same 1,000 (see `vtab_arrays.py`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bench.data.cards.vtab import DRAWN
from bench.data.readers.base import ImageOptions
from bench.data.readers.common import ImageFileReader
from bench.data.sources.files import read_bytes
from bench.data.sources.folder import Folder, Items, images_in
from bench.errors import DataError
from bench.facts import VTAB_TRAIN, VTAB_VAL

KITTI_CLASSES = ("within 8 m", "within 20 m", "farther", "no vehicle")

CLEVR_VAL_FROM = 90
"""Per cent of CLEVR's training images before the benchmark's val split."""


def scan_export(root: Path) -> Folder:
    """Read train800/CLASS, val200/CLASS and test/CLASS: an export of the benchmark's own splits.

    Training images are the 800 and then the 200, so that `train800` and `val200` are these. A
    class may be missing from some of the splits: the benchmark does not balance them.
    """
    parts = {"train800": VTAB_TRAIN, "val200": VTAB_VAL, "test": None}
    found: dict[str, list[tuple[str, str]]] = {}
    for part, expected in parts.items():
        found[part] = [
            (path, entry.name)
            for entry in sorted(_existing(root / part).iterdir())
            if entry.is_dir() and not entry.name.startswith(".")
            for path in sorted(images_in(entry, root))
        ]
        if not found[part] or len(found[part]) != (expected or len(found[part])):
            raise DataError(
                f"{root / part}: {len(found[part]):,} images in class folders",
                hint="VTAB-1k has 800 in train800/, 200 in val200/ and the whole test/",
            )
    names = tuple(sorted({name for part in found.values() for _, name in part}))
    number = {name: label for label, name in enumerate(names)}

    def items(*chosen: str) -> Items:
        return [(path, number[name]) for part in chosen for path, name in found[part]]

    return Folder(
        root,
        names,
        {"train": items("train800", "val200"), "test": items("test")},
        {"train": "train800/ and val200/", "test": "test/"},
    )


# --- CLEVR ----------------------------------------------------------------------------------


def scan_clevr(root: Path, *, label: Callable[[list[Any]], int], num_classes: int) -> Folder:
    """Read CLEVR_v1.0: images/SPLIT and scenes/CLEVR_SPLIT_scenes.json; its val is the test split,
    since its own test split has no scenes."""
    from bench.data.splits import drawn_vtab_rows

    train, test = _clevr_items(root, "train", label), _clevr_items(root, "val", label)
    start = CLEVR_VAL_FROM * len(train) // 100
    first, second = drawn_vtab_rows(start, len(train) - start, seed=0, where=root)
    chosen = [*first, *(second + start)]
    return Folder(
        root,
        tuple(map(str, range(num_classes))),
        {"train": [train[row] for row in chosen], "test": test},
        {"train": f"1,000 of images/train {DRAWN}", "test": "images/val"},
    )


def _clevr_items(root: Path, split: str, label: Callable[[list[Any]], int]) -> Items:
    file = root / "scenes" / f"CLEVR_{split}_scenes.json"
    if not file.is_file():
        raise DataError(f"{root}: no scenes/{file.name}", hint="Unpack CLEVR_v1.0.zip")
    try:
        scenes = json.loads(read_bytes(file))["scenes"]
        items = [
            (f"images/{split}/{Path(scene['image_filename']).name}", label(scene["objects"]))
            for scene in scenes
        ]
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise DataError(
            f"{file}: not a list of CLEVR's scenes ({type(error).__name__}: {error})",
            hint="Get the file again",
        ) from error
    return sorted(items)


def _count(objects: list[Any]) -> int:
    from bench.data.sources import vtab_labels

    return int(vtab_labels.clevr_count(len(objects)))


def _closest(objects: list[Any]) -> int:
    from bench.data.sources import vtab_labels

    return int(vtab_labels.clevr_closest(min(item["pixel_coords"][2] for item in objects)))


# --- KITTI ----------------------------------------------------------------------------------


def scan_kitti(root: Path) -> Folder:
    """Read KITTI's object set: training/image_2, training/label_2 and the devkit's mapping/.

    Images of one drive stay in one split: 10 % of the drives for test, 10 % for val, drawn as
    tensorflow/datasets (object_detection/kitti.py, version 3.1.0) draws them with seed 123.
    """
    from bench.data.splits import drawn_vtab_rows

    drives = _kitti_drives(root)
    parts = _kitti_parts(drives)
    first, second = drawn_vtab_rows(len(parts["train"]), len(parts["val"]), seed=0, where=root)
    chosen = {
        "train": [*(parts["train"][k] for k in first), *(parts["val"][k] for k in second)],
        "test": parts["test"],
    }
    return Folder(
        root,
        KITTI_CLASSES,
        {split: [_kitti_item(root, image) for image in images] for split, images in chosen.items()},
        {"train": f"1,000 images of 80 and 10 % of the drives, {DRAWN}", "test": "10 % of drives"},
    )


def _kitti_drives(root: Path) -> list[str]:
    """Return the drive of each training image."""
    order, names = (root / "mapping" / f"train_{kind}.txt" for kind in ("rand", "mapping"))
    for file in (order, names):
        if not file.is_file():
            raise DataError(
                f"{root}: no mapping/{file.name}", hint="Unpack devkit_object.zip there"
            )
    try:
        lines = read_bytes(names).decode().splitlines()
        return [lines[int(place) - 1].split()[1] for place in read_bytes(order).split(b",")]
    except (ValueError, IndexError) as error:
        raise DataError(f"{root / 'mapping'}: not KITTI's mapping ({error})") from error


def _kitti_parts(drives: Sequence[str]) -> dict[str, list[int]]:
    """Return the images of train, val and test."""
    import numpy as np

    names = sorted(set(drives))
    num_held = max(1, 10 * len(names) // 100)
    rng = np.random.RandomState(123)
    test = set(rng.choice(names, num_held, replace=False))
    val = set(rng.choice(sorted(set(names) - test), num_held, replace=False))
    parts: dict[str, list[int]] = {"train": [], "val": [], "test": []}
    for image, drive in enumerate(drives):
        parts["test" if drive in test else "val" if drive in val else "train"].append(image)
    return parts


def _kitti_item(root: Path, image: int) -> tuple[str, int]:
    from bench.data.sources import vtab_labels

    file = root / "training" / "label_2" / f"{image:06d}.txt"
    try:
        boxes = [line.split() for line in read_bytes(file).decode().splitlines()]
        vehicles = [float(box[13]) for box in boxes if box and box[0] in vtab_labels.KITTI_VEHICLES]
    except (ValueError, IndexError) as error:
        raise DataError(f"{file}: not a list of KITTI's boxes ({error})") from error
    closest_m = min([*vehicles, vtab_labels.KITTI_NO_VEHICLE_M])
    return f"training/image_2/{image:06d}.png", int(vtab_labels.kitti_closest(closest_m))


def _existing(folder: Path) -> Path:
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder", hint="Check path in the suite file")
    return folder


READERS = (
    ImageFileReader(
        name="vtab-folder",
        options=ImageOptions,
        scan=scan_export,
        marks=(("train800", "val200", "test"),),
    ),
    ImageFileReader(
        name="clevr-count",
        options=ImageOptions,
        scan=partial(scan_clevr, label=_count, num_classes=8),
    ),
    ImageFileReader(
        name="clevr-dist",
        options=ImageOptions,
        scan=partial(scan_clevr, label=_closest, num_classes=6),
    ),
    ImageFileReader(name="kitti-dist", options=ImageOptions, scan=scan_kitti),
)
