"""Where Ray keeps its files on this machine, and what a driver that was killed left behind.

A driver that is killed takes Ray's servers with it, but not the agents that they started, nor their
files. Each driver therefore has a folder of its own, within one that belongs to its user, and holds
a lock there as long as it lives. What lies in a folder that nobody holds is left over: processes
are ended only where they are this user's and have files of that folder open.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

LOCK = ".lock"
"""File that a driver holds in its folder, and for a moment in that of its user."""

SOCKET = "/session_2000-01-01_00-00-00_000000_1000000/sockets/plasma_store"
"""What Ray puts after the folder, at its longest."""

MAX_SOCKET = 103
"""Characters that a socket's path may have on every system."""

PROCESSES = Path("/proc")


class RayFiles:
    """The folder of one driver; `path` is None where Ray has to use its own."""

    def __init__(self, home: Path | None = None) -> None:
        self.path: Path | None = None
        self._lock: FileLock | None = None
        there = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
        home = home or Path(there) / f"vitbench-{os.getuid()}"
        path = home / secrets.token_hex(3)
        if len(f"{path}{SOCKET}") > MAX_SOCKET or not _is_ours(home):
            return
        with contextlib.suppress(OSError, Timeout), FileLock(home / LOCK, timeout=10):
            _sweep(home)
            path.mkdir(mode=0o700)
            self._lock = FileLock(path / LOCK)
            self._lock.acquire()
            self.path = path

    def remove(self) -> None:
        """Remove the folder once Ray has ended, and end what did not with it."""
        if self.path is None or self._lock is None:
            return
        _clear(self.path)
        self._lock.release()
        self.path = None


def _is_ours(home: Path) -> bool:
    """Make the user's folder; return whether it is theirs, and no link that another one laid."""
    try:
        home.mkdir(mode=0o700, exist_ok=True)
        found = home.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()


def _sweep(home: Path) -> None:
    """Remove the folders that no driver holds, and end what still runs in them."""
    for folder in sorted(home.iterdir()):
        if not folder.is_dir() or folder.is_symlink():
            continue
        lock = FileLock(folder / LOCK, timeout=0)
        with contextlib.suppress(OSError, Timeout), lock:
            _clear(folder)


def _clear(folder: Path) -> None:
    for process in left_in(folder):
        _end(process, folder)
    shutil.rmtree(folder, ignore_errors=True)


def left_in(folder: Path) -> Iterator[int]:
    """Yield the processes of this user that have files of a folder open, this one left out."""
    for entry in PROCESSES.iterdir() if PROCESSES.is_dir() else ():
        if entry.name.isdigit() and int(entry.name) != os.getpid() and _uses(entry, folder):
            yield int(entry.name)


def _uses(process: Path, folder: Path) -> bool:
    with contextlib.suppress(OSError):  # it has ended, or is another user's
        if process.stat().st_uid != os.getuid():
            return False
        for link in (process / "fd").iterdir():
            with contextlib.suppress(OSError):
                if os.readlink(link).startswith(f"{folder}/"):
                    return True
    return False


def _end(process: int, folder: Path) -> None:
    """End a process, and no other that got its number in the meantime."""
    with contextlib.suppress(OSError):
        handle = os.pidfd_open(process)
        try:
            if _uses(PROCESSES / str(process), folder):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        finally:
            os.close(handle)
