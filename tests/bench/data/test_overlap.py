"""Shared images of two splits: planted copies are found, and nothing else."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from bench.data.packs import overlap
from bench.data.packs.read import Split


def split(images_NHWC: np.ndarray) -> Split:
    return Split(images_NHWC, np.zeros(len(images_NHWC), dtype=np.int64))


def smooth(num: int, *, side: int = 32, seed: int = 0) -> np.ndarray:
    """Random images with the smoothness of photographs: 6 x 6 noise, enlarged."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (num, 6, 6, 3), dtype=np.uint8)
    return np.stack(
        [np.asarray(Image.fromarray(one).resize((side, side), Image.BICUBIC)) for one in small]
    )


def saved_again(image: np.ndarray, *, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file).convert("RGB"))


def test_every_pair_of_equal_images_is_found() -> None:
    """Copies within a set give a pair each; an image one grey level off is another."""
    a, b = smooth(2500), smooth(40, seed=1)
    b[3] = b[17] = a[2100] = a[5]
    b[20] = a[9]
    b[30] = a[11]
    b[30, 0, 0, 0] ^= 1
    found = overlap.overlap(split(a), split(b))
    assert found.tolist() == [[5, 3], [5, 17], [9, 20], [2100, 3], [2100, 17]]
    assert overlap.overlap(split(b), split(smooth(50, seed=2))).shape == (0, 2)


def test_near_copies_are_found_after_compression_brightness_and_resizing() -> None:
    a, b = smooth(1500), smooth(30, seed=1)
    b[0] = saved_again(a[100], quality=60)
    b[1] = (a[200] * 0.8).astype(np.uint8)
    found = overlap.overlap(split(a), split(b), max_distance=4)
    assert found.tolist() == [[100, 0], [200, 1]]
    smaller = np.stack(
        [np.asarray(Image.fromarray(one).resize((24, 24), Image.BILINEAR)) for one in a[:50]]
    )
    found = overlap.overlap(split(a[:50]), split(smaller), max_distance=6)
    assert found.tolist() == [[row, row] for row in range(50)]


def test_the_difference_hash_by_its_definition() -> None:
    """Columns of 9 growing steps, then of falling ones: all bits set, or none."""
    ramp = np.repeat(np.arange(9, dtype=np.uint8) * 20, 4)[None, :, None]
    rising = np.broadcast_to(ramp, (32, 36, 3))
    images = np.stack((rising, rising[:, ::-1], np.full_like(rising, 90)))
    hashes = overlap.difference_hashes(split(images))
    assert hashes.tolist() == [2**64 - 1, 0, 0]


def test_hashes_do_not_depend_on_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    images = smooth(50)
    whole = overlap.difference_hashes(split(images))
    exact = overlap.exact_hashes(split(images))
    monkeypatch.setattr(overlap, "BLOCK_IMAGES", 7)
    assert np.array_equal(overlap.difference_hashes(split(images)), whole)
    assert np.array_equal(overlap.exact_hashes(split(images)), exact)
    pairs = overlap.overlap(split(images), split(images), max_distance=1)
    assert np.array_equal(pairs, np.repeat(np.arange(50)[:, None], 2, axis=1))


def test_flat_images_are_alike_only_when_they_are_equal() -> None:
    flat = np.stack([np.full((16, 16, 3), level, dtype=np.uint8) for level in (0, 40, 40)])
    assert overlap.overlap(split(flat), split(flat), max_distance=4).shape == (0, 2)
    assert overlap.overlap(split(flat[:2]), split(flat[2:])).tolist() == [[1, 0]]


def test_pictures_saved_again_are_nearly_the_same_and_copies_are_not_counted() -> None:
    originals = smooth(40)
    again = np.stack([saved_again(image, quality=75) for image in originals[:10]])
    brighter = np.clip(originals[10:14].astype(int) + 12, 0, 255).astype(np.uint8)
    others = np.concatenate([again, brighter, originals[20:25], smooth(30, seed=9)])
    expected = {row: row for row in range(14)}
    assert overlap.similar(split(originals), split(others)) == expected
    whole = np.concatenate([originals, others])
    assert overlap.similar(split(whole)) == {40 + row: row for row in range(14)}
    assert overlap.similar(split(originals)) == {}


def test_line_drawings_whose_hashes_agree_by_chance_are_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    originals = smooth(20)
    again = np.stack([saved_again(image, quality=75) for image in originals])
    monkeypatch.setattr(overlap, "MOST_PAIRS", 19)
    assert overlap.similar(split(originals), split(again)) == {}
