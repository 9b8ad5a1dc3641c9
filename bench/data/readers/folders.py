"""A user's own image files: which files, which classes, which splits, which content.

Layouts: `train/CLASS/...` with `test/CLASS/...` (or `val/`), or `CLASS/...` alone, which is split
by a seeded, stratified draw; or a CSV file with the columns path, label and perhaps split. Classes
are the names in sorted order, as torchvision's ImageFolder numbers them. Only the standard library
is used: planning a suite must stay light.

The digest is of the content (paths, labels and bytes), never of time stamps.
"""

from __future__ import annotations

import csv
import hashlib
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from bench.data.readers import files
from bench.errors import DataError

VERSION = 1
"""Bumped when the same files give other splits, labels or pixels."""

SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
)
"""File name endings taken for images, whatever their case."""

SPLIT_FOLDERS = {"train": ("train",), "val": ("val", "validation", "valid"), "test": ("test",)}
CSV_HINT = "The header is path,label or path,label,split with split one of train, val, test"
LAYOUT_HINT = "Expected FOLDER/CLASS/IMAGE, or FOLDER/train/CLASS/IMAGE and FOLDER/test/CLASS/IMAGE"


@dataclass(frozen=True)
class Folder:
    """The files of an image folder, split and labelled."""

    root: Path
    """Folder that all paths are relative to."""
    class_names: tuple[str, ...]
    """Class names in label order."""
    splits: dict[str, list[tuple[str, int]]]
    """(relative path with forward slashes, label) of every image, by split."""
    selectors: dict[str, str]
    """How each split was selected, in words."""
    details: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """What scoring needs to know of an image beside its label, by path; see `scoring.judge`."""


def scan(root: Path, *, test_share: float, seed: int) -> Folder:
    """Find images, classes and splits under `root`, without opening a file.

    Raises DataError when the folder is missing, has no images, a single class, or a test class
    that is not in train.
    """
    if not root.exists():
        raise DataError(f"{root}: no such folder", hint="Check path in the suite file")
    if not root.is_dir():
        raise DataError(f"{root}: not a folder", hint=LAYOUT_HINT)
    found = {
        split: next((root / name for name in names if (root / name).is_dir()), None)
        for split, names in SPLIT_FOLDERS.items()
    }
    if found["train"] is None:
        return _split_by_draw(root, root, test_share=test_share, seed=seed)
    if found["test"] is None and found["val"] is None:
        return _split_by_draw(root, found["train"], test_share=test_share, seed=seed)
    if found["test"] is None:  # what reports is called test, also where the owner says val
        found["test"], found["val"] = found["val"], None
    return _given_splits(root, {split: path for split, path in found.items() if path is not None})


def with_own_splits(scan_folder: Callable[[Path], Folder]) -> Callable[..., Folder]:
    """Give a layout that has its own splits the signature of `scan`; nothing is drawn."""

    def scan_path(root: Path, *, test_share: float, seed: int) -> Folder:
        del test_share, seed
        return scan_folder(root)

    return scan_path


def content_digest(folder: Folder) -> str:
    """Return the SHA-256 over split, path, label and bytes of every file."""
    paths = sorted({path for items in folder.splits.values() for path, _ in items})
    hashes = files.hashes(folder.root, paths)
    total = hashlib.sha256()
    for split in sorted(folder.splits):
        for path, label in folder.splits[split]:
            details = "".join(f"\0{value}" for value in folder.details.get(path, ()))
            total.update(f"{split}\0{path}\0{label}{details}\0{hashes[path]}\n".encode())
    return total.hexdigest()


# --- CSV ------------------------------------------------------------------------------------


def scan_csv(file: Path, *, test_share: float, seed: int) -> Folder:
    """Read a CSV of image paths (relative to its folder) and labels; the header names the columns.

    Labels are names. With a column `split`, its values are train, val or test. Raises DataError
    naming the line that is wrong.
    """
    if not file.is_file():
        raise DataError(f"{file}: no such file", hint="Check path in the suite file")
    rows = _csv_rows(file)
    splits: dict[str, dict[str, list[str]]] = {}
    seen: set[str] = set()
    for line, path, label, split in rows:
        if path in seen:
            raise DataError(f"{file}, line {line}: {path} stands there twice", hint="Remove one")
        seen.add(path)
        splits.setdefault(split, {}).setdefault(label, []).append(path)
    if "train" not in splits:
        raise DataError(f"{file}: no training images", hint=CSV_HINT)
    names = tuple(sorted(splits["train"]))
    if "test" not in splits and "val" not in splits:
        return _drawn(file.parent, file, splits["train"], test_share=test_share, seed=seed)
    if "test" not in splits:
        splits["test"] = splits.pop("val")
    _require_twoclasses_of(file, names)
    return _numbered(file.parent, names, splits, dict.fromkeys(splits, "column split"), str(file))


def _csv_rows(file: Path) -> list[tuple[int, str, str, str]]:
    """Return (line, path, label, split) of each row."""
    rows: list[tuple[int, str, str, str]] = []
    try:
        with open(file, newline="", encoding="utf-8-sig") as lines:
            table = csv.DictReader(lines)
            if not {"path", "label"} <= set(table.fieldnames or ()):
                raise DataError(f"{file}: no columns path and label", hint=CSV_HINT)
            for row in table:
                where = f"{file}, line {table.line_num}"
                path, label = (row["path"] or "").strip(), (row["label"] or "").strip()
                split = (row.get("split") or "train").strip()
                if not path or not label:
                    raise DataError(f"{where}: empty path or label", hint=CSV_HINT)
                if split not in SPLIT_FOLDERS:
                    raise DataError(f'{where}: unknown split "{split}"', hint=CSV_HINT)
                if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
                    raise DataError(
                        f"{where}: {path} is not inside {file.parent}",
                        hint="Write paths relative to the CSV file's folder",
                    )
                rows.append((table.line_num, path, label, split))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file}: not a CSV file in UTF-8 ({error})", hint=CSV_HINT) from error
    return rows


# --- splits ---------------------------------------------------------------------------------


def _given_splits(root: Path, parts: dict[str, Path]) -> Folder:
    by_split = {split: classes_of(root, part) for split, part in parts.items()}
    names = tuple(sorted(by_split["train"]))
    _require_twoclasses_of(parts["train"], names)
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
    return _drawn(root, part, classes_of(root, part), test_share=test_share, seed=seed)


def _drawn(
    root: Path, part: Path, classes: dict[str, list[str]], *, test_share: float, seed: int
) -> Folder:
    names = tuple(sorted(classes))
    _require_twoclasses_of(part, names)
    train: list[tuple[str, int]] = []
    test: list[tuple[str, int]] = []
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


def _require_twoclasses_of(part: Path, names: tuple[str, ...]) -> None:
    if len(names) == 1:
        raise DataError(
            f'{part}: only one class, "{names[0]}"', hint="A classifier needs two class folders"
        )


def classes_of(root: Path, part: Path) -> dict[str, list[str]]:
    """Return the sorted relative image paths of each class folder of `part`."""
    classes: dict[str, list[str]] = {}
    try:
        entries = sorted(entry.name for entry in os.scandir(part) if entry.is_dir())
        for name in entries:
            paths = sorted(images_in(part / name, root))
            if paths:
                classes[name] = paths
            elif not name.startswith("."):
                raise DataError(
                    f"{part / name}: the class folder has no images",
                    hint=f"Put images there ({', '.join(sorted(SUFFIXES))}) or remove the folder",
                )
    except OSError as error:
        raise DataError(f"{part}: cannot be read ({error.strerror})") from error
    if not classes:
        raise DataError(f"{part}: no images in class folders", hint=LAYOUT_HINT)
    return classes


def images_in(folder: Path, root: Path) -> Iterator[str]:
    """Yield image paths relative to `root`, with forward slashes, from all levels of `folder`."""

    def fail(error: OSError) -> None:
        raise error

    for where, subfolders, names in os.walk(folder, onerror=fail):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        prefix = Path(os.path.relpath(where, root)).as_posix()
        for name in names:
            if os.path.splitext(name)[1].lower() in SUFFIXES and name[0] != ".":
                path = f"{prefix}/{name}"
                if not path.isascii():
                    _check_text(path)
                yield path


def _check_text(path: str) -> None:
    try:
        path.encode("utf-8")
    except UnicodeEncodeError as error:
        shown = path.encode("utf-8", "backslashreplace").decode()
        raise DataError(f"{shown}: the name is not UTF-8", hint="Rename the file") from error
