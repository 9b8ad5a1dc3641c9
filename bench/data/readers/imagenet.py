"""ImageNet and its evaluation sets in their owners' folders: which file has which label.

    imagenet         train/WNID/*, val/WNID/*; or val/ flat and a list of labels
    imagenet-real    val/ (flat or in WNID folders) and real.json
    imagenet-v2      "0" to "999", sorted as numbers, or WNIDs
    imagenet-a, -r   the 200 WNIDs of the set, as classes of the 1,000
    imagenet-sketch  1,000 WNIDs
    imagenet-c       CORRUPTION/SEVERITY/WNID/*, perhaps under noise/, blur/, weather/, digital/

Labels are always places in ImageNet's own order of 1,000 classes, whatever the folder holds. No
image is opened here.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from bench.data.cards import imagenet
from bench.data.cards.imagenet import CORRUPTIONS, NUM_SEVERITIES
from bench.data.readers.base import ImageOptions
from bench.data.readers.common import ImageFileReader
from bench.data.sources.files import read_bytes
from bench.data.sources.folder import SUFFIXES, Folder, Items, images_in
from bench.errors import DataError

VAL_NAME = re.compile(r"ILSVRC2012_val_(\d{8})(?:_n\d{8})?$")
"""Stem of a validation image; some copies append the WNID."""

GROUND_TRUTH = "ILSVRC2012_validation_ground_truth.txt"
C_GROUPS = ("noise", "blur", "weather", "digital")


def scan_imagenet(root: Path) -> Folder:
    """Read ImageNet itself: train/ where it is there, and val/, which is what papers report on."""
    splits: dict[str, Items] = {}
    if (root / "train").is_dir():
        splits["train"] = _wnid_items(root, root / "train")
    splits["test"] = _validation(root)
    return Folder(
        root, imagenet.synsets(), splits, {"train": "train/", "test": "val/, 50,000 images"}
    )


def scan_real(root: Path) -> Folder:
    """Read the validation images with ReaL's lists of labels; images with an empty list are left
    out, so that the number of images is the number that counts."""
    file = root / "real.json"
    if not file.is_file():
        raise DataError(
            f"{root}: no real.json", hint="Get it from google-research/reassessed-imagenet"
        )
    lists = _label_lists(file)
    items: Items = []
    details: dict[str, tuple[int, ...]] = {}
    for path in sorted(_validation_files(root), key=lambda path: path.name):
        labels = lists[_number(path, len(lists), file) - 1]
        if labels:
            relative = path.relative_to(root).as_posix()
            items.append((relative, labels[0]))
            details[relative] = labels
    selector = "validation images with at least one ReaL label"
    return Folder(root, imagenet.synsets(), {"test": items}, {"test": selector}, details)


def scan_v2(root: Path) -> Folder:
    """Read ImageNet-V2: a folder's name is its class number."""
    names = _subfolders(root)
    if names and all(name.isdigit() for name in names):
        names.sort(key=int)
        _require(root, names, [str(number) for number in range(imagenet.NUM_CLASSES)])
        items = _items(root, [(root / name, int(name)) for name in names])
    else:
        items = _wnid_items(root, root)
    return _test_set(root, items, "all images; folders are class numbers")


def scan_subset(root: Path, *, name: str) -> Folder:
    """Read ImageNet-A or -R: exactly its 200 folders, labelled among the 1,000 classes."""
    expected = imagenet.subset_synsets(name)
    _require(root, _subfolders(root), expected)
    pairs = zip(expected, imagenet.subset_indices(name), strict=True)
    items = _items(root, [(root / wnid, label) for wnid, label in pairs])
    return _test_set(root, items, "all images of 200 of the 1,000 classes")


def scan_sketch(root: Path) -> Folder:
    """Read a folder of the 1,000 WNIDs."""
    return _test_set(root, _wnid_items(root, root), "all images")


def scan_corruptions(root: Path) -> Folder:
    """Read ImageNet-C, or those of its 15 corruptions that are there.

    An image's details are its place in CORRUPTIONS and its severity, 1 to 5.
    """
    places = {
        name: place
        for name in CORRUPTIONS
        for place in (root / name, *(root / group / name for group in C_GROUPS))
        if place.is_dir()
    }
    if not places:
        raise DataError(
            f"{root}: none of the corruptions, such as {CORRUPTIONS[0]}/1/n01440764/",
            hint="Point path to the folder that the archives of ImageNet-C were unpacked into",
        )
    items: Items = []
    details: dict[str, tuple[int, ...]] = {}
    for name, place in places.items():
        for severity in range(1, NUM_SEVERITIES + 1):
            cell = (CORRUPTIONS.index(name), severity)
            found = _wnid_items(root, place / str(severity))
            items += found
            details.update(dict.fromkeys((path for path, _ in found), cell))
    selector = f"{len(places)} corruptions at {NUM_SEVERITIES} severities"
    return Folder(root, imagenet.synsets(), {"test": items}, {"test": selector}, details)


# --- validation images ----------------------------------------------------------------------


def _validation(root: Path) -> Items:
    """Return the labelled validation images: class folders, or a flat folder and a list."""
    place = _val_folder(root)
    if _subfolders(place):
        return _wnid_items(root, place)
    labels = _flat_labels(root, place)
    items: Items = []
    for path in sorted(_validation_files(root), key=lambda path: path.name):
        label = labels.get(path.stem)
        if label is None:
            raise DataError(
                f"{path}: no label in the list", hint="The list must name every validation image"
            )
        items.append((path.relative_to(root).as_posix(), label))
    return items


def _val_folder(root: Path) -> Path:
    if not root.is_dir():
        raise DataError(f"{root}: no such folder", hint="Check path in the suite file")
    return next((root / name for name in ("val", "validation") if (root / name).is_dir()), root)


def _validation_files(root: Path) -> list[Path]:
    place = _val_folder(root)
    found = [
        path
        for path in place.rglob("ILSVRC2012_val_*")
        if path.suffix.lower() in SUFFIXES and path.is_file()
    ]
    if not found:
        raise DataError(
            f"{place}: no ILSVRC2012_val_*.JPEG", hint="Unpack ILSVRC2012_img_val.tar there"
        )
    return found


def _number(path: Path, num: int, where: Path) -> int:
    """Return the number in a validation image's name, from 1."""
    match = VAL_NAME.match(path.stem)
    if match is None or not 1 <= int(match[1]) <= num:
        raise DataError(
            f"{path}: not one of the {num:,} images of {where.name}",
            hint="Names must be the owner's, ILSVRC2012_val_00000001.JPEG and so on",
        )
    return int(match[1])


def _flat_labels(root: Path, place: Path) -> dict[str, int]:
    """Return the label of each validation image by its stem, from whichever list is there."""
    truth = next(iter(sorted(root.rglob(GROUND_TRUTH))), None)
    if truth is not None:
        return _devkit_labels(truth)
    lists = [*sorted(root.glob("*.csv")), *sorted(place.glob("*.csv"))]
    if lists:
        return _csv_labels(lists[0])
    raise DataError(
        f"{place}: images without class folders, and no list of their labels",
        hint=f"Put the devkit's {GROUND_TRUTH} with meta.mat next to it, or LOC_val_solution.csv, "
        f"under {root}",
    )


def _devkit_labels(truth: Path) -> dict[str, int]:
    """Read the devkit's ground truth: its ids are its own, and meta.mat says which WNID each is."""
    wnids = _devkit_wnids(truth.with_name("meta.mat"))
    place = {wnid: index for index, wnid in enumerate(imagenet.synsets())}
    labels: dict[str, int] = {}
    for number, line in enumerate(read_bytes(truth).split(), start=1):
        wnid = wnids.get(int(line) if line.isdigit() else -1)
        if wnid not in place:
            raise DataError(f"{truth}, line {number}: {line.decode()!r} is not an id in meta.mat")
        labels[f"ILSVRC2012_val_{number:08d}"] = place[wnid]
    return labels


def _devkit_wnids(meta: Path) -> dict[int, str]:
    if not meta.is_file():
        raise DataError(
            f"{meta}: no such file", hint="It is in ILSVRC2012_devkit_t12/data, next to the truth"
        )
    from scipy.io import loadmat

    try:
        rows = loadmat(meta, squeeze_me=True)["synsets"]
        return {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in rows}
    except Exception as error:  # scipy raises anything on a damaged file
        raise DataError(f"{meta}: not the devkit's meta.mat ({error})") from error


def _csv_labels(file: Path) -> dict[str, int]:
    """Read rows of image name and WNID; what follows the WNID (boxes) is not used."""
    place = {wnid: index for index, wnid in enumerate(imagenet.synsets())}
    labels: dict[str, int] = {}
    rows = csv.reader(read_bytes(file).decode("utf-8-sig").splitlines())
    for line, row in enumerate(rows, start=1):
        wnid = row[1].split()[0] if len(row) > 1 and row[1].strip() else ""
        if wnid in place:
            labels[Path(row[0].strip()).stem] = place[wnid]
        elif line > 1:  # the first line may be a header
            raise DataError(
                f"{file}, line {line}: no WNID of the 1,000", hint="Rows are IMAGE,WNID"
            )
    return labels


def _label_lists(file: Path) -> list[tuple[int, ...]]:
    try:
        lists = [tuple(int(label) for label in labels) for labels in json.loads(read_bytes(file))]
    except (ValueError, TypeError) as error:
        raise DataError(f"{file}: not a list of lists of labels ({error})") from error
    if any(not 0 <= label < imagenet.NUM_CLASSES for labels in lists for label in labels):
        raise DataError(f"{file}: a label is not in 0 to 999", hint="Get the file again")
    return lists


# --- class folders --------------------------------------------------------------------------


def _subfolders(place: Path) -> list[str]:
    if not place.is_dir():
        raise DataError(f"{place}: no such folder", hint="Check path in the suite file")
    return sorted(
        entry.name for entry in place.iterdir() if entry.is_dir() and not entry.name.startswith(".")
    )


def _require(place: Path, found: Sequence[str], expected: Sequence[str]) -> None:
    """Refuse class folders that are not exactly those expected: one missing shifts no label here,
    but the accuracy would be that of another set."""
    missing = [name for name in expected if name not in set(found)]
    extra = [name for name in found if name not in set(expected)]
    if missing or extra:
        what = (
            f"no class folder {missing[0]}" if missing else f"{extra[0]} is not a class of the set"
        )
        raise DataError(
            f"{place}: {what} ({len(missing):,} missing, {len(extra):,} unknown, of "
            f"{len(expected):,})",
            hint="Unpack the owner's archive again; folders carry WNIDs, such as n01440764",
        )


def _wnid_items(root: Path, place: Path) -> Items:
    """Return the images of a folder of all 1,000 WNIDs."""
    _require(place, _subfolders(place), imagenet.synsets())
    return _items(root, [(place / wnid, label) for label, wnid in enumerate(imagenet.synsets())])


def _items(root: Path, classes: list[tuple[Path, int]]) -> Items:
    items: Items = []
    for folder, label in classes:
        paths = sorted(images_in(folder, root))
        if not paths:
            raise DataError(
                f"{folder}: the class folder has no images", hint="Unpack the archive again"
            )
        items += [(path, label) for path in paths]
    return items


def _test_set(root: Path, items: Items, selector: str) -> Folder:
    return Folder(root, imagenet.synsets(), {"test": items}, {"test": selector})


# --- readers --------------------------------------------------------------------------------

READERS = (
    ImageFileReader(name="imagenet", options=ImageOptions, scan=scan_imagenet),
    ImageFileReader(
        name="imagenet-real", options=ImageOptions, scan=scan_real, scoring="multi-label"
    ),
    ImageFileReader(name="imagenet-v2", options=ImageOptions, scan=scan_v2),
    *(
        ImageFileReader(
            name=name,
            options=ImageOptions,
            scan=partial(scan_subset, name=name),
            scoring="class-subset",
        )
        for name in ("imagenet-a", "imagenet-r")
    ),
    ImageFileReader(name="imagenet-sketch", options=ImageOptions, scan=scan_sketch),
    ImageFileReader(
        name="imagenet-c",
        options=ImageOptions,
        scan=scan_corruptions,
        scoring="corruption",
    ),
)
