"""Downloads: the files of public sets from their owners, and what a user does to have a set.

The user's machine fetches; nothing is mirrored here. Each file's digest is checked, and files that
are there and sound are not fetched again. Archives are unpacked by `archives.py`, and nothing of a
download is unpickled.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from http.client import HTTPException
from pathlib import Path

from bench.data.getting.addresses import ADDRESSES, Remote
from bench.data.getting.archives import SUFFIXES, extract
from bench.data.sources import files
from bench.errors import DataError
from bench.specs import DatasetCard

TIMEOUT_S = 60.0
"""Silence of a server after which the next address is tried."""

CHUNK_BYTES = 1 << 18
"""Bytes read at a time."""


def offers(card: DatasetCard) -> bool:
    """Return whether a data set can be downloaded by name."""
    return card.name in ADDRESSES


def cure(card: DatasetCard) -> str:
    """Return what a user does to have a data set, in one line."""
    command, terms = (
        f"vitbench data prepare {card.name}",
        f"(terms: {card.licence or 'not stated'})",
    )
    by_hand = f"{card.how_to_get}, then `{command} --path FOLDER`"
    if offers(card):
        return f"`{command} --download` {terms}, or by hand: {by_hand}"
    return f"{by_hand} {terms}"


def fetch(card: DatasetCard, folder: Path) -> None:
    """Download a data set into a folder and unpack it; goes on where an earlier one stopped.

    Raises DataError naming the address and the cause.
    """
    if not offers(card):
        names = ", ".join(sorted(ADDRESSES))
        raise DataError(
            f"{card.name}: no download is offered",
            hint=f"{card.how_to_get}. Downloads there are: {names}",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder}: cannot be created ({error.strerror})") from error
    try:
        with files.lock(folder.with_name(f"{folder.name}.download")):
            for remote in ADDRESSES[card.name]:
                _fetch_one(card, remote, folder)
    except DataError:
        with contextlib.suppress(OSError):  # leave nothing where nothing came
            folder.rmdir()
            folder.parent.rmdir()
        raise


def _fetch_one(card: DatasetCard, remote: Remote, folder: Path) -> None:
    """Fetch one file, unless it is there, and unpack it where it is an archive."""
    done = folder / f".{remote.name}.unpacked"
    if done.is_file() and done.read_text(encoding="utf-8") == remote.md5:
        return
    _download(card, remote, folder)
    if remote.name.endswith(SUFFIXES):
        extract(folder / remote.name, folder)
        os.remove(folder / remote.name)
        done.write_text(remote.md5, encoding="utf-8")


def _download(card: DatasetCard, remote: Remote, folder: Path) -> None:
    target = folder / remote.name
    if target.is_file() and _md5(target) == remote.md5:
        return
    causes = []
    for url in remote.urls:
        try:
            _save(url, target, md5=remote.md5)
        except (OSError, ValueError, HTTPException) as error:  # urllib's are OSErrors
            causes.append(f"{url}: {str(error) or type(error).__name__}")
        else:
            return
    raise DataError(
        f"{card.name}: cannot be downloaded ({'; '.join(causes)})",
        hint=f"By hand: {card.how_to_get}, then `vitbench data prepare {card.name} --path FOLDER`",
    )


def _save(url: str, target: Path, *, md5: str) -> None:
    """Fetch an address into a file, whole or not at all; raises OSError, or ValueError."""
    from urllib.request import Request, urlopen

    from rich.console import Console
    from rich.progress import wrap_file

    partial = target.with_name(f".{target.name}.partial")
    console = Console(stderr=True)
    request = Request(url, headers={"User-Agent": "vitbench"})
    try:
        with urlopen(request, timeout=TIMEOUT_S) as response, open(partial, "wb") as out:
            size = int(response.headers.get("Content-Length") or 0)
            with wrap_file(
                response, size, description=target.name, console=console,
                disable=not console.is_terminal,
            ) as source:  # fmt: skip
                while block := source.read(CHUNK_BYTES):
                    out.write(block)
        found = _md5(partial)
        if found != md5:
            raise ValueError(f"what came has the MD5 {found}, not {md5}")
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def _md5(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
