"""Sets whose images stay encoded, and what is known of each image that was packed."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.data import decode
from bench.data.packs import build, examine, read, write
from bench.data.packs.drawn import Drawn
from bench.data.splits import drawn_rows
from bench.errors import DataError
from tests.bench.data.packing import SMALL, Stopped, folder_card

Make = Callable[..., Path]


def test_both_packings_give_the_same_pixels(tmp_path: Path, make_images: Make) -> None:
    card = folder_card(
        make_images(tmp_path / "set", {"a": 6, "b": 6}, suffix=".jpg"), image_size_px=16
    )
    arrays = build.packed(card, cache_dir=tmp_path / "arrays")
    encoded = build.packed(card, cache_dir=tmp_path / "encoded", packing="encoded")
    assert (arrays.packing, encoded.packing) == ("arrays", "encoded")
    assert arrays.digest == encoded.digest
    for name in ("train", "test"):
        one, other = arrays.split(name), encoded.split(name)
        assert np.array_equal(one.labels_N, other.labels_N)
        assert one.images_NHWC.shape == other.images_NHWC.shape
        rows = np.array([1, 0, 1])
        assert np.array_equal(one.images(rows), other.images(rows))
        assert np.array_equal(one.images(slice(None)), other.images(slice(None)))
        assert np.array_equal(np.stack(list(other.images_NHWC)), one.images_NHWC)
        assert np.array_equal(other.images_NHWC[-1], one.images_NHWC[-1])
    assert build.verify(encoded.folder) == []
    content = (tmp_path / "set" / "a" / "000.jpg").read_bytes()
    files = [encoded.folder / f"{name}.encoded.bin" for name in ("train", "test")]
    assert any(content in file.read_bytes() for file in files)


@pytest.mark.parametrize("packing", ["arrays", "encoded"])
def test_drawn_images_are_those_of_their_rows(
    tmp_path: Path, make_images: Make, packing: read.Packing
) -> None:
    card = folder_card(make_images(tmp_path / "set", {"a": 9, "b": 9}), image_size_px=16)
    packed = build.packed(card, cache_dir=tmp_path / "cache", packing=packing)
    whole, few = packed.split("train"), Drawn(packed, {"train"}, 4).split("train")
    rows = drawn_rows(whole.labels_N, 4)
    assert len(rows) == len(few.labels_N) == few.images_NHWC.shape[0]
    assert few.images_NHWC.shape == (4, 16, 16, 3)
    np.testing.assert_array_equal(few.labels_N, whole.labels_N[rows])
    np.testing.assert_array_equal(few.images(slice(1, 3)), whole.images(rows[1:3]))
    np.testing.assert_array_equal(few.images(np.array([2, 0])), whole.images(rows[[2, 0]]))
    np.testing.assert_array_equal(np.stack(list(few.images_NHWC)), whole.images(rows))
    other = Drawn(packed, {"test"}, 4).split("train")
    np.testing.assert_array_equal(other.images(slice(None)), whole.images(slice(None)))


def test_sets_too_large_to_decode_are_kept_encoded(
    tmp_path: Path, make_images: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "MAX_ARRAY_BYTES", 1000)
    card = folder_card(make_images(tmp_path / "set", {"a": 4, "b": 4}))
    packed = build.packed(card, cache_dir=tmp_path / "cache")
    assert packed.packing == "encoded"
    assert build.packed(card, cache_dir=tmp_path / "cache") == packed
    # What has no files stays arrays.
    assert build.packed(SMALL, cache_dir=tmp_path / "cache").packing == "arrays"
    other = build.packed(card, cache_dir=tmp_path / "cache", packing="arrays")
    assert other.packing == "arrays"


def test_a_set_without_files_cannot_be_kept_encoded(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"small: the formula reader has no encoded images"):
        build.packed(SMALL, cache_dir=tmp_path, packing="encoded")


def test_damaged_images_are_counted_when_they_are_packed_encoded(
    tmp_path: Path, make_images: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of them is named; a build that was stopped after it was seen names it too."""
    monkeypatch.setattr(write, "CHUNK_BYTES", 2000)
    make_images(tmp_path / "set", {"a": 20, "b": 20})
    for name in ("a/001.png", "a/002.png"):
        file = tmp_path / "set" / name
        file.write_bytes(file.read_bytes()[:60])
    card = folder_card(tmp_path / "set", test_share=0.1)

    def stop(done: int, total: int) -> None:
        if done > 10:
            raise Stopped

    with pytest.raises(Stopped):
        build.packed(card, cache_dir=tmp_path / "c", packing="encoded", on_progress=stop)
    message = (
        r"a/001\.png: damaged image .*\(and 1 more of train: 002\.png\)\. .*skip_damaged = true"
    )
    with pytest.raises(DataError, match=message):
        build.packed(card, cache_dir=tmp_path / "c", packing="encoded")


def test_images_are_decoded_once_for_packing_and_examination(
    tmp_path: Path, make_images: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[str] = []
    original = decode.original

    def counted(content: bytes, *, name: str) -> np.ndarray:
        decoded.append(name)
        return original(content, name=name)

    monkeypatch.setattr(decode, "original", counted)
    card = folder_card(
        make_images(tmp_path / "set", {"a": 20, "b": 20}, side=140), image_size_px=None
    )
    found = examine.examine(build.packed(card, cache_dir=tmp_path / "c", num_workers=2))
    assert (found.packing, found.problems) == ("encoded", ())
    assert examine.notes_on(card, cache_dir=tmp_path / "c") == ()
    assert sorted(decoded) == sorted(set(decoded))
    assert len(decoded) == 40


def test_looks_are_those_of_the_images_as_they_are_read(tmp_path: Path, make_images: Make) -> None:
    folder = make_images(tmp_path / "set", {"a": 6, "b": 6})
    Image.new("RGB", (9, 7), (3, 2, 1)).save(folder / "a" / "002.png")
    for index, size_px in enumerate((None, 8)):
        card = folder_card(folder, image_size_px=size_px)
        for packing in ("arrays", "encoded") if size_px else ("encoded",):
            cache = tmp_path / f"{index}-{packing}"
            packed = build.packed(card, cache_dir=cache, packing=packing)  # type: ignore[arg-type]
            for split in ("train", "test"):
                images = list(packed.split(split).images_NHWC)
                looks_N = packed.looks(split)
                hashes = [hashlib.sha256(image.tobytes()).digest() for image in images]
                assert looks_N["sha256"].tolist() == hashes
                flat = [bool((image == image[0, 0]).all()) for image in images]
                assert looks_N["is_flat"].tolist() == flat


def test_a_mapped_array_takes_its_room_before_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page of a mapped file that finds no room on disk ends the process without a word."""

    def full(descriptor: int, start: int, size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(DataError, match=r"cannot be packed into .* \(No space left on device\)"):
        build.packed(SMALL, cache_dir=tmp_path)
