"""Files that do not decode: found once, remembered by content, left out where a suite asks for it.

By default a damaged image stops a suite with its name. With `skip_damaged = true` it is left out,
and the card says how many were, so that no table hides it.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from bench.data.decode import load_rgb
from bench.data.readers import files
from bench.data.readers.folders import VERSION, Folder
from bench.errors import DataError


def damaged_files(root: Path, paths: Iterable[str], *, num_workers: int = 1) -> dict[str, str]:
    """Decode every file and return the message of each that fails, by path."""

    def failure(path: str) -> str:
        try:
            load_rgb(root / path, name=str(root / path))
        except DataError as error:
            return str(error)
        return ""

    paths = list(paths)
    with ThreadPoolExecutor(max(1, num_workers)) as pool:
        messages = zip(paths, pool.map(failure, paths), strict=True)
        return {path: message for path, message in messages if message}


def without_damaged(folder: Folder) -> tuple[Folder, int]:
    """Return the folder without files that do not decode, and how many these are.

    Raises DataError when a class loses all its training images.
    """
    paths = sorted({path for items in folder.splits.values() for path, _ in items})
    hashes = files.hashes(folder.root, paths)
    sound = _known_sound()
    unknown = [path for path in paths if hashes[path] not in sound]
    damaged = damaged_files(folder.root, unknown, num_workers=os.cpu_count() or 1)
    if len(damaged) < len(unknown):
        _remember(sound | {hashes[path] for path in unknown if path not in damaged})
    splits = {
        split: [item for item in items if item[0] not in damaged]
        for split, items in folder.splits.items()
    }
    missing = set(range(len(folder.class_names))) - {label for _, label in splits.get("train", ())}
    if missing and "train" in splits:
        raise DataError(
            f'{folder.root}: no sound training image of class "{folder.class_names[min(missing)]}"',
            hint="Replace its files, or remove the class",
        )
    return replace(folder, splits=splits), len(damaged)


def _memo_file() -> Path:
    return files.memo_folder() / f"sound-{VERSION}.json"


def _known_sound() -> set[str]:
    try:
        return set(map(str, json.loads(_memo_file().read_text(encoding="utf-8"))))
    except (OSError, ValueError, TypeError):
        return set()


def _remember(sound: set[str]) -> None:
    """Keep the hashes of files that decode; a cache that cannot be written is not an error."""
    file = _memo_file()
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        partial = file.with_suffix(f".{os.getpid()}.partial")
        partial.write_text(json.dumps(sorted(sound)), encoding="utf-8")
        os.replace(partial, file)
