"""A user's files: read within bounds, and hashed once.

Planning a suite again must cost no more than one `stat` a file, so hashes are remembered: a file's
SHA-256 is kept under the user's cache folder with its size, mtime and ctime, and is computed again
when one of them changes. It is remembered while hashing goes on. Light: planning a suite uses it.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import re
import stat
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from bench.data.sources.pool import mapped
from bench.errors import DataError
from bench.files import memo_folder as memo_folder
from bench.files import remembered as remembered
from bench.files import write_json as write_json

if TYPE_CHECKING:
    import numpy as np
    from filelock import FileLock

MAX_FILE_BYTES = 1 << 30
"""Files that are read whole may not be larger, packed or unpacked."""

GET_AGAIN = "Get the file again from its owner"

_REMOVE = "Put the file there, or remove its name"

SETTLED_S = 2.0
"""A file changed less than this long ago may change again within one clock tick: not remembered."""

KEPT_FILES = 4096
"""Files hashed between two notes of their hashes."""

_PART = re.compile(r"(.*?)(\d+)-of-(\d+)(?:-[0-9a-f]{16})?(.*)")
"""Name of a part: what comes before, its number, of how many, what comes after; Hugging Face once
put a digest of the part between."""

NUM_THREADS = min(8, os.cpu_count() or 1)
"""Files looked at and hashed side by side."""

_told: ContextVar[Callable[[int, int], None] | None] = ContextVar("told", default=None)


def refuse_incomplete(paths: Iterable[Path]) -> None:
    """Raise DataError where numbered parts (`train-00000-of-00002.parquet`) are not all there."""
    parts: dict[tuple[Path, str, str], dict[str, set[str]]] = {}
    for path in paths:
        match = _PART.fullmatch(path.name)
        if match:
            before, number, total, after = match.groups()
            of = parts.setdefault((path.parent, before, after), {})
            of.setdefault(total, set()).add(number)
    for (folder, before, after), of in parts.items():
        if len(of) > 1:
            totals = " and of ".join(sorted(of))
            raise DataError(
                f"{folder}: {before}*{after}: parts of {totals} are mixed",
                hint="Keep those of one writing",
            )
        ((total, written),) = of.items()
        numbers = set(map(int, written))
        num_missing = int(total) - len(numbers)
        if num_missing > 0:
            start = int(int(total) in numbers)  # most count from 0
            number = next(number for number in count(start) if number not in numbers)
            first = f"{before}{number:0{min(map(len, written))}}-of-{total}{after}"
            more = f" (and {num_missing - 1:,} more)" if num_missing > 1 else ""
            raise DataError(f"{folder / first}: missing{more}", hint="Get all parts of the set")


def read_bytes(path: Path) -> bytes:
    """Return a file's content, unpacked when its name ends in .gz; bounded either way."""
    try:
        if path.suffix != ".gz":
            if path.stat().st_size > MAX_FILE_BYTES:
                raise DataError(f"{path}: larger than {MAX_FILE_BYTES >> 20} MiB")
            return path.read_bytes()
        with gzip.open(path) as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:  # gzip.BadGzipFile too
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (EOFError, zlib.error) as error:
        raise DataError(f"{path}: damaged gzip file ({error})", hint="Get it again") from error
    if len(content) > MAX_FILE_BYTES:
        raise DataError(f"{path}: unpacks to more than {MAX_FILE_BYTES >> 20} MiB")
    return content


def read_mat(file: Path, keys: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the named arrays of a MATLAB file; raises DataError. Nothing in it is executed."""
    if not file.is_file():
        raise DataError(f"{file}: no such file", hint="Get all files of the set into one folder")
    import numpy as np
    from scipy.io import loadmat

    try:
        content = loadmat(file, variable_names=list(keys))
    except Exception as error:  # scipy raises anything on damaged files
        raise DataError(
            f"{file}: not a MATLAB file ({type(error).__name__}: {error})", hint=GET_AGAIN
        ) from error
    missing = [key for key in keys if not isinstance(content.get(key), np.ndarray)]
    if missing:
        raise DataError(f"{file}: no array {missing[0]}", hint=GET_AGAIN)
    return {key: content[key] for key in keys}


def hashes(root: Path, paths: Sequence[str]) -> dict[str, str]:
    """Return the SHA-256 of each file by its path relative to `root`; raises DataError.

    Hashes are remembered while it goes on, so that whoever is stopped goes on from there.
    """
    limit_ns = time.time_ns() - int(SETTLED_S * 1e9)
    memo_file, prefix = _memo_file(root), f"{root}/"
    memo = _read_memo(memo_file)
    found: dict[str, str] = {}
    missing: list[tuple[str, str]] = []
    stamps = mapped(lambda path: _stamp(prefix + path), paths, NUM_THREADS, batch_size=256)
    for path, stamp in zip(paths, stamps, strict=True):
        known = memo.get(path, "")
        if known.startswith(stamp) and len(known) == len(stamp) + 64:
            found[path] = known[len(stamp) :]
        else:
            missing.append((path, stamp))
    del memo
    fresh: list[str] = []
    digests = mapped(lambda item: _hash(prefix + item[0]), missing, NUM_THREADS)
    try:
        for (path, stamp), digest in zip(missing, digests, strict=True):
            found[path] = digest
            if int(stamp.rsplit(".", 1)[1][:-1]) < limit_ns and "\n" not in path:
                fresh.append(f"{path}\0{stamp}{digest}\n")
            if len(found) % KEPT_FILES == 0:
                _tell(len(found), len(paths))
                _extend_memo(memo_file, fresh)
                fresh.clear()
    finally:
        digests.close()
        _extend_memo(memo_file, fresh)
    return found


@contextlib.contextmanager
def told(on_progress: Callable[[int, int], None]) -> Iterator[None]:
    """Call `on_progress` with (files hashed, files in all) from time to time within the block."""
    former = _told.set(on_progress)
    try:
        yield
    finally:
        _told.reset(former)


def lock(folder: Path) -> FileLock:
    """Return the lock of whoever writes into a folder; it lies in the user's cache."""
    from filelock import FileLock

    name = hashlib.sha256(os.fsencode(folder.absolute())).hexdigest()[:16]
    place = memo_folder() / "locks"
    try:
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise DataError(
            f"{place}: cannot be created ({error.strerror})",
            hint="Set VITBENCH_CACHE to a folder of yours",
        ) from error
    return FileLock(place / f"{name}.lock")


def _memo_file(root: Path) -> Path:
    name = hashlib.sha256(os.fsencode(root)).hexdigest()[:16]
    return memo_folder() / f"files-{name}.txt"


def _stamp(path: str) -> str:
    """Return what changes with a file: size, mtime and ctime.

    A pipe would be waited for, and a device read, without end.
    """
    try:
        found = os.stat(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})", hint=_REMOVE) from error
    if not stat.S_ISREG(found.st_mode):
        raise DataError(f"{path}: not a file", hint=_REMOVE)
    return f"{found.st_size}.{found.st_mtime_ns}.{found.st_ctime_ns} "


def _hash(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror})", hint="Check its permissions"
        ) from error


def _tell(done: int, total: int) -> None:
    on_progress = _told.get()
    if on_progress is not None:
        on_progress(done, total)


def _read_memo(file: Path) -> dict[str, str]:
    """Return stamp and hash of each file by its path; a line that was cut off counts for none."""
    try:
        lines = file.read_bytes().decode("utf-8", "surrogateescape").split("\n")
    except OSError:
        return {}
    pairs = (line.partition("\0") for line in lines)
    return {path: known for path, _, known in pairs}


def _extend_memo(file: Path, lines: Sequence[str]) -> None:
    """Remember hashes; a cache that cannot be written is not an error.

    Lines begin and end with a line break: one that a crash cut off spoils no other. The last of a
    file's lines counts.
    """
    if not lines:
        return
    content = "\n" + "".join(lines)
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(file, "ab") as out:
            out.write(content.encode("utf-8", "surrogateescape"))
