"""The data sets of a suite: there or not, whole or not, in the right order, shared or not.

Most failed reproductions are data failures: a damaged copy, labels in another order, test images
that were trained on. Exact copies are found by the SHA-256 of image files, and of packed pixels
where two sets are packed at one size; the paper removed such copies (arXiv:2010.11929, section
4.1).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from bench.data import catalog
from bench.data.cards import imagenet
from bench.data.readers import reader_of
from bench.data.sources import files
from bench.data.sources.folder import Folder
from bench.doctor.check import Check, guarded, ok, problem, reported, warning
from bench.errors import BenchError
from bench.plan.spec import SuiteSpec
from bench.specs import DatasetCard

if TYPE_CHECKING:
    from bench.data.packs.read import Packed

MAX_DECODED = 5_000
"""Images decoded at most; of larger sets a part, spread evenly over the files."""


def upstream_of(spec: SuiteSpec) -> list[str]:
    """Return the names of the data sets that the suite pre-trains on, each once."""
    return list(dict.fromkeys(block.upstream for block in spec.pretrain if spec.runs(block)))


def downstream_of(spec: SuiteSpec) -> list[str]:
    """Return the names of the data sets that it transfers to, each once."""
    blocks = (block for block in spec.transfer if spec.runs(block))
    return list(dict.fromkeys(name for block in blocks for name in block.datasets))


def cards(spec: SuiteSpec, *, base_dir: Path) -> tuple[dict[str, DatasetCard], list[Check]]:
    """Return the cards of the suite's data sets, and a problem for each that cannot be read."""
    found: dict[str, DatasetCard] = {}
    checks: list[Check] = []
    for name in dict.fromkeys([*upstream_of(spec), *downstream_of(spec), *spec.dataset]):
        try:
            block = spec.dataset.get(name)
            found[name] = (
                catalog.resolve(name, block, base_dir=base_dir)
                if block is not None
                else catalog.dataset(name)
            )
        except BenchError as error:
            checks.append(reported(f"data {name}", error))
    return found, checks


def one_set(card: DatasetCard, *, cache_dir: Path) -> list[Check]:
    """Check one data set: there, unchanged, in order, decodable, packed whole, test apart."""
    topic = f"data {card.name}"
    if not card.digest:
        return [missing(card)]
    counts = ", ".join(f"{card.count(split)} {split}" for split in card.splits)
    checks = [ok(topic, f"{counts}, {card.num_classes:,} classes; {card.how_to_get}")]
    for part in (_in_part, _changed, label_order):
        checks += guarded(topic, lambda part=part: part(card))  # type: ignore[misc]
    checks += guarded(topic, lambda: _image_files(card, cache_dir=cache_dir))
    return checks + guarded(topic, lambda: packed_state(card, cache_dir=cache_dir))


def enlarged_images(card: DatasetCard, sizes_px: Sequence[int], *, cache_dir: Path) -> list[Check]:
    """Say where files are smaller than what a protocol asks for."""
    from bench.data.sizes import enlarged

    topic = f"data {card.name}"
    cure = "As in the paper where its owner's images are small (CIFAR); else get the originals"

    def found() -> list[Check]:
        said = enlarged(card, sizes_px, cache_dir=cache_dir, look=True)
        return [warning(topic, words, cure) for words in said]

    return guarded(topic, found)


def missing(card: DatasetCard) -> Check:
    """Return what is to be done about a set that is known but was never located."""
    topic = f"data {card.name}"
    reason = card.refusal
    if reason:
        return problem(topic, reason, card.how_to_get)
    return problem(
        topic,
        f"{card.title} is not here",
        f"{card.how_to_get}; then `vitbench data prepare {card.name}` "
        f"(terms: {card.licence or 'not stated'})",
    )


def _in_part(card: DatasetCard) -> list[Check]:
    """Say where only a part of a published set is here."""
    if not card.part:
        return []
    return [
        warning(
            f"data {card.name}",
            f"a part of the set, for rehearsals alone: {card.part}",
            f"Run with --limit-steps; for results, complete the files and run `vitbench data "
            f"prepare {card.name}` again",
        )
    ]


def _changed(card: DatasetCard) -> list[Check]:
    from bench.data.packs.examine import changed_since

    return [
        problem(
            f"data {card.name}",
            f"files under {card.args['path']} have changed since they were prepared",
            f"Put them back, or run `vitbench data prepare {card.name}` again",
        )
        for _ in changed_since(card)
    ]


def label_order(card: DatasetCard) -> list[Check]:
    """Compare class names with the order that every published classifier has."""
    cure = "Sort the class folders by WNID, or use the set's own reader (vitbench data show)"
    numbered = imagenet.numbering_problem(card.class_names)
    if numbered:
        return [
            problem(
                f"data {card.name}",
                f"label order: {numbered}",
                "Use the reader imagenet-v2, or name the folders with leading zeros",
            )
        ]
    if card.name.startswith("imagenet") and card.num_classes == imagenet.NUM_CLASSES:
        # A card whose reader names no classes has labels by number, which the reader checked.
        wrong = imagenet.order_problem(card.class_names) if card.class_names else ""
        if wrong:
            return [problem(f"data {card.name}", f"label order: {wrong}", cure)]
    return []


def _folder(card: DatasetCard) -> Folder | None:
    """Return the image files of a card, None where it is read from anything else."""
    return reader_of(card).image_files(card)


def _image_files(card: DatasetCard, *, cache_dir: Path) -> list[Check]:
    """Check the image files of a set that is not packed: each is decoded when it is."""
    if (cache_dir / card.digest).is_dir():
        return []
    folder = _folder(card)
    return [] if folder is None else _decodes(card, folder) + _copies(card)


def _decodes(card: DatasetCard, folder: Folder) -> list[Check]:
    """Decode image files, all of them or a part, and tell those that do not."""
    from bench.data.sources.image_files import damaged_files

    if card.args.get("skip_damaged"):
        return []
    paths = sorted(path for items in folder.splits.values() for path, _ in items)
    chosen = paths[:: max(1, -(-len(paths) // MAX_DECODED))]
    damaged = list(damaged_files(folder.root, chosen, num_workers=os.cpu_count() or 1).values())
    topic = f"data {card.name}"
    if damaged:
        return [
            problem(
                topic,
                f"{len(damaged):,} of {len(chosen):,} images do not decode: {damaged[0]}",
                "Replace these files, or leave them out with skip_damaged = true",
            )
        ]
    return [ok(topic, f"{len(chosen):,} of {len(paths):,} images decoded")]


def _copies(card: DatasetCard) -> list[Check]:
    """Find test files that are also training files, byte by byte."""
    folder = _folder(card)
    if folder is None or "test" not in folder.splits:
        return []
    hashes = files.hashes(
        folder.root, [path for items in folder.splits.values() for path, _ in items]
    )
    known = {
        hashes[path] for name, items in folder.splits.items() if name != "test" for path, _ in items
    }
    copies = [path for path, _ in folder.splits["test"] if hashes[path] in known]
    if not copies:
        return []
    return [
        problem(
            f"data {card.name}",
            f"{len(copies):,} test images are also training images ({copies[0]})",
            "Remove one of the two copies: the model has seen what it is tested on",
        )
    ]


def _digests(folder: Folder, split: str) -> list[str]:
    """Return the SHA-256 of each file of a split."""
    hashes = files.hashes(folder.root, [path for path, _ in folder.splits.get(split, ())])
    return list(hashes.values())


def packed_state(card: DatasetCard, *, cache_dir: Path) -> list[Check]:
    """Tell whether the packed form is there and sound; compare its test split with train."""
    from bench.data.packs.read import open_packed

    topic, folder = f"data {card.name}", cache_dir / card.digest
    if not folder.is_dir():
        return []
    opened = open_packed(folder)
    if opened is None:
        return [
            warning(
                topic,
                f"the packed copy {folder} is damaged or of another version",
                "Nothing to do: the next run packs it again",
            ),
            *_copies(card),
        ]
    others = set(opened.manifest["splits"]) - {"test"}
    if "test" not in opened.manifest["splits"] or not others:
        return [ok(topic, "packed")]
    num = _num_alike(opened, opened, splits=others)
    if num:
        return [
            *_copies(card),
            warning(
                topic,
                f"{num:,} test images have the pixels of a training image",
                "Say so next to the result, or remove them from the source",
            ),
        ]
    return [ok(topic, "packed; no test image has the pixels of a training image")]


# --- between data sets ----------------------------------------------------------------------


def shared_images(
    upstream: Sequence[str],
    downstream: Sequence[str],
    known: Mapping[str, DatasetCard],
    *,
    cache_dir: Path,
) -> list[Check]:
    """Look for images that are trained on upstream and tested on downstream."""
    checks: list[Check] = []
    for first, second in product(upstream, downstream):
        above, below = known.get(first), known.get(second)
        if above is None or below is None or first == second:
            continue
        if above.digest and below.digest and not reader_of(above).synthetic:
            checks += guarded(
                "overlap",
                lambda above=above, below=below: [_shared(above, below, cache_dir)],  # type: ignore[misc]
            )
    return checks


def _shared(above: DatasetCard, below: DatasetCard, cache_dir: Path) -> Check:
    num, how = _num_shared(above, below, cache_dir)
    if num is None:
        return warning(
            "overlap",
            f"{above.name} and the test images of {below.name} were not compared: {how}",
            "Pack both with `vitbench data prepare`, then check again",
        )
    words = f"{num:,} test images of {below.name} are in {above.name} ({how})"
    if num:
        return problem(
            "overlap", words, f"Remove them from {above.name}, as the paper did, or say so"
        )
    return ok("overlap", words)


def _num_shared(above: DatasetCard, below: DatasetCard, cache_dir: Path) -> tuple[int | None, str]:
    """Return how many test images of `below` are in `above`, and how they were compared."""
    from bench.data.packs.read import open_packed

    packed = [open_packed(cache_dir / card.digest) for card in (above, below)]
    as_one = above.squared_px == below.squared_px
    if packed[0] is not None and packed[1] is not None and as_one:
        return _num_alike(packed[0], packed[1]), "by the pixels"
    tested = _folder(below)  # the smaller one first
    trained = _folder(above) if tested is not None else None
    if tested is None or trained is None:
        return None, "not both files, nor both packed at one size"
    known = set(_digests(trained, "train"))
    return sum(digest in known for digest in _digests(tested, "test")), "by the files"


def _num_alike(above: Packed, below: Packed, *, splits: Iterable[str] = ("train",)) -> int:
    """Return how many test images of `below` have the pixels of an image in splits of `above`."""
    known = {digest for split in splits for digest in above.looks(split)["sha256"].tolist()}
    return sum(digest in known for digest in below.looks("test")["sha256"].tolist())
