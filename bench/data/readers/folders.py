"""A user's own image files: class folders, or a CSV that lists files and labels.

    image_folder  train/CLASS/... with test/CLASS/... (or val/); or CLASS/... alone, split by a draw
    csv           the columns path, label and perhaps split; paths relative to the file

Splits are known by their names in any case (`Train`, `TEST`, `validation`). Classes are the names
in sorted order, as torchvision's ImageFolder numbers them.
"""

from __future__ import annotations

import csv
import difflib
import os
import random
from pathlib import Path, PurePosixPath

from bench.data.readers.base import DrawnImageOptions
from bench.data.readers.common import ImageFileReader
from bench.data.sources.folder import (
    LAYOUT_HINT,
    Folder,
    Items,
    classes_of,
    folders_in,
    images_in,
)
from bench.errors import DataError

SPLITS = {
    "train": "train", "training": "train",
    "val": "val", "validation": "val", "valid": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
"""What splits are called, in small letters, and which they are."""

NEAR = 0.75
"""How alike a folder's name and that of a split are where one is taken for a slip of the other."""

ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")
"""Endings of files that should have been unpacked."""

ORDER = ("train", "val", "test")
"""Splits as a folder lists them."""

CSV_HINT = "The header is path,label or path,label,split with split one of train, val, test"


def scan(root: Path, *, test_share: float, seed: int) -> Folder:
    """Find images, classes and splits under `root`, without opening a file.

    Raises DataError when the folder is missing, has no images, a single class, or a test class
    that is not in train.
    """
    if not root.exists():
        raise DataError(f"{root}: no such folder", hint="Check path in the suite file")
    if not root.is_dir():
        packed = root.suffix.lower() in ARCHIVES
        hint = "Unpack it, and give the path of the folder" if packed else LAYOUT_HINT
        raise DataError(f"{root}: not a folder", hint=hint)
    found = _split_folders(root)
    if "train" not in found:
        return _split_by_draw(root, root, test_share=test_share, seed=seed)
    if len(found) == 1:
        return _split_by_draw(root, found["train"], test_share=test_share, seed=seed)
    if "test" not in found:  # what reports is called test, also where the owner says val
        found["test"] = found.pop("val")
    return _given_splits(root, {split: found[split] for split in ORDER if split in found})


def _split_folders(root: Path) -> dict[str, Path]:
    """Return the folders of splits under `root`; raise DataError where it is unclear which.

    Where none of them holds folders, they are classes that are called like splits.
    """
    try:
        names = folders_in(root)
    except OSError as error:
        where = error.filename or root
        raise DataError(f"{where}: cannot be read ({error.strerror})") from error
    found: dict[str, Path] = {}
    for name in names:
        split = SPLITS.get(name.lower())
        if split in found:
            raise DataError(
                f"{root}: {found[split].name}/ and {name}/ are both called {split}",
                hint="Leave one of them there",
            )
        if split is not None:
            found[split] = root / name
    _refuse_misspelled(root, names, found)
    if not any(_holds_folders(folder) for folder in found.values()):
        return {}
    if "train" not in found and len(found) == len(names):
        raise DataError(
            f"{root}: {' and '.join(f'{name}/' for name in names)}, and no train/",
            hint="Add train/CLASS/IMAGE, or give the path of one of them: a test split is drawn",
        )
    return found


def _refuse_misspelled(root: Path, names: list[str], found: dict[str, Path]) -> None:
    """Raise DataError for `traning/` beside `test/`: both would be classes, or one be left out.

    Classes may be called so too: those of train and of its misspelling are the same.
    """
    near = {
        name: known[0]
        for name in names
        if name.lower() not in SPLITS
        and (known := difflib.get_close_matches(name.lower(), SPLITS, n=1, cutoff=NEAR))
    }
    places = [*near, *(folder.name for folder in found.values())]
    holds = {name: set(folders_in(root / name)) for name in places}
    for name, meant in near.items():
        if any(holds[name] & holds[other] for other in places if other != name):
            raise DataError(
                f"{root}: {name}/ holds classes as a split does, and is called like none",
                hint=f'Did you mean "{SPLITS[meant]}"?',
            )


def _holds_folders(folder: Path) -> bool:
    try:
        return any(entry.is_dir() for entry in os.scandir(folder))
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror})") from error


# --- CSV ------------------------------------------------------------------------------------


def scan_csv(file: Path, *, test_share: float, seed: int) -> Folder:
    """Read a CSV of image paths (relative to its folder) and labels; the header names the columns.

    Labels are names. With a column `split`, its values are train, val or test. Raises DataError
    naming the line that is wrong.
    """
    if not file.is_file():
        what = "a folder, where a CSV file is needed" if file.is_dir() else "no such file"
        raise DataError(f"{file}: {what}", hint="Check path in the suite file")
    rows = _csv_rows(file)
    _refuse_missing(file, rows)
    splits: dict[str, dict[str, list[str]]] = {}
    seen: set[str] = set()
    for line, path, label, split in rows:
        place = str(PurePosixPath(path))  # ./a.png is a.png
        if place in seen:
            raise DataError(f"{file}, line {line}: {path} is listed twice", hint="Remove one")
        seen.add(place)
        splits.setdefault(split, {}).setdefault(label, []).append(path)
    if "train" not in splits:
        raise DataError(f"{file}: no training images", hint=CSV_HINT)
    names = tuple(sorted(splits["train"]))
    if "test" not in splits and "val" not in splits:
        return _drawn(file.parent, file, splits["train"], test_share=test_share, seed=seed)
    if "test" not in splits:
        splits["test"] = splits.pop("val")
    _require_two_classes(file, names)
    return _numbered(file.parent, names, splits, dict.fromkeys(splits, "column split"), str(file))


def _csv_rows(file: Path) -> list[tuple[int, str, str, str]]:
    """Return (line, path, label, split) of each row."""
    rows: list[tuple[int, str, str, str]] = []
    try:
        with open(file, newline="", encoding="utf-8-sig") as lines:
            table = csv.DictReader(lines)
            if not {"path", "label"} <= set(table.fieldnames or ()):
                there = f", but {', '.join(table.fieldnames)}" if table.fieldnames else ""
                raise DataError(f"{file}: no columns path and label{there}", hint=CSV_HINT)
            for row in table:
                where = f"{file}, line {table.line_num}"
                if None in row:  # what is beyond the header's columns
                    raise DataError(
                        f"{where}: more cells than the header has columns",
                        hint='Write text that holds a comma in quotation marks: "a, b"',
                    )
                path, label = (row["path"] or "").strip(), (row["label"] or "").strip()
                named = (row.get("split") or "train").strip()
                split = SPLITS.get(named.lower())
                if not path or not label:
                    raise DataError(f"{where}: empty path or label", hint=CSV_HINT)
                if split is None:
                    raise DataError(f'{where}: unknown split "{named}"', hint=CSV_HINT)
                path = path.removeprefix(f"{file.parent}/")
                if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
                    raise DataError(
                        f"{where}: {path} is not inside {file.parent}",
                        hint="Write paths relative to the CSV file's folder",
                    )
                rows.append((table.line_num, path, label, split))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file}: not a CSV file in UTF-8 ({error})", hint=CSV_HINT) from error
    return rows


def _refuse_missing(file: Path, rows: list[tuple[int, str, str, str]]) -> None:
    """Raise DataError with the line of the first file that is not there.

    Folders are listed: files are looked at one by one when they are hashed, and then alone.
    """
    listed: dict[str, frozenset[str]] = {}
    missing = []
    for line, path, *_ in rows:
        folder, name = os.path.split(file.parent / path)
        if folder not in listed:
            listed[folder] = frozenset(os.listdir(folder)) if os.path.isdir(folder) else frozenset()
        # A file system may know a name in another case.
        if name not in listed[folder] and not os.path.isfile(file.parent / path):
            missing.append((line, path))
    if missing:
        line, path = missing[0]
        more = f" (and {len(missing) - 1:,} more rows)" if missing[1:] else ""
        raise DataError(
            f"{file}, line {line}: {file.parent / path}: no such file{more}",
            hint="Paths are relative to the CSV file's folder",
        )


# --- splits ---------------------------------------------------------------------------------


def _given_splits(root: Path, parts: dict[str, Path]) -> Folder:
    by_split = {split: classes_of(root, part) for split, part in parts.items()}
    names = tuple(sorted(by_split["train"]))
    _require_two_classes(parts["train"], names)
    return _numbered(
        root, names, by_split, {split: f"{part.name}/" for split, part in parts.items()}, str(root)
    )


def _numbered(
    root: Path,
    names: tuple[str, ...],
    by_split: dict[str, dict[str, list[str]]],
    selectors: dict[str, str],
    where: str,
) -> Folder:
    """Number the classes of given splits; every class must be in train."""
    number = {name: label for label, name in enumerate(names)}
    for split, classes in by_split.items():
        for name in classes:
            if name not in number:
                raise DataError(
                    f'{where}: class "{name}" of {split} is not in train',
                    hint="Every class must have training images: add some, or remove the class",
                )
    splits = {
        split: [(path, number[name]) for name in sorted(classes) for path in sorted(classes[name])]
        for split, classes in by_split.items()
    }
    return Folder(root, names, splits, selectors)


def _split_by_draw(root: Path, part: Path, *, test_share: float, seed: int) -> Folder:
    classes = classes_of(root, part)
    for name in classes:
        _refuse_splits_within(part / name)
    return _drawn(root, part, classes, test_share=test_share, seed=seed)


def _refuse_splits_within(folder: Path) -> None:
    """Raise DataError for CLASS/train/ beside CLASS/test/: the draw would mix them."""
    within = {entry.name.lower() for entry in os.scandir(folder) if entry.is_dir()}
    if {"train", "test"} <= within:
        raise DataError(
            f"{folder}: holds the splits of one class", hint=f"{LAYOUT_HINT}; or write a CSV"
        )


def _drawn(
    root: Path, part: Path, classes: dict[str, list[str]], *, test_share: float, seed: int
) -> Folder:
    names = tuple(sorted(classes))
    _require_two_classes(part, names)
    train: Items = []
    test: Items = []
    for label, name in enumerate(names):
        paths = classes[name]
        if len(paths) < 2:
            raise DataError(
                f'{part}: class "{name}" has one image, which cannot be both trained on and '
                "tested on",
                hint="Add an image, or give a test split of your own",
            )
        # One draw per class: images added to another class leave this one's split alone.
        drawn = random.Random(f"{seed}/{name}").sample(paths, len(paths))
        num_test = min(len(paths) - 1, max(1, round(test_share * len(paths))))
        test += [(path, label) for path in sorted(drawn[:num_test])]
        train += [(path, label) for path in sorted(drawn[num_test:])]
    selector = f"of each class {test_share:g} drawn for test with seed {seed}"
    return Folder(
        root, names, {"train": train, "test": test}, {"train": selector, "test": selector}
    )


def _require_two_classes(part: Path, names: tuple[str, ...]) -> None:
    if len(names) == 1:
        hint = "A classifier needs examples of two classes"
        only = part / names[0]
        if part.is_dir() and _holds_folders(only):
            hint = f"If the folders in it are the classes, give the path {only}"
        raise DataError(f'{part}: only one class, "{names[0]}"', hint=hint)


# --- readers --------------------------------------------------------------------------------


def has_classes(path: Path) -> bool:
    """Return whether two folders hold images, as classes do, perhaps under train/."""
    inner = path / "train" if (path / "train").is_dir() else path
    with_images = 0
    for folder in sorted(entry for entry in inner.iterdir() if not entry.name.startswith(".")):
        if folder.is_dir() and next(images_in(folder, folder), None) is not None:
            with_images += 1
            if with_images == 2:
                return True
    return False


READERS = (
    ImageFileReader(
        name="image_folder", options=DrawnImageOptions, scan=scan, recognizes=has_classes
    ),
    ImageFileReader(name="csv", options=DrawnImageOptions, scan=scan_csv, suffix=".csv"),
)
