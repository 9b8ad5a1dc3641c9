"""Webdataset shards: read where they lie, by an index of offsets.

A shard is a plain .tar whose consecutive members of one stem form an example: `000123.jpg` with
`000123.cls`, the label in decimal (github.com/webdataset/webdataset). Shards are never unpacked:
an index of offsets is built once per shard, and examples are read where they lie. `stream.py` says
in which order.
"""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path, PurePosixPath

import numpy as np

from bench.data.decode import load_rgb, squashed_of
from bench.data.sources import files
from bench.data.sources.base import Named
from bench.data.sources.folder import SUFFIXES
from bench.data.sources.pool import in_threads
from bench.errors import DataError
from bench.files import clear_stale, file_sha256, replacing

INDEX_VERSION = 1
"""Version of the index files; those of another version are built again."""

MAX_MEMBER_BYTES = 1 << 28
"""A larger member is refused: it is not an image."""

ENTRY = np.dtype([("offset", "<u8"), ("bytes", "<u4"), ("label", "<i4")])
"""One example in a shard's index: where its image lies, how long it is, and its label."""


@dataclass(frozen=True)
class Shard:
    """One shard, indexed."""

    path: Path
    """The .tar file."""
    num_examples: int
    """Examples in it."""
    index_file: Path
    """Where its index lies, as an .npy array of ENTRY."""

    def entries(self) -> np.ndarray:
        """Return the index, mapped from disk."""
        return _mapped(self.index_file)


@dataclass(frozen=True)
class ShardSet:
    """Shards in name order, as one data set."""

    shards: tuple[Shard, ...]
    """Shards, sorted by name."""

    @property
    def num_examples(self) -> int:
        """Examples over all shards."""
        return sum(shard.num_examples for shard in self.shards)

    def labels(self) -> np.ndarray:
        """Return the labels of all examples in stored order, labels_N (int64)."""
        return np.concatenate([shard.entries()["label"] for shard in self.shards]).astype(np.int64)

    def places(self) -> Iterator[tuple[int, int]]:
        """Yield (shard, row) of every example in stored order."""
        for shard, item in enumerate(self.shards):
            for row in range(item.num_examples):
                yield shard, row

    def label(self, shard: int, row: int) -> int:
        """Return the label of one example."""
        return int(self.shards[shard].entries()["label"][row])

    def name(self, shard: int, row: int) -> str:
        """Return what one example is called in messages."""
        offset = int(self.shards[shard].entries()["offset"][row])
        return f"{self.shards[shard].path}, byte {offset}"

    def content(self, shard: int, row: int) -> bytes:
        """Return the bytes of one example's image file; raises DataError."""
        return _read(self.shards[shard], self.shards[shard].entries()[row])


def split_folders(path: Path) -> dict[str, Path]:
    """Return the folder of each split: train/ and test/ (or val/), else the folder as train."""
    if not (path / "train").is_dir():
        return {"train": path}
    test = next((path / name for name in ("test", "val") if (path / name).is_dir()), None)
    return {"train": path / "train", **({"test": test} if test else {})}


def open_shards(path: Path, *, index_dir: Path | None = None) -> ShardSet:
    """Index the shards of a folder (`*.tar`), reusing indices of unchanged shards.

    Indices lie in `index_dir`, by default in the user's cache folder. Raises DataError for a
    missing folder, a compressed or damaged shard, an example without label, and a set without
    examples.
    """
    if not path.is_dir():
        raise DataError(f"{path}: no such folder", hint="Check path in the suite file")
    names = sorted(entry.name for entry in path.iterdir() if entry.is_file())
    packed = [name for name in names if name.endswith((".tar.gz", ".tgz", ".tar.zst"))]
    if packed:
        raise DataError(
            f"{path / packed[0]}: compressed, so examples cannot be read where they lie",
            hint="Unpack the shards to plain .tar: images are compressed already",
        )
    tars = [name for name in names if name.endswith(".tar")]
    if not tars:
        raise DataError(f"{path}: no .tar shards", hint="Point path to the folder that holds them")
    files.refuse_incomplete(path / name for name in tars)
    digests = files.hashes(path, tars)
    place = index_dir or files.memo_folder() / "shards"
    place.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        shards = tuple(pool.map(lambda name: _indexed(path / name, digests[name], place), tars))
    return ShardSet(shards)


@lru_cache(maxsize=64)
def _mapped(index_file: Path) -> np.ndarray:
    entries: np.ndarray = np.load(index_file, mmap_mode="r", allow_pickle=False)
    return entries


# --- a source -------------------------------------------------------------------------------


class Shards:
    """Shards as a source: at their own sizes, or squashed to squares where a side is given."""

    def __init__(self, path: Path, *, image_size_px: int | None = None) -> None:
        self._square_px = image_size_px
        self._sets = {split: open_shards(place) for split, place in split_folders(path).items()}

    def size_px(self, split: str) -> tuple[int, int] | None:
        """Return height and width where images are squashed."""
        del split
        return (self._square_px, self._square_px) if self._square_px else None

    def num_examples(self) -> dict[str, int]:
        """Return the number of images of each split."""
        return {split: shard_set.num_examples for split, shard_set in self._sets.items()}

    def labels(self, split: str) -> np.ndarray:
        """Return the labels of a split."""
        return self._sets[split].labels()

    def write(self, split: str, images_BHWC: np.ndarray, *, start: int, num_workers: int) -> None:
        """Decode every example from `start` on, shard by shard."""
        shard_set = self._sets[split]

        def decode(task: tuple[int, tuple[int, int]]) -> None:
            index, place = task
            images_BHWC[index] = squashed_of(
                shard_set.content(*place),
                size_px=images_BHWC.shape[1:3],
                name=shard_set.name(*place),
            )

        places = islice(shard_set.places(), start, start + len(images_BHWC))
        in_threads(decode, enumerate(places), num_workers)

    def encoded_bytes(self) -> int:
        """Return the bytes of all images."""
        every = (item for one in self._sets.values() for item in one.shards)
        return sum(int(item.entries()["bytes"].sum(dtype=np.int64)) for item in every)

    def encoded(self, split: str, *, start: int) -> Iterator[Named]:
        """Yield each image from `start` on."""
        shard_set = self._sets[split]
        return (
            (shard_set.name(*place), partial(shard_set.content, *place))
            for place in islice(shard_set.places(), start, None)
        )

    def damaged(self, *, num_workers: int) -> list[str]:
        """Decode every image and return the message of each that fails, sorted."""
        problems: list[str] = []

        def check(task: tuple[ShardSet, int, int]) -> None:
            shard_set, shard, row = task
            try:
                content = io.BytesIO(shard_set.content(shard, row))
                load_rgb(content, name=shard_set.name(shard, row))
            except DataError as error:
                problems.append(str(error))

        for one in self._sets.values():
            in_threads(check, ((one, *place) for place in one.places()), num_workers)
        return sorted(problems)


# --- the index ------------------------------------------------------------------------------


def _indexed(path: Path, digest: str, index_dir: Path) -> Shard:
    index_file = index_dir / f"{digest}.{INDEX_VERSION}.npy"
    try:
        entries = np.load(index_file, mmap_mode="r", allow_pickle=False)
        sound = entries.dtype == ENTRY and entries.ndim == 1
    except (OSError, ValueError, EOFError):
        sound = False
    if not sound:
        entries = np.array(list(_scan(path)), dtype=ENTRY)
        if not len(entries):
            raise DataError(f"{path}: no examples", hint="Remove the empty shard")
        clear_stale(index_dir)
        with replacing(index_file, sync=False) as temporary, temporary.open("wb") as out:
            np.save(out, entries, allow_pickle=False)
    return Shard(path, len(entries), index_file)


def _scan(path: Path) -> Iterator[tuple[int, int, int]]:
    """Yield (offset, bytes, label) of each example of a shard, in order."""
    try:
        with tarfile.open(path, "r:") as archive:
            stem, image, label = "", None, None
            for member in archive:
                if not member.isfile():
                    continue  # folders and links carry no example and are never followed
                name = PurePosixPath(member.name)
                own = str(name.parent / name.name.split(".")[0])
                if own != stem:
                    if stem:
                        yield _example(path, stem, image, label)
                    stem, image, label = own, None, None
                kind = "." + member.name.rsplit(".", 1)[-1].lower()
                if kind in SUFFIXES:
                    image = (member.offset_data, _bounded(path, member))
                elif kind in (".cls", ".txt"):
                    label = _label(path, archive, member)
            if path.stat().st_size <= archive.offset:  # two blocks of zeros end an archive
                raise tarfile.ReadError("it is cut short: its end mark is missing")
            if stem:
                yield _example(path, stem, image, label)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DataError(f"{path}: damaged shard ({error})", hint="Get the shard again") from error


def _bounded(path: Path, member: tarfile.TarInfo) -> int:
    if member.size > MAX_MEMBER_BYTES:
        raise DataError(f"{path}: {member.name} has {member.size:,} bytes: no image")
    return member.size


def _label(path: Path, archive: tarfile.TarFile, member: tarfile.TarInfo) -> int:
    opened = archive.extractfile(member)
    text = opened.read(32) if opened else b""
    if not text.strip().isdigit() or member.size > 32 or int(text) >= 2**31:
        raise DataError(
            f"{path}: {member.name} holds no label", hint="A .cls member is a number from 0"
        )
    return int(text)


def _example(
    path: Path, stem: str, image: tuple[int, int] | None, label: int | None
) -> tuple[int, int, int]:
    if image is None or label is None:
        missing = "image" if image is None else "label (.cls)"
        raise DataError(f"{path}: example {stem} has no {missing}", hint="Write the shard again")
    return (*image, label)


def _read(shard: Shard, entry: np.void) -> bytes:
    with open(shard.path, "rb") as file:
        content = os.pread(file.fileno(), int(entry["bytes"]), int(entry["offset"]))
    if len(content) != entry["bytes"]:
        raise DataError(
            f"{shard.path}, byte {int(entry['offset'])}: the shard has shrunk",
            hint="Get the shard again",
        )
    return content


def write_shard(path: Path, examples: Sequence[tuple[bytes, str, int]]) -> str:
    """Write (content, suffix, label) examples as a shard; returns its SHA-256.

    Times and owners are left out, so that the same examples give the same bytes.
    """
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for index, (content, suffix, label) in enumerate(examples):
            for kind, data in ((suffix, content), (".cls", str(label).encode())):
                member = tarfile.TarInfo(f"{index:08d}{kind}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    return file_sha256(path)
