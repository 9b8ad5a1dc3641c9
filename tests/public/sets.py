"""Small data sets in their owners' layouts: two training images a class, two test images.

Pictures are of soft noise, as JPEG of 224 to 512 px a side; which class they are put into means
nothing. What matters is that every file has the true name, layout, format and size.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.io import savemat

from bench.data.cards import imagenet, vtab
from bench.data.cards.vtab import Task
from bench.data.sources import export_tfds
from bench.facts import VTAB_TRAIN, VTAB_VAL

NUM_PER_CLASS = 2
NUM_TEST = 2
NUM_PICTURES = 24

LAYOUTS = {
    "imagenet-1k": "imagenet",
    "imagenet-1k-real": "imagenet-real",
    "cifar10": "cifar",
    "cifar100": "cifar",
    "oxford-pets": "oxford-pets",
    "oxford-flowers102": "oxford-flowers",
    **dict.fromkeys(vtab.TASKS, "tfds-export"),
}
"""Reader of each set that can be made, by the name of the published one."""


def pictures() -> list[bytes]:
    """Return JPEG files, of 224 to 512 px a side."""
    rng = np.random.default_rng(0)
    found = []
    sides_px = np.linspace(224, 512, NUM_PICTURES).astype(int).tolist()
    for height_px, width_px in zip(sides_px, reversed(sides_px), strict=True):
        coarse = rng.integers(0, 256, (height_px // 8, width_px // 8, 3), dtype=np.uint8)
        encoded = io.BytesIO()
        Image.fromarray(coarse).resize((width_px, height_px)).save(encoded, "JPEG", quality=90)
        found.append(encoded.getvalue())
    return found


def write(name: str, home: Path, pictures: Sequence[bytes]) -> Path:
    """Write the small form of a published set below `home`; return its folder."""
    if name == "imagenet-1k-real":  # the same images, with other labels
        return home / "imagenet-1k"
    folder = home / name
    folder.mkdir(parents=True)
    if name in vtab.TASKS:
        _write_export(folder, vtab.TASKS[name], _rotated(name, pictures))
    else:
        _WRITERS[name](folder, _Files(folder, pictures))
    return folder


def _rotated(name: str, pictures: Sequence[bytes]) -> list[bytes]:
    """Return the pictures from another one on, so that no two sets are the same."""
    start = list(vtab.TASKS).index(name)
    return [*pictures[start:], *pictures[:start]]


class _Files:
    """Places pictures one after another, each file linked to its first copy."""

    def __init__(self, root: Path, pictures: Sequence[bytes]) -> None:
        self._root = root
        self._next: Iterator[int] = itertools.cycle(range(len(pictures)))
        self._pictures = pictures
        self._first: dict[int, Path] = {}

    def place(self, relative: str) -> None:
        """Put the next picture at a path inside the set."""
        path, number = self._root / relative, next(self._next)
        path.parent.mkdir(parents=True, exist_ok=True)
        if number in self._first:
            os.link(self._first[number], path)
        else:
            path.write_bytes(self._pictures[number])
            self._first[number] = path


def _write_imagenet(root: Path, files: _Files) -> None:
    wnids = imagenet.synsets()
    for wnid in wnids:
        for number in range(NUM_PER_CLASS):
            files.place(f"train/{wnid}/{wnid}_{number}.JPEG")
    rows = [("ImageId", "PredictionString")]
    for number in range(1, NUM_TEST + 1):
        stem = f"ILSVRC2012_val_{number:08d}"
        files.place(f"val/{stem}.JPEG")
        rows.append((stem, f"{wnids[number]} 0 0 10 10"))
    with (root / "LOC_val_solution.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    labels = [[number % len(wnids)] for number in range(50_000)]
    (root / "real.json").write_text(json.dumps(labels), encoding="utf-8")


def _write_cifar10(root: Path, files: _Files) -> None:
    del files
    for number in range(1, 6):
        _write_batch(root / f"data_batch_{number}", num=4, num_classes=10, key=b"labels")
    _write_batch(root / "test_batch", num=NUM_TEST, num_classes=10, key=b"labels")
    _pickle(root / "batches.meta", {b"label_names": [f"class {k}".encode() for k in range(10)]})


def _write_cifar100(root: Path, files: _Files) -> None:
    del files
    _write_batch(root / "train", num=NUM_PER_CLASS * 100, num_classes=100, key=b"fine_labels")
    _write_batch(root / "test", num=NUM_TEST, num_classes=100, key=b"fine_labels")
    names = [f"class {k:02d}".encode() for k in range(100)]
    _pickle(root / "meta", {b"fine_label_names": names})


def _write_batch(path: Path, *, num: int, num_classes: int, key: bytes) -> None:
    rng = np.random.default_rng(len(path.name) + ord(path.name[-1]))
    start = int(path.name[-1]) if path.name[-1].isdigit() else 0
    labels = [(4 * start + row) % num_classes for row in range(num)]
    data = rng.integers(0, 256, (num, 3072), dtype=np.uint8)
    _pickle(path, {b"data": data, key: labels})


def _pickle(path: Path, content: dict[bytes, Any]) -> None:
    path.write_bytes(pickle.dumps(content, protocol=2))


def _write_pets(root: Path, files: _Files) -> None:
    names = [f"breed{label:02d}" for label in range(1, 38)]
    rows: dict[str, list[str]] = {"trainval": [], "test": []}
    for label, name in enumerate(names, start=1):
        for number in range(NUM_PER_CLASS):
            rows["trainval"].append(f"{name}_{number} {label} 1 1")
    for label, name in enumerate(names[:NUM_TEST], start=1):
        rows["test"].append(f"{name}_9 {label} 1 1")
    (root / "annotations").mkdir()
    for split, lines in rows.items():
        for line in lines:
            files.place(f"images/{line.split()[0]}.jpg")
        (root / "annotations" / f"{split}.txt").write_text("\n".join(lines), encoding="utf-8")


def _write_flowers(root: Path, files: _Files) -> None:
    num_classes = 102
    labels = [*range(1, num_classes + 1)] * NUM_PER_CLASS + [*range(1, NUM_TEST + 1)]
    for number in range(1, len(labels) + 1):
        files.place(f"jpg/image_{number:05d}.jpg")
    numbers = np.arange(1, len(labels) + 1)
    parts = {
        "trnid": numbers[:num_classes],
        "valid": numbers[num_classes : 2 * num_classes],
        "tstid": numbers[2 * num_classes :],
    }
    savemat(root / "imagelabels.mat", {"labels": np.array([labels])})
    savemat(root / "setid.mat", {key: part[None] for key, part in parts.items()})


def _write_export(root: Path, task: Task, pictures: Sequence[bytes]) -> None:
    """Write an export of a VTAB task: 800 and 200 images, which the benchmark takes, and a test."""
    parts = {"train800": VTAB_TRAIN, "val200": VTAB_VAL, "test": NUM_TEST}
    manifest = {
        "format": export_tfds.FORMAT,
        "dataset": task.builder,
        "label": "label",
        "class_names": [str(number) for number in range(task.num_classes)],
        "splits": {
            split: {
                "selector": task.export()[split],
                **export_tfds.write(root, split, _rows(num, task.num_classes, pictures)),
            }
            for split, num in parts.items()
        },
    }
    (root / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def _rows(num: int, num_classes: int, pictures: Sequence[bytes]) -> Iterator[dict[str, Any]]:
    for row in range(num):
        yield {"image": pictures[row % len(pictures)], "label": row % num_classes}


_WRITERS: dict[str, Callable[[Path, _Files], None]] = {
    "imagenet-1k": _write_imagenet,
    "cifar10": _write_cifar10,
    "cifar100": _write_cifar100,
    "oxford-pets": _write_pets,
    "oxford-flowers102": _write_flowers,
}
