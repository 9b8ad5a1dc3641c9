"""Downloads: the files of public sets from their owners, by torchvision's addresses and digests.

The user's machine fetches; nothing is mirrored here. torchvision checks each file's MD5, and files
that are there and sound are not fetched again. Archives are unpacked by `archives.py`, and nothing
of a download is unpickled.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from bench.data.getting.archives import SUFFIXES, extract
from bench.data.readers import files
from bench.errors import DataError
from bench.specs import DatasetCard


class Remote(NamedTuple):
    """One file to fetch."""

    urls: tuple[str, ...]
    """Addresses, tried in order."""
    name: str
    """File name."""
    md5: str
    """Digest that torchvision knows."""


def offers(card: DatasetCard) -> bool:
    """Return whether a data set can be downloaded by name."""
    return card.name in _FILES


def remotes(card: DatasetCard) -> tuple[Remote, ...]:
    """Return the files of a data set; raises DataError where there is no download."""
    if not offers(card):
        names = ", ".join(sorted(_FILES))
        raise DataError(
            f"{card.name}: no download is offered",
            hint=f"{card.how_to_get}. Downloads there are: {names}",
        )
    import torchvision.datasets

    return _FILES[card.name](torchvision.datasets)


def fetch(card: DatasetCard, folder: Path) -> None:
    """Download a data set into a folder and unpack it; goes on where an earlier one stopped.

    Raises DataError naming the address and the cause.
    """
    wanted = remotes(card)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder}: cannot be created ({error.strerror})") from error
    try:
        with files.lock(folder.with_name(f"{folder.name}.download")):
            for remote in wanted:
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
    from torchvision.datasets.utils import download_url

    causes = []
    for url in remote.urls:
        try:
            download_url(url, str(folder), filename=remote.name, md5=remote.md5)
        except Exception as error:  # urllib's, sockets', torchvision's
            causes.append(f"{url}: {str(error) or type(error).__name__}")
        else:
            return
    (folder / remote.name).unlink(missing_ok=True)
    raise DataError(
        f"{card.name}: cannot be downloaded ({'; '.join(causes)})",
        hint=f"By hand: {card.how_to_get}, then `vitbench data prepare {card.name} --path FOLDER`",
    )


# --- addresses ------------------------------------------------------------------------------


def _archive(owner: Any) -> tuple[Remote, ...]:
    return (Remote((owner.url,), owner.filename, owner.tgz_md5),)


def _idx(owner: Any) -> tuple[Remote, ...]:
    return tuple(
        Remote(tuple(f"{mirror}{name}" for mirror in owner.mirrors), name, md5)
        for name, md5 in owner.resources
    )


def _svhn(owner: Any) -> tuple[Remote, ...]:
    parts = (owner.split_list[split] for split in ("train", "test"))
    return tuple(Remote((url,), name, md5) for url, name, md5 in parts)


def _pets(owner: Any) -> tuple[Remote, ...]:
    return tuple(Remote((url,), url.rsplit("/", 1)[1], md5) for url, md5 in owner._RESOURCES)


def _flowers(owner: Any) -> tuple[Remote, ...]:
    return tuple(
        Remote((f"{owner._download_url_prefix}{name}",), name, md5)
        for name, md5 in owner._file_dict.values()
    )


def _dtd(owner: Any) -> tuple[Remote, ...]:
    return (Remote((owner._URL,), owner._URL.rsplit("/", 1)[1], owner._MD5),)


_EUROSAT = Remote(
    (
        "https://huggingface.co/datasets/torchgeo/eurosat/resolve/"
        "c877bcd43f099cd0196738f714544e355477f3fd/EuroSAT.zip",
    ),
    "EuroSAT.zip",
    "c8fa014336c82ac7804f0398fcb19387",
)
"""As torchvision's EuroSAT has it inside a method."""

_FILES: dict[str, Callable[[Any], tuple[Remote, ...]]] = {
    "cifar10": lambda owners: _archive(owners.CIFAR10),
    "cifar100": lambda owners: _archive(owners.CIFAR100),
    "mnist": lambda owners: _idx(owners.MNIST),
    "fashion-mnist": lambda owners: _idx(owners.FashionMNIST),
    "svhn": lambda owners: _svhn(owners.SVHN),
    "stl10": lambda owners: _archive(owners.STL10),
    "oxford-pets": lambda owners: _pets(owners.OxfordIIITPet),
    "oxford-flowers102": lambda owners: _flowers(owners.Flowers102),
    "eurosat": lambda owners: (_EUROSAT,),
    "dtd": lambda owners: _dtd(owners.DTD),
}
"""Files by card name, from torchvision's classes."""
