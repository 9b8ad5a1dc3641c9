"""What lies in a data set: counts, damage, duplicates, overlaps.

Most failed reproductions are data failures, so everything here returns records that say what was
found and where, and nothing is corrected silently. Exact duplicates are found by the SHA-256 of
the packed pixels: the paper removed copies of its test images from its upstream sets
(arXiv:2010.11929, section 4.1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
from pydantic import Field

from bench.data.packs import overlap
from bench.data.packs.build import check_located, packed_sets, verify
from bench.data.packs.read import Packed, open_packed
from bench.data.readers import reader_of
from bench.data.sources.base import Source
from bench.errors import DataError, printable
from bench.specs import DatasetCard, Record

MAX_COMPARED = 20_000
"""Images of a set that are compared with each other; of larger sets exact copies alone are told."""

LEAST_COMPARED_PX = 24
"""Side below which images are not: of fewer pixels many are nearly alike."""

NUM_NAMED = 5
"""Places named in a finding; the count is always whole."""


NameOf = Callable[[str, int], str]
"""Names an image by its split and row."""

ORDER = ("train", "val", "test")
"""Splits in the order in which a later one must not hold images of an earlier."""


class SplitFindings(Record):
    """What was found in one split."""

    num_examples: int
    """Images."""
    per_class: tuple[int, ...]
    """Images of each class, in label order."""
    num_duplicates: int
    """Images whose pixels stand earlier in the split."""
    num_conflicts: int
    """Duplicates that carry another label than their first copy."""
    num_flat: int
    """Images of a single colour."""


class Findings(Record):
    """What was found in a packed data set."""

    name: str
    """Name of the card."""
    digest: str
    """Digest of the card: part of the identity of every job on the set."""
    content_sha256: str
    """SHA-256 over all packed pixels and labels."""
    folder: str
    """Where the packed files lie."""
    num_bytes: int
    """Their size."""
    packing: str = "arrays"
    """`arrays`: decoded once; `encoded`: the bytes of the image files."""
    sizes_px: dict[str, tuple[int, int] | None]
    """Height and width of the images by split; None: each has its own."""
    num_classes: int
    """Number of classes."""
    splits: dict[str, SplitFindings] = Field(default_factory=dict)
    """Findings by split."""
    overlaps: dict[str, int] = Field(default_factory=dict)
    """Images of the second split that are also in the first, by `train/test`."""
    problems: tuple[str, ...] = ()
    """What should not be trusted, in words; empty when nothing was found."""


def verify_set(card: DatasetCard, *, cache_dir: Path, num_workers: int = 1) -> tuple[str, ...]:
    """Decode every source file and hash every packed byte; returns what is wrong, in words.

    Raises DataError where the files are gone, or the set was never located.
    """
    check_located(card)
    problems = [*changed_since(card), *reader_of(card).damaged(card, num_workers=num_workers)]
    folder = cache_dir / card.digest
    if card.digest and folder.is_dir():
        problems += verify(folder)
    return tuple(problems)


def notes_on(card: DatasetCard, *, cache_dir: Path) -> tuple[str, ...]:
    """Return what is odd in a packed set (copies, overlaps, empty classes), in words.

    Nearly identical images are looked for among squares, where there are not too many.
    """
    folder = cache_dir / card.digest
    if folder not in _known:
        item = open_packed(folder)
        if item is None:
            return ()
        name_of = _names_of(card)
        found = examine(item, class_names=card.class_names, name_of=name_of)
        _known[folder] = (*found.problems, *_similar(item, name_of))
    return _known[folder]


_known: dict[Path, tuple[str, ...]] = {}
"""Notes by folder: a run prints them, and its page has them again. What is packed never changes."""


def _similar(item: Packed, name_of: NameOf) -> Iterator[str]:
    """Say which images are nearly another one."""
    splits = sorted(item.manifest["splits"], key=ORDER.index)
    many = sum(item.manifest["splits"].values()) > MAX_COMPARED
    sizes_px = [item.size_px(split) or (0, 0) for split in splits]
    if many or min(map(min, sizes_px)) < LEAST_COMPARED_PX:
        return
    for first, second in (*((split, split) for split in splits), *combinations(splits, 2)):
        whole = item.split(first)
        found = overlap.similar(whole, None if first == second else item.split(second))
        if found:
            row, other = min(found.items())
            of = "an earlier one" if first == second else f"one of {first}"
            words = f"image is nearly {of}", f"images are nearly {of}"
            example = f"{name_of(second, row)} is nearly {name_of(first, other)}"
            yield _told(second, len(found), *words, example)


def changed_since(card: DatasetCard) -> list[str]:
    """Return, in words, that the files are no longer those whose digest the card carries."""
    if reader_of(card).digest(card) == card.digest:
        return []
    return [
        f"{card.name}: files under {card.args['path']} have changed since they were prepared: run "
        f"`vitbench data prepare {card.name}` again"
    ]


def list_sets(cache_dir: Path) -> tuple[Findings, ...]:
    """Return every packed set under `cache_dir` by its manifest, without reading pixels."""
    return tuple(_summary(item) for item in packed_sets(cache_dir))


def packed_form(card: DatasetCard, *, cache_dir: Path) -> Findings | None:
    """Return what is packed of a data set, by its manifest and without its pixels, or None."""
    item = open_packed(cache_dir / card.digest) if card.digest else None
    return _summary(item) if item is not None else None


def _by_number(split: str, row: int) -> str:
    return f"image {row} of {split}"


def examine(
    item: Packed, *, class_names: Sequence[str] = (), name_of: NameOf = _by_number
) -> Findings:
    """Count classes, duplicates and overlaps of a packed set, from one look at each image.

    Classes without images are called by their names where these are given, else by their labels.
    """
    looks = {name: item.looks(name) for name in item.manifest["splits"]}
    hashes = {name: looks_N["sha256"].tolist() for name, looks_N in looks.items()}
    num_classes = int(item.manifest["num_classes"])
    labels = {name: item.labels(name) for name in looks}
    found = {
        name: _findings(labels[name], hashes[name], looks[name], num_classes) for name in looks
    }
    overlaps = {
        f"{first}/{second}": num_shared(hashes[first], hashes[second])
        for first, second in combinations(sorted(looks, key=ORDER.index), 2)
    }
    summary = _summary(item)
    return summary.model_copy(
        update={
            "splits": found,
            "overlaps": overlaps,
            "problems": (
                *_problems(found, class_names),
                *_copies(hashes, {name: part.tolist() for name, part in labels.items()}, name_of),
                *_flat(looks, name_of),
                *_shared(hashes, overlaps, name_of),
            ),
        }
    )


def num_shared(first: Sequence[bytes], second: Sequence[bytes]) -> int:
    """Return how many images of `second` are also in `first`, by their hashes."""
    known = set(first)
    return sum(digest in known for digest in second)


# --- parts ----------------------------------------------------------------------------------


def _summary(item: Packed) -> Findings:
    manifest = item.manifest
    return Findings(
        name=manifest["name"],
        digest=item.digest,
        content_sha256=item.content_digest,
        folder=str(item.folder),
        num_bytes=sum(entry["bytes"] for entry in manifest["files"].values()),
        packing=item.packing,
        sizes_px={split: item.size_px(split) for split in manifest["splits"]},
        num_classes=manifest["num_classes"],
        splits={
            name: SplitFindings(
                num_examples=num, per_class=(), num_duplicates=0, num_conflicts=0, num_flat=0
            )
            for name, num in manifest["splits"].items()
        },
    )


def _findings(
    labels_N: np.ndarray, hashes: Sequence[bytes], looks_N: np.ndarray, num_classes: int
) -> SplitFindings:
    first: dict[bytes, int] = {}
    conflicts = sum(
        first.setdefault(digest, label) != label
        for digest, label in zip(hashes, labels_N.tolist(), strict=True)
    )
    return SplitFindings(
        num_examples=len(hashes),
        per_class=tuple(np.bincount(labels_N, minlength=num_classes).tolist()),
        num_duplicates=len(hashes) - len(first),
        num_conflicts=conflicts,
        num_flat=int(looks_N["is_flat"].sum()),
    )


def _problems(found: dict[str, SplitFindings], class_names: Sequence[str]) -> Iterator[str]:
    for name, split in found.items():
        empty = [label for label, count in enumerate(split.per_class) if not count]
        if empty:
            words = [class_names[label] if class_names else str(label) for label in empty]
            named = ", ".join(words[:NUM_NAMED] + ["..."] * (len(words) > NUM_NAMED))
            classes = "1 class" if len(empty) == 1 else f"{len(empty):,} classes"
            yield f"{name}: {classes} without images ({printable(named)})"


def _copies(
    hashes: Mapping[str, Sequence[bytes]], labels: Mapping[str, Sequence[int]], name_of: NameOf
) -> Iterator[str]:
    """Yield what is said of copies within a split, and of those that carry another label."""
    for split, digests in hashes.items():
        first: dict[bytes, int] = {}
        pairs = [
            (row, earlier)
            for row, digest in enumerate(digests)
            if (earlier := first.setdefault(digest, row)) != row
        ]
        others = [pair for pair in pairs if labels[split][pair[0]] != labels[split][pair[1]]]
        for found, one, many in (
            (pairs, "image is a copy of an earlier one", "images are copies of earlier ones"),
            (others, "copy carries another label", "copies carry another label"),
        ):
            if found:
                copy, original = (name_of(split, row) for row in found[0])
                yield _told(split, len(found), one, many, f"{copy} is {original}")


def _flat(looks: Mapping[str, np.ndarray], name_of: NameOf) -> Iterator[str]:
    for split, looks_N in looks.items():
        rows = np.flatnonzero(looks_N["is_flat"])
        if len(rows):
            words = "image is of a single colour", "images are of a single colour"
            yield _told(split, len(rows), *words, name_of(split, int(rows[0])))


def _shared(
    hashes: Mapping[str, Sequence[bytes]], overlaps: Mapping[str, int], name_of: NameOf
) -> Iterator[str]:
    for pair, count in overlaps.items():
        if count:
            first, second = pair.split("/")
            rows = {digest: row for row, digest in reversed([*enumerate(hashes[first])])}
            row = next(row for row, digest in enumerate(hashes[second]) if digest in rows)
            words = f"image is also in {first}", f"images are also in {first}"
            example = f"{name_of(second, row)} is {name_of(first, rows[hashes[second][row]])}"
            yield _told(second, count, *words, example)


def _told(split: str, count: int, one: str, many: str, example: str) -> str:
    """Return `train: 2 images are of a single colour (such as cat/3.png)`."""
    if count == 1:
        return f"{split}: 1 {one} ({example})"
    return f"{split}: {count:,} {many} (such as {example})"


def _names_of(card: DatasetCard) -> NameOf:
    """Return what names the images of a card: their files, where they lie in any.

    The files are looked at only where there is an image to be named.
    """
    opened: list[Source] = []

    def name_of(split: str, row: int) -> str:
        try:
            if not opened:
                opened.append(reader_of(card).open(card))
            found = next(opened[0].encoded(split, start=row), None)
        except (DataError, KeyError):  # no longer there
            found = None
        if found is None:
            return _by_number(split, row)
        place = Path(str(card.args.get("path", "")))
        root = place.parent if place.suffix else place
        return printable(found[0].removeprefix(f"{root}/"))

    return name_of
