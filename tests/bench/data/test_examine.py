"""Findings: counts, duplicates, conflicts and overlaps that were planted, and real sets."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bench.data import catalog
from bench.data.getting import archives
from bench.data.packs import build, examine
from bench.data.readers import reader_of
from bench.errors import DataError
from bench.specs import DatasetCard

Make = Callable[..., Path]


def card_of(path: Path, reader: str = "image_folder", **fields: object) -> DatasetCard:
    block = {"reader": reader, "path": str(path), **fields}
    return catalog.resolve("mine", block, base_dir=Path("/nowhere"))


def damaged_in(card: DatasetCard, *, num_workers: int = 1) -> list[str]:
    return reader_of(card).damaged(card, num_workers=num_workers)


def test_planted_duplicates_conflicts_and_overlaps_are_counted(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (12, 6, 6, 3), dtype=np.uint8)
    images[3] = images[0]  # a copy with the same label
    images[5] = images[0]  # and one with another
    images[7] = 9
    test = rng.integers(0, 256, (4, 6, 6, 3), dtype=np.uint8)
    test[1] = images[2]
    labels = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2])
    np.savez(
        tmp_path / "a.npz",
        train_images=images, train_labels=labels, test_images=test, test_labels=labels[:4],
    )  # fmt: skip
    card = card_of(tmp_path / "a.npz", "arrays")
    found = examine.examine(build.packed(card, cache_dir=tmp_path / "cache"))
    train = found.splits["train"]
    assert train.per_class == (4, 4, 4)
    assert (train.num_duplicates, train.num_conflicts, train.num_flat) == (2, 1, 1)
    assert found.overlaps == {"train/test": 1}
    assert examine.notes_on(card, cache_dir=tmp_path / "cache") == found.problems
    assert examine.notes_on(card, cache_dir=tmp_path / "none") == ()
    assert found.problems == (
        "train: 2 images are copies of earlier ones (such as image 3 of train is image 0 of train)",
        "train: 1 copy carries another label (image 5 of train is image 0 of train)",
        "train: 1 image is of a single colour (image 7 of train)",
        "test: 1 image is also in train (image 1 of test is image 2 of train)",
    )


def test_a_clean_set_has_no_problems(tmp_path: Path, make_images: Make) -> None:
    card = card_of(make_images(tmp_path / "set", {"a": 5, "b": 5}), image_size_px=8)
    found = examine.examine(build.packed(card, cache_dir=tmp_path / "cache"))
    assert found.problems == ()
    assert found.digest == card.digest
    assert found.num_bytes == sum(p.stat().st_size for p in Path(found.folder).glob("*.npy"))
    assert examine.verify_set(card, cache_dir=tmp_path / "cache") == ()


def test_a_class_without_test_images_is_called_by_its_name(
    tmp_path: Path, make_images: Make
) -> None:
    make_images(tmp_path / "set" / "train", {"ant": 2, "bee": 2, "cow": 2})
    make_images(tmp_path / "set" / "test", {"ant": 1, "cow": 1})
    block = {"reader": "image_folder", "path": "set", "image_size_px": 16}
    card = catalog.resolve("mine", block, base_dir=tmp_path)
    build.packed(card, cache_dir=tmp_path / "cache")
    notes = examine.notes_on(card, cache_dir=tmp_path / "cache")
    assert notes[0] == "test: 1 class without images (bee)"


def test_verify_names_every_damaged_file_and_block(tmp_path: Path, make_images: Make) -> None:
    card = card_of(make_images(tmp_path / "set", {"a": 5, "b": 5}), image_size_px=8)
    found = examine.examine(build.packed(card, cache_dir=tmp_path / "cache"))
    for name in ("a/001.png", "b/003.png"):
        (tmp_path / "set" / name).write_bytes(b"")
    with open(Path(found.folder) / "train.images.npy", "r+b") as file:
        file.seek(300)
        file.write(b"\x01\x02\x03")
    problems = examine.verify_set(card, cache_dir=tmp_path / "cache", num_workers=2)
    assert len(problems) == 4
    assert "have changed since they were prepared" in problems[0]
    assert "001.png: not an image" in problems[1] or "003.png: not an image" in problems[1]
    assert "train.images.npy: block 0 has changed" in problems[3]


def test_packed_sets_are_listed_and_shown(tmp_path: Path) -> None:
    assert examine.list_sets(tmp_path / "none") == ()
    card = catalog.dataset("digits")
    assert examine.packed_form(card, cache_dir=tmp_path) is None
    examine.examine(build.packed(card, cache_dir=tmp_path))
    (tmp_path / "0123456789abcdef").mkdir()  # half a set is none
    listed = examine.list_sets(tmp_path)
    assert [item.name for item in listed] == ["digits"]
    assert {name: split.num_examples for name, split in listed[0].splits.items()} == {
        "train": 1297, "test": 500,
    }  # fmt: skip
    assert examine.packed_form(card, cache_dir=tmp_path) == listed[0]


def test_digits_hold_no_copies(tmp_path: Path) -> None:
    found = examine.examine(build.packed(catalog.dataset("digits"), cache_dir=tmp_path))
    assert found.problems == ()
    assert found.overlaps == {"train/test": 0}


@pytest.mark.ordinary
def test_real_omniglot_has_the_counts_of_its_owner(shared_data: Path, tmp_path: Path) -> None:
    shutil.unpack_archive(shared_data / "omniglot" / "images_background_small1.zip", tmp_path)
    card = card_of(tmp_path / "images_background_small1", image_size_px=28)
    total = sum(split.num_examples for split in card.splits.values())
    assert (total, card.num_classes) == (2720, 5)
    assert damaged_in(card, num_workers=2) == []
    found = examine.examine(build.packed(card, cache_dir=tmp_path / "cache", num_workers=2))
    assert sum(sum(split.per_class) for split in found.splits.values()) == 2720


@pytest.mark.ordinary
def test_real_cifar_jpegs_have_the_counts_of_their_owner(shared_data: Path, tmp_path: Path) -> None:
    archives.extract(shared_data / "cifar10-jpeg" / "cifar10-jpeg-test.tar.gz", tmp_path / "set")
    card = card_of(tmp_path / "set" / "cifar10-jpeg" / "test", image_size_px=32)
    assert sum(split.num_examples for split in card.splits.values()) == 10_000
    assert card.class_names[:3] == ("airplane", "automobile", "bird")
    found = examine.examine(build.packed(card, cache_dir=tmp_path / "cache", num_workers=2))
    totals = np.sum([split.per_class for split in found.splits.values()], axis=0)
    assert totals.tolist() == [1000] * 10


@pytest.mark.ordinary
def test_a_folder_of_edge_cases_is_judged_file_by_file(shared_data: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        shutil.copytree(shared_data / "decode-edge", tmp_path / "set" / name)
    card = card_of(tmp_path / "set", image_size_px=16)
    problems = damaged_in(card)
    assert len(problems) == 2 * 3
    assert {Path(line.split(": ")[0]).name for line in problems} == {
        "truncated.jpg", "empty.jpg", "not_an_image.jpg",
    }  # fmt: skip


def test_damaged_files_are_left_out_and_counted_where_asked(
    tmp_path: Path, make_images: Make
) -> None:
    make_images(tmp_path / "set", {"a": 6, "b": 6})
    for name in ("a/000.png", "a/001.png", "b/005.png"):
        (tmp_path / "set" / name).write_bytes(b"damaged " + name.encode())
    with pytest.raises(DataError, match="not an image"):
        build.packed(card_of(tmp_path / "set"), cache_dir=tmp_path / "cache")
    card = card_of(tmp_path / "set", image_size_px=8, skip_damaged=True)
    assert sum(split.num_examples for split in card.splits.values()) == 9
    assert "3 damaged files of the set left out" in card.splits["train"].selector
    packed = build.packed(card, cache_dir=tmp_path / "cache")
    assert sum(len(packed.split(name).labels_N) for name in card.splits) == 9
    assert len(damaged_in(card)) == 3
    assert card_of(tmp_path / "set", image_size_px=8, skip_damaged=True) == card
    for index in range(6):
        (tmp_path / "set" / "b" / f"{index:03d}.png").write_bytes(b"damaged")
    with pytest.raises(DataError, match='no sound training image of class "b"'):
        card_of(tmp_path / "set", skip_damaged=True)


def test_leaving_nothing_out_changes_no_identity(tmp_path: Path, make_images: Make) -> None:
    make_images(tmp_path / "set", {"a": 3, "b": 3})
    strict, tolerant = (card_of(tmp_path / "set", skip_damaged=skip) for skip in (False, True))
    assert strict.digest == tolerant.digest
