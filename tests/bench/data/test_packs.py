"""Packing: once, whole or absent, verified on opening, rebuilt when damaged, bad input told."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.data import catalog
from bench.data.cards.generated import formula_card
from bench.data.packs import build, read, write
from bench.data.packs.read import Packed
from bench.errors import DataError
from bench.specs import SplitCard
from tests.bench.data.packing import SMALL, folder_card

Make = Callable[..., Path]


def test_digits_are_the_known_images(tmp_path: Path) -> None:
    """Against scikit-learn itself, and by a digest that pins the split."""
    packed = build.packed(catalog.dataset("digits"), cache_dir=tmp_path)
    train, test = packed.split("train"), packed.split("test")
    assert (train.images_NHWC.shape, test.images_NHWC.shape) == ((1297, 8, 8, 3), (500, 8, 8, 3))
    assert np.bincount(test.labels_N).tolist() == [50, 51, 49, 51, 50, 51, 50, 50, 48, 50]
    from sklearn.datasets import load_digits

    bunch = load_digits()
    grey = np.concatenate([train.images_NHWC, test.images_NHWC])[..., 1].reshape(1797, -1)
    rows = np.concatenate([grey, np.r_[train.labels_N, test.labels_N][:, None]], axis=1)
    source = np.c_[np.round(bunch.data * (255 / 16)), bunch.target]
    assert np.array_equal(np.unique(rows, axis=0), np.unique(source, axis=0))
    assert grey.max() == 255
    assert packed.content_digest[:16] == "4ee0e0c9cfcab263"


def test_a_packed_set_is_found_again_and_shared(tmp_path: Path) -> None:
    first = build.packed(SMALL, cache_dir=tmp_path)
    stamp = (first.folder / "manifest.json").stat().st_mtime_ns
    again = build.packed(SMALL, cache_dir=tmp_path)
    assert again == first
    assert (again.folder / "manifest.json").stat().st_mtime_ns == stamp
    assert first.digest == SMALL.digest
    assert build.verify(first.folder) == []
    assert sorted(path.name for path in first.folder.iterdir()) == [
        "manifest.json", "train.images.npy", "train.labels.npy", "train.looks.npy",
    ]  # fmt: skip


def test_splits_are_mapped_and_writing_to_them_changes_no_file(tmp_path: Path) -> None:
    packed = build.packed(SMALL, cache_dir=tmp_path)
    split = packed.split("train")
    assert split.labels_N.tolist() == [0] * 20 + [1] * 20 + [2] * 20
    torch.from_numpy(split.images_NHWC[:4]).zero_()
    assert build.verify(packed.folder) == []
    with pytest.raises(DataError, match='small: no split "test"'):
        packed.split("test")


@pytest.mark.ordinary
def test_formula_images_do_not_depend_on_the_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.data.readers.generated.PARALLEL_FROM_IMAGES", 1)
    alone = build.packed(SMALL, cache_dir=tmp_path / "one")
    many = build.packed(SMALL, cache_dir=tmp_path / "two", num_workers=2)
    assert alone.content_digest == many.content_digest


# --- damage ---------------------------------------------------------------------------------


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


DAMAGES: dict[str, Callable[[Packed], object]] = {
    "bit": lambda packed: flip_a_bit(packed.folder / "train.images.npy"),
    "label": lambda packed: flip_a_bit(packed.folder / "train.labels.npy"),
    "truncated": lambda packed: os.truncate(packed.folder / "train.images.npy", 200),
    "empty": lambda packed: os.truncate(packed.folder / "train.images.npy", 0),
    "missing": lambda packed: (packed.folder / "train.labels.npy").unlink(),
    "no manifest": lambda packed: (packed.folder / "manifest.json").unlink(),
    "bad manifest": lambda packed: (packed.folder / "manifest.json").write_text("{"),
    "old format": lambda packed: (packed.folder / "manifest.json").write_text(
        json.dumps({**packed.manifest, "format": 0})
    ),
    "other digest": lambda packed: (packed.folder / "manifest.json").write_text(
        json.dumps({**packed.manifest, "digest": "0" * 16})
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_set_is_noticed_and_built_again(tmp_path: Path, damage: str) -> None:
    packed = build.packed(SMALL, cache_dir=tmp_path)
    DAMAGES[damage](packed)
    assert build.verify(packed.folder) != []
    again = build.packed(SMALL, cache_dir=tmp_path)
    assert again.content_digest == packed.content_digest
    assert build.verify(again.folder) == []


def test_damage_in_the_middle_of_a_large_set_is_found_by_verify(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read, "BLOCK_BYTES", 1024)
    monkeypatch.setattr(read, "FULL_CHECK_BYTES", 2048)
    packed = build.packed(SMALL, cache_dir=tmp_path)
    images = packed.folder / "train.images.npy"
    content = bytearray(images.read_bytes())
    content[5000] ^= 1
    images.write_bytes(content)
    assert read.open_packed(packed.folder) is not None  # the cheap check sees the ends alone
    assert build.verify(packed.folder) == [f"{images}: block 4 has changed"]


def test_readers_of_a_damaged_set_keep_their_pages(tmp_path: Path) -> None:
    packed = build.packed(SMALL, cache_dir=tmp_path)
    split = packed.split("train")
    before = split.images_NHWC.copy()
    (packed.folder / "manifest.json").unlink()
    build.packed(SMALL, cache_dir=tmp_path)
    assert np.array_equal(split.images_NHWC, before)


# --- bad input ------------------------------------------------------------------------------


def test_a_corrupt_image_is_named_and_nothing_is_left(tmp_path: Path, make_images: Make) -> None:
    make_images(tmp_path / "set", {"a": 4, "b": 4})
    file = tmp_path / "set" / "b" / "002.png"
    file.write_bytes(file.read_bytes()[:60])
    with pytest.raises(DataError, match=r"b/002\.png: damaged image .*Replace the file"):
        build.packed(folder_card(tmp_path / "set"), cache_dir=tmp_path / "cache")
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] in ([], [".lock"])


def test_all_corrupt_images_are_named_at_once(tmp_path: Path, make_images: Make) -> None:
    make_images(tmp_path / "set", {"a": 9, "b": 9})
    for number in range(8):
        (tmp_path / "set" / "b" / f"{number:03d}.png").write_bytes(b"no image")
    block = {"reader": "image_folder", "path": str(tmp_path / "set"), "image_size_px": 8}
    card = catalog.resolve("mine", block, base_dir=tmp_path)
    with pytest.raises(DataError) as caught:
        build.packed(card, cache_dir=tmp_path / "cache")
    said = re.search(
        r"b/(\d+)\.png: not an image.* \(and 7 more: (.*), \.\.\.\)", str(caught.value)
    )
    assert said is not None
    named = [said[1], *(name.removesuffix(".png") for name in said[2].split(", "))]
    assert len(set(named)) == 6
    assert "skip_damaged = true" in str(caught.value)


def test_files_removed_since_the_plan(tmp_path: Path, make_images: Make) -> None:
    make_images(tmp_path / "set", {"a": 4, "b": 4})
    card = folder_card(tmp_path / "set")
    (tmp_path / "set" / "a" / "000.png").unlink()
    with pytest.raises(DataError, match=r"mine: (train|test) has \d images, \d expected"):
        build.packed(card, cache_dir=tmp_path / "cache")
    shutil.rmtree(tmp_path / "set")
    with pytest.raises(DataError, match="no such folder"):
        build.packed(card, cache_dir=tmp_path / "cache")


def test_a_file_changed_since_the_plan(tmp_path: Path, make_images: Make) -> None:
    make_images(tmp_path / "set", {"a": 4, "b": 4})
    card = folder_card(tmp_path / "set")
    content = (tmp_path / "set" / "b" / "000.png").read_bytes()
    (tmp_path / "set" / "a" / "000.png").write_bytes(content)
    with pytest.raises(DataError, match=r"mine: files under .* changed while they were read"):
        build.packed(card, cache_dir=tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]


def test_no_room_is_told_before_anything_is_written(tmp_path: Path) -> None:
    huge = formula_card("huge", num_classes=10**6, images_per_class=10**4, image_size_px=1024)
    with pytest.raises(DataError, match=r"huge: packing needs [\d.]+ GiB, .* GiB free\. Free some"):
        build.packed(huge, cache_dir=tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_a_cache_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="file/cache: cannot be created"):
        build.packed(SMALL, cache_dir=tmp_path / "file" / "cache")


def test_a_card_without_located_data_says_how_to_get_it(tmp_path: Path) -> None:
    card = SMALL.model_copy(update={"digest": "", "how_to_get": "Ask its owner"})
    told = r"small: the data are not located\. Ask its owner, then `vitbench data prepare small "
    with pytest.raises(DataError, match=told):
        build.packed(card, cache_dir=tmp_path)


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ([0, 1, 3], r"label 3 of image 2 is not in 0 to 2 \(1 such labels\)"),
        ([0, -100, -1], r"label -100 of image 1 is not in 0 to 2 \(2 such labels\)"),
        ([1, 1, 1], "every image has label 1"),
    ],
)
def test_labels_out_of_range_and_alike(labels: list[int], told: str) -> None:
    with pytest.raises(DataError, match=rf"set, train: {told}"):
        write.check_labels(np.array(labels), num_classes=3, where="set, train")


def test_a_split_of_other_size_than_the_card_says(tmp_path: Path) -> None:
    card = SMALL.model_copy(update={"splits": {"train": SplitCard(num_examples=59)}})
    with pytest.raises(DataError, match="small: train has 60 images, 59 expected"):
        build.packed(card, cache_dir=tmp_path)
