"""Archives, unpacked safely: nothing outside the folder, no links out of it, no bombs.

A member with an absolute path or `..`, a link that leads outside, a device, an encrypted member, or
more than the disk or the limits hold: each ends the extraction before it does harm, and what was
unpacked so far is removed. An archive is unpacked next to its place and moved there, so that it is
whole or absent.
"""

from __future__ import annotations

import gzip
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from bench.data.sources import files
from bench.errors import DataError
from bench.files import clear_stale, scratch_folder

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip")
"""Names of archives, by their ends."""

MAX_MEMBERS = 20_000_000
MAX_RATIO = 200
"""Unpacked size over packed size: images and arrays stay far below, bombs far above."""

SMALL_BYTES = 1 << 26
"""Archives that unpack to less are let through whatever their ratio: 64 MiB."""

_HINT = "Get the archive again from its owner; if it is meant to be so, unpack it yourself"


def archives_in(folder: Path) -> list[Path]:
    """Return the archives that lie in a folder, in name order."""
    if not folder.is_dir():
        return []
    return sorted(
        entry for entry in folder.iterdir() if entry.is_file() and entry.name.endswith(SUFFIXES)
    )


def extract(archive: Path, into: Path) -> None:
    """Unpack an archive into the folder `into` (created); raises DataError, leaving nothing."""
    with files.lock(into):
        clear_stale(into.parent)
        _extract(archive, into)


def _extract(archive: Path, into: Path) -> None:
    try:
        with scratch_folder(into.parent) as scratch:
            if archive.name.endswith(".zip"):
                _extract_zip(archive, scratch)
            else:
                _extract_tar(archive, scratch)
            _move(scratch, into)
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, gzip.BadGzipFile, EOFError) as error:
        raise DataError(f"{archive}: damaged archive ({error})", hint=_HINT) from error
    except OSError as error:
        raise DataError(f"{archive}: cannot be unpacked ({error.strerror or error})") from error


def _move(scratch: Path, into: Path) -> None:
    into.mkdir(parents=True, exist_ok=True)
    for entry in sorted(scratch.iterdir()):
        target = into / entry.name
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        entry.replace(target)


# --- checks ---------------------------------------------------------------------------------


class _Budget:
    """What an archive may still unpack to."""

    def __init__(self, archive: Path, folder: Path) -> None:
        self._archive = archive
        self._free = int(0.95 * shutil.disk_usage(folder).free)
        self._most = max(SMALL_BYTES, MAX_RATIO * archive.stat().st_size)
        self._bytes = self._members = 0

    def take(self, num_bytes: int) -> None:
        """Count a member; raises DataError when it is too much."""
        self._bytes += num_bytes
        self._members += 1
        if self._bytes > self._most or self._members > MAX_MEMBERS:
            raise DataError(
                f"{self._archive}: unpacks to more than {self._most / 2**20:,.0f} MiB, "
                f"{MAX_RATIO} times its size",
                hint=_HINT,
            )
        if self._bytes > self._free:
            raise DataError(
                f"{self._archive}: unpacks to more than the {self._free / 2**30:.1f} GiB that are "
                "free",
                hint="Free some space, or set VITBENCH_DATA to another disk",
            )


def _check_name(archive: Path, name: str) -> None:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in path.parts[0:1] or "\0" in name:
        raise DataError(f"{archive}: {name!r} would be written outside the folder", hint=_HINT)


def _extract_tar(archive: Path, folder: Path) -> None:
    """Write files and folders, then links: so nothing is written through a link of the archive.

    Owners, modes and times are dropped. The filters of `tarfile` do the same from Python 3.11.4 on.
    """
    budget = _Budget(archive, folder)
    links: list[tarfile.TarInfo] = []
    with tarfile.open(archive, "r:*") as opened:
        for member in opened:
            _check_name(archive, member.name)
            budget.take(member.size)
            if member.isdir():
                _place(folder, member.name).mkdir(parents=True, exist_ok=True)
            elif member.isfile():
                _write_file(opened, member, folder)
            elif member.islnk() or member.issym():
                links.append(member)
            else:
                raise DataError(f"{archive}: {member.name} is a device", hint=_HINT)
    for member in sorted(links, key=tarfile.TarInfo.issym):  # hard links first, they name files
        _link(archive, member, folder)
    _check_links(archive, links, folder)


def _place(folder: Path, name: str) -> Path:
    return folder / PurePosixPath(name)


def _write_file(opened: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    source = opened.extractfile(member)
    if source is None:
        raise tarfile.ReadError(f"{member.name} cannot be read")
    target = _place(folder, member.name)
    target.parent.mkdir(parents=True, exist_ok=True)
    with source, open(target, "wb") as out:
        shutil.copyfileobj(source, out, 1 << 20)
    if target.stat().st_size != member.size:
        raise tarfile.ReadError(f"{member.name} ends early")


def _link(archive: Path, member: tarfile.TarInfo, folder: Path) -> None:
    """Make a link; a hard one names a file of the archive."""
    target = _place(folder, member.name)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    if member.issym():
        target.symlink_to(member.linkname)
        return
    source = _place(folder, member.linkname)
    if PurePosixPath(member.linkname).is_absolute() or ".." in source.parts or not source.is_file():
        raise DataError(
            f"{archive}: unsafe member ({member.name} links to {member.linkname})", hint=_HINT
        )
    os.link(source, target)


def _check_links(archive: Path, links: Sequence[tarfile.TarInfo], folder: Path) -> None:
    """Refuse links that lead outside the folder, or nowhere, by whatever way."""
    root = folder.resolve(strict=True)
    for member in links:
        try:
            inside = _place(folder, member.name).resolve(strict=True).is_relative_to(root)
        except (OSError, RuntimeError):  # nothing there, too long, a circle
            inside = False
        if not inside or PurePosixPath(member.linkname).is_absolute():
            raise DataError(
                f"{archive}: unsafe member ({member.name} links to {member.linkname})", hint=_HINT
            )


def _extract_zip(archive: Path, folder: Path) -> None:
    budget = _Budget(archive, folder)
    with zipfile.ZipFile(archive) as opened:
        for member in opened.infolist():
            _check_name(archive, member.filename)
            if stat.S_ISLNK(member.external_attr >> 16):
                raise DataError(f"{archive}: {member.filename} is a link", hint=_HINT)
            if member.flag_bits & 1:
                raise DataError(f"{archive}: {member.filename} is encrypted", hint=_HINT)
            budget.take(member.file_size)
        for member in opened.infolist():
            _write_member(archive, opened, member, folder)


def _write_member(
    archive: Path, opened: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path
) -> None:
    """Write one member, no longer than its header says: the budget counted that."""
    target = folder / PurePosixPath(member.filename.replace("\\", "/"))
    if member.is_dir():
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    left = member.file_size
    with opened.open(member) as source, open(target, "wb") as out:
        while block := source.read(1 << 20):
            left -= len(block)
            if left < 0:
                raise DataError(
                    f"{archive}: {member.filename} is larger than its header says", hint=_HINT
                )
            out.write(block)
