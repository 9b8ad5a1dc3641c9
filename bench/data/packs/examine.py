"""What lies in a data set: counts, damage, duplicates, overlaps.

Most failed reproductions are data failures, so everything here returns records that say what was
found and where, and nothing is corrected silently. Exact duplicates are found by the SHA-256 of
the packed pixels: the paper removed copies of its test images from its upstream sets
(arXiv:2010.11929, section 4.1).
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
from pydantic import Field

from bench.data.packs import overlap
from bench.data.packs.build import check_located, packed_sets, verify
from bench.data.packs.read import Packed, open_packed
from bench.data.readers import reader_of
from bench.specs import DatasetCard, Record

MAX_COMPARED = 20_000
"""Images of a set that are compared with each other; of larger sets exact copies alone are told."""

NUM_NAMED = 5
"""Places named in a finding; the count is always whole."""


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
    return _notes(cache_dir / card.digest, card.class_names)


@functools.cache
def _notes(folder: Path, class_names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the notes on a packed set; a run prints them, and its page has them again."""
    item = open_packed(folder)
    if item is None:
        return ()
    return (*examine(item, class_names=class_names).problems, *_similar(item))


def _similar(item: Packed) -> Iterator[str]:
    """Say how many images are nearly another one."""
    splits = sorted(item.manifest["splits"], key=ORDER.index)
    many = sum(item.manifest["splits"].values()) > MAX_COMPARED
    if many or any(item.size_px(split) is None for split in splits):
        return
    for split in splits:
        count = overlap.num_similar(item.split(split))
        if count:
            yield f"{split}: {count:,} images are nearly an earlier one"
    for first, second in combinations(splits, 2):
        count = overlap.num_similar(item.split(first), item.split(second))
        if count:
            yield f"{second}: {count:,} images are nearly one of {first}"


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


def examine(item: Packed, *, class_names: Sequence[str] = ()) -> Findings:
    """Count classes, duplicates and overlaps of a packed set, from one look at each image.

    Classes without images are called by their names where these are given, else by their labels.
    """
    looks = {name: item.looks(name) for name in item.manifest["splits"]}
    hashes = {name: looks_N["sha256"].tolist() for name, looks_N in looks.items()}
    num_classes = int(item.manifest["num_classes"])
    found = {
        name: _findings(item.labels(name), hashes[name], looks[name], num_classes) for name in looks
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
            "problems": tuple(_problems(found, overlaps, class_names)),
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


def _problems(
    found: dict[str, SplitFindings], overlaps: dict[str, int], class_names: Sequence[str]
) -> list[str]:
    problems = []
    for name, split in found.items():
        empty = [label for label, count in enumerate(split.per_class) if not count]
        if empty:
            words = [class_names[label] if class_names else str(label) for label in empty]
            named = ", ".join(words[:NUM_NAMED] + ["..."] * (len(words) > NUM_NAMED))
            problems.append(f"{name}: {len(empty):,} classes without images ({named})")
        for count, what in (
            (split.num_duplicates, "images are copies of earlier ones"),
            (split.num_conflicts, "copies carry another label"),
            (split.num_flat, "images are of a single colour"),
        ):
            if count:
                problems.append(f"{name}: {count:,} {what}")
    for pair, count in overlaps.items():
        if count:
            first, second = pair.split("/")
            problems.append(f"{second}: {count:,} images are also in {first}")
    return problems
