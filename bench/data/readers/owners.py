"""Image files in their owners' own layouts: Pets, Flowers, DTD, EuroSAT.

    oxford-pets     images/NAME.jpg, annotations/trainval.txt, test.txt (NAME CLASS SPECIES BREED)
    oxford-flowers  jpg/image_00001.jpg, imagelabels.mat, setid.mat
    dtd             images/CLASS/NAME.jpg, labels/train1.txt, val1.txt, test1.txt (the first of ten)
    eurosat         CLASS/CLASS_1.jpg, perhaps under 2750/

Splits and labels are the owners'. EuroSAT has no split: train is the first four fifths of each
class by number and test the last, as the card says.
"""

from __future__ import annotations

import re
from pathlib import Path

from bench.data.readers.base import ImageOptions
from bench.data.readers.common import ImageFileReader
from bench.data.sources.files import read_mat
from bench.data.sources.folder import Folder, Items, classes_of
from bench.errors import DataError

_COMPLETE = "Get the whole archive from its owner"


def scan_pets(root: Path) -> Folder:
    """Read Oxford-IIIT Pets: trainval.txt is train, test.txt is test; classes count from 1."""
    splits: dict[str, Items] = {}
    names: dict[int, str] = {}
    for split, list_name in (("train", "trainval.txt"), ("test", "test.txt")):
        items: Items = []
        for line, words in _lines(root / "annotations" / list_name):
            if len(words) != 4 or not words[1].isdigit() or int(words[1]) < 1:
                raise DataError(
                    f"{root / 'annotations' / list_name}, line {line}: not NAME CLASS SPECIES "
                    "BREED",
                    hint=_COMPLETE,
                )
            label = int(words[1]) - 1
            names.setdefault(label, words[0].rsplit("_", 1)[0])
            items.append((f"images/{_plain(words[0], root)}.jpg", label))
        splits[split] = items
    selectors = {"train": "annotations/trainval.txt", "test": "annotations/test.txt"}
    return _checked(Folder(root, _in_order(names, root), splits, selectors))


def scan_flowers(root: Path) -> Folder:
    """Read Oxford Flowers-102: trnid, then valid, are train; tstid is test; labels count from 1."""
    labels = read_mat(root / "imagelabels.mat", ("labels",))["labels"].reshape(-1).tolist()
    if not labels or min(labels) < 1:
        raise DataError(
            f"{root / 'imagelabels.mat'}: labels count from 1, and {min(labels, default=None)} is "
            "the smallest",
            hint=_COMPLETE,
        )
    sets = read_mat(root / "setid.mat", ("trnid", "valid", "tstid"))

    def items(*keys: str) -> Items:
        numbers = [int(number) for key in keys for number in sets[key].reshape(-1)]
        wrong = [number for number in numbers if not 1 <= number <= len(labels)]
        if wrong:
            raise DataError(
                f"{root / 'setid.mat'}: image {wrong[0]}, but imagelabels.mat has {len(labels):,}",
                hint=_COMPLETE,
            )
        return [(f"jpg/image_{number:05d}.jpg", int(labels[number - 1]) - 1) for number in numbers]

    splits = {"train": items("trnid", "valid"), "test": items("tstid")}
    names = tuple(f"{label:03d}" for label in range(1, int(max(labels)) + 1))
    return _checked(Folder(root, names, splits, {"train": "trnid and valid", "test": "tstid"}))


def scan_dtd(root: Path) -> Folder:
    """Read the Describable Textures: the first of ten partitions; classes in sorted order."""
    listed = {
        split: [words[0] for _, words in _lines(root / "labels" / f"{split}1.txt") if words]
        for split in ("train", "val", "test")
    }
    names = tuple(sorted({path.split("/")[0] for path in listed["train"]}))
    number = {name: label for label, name in enumerate(names)}
    splits: dict[str, Items] = {}
    for split, paths in listed.items():
        for path in paths:
            if path.count("/") != 1 or path.split("/")[0] not in number:
                raise DataError(
                    f"{root / 'labels' / (split + '1.txt')}: {path} is not CLASS/NAME of a class "
                    "of train",
                    hint=_COMPLETE,
                )
        splits[split] = [
            (f"images/{_plain(path, root)}", number[path.split("/")[0]]) for path in paths
        ]
    return _checked(
        Folder(root, names, splits, {split: f"labels/{split}1.txt" for split in splits})
    )


def scan_eurosat(root: Path) -> Folder:
    """Read EuroSAT's RGB images: of each class by number, four fifths are train, the last test."""
    inner = root / "2750" if (root / "2750").is_dir() else root
    found = classes_of(root, inner)
    names = tuple(sorted(found))
    splits: dict[str, Items] = {"train": [], "test": []}
    for label, name in enumerate(names):
        paths = sorted(found[name], key=_number)
        first = len(paths) * 4 // 5
        splits["train"] += [(path, label) for path in paths[:first]]
        splits["test"] += [(path, label) for path in paths[first:]]
    selectors = {"train": "first four fifths of each class", "test": "last fifth of each class"}
    return _checked(Folder(root, names, splits, selectors))


def _number(path: str) -> tuple[int, str]:
    match = re.search(r"(\d+)\.\w+$", path)
    return (int(match.group(1)) if match else 0, path)


def _lines(file: Path) -> list[tuple[int, list[str]]]:
    """Return (line number, words) of a list that is not a comment."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror})", hint=_COMPLETE) from error
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not UTF-8 text ({error.reason})", hint=_COMPLETE) from error
    return [
        (number, line.split())
        for number, line in enumerate(lines, start=1)
        if line.strip() and not line.startswith("#")
    ]


def _plain(name: str, root: Path) -> str:
    if name.startswith("/") or ".." in name.split("/"):
        raise DataError(f"{root}: {name} is not inside the folder", hint=_COMPLETE)
    return name


def _in_order(names: dict[int, str], root: Path) -> tuple[str, ...]:
    if sorted(names) != list(range(len(names))):
        raise DataError(f"{root}: class numbers have gaps", hint=_COMPLETE)
    return tuple(names[label] for label in range(len(names)))


def _checked(folder: Folder) -> Folder:
    """Refuse splits that share a file, are empty, or name one that is not there."""
    seen: dict[str, str] = {}
    for split, items in folder.splits.items():
        if not items:
            raise DataError(f"{folder.root}: no images in {split}", hint=_COMPLETE)
        for path, _ in items:
            if path in seen:
                raise DataError(
                    f"{folder.root}: {path} is in {seen[path]} and in {split}", hint=_COMPLETE
                )
            seen[path] = split
    missing = [path for path in seen if not (folder.root / path).is_file()]
    if missing:
        raise DataError(
            f"{folder.root}: {len(missing):,} of {len(seen):,} images are missing, first "
            f"{missing[0]}",
            hint=_COMPLETE,
        )
    return folder


READERS = (
    ImageFileReader(
        name="oxford-pets",
        options=ImageOptions,
        scan=scan_pets,
        marks=(("annotations", "images"),),
    ),
    ImageFileReader(
        name="oxford-flowers",
        options=ImageOptions,
        scan=scan_flowers,
        marks=(("setid.mat", "imagelabels.mat"),),
    ),
    ImageFileReader(name="dtd", options=ImageOptions, scan=scan_dtd, marks=(("labels", "images"),)),
    ImageFileReader(name="eurosat", options=ImageOptions, scan=scan_eurosat, marks=(("2750",),)),
)
