"""Files and folders that appear whole or not at all; hashes; what dead processes left behind.

Whatever is written gets a temporary name in its own folder first and takes its own name when it is
whole, so that readers, and whoever comes after a crash, see the old content or the new one:

    .vitbench.MACHINE.PID.RANDOM.tmp

The temporary name says which process writes, whatever the name will be. So any number of
processes and threads write the same file without meeting, and what a killed one left can be told
from what a living one still writes: who next takes a lock over a folder calls `clear_stale`.

Errors are those of the system (OSError); who calls knows what they mean.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FOREIGN_AGE_S = 86_400.0
"""Temporaries of other machines, whose processes cannot be asked, are stale after a day."""

_TEMPORARY = re.compile(r"\.vitbench\.(?P<machine>.+)\.(?P<pid>\d{1,9})\.[0-9a-f]{12}\.tmp")


# --- writing --------------------------------------------------------------------------------


@contextmanager
def replacing(path: Path, *, sync: bool = True) -> Iterator[Path]:
    """Yield a temporary name for the block to write to; afterwards that file is `path`.

    Where the block fails, or the disk is full, what was at `path` stays and nothing else does. The
    folder is made where there is none. Without `sync` a file may be lost with the machine's power:
    for what can be made again.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(path.parent)
    try:
        yield temporary
        if sync:
            _sync(temporary)
        os.replace(temporary, path)
    except BaseException:
        remove(temporary)
        raise
    if sync:
        _sync(path.parent)


def write_bytes(path: Path, content: bytes, *, sync: bool = True) -> None:
    """Write a file whole; `sync` as of `replacing`."""
    with replacing(path, sync=sync) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str, *, sync: bool = True) -> None:
    """Write a text file whole, in UTF-8; `sync` as of `replacing`."""
    write_bytes(path, text.encode(), sync=sync)


@contextmanager
def scratch_folder(folder: Path) -> Iterator[Path]:
    """Yield a new temporary folder inside `folder`, removed after the block."""
    temporary = temporary_name(folder)
    temporary.mkdir(parents=True)
    try:
        yield temporary
    finally:
        remove(temporary)


def replace_folder(fresh: Path, path: Path) -> None:
    """Give the folder `fresh`, synced to disk, the name `path`; a folder that was there goes.

    Both must lie on one file system. A crash in between leaves no folder at `path`, never a part.
    """
    _sync_tree(fresh)
    former = temporary_name(path.parent)
    with contextlib.suppress(FileNotFoundError):
        os.rename(path, former)
    try:
        os.rename(fresh, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.rename(former, path)
        raise
    _sync(path.parent)
    remove(former)


def temporary_name(folder: Path) -> Path:
    """Return a name in a folder that no other process or thread ever draws."""
    return folder / f".vitbench.{machine()}.{os.getpid()}.{secrets.token_hex(6)}.tmp"


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_tree(folder: Path) -> None:
    for place, _, names in os.walk(folder):
        for name in names:
            _sync(Path(place, name))
        _sync(Path(place))


def remove(path: Path) -> None:
    """Remove a file or a folder; what cannot be removed stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    with contextlib.suppress(OSError):
        path.unlink()


# --- the user's cache --------------------------------------------------------------------


def memo_folder() -> Path:
    """Return the folder of the user's cache: `VITBENCH_CACHE`, or the usual one."""
    named = os.environ.get("VITBENCH_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vitbench"


def remembered(key: dict[str, Any], compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what `compute` finds of the content that `key` identifies, computed once for all.

    What is found must be JSON; a cache that cannot be read or written is not an error.
    """
    text = json.dumps(key, sort_keys=True)
    file = memo_folder() / f"facts-{hashlib.sha256(text.encode()).hexdigest()[:24]}.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        facts = json.loads(file.read_text(encoding="utf-8"))
        if facts["key"] == json.loads(text):
            found: dict[str, Any] = facts["found"]
            return found
    found = compute()
    write_json(file, {"key": key, "found": found})
    return found


def write_json(file: Path, content: Any) -> None:
    """Write a file of the user's cache, whole; where that fails it is not there."""
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        clear_stale(file.parent)
        write_text(file, json.dumps(content), sync=False)


# --- what was left behind -------------------------------------------------------------------


def clear_stale(folder: Path, *, recursive: bool = False) -> None:
    """Remove the temporaries that dead processes left in a folder, and below it if `recursive`.

    Those of living processes stay, and so do those of other machines younger than a day.
    """
    for place, folders, names in os.walk(folder):
        for name in (*folders, *names):
            if _is_stale(Path(place, name)):
                remove(Path(place, name))
        if not recursive:
            return


def _is_stale(path: Path) -> bool:
    found = _TEMPORARY.fullmatch(path.name)
    if found is None:
        return False
    if found["machine"] == machine():
        return not _is_alive(int(found["pid"]))
    try:
        newest_s = max(each.lstat().st_mtime for each in (path, *path.rglob("*")))
    except OSError:
        return False  # its process works on it, or has just finished
    return time.time() - newest_s > FOREIGN_AGE_S


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # of another user
    return True


@functools.cache
def machine() -> str:
    """Return a name of what numbers the processes: the host, and on Linux their namespace."""
    host = re.sub(r"[^\w.-]", "_", socket.gethostname())
    with contextlib.suppress(OSError):  # containers may share their host's name, not its processes
        return f"{host}-{os.stat('/proc/self/ns/pid').st_ino}"
    return host


# --- reading --------------------------------------------------------------------------------


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path) -> Any:
    """Return what a JSON file holds; None where it is missing or damaged."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
