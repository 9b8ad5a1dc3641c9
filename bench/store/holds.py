"""Who works on something: a file that a process holds for as long as it lives.

A hold is a file that is made once and never again: whoever links its name first has it, on network
file systems too. Its first line says who that is, a second one that it is over, and why:

    {"machine": "vm-4026531836", "host": "vm", "pid": 4711, "since_unix_s": 1.7e9}
    {"over": "released"}

Of a process on this machine the kernel tells whether it lives: it frees the lock on the file with
the process. Of another machine's only signs of life are seen: the holder touches the file now and
then, and a `Watch` that sees no touch for SILENT_S seconds on its own clock ends the hold. The
clocks of two machines are never compared closely.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from bench.errors import UserError
from bench.files import FOREIGN_AGE_S, machine, temporary_name

BEAT_S = 15.0
"""Seconds between two touches of the holder."""
NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)
"""What file systems without hard links (exFAT, some of FUSE) answer."""
SILENT_S = 180.0
"""Seconds without a touch after which another machine's holder is given up."""


@dataclass(frozen=True)
class Holder:
    """The process that holds a file."""

    machine: str
    """What numbers its process: host and namespace."""
    host: str
    """Name of its host."""
    pid: int
    """Its process id there."""
    since_unix_s: float
    """When it took the file, by its own clock, in seconds since 1970."""

    def __str__(self) -> str:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since_unix_s))
        return f"{self.host}, process {self.pid}, since {since}"

    @property
    def is_here(self) -> bool:
        """Whether it is a process of this machine."""
        return self.machine == machine()


class Hold:
    """A file that this process holds, until it releases it or dies."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="hold", daemon=True)
        self._thread.start()

    def release(self, why: str = "released") -> None:
        """Say that it is over, and why, and let it go."""
        self._released.set()
        self._thread.join()
        os.write(self._descriptor, _over(why))
        os.close(self._descriptor)

    def _beat(self) -> None:
        while not self._released.wait(BEAT_S):
            os.utime(self._descriptor)


def take(path: Path) -> Hold | None:
    """Make a file and hold it; None where it is there already."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    holder = Holder(machine(), socket.gethostname(), os.getpid(), time.time())
    temporary = temporary_name(path.parent)
    flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_APPEND
    descriptor = os.open(temporary, flags, 0o600)
    try:
        # Locked and filled before it has its name: nobody ever sees it otherwise.
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.write(descriptor, f"{json.dumps(asdict(holder))}\n".encode())
        _link(temporary, path)
    except BaseException as error:
        os.close(descriptor)
        if isinstance(error, FileExistsError):
            return None
        raise
    finally:
        temporary.unlink()
    return Hold(descriptor)


def try_link(folder: Path) -> None:
    """Raise UserError where the file system of a folder makes no hard links."""
    file, link = temporary_name(folder), temporary_name(folder)
    file.touch(mode=0o600)
    try:
        _link(file, link)
        link.unlink()
    finally:
        file.unlink()


def _link(file: Path, link: Path) -> None:
    try:
        os.link(file, link)
    except OSError as error:
        if error.errno in NO_LINKS:
            raise UserError(
                f"{link.parent}: its file system makes no hard links, by which processes agree on "
                "who works on a job",
                hint="Choose a folder on another file system with --workdir",
            ) from error
        raise


def holder(path: Path) -> Holder | None:
    """Return who holds a file; None where nobody does, or its holder is known to be gone."""
    try:
        with path.open("rb") as file:
            first, *over = file.read().splitlines()
            found = Holder(**json.loads(first))
            if over or not _may_live(found, file):
                return None
    except (FileNotFoundError, ValueError, TypeError):
        return None  # never made, or cut short with the power of its machine
    return found


def over(path: Path) -> str:
    """Return why a hold is over, as its holder said; empty where it did not say, or goes on."""
    try:
        _, *said = path.read_bytes().splitlines()
        return str(json.loads(said[0])["over"]) if said else ""
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return ""


def _may_live(found: Holder, file: BinaryIO) -> bool:
    if not found.is_here:
        return time.time() - os.fstat(file.fileno()).st_mtime < FOREIGN_AGE_S
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # freed when the file is closed
    except BlockingIOError:
        return True
    return False


def _over(why: str) -> bytes:
    """Return the line that ends a hold: its holder, should it live, must stop."""
    return f"{json.dumps({'over': why})}\n".encode()


class Watch:
    """Looks at holds again and again, and ends those of other machines that fell silent."""

    def __init__(self) -> None:
        self._touched: dict[Path, tuple[int, float]] = {}

    def holder(self, path: Path) -> Holder | None:
        """Return who holds a file, as the function does; None once its holder fell silent."""
        found = holder(path)
        if found is None or found.is_here:
            return found
        touch_ns, now_s = path.stat().st_mtime_ns, time.monotonic()
        known_ns, seen_s = self._touched.get(path, (0, now_s))
        if touch_ns != known_ns:
            self._touched[path] = (touch_ns, now_s)
        elif now_s - seen_s > SILENT_S:
            with path.open("ab") as file:
                file.write(_over(f"{socket.gethostname()} saw no touch for {SILENT_S:.0f} s"))
            return None
        return found
