"""Fractals: pure functions of (seed, class, instance), varied within a class, distinct between."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from bench.data.sources import fractals


def images(label: int, num: int, *, seed: int = 0, side: int = 16) -> np.ndarray:
    return fractals.images(
        seed=seed, class_index=label, instances_N=np.arange(num), image_size_px=side
    )


def test_an_image_does_not_depend_on_its_neighbours() -> None:
    together = images(3, 300)
    alone = fractals.images(
        seed=0, class_index=3, instances_N=np.array([299, 7, 0]), image_size_px=16
    )
    assert np.array_equal(alone, together[[299, 7, 0]])


def test_the_pixels_are_pinned() -> None:
    """Other pixels under the same arguments need a new FORMULA_VERSION in the catalog."""
    digest = hashlib.sha256()
    for label in range(8):
        digest.update(images(label, 32).tobytes())
    assert digest.hexdigest()[:16] == "a7b8563c7018f0d8"


@pytest.mark.parametrize("side", [12, 16, 32, 65])
def test_images_are_neither_empty_nor_full(side: int) -> None:
    for label in range(6):
        got = images(label, 40, side=side)
        assert got.shape == (40, side, side, 3)
        assert got.dtype == np.uint8
        lit = (got.max(axis=-1) > 12).mean(axis=(1, 2))
        assert lit.min() > 0.05
        assert lit.max() < (0.97 if side < 16 else 0.95)
        assert got.reshape(40, -1).std(axis=1).min() > 5


def test_seeds_classes_and_instances_give_other_images() -> None:
    base = images(0, 20)
    assert len(np.unique(base.reshape(20, -1), axis=0)) == 20
    assert not np.array_equal(base, images(1, 20))
    assert not np.array_equal(base, images(0, 20, seed=1))


def test_classes_fill_enough_of_the_image() -> None:
    low, high = fractals.FILL_RATE
    for label in range(40):
        system = fractals.class_system(seed=0, class_index=label)
        assert np.abs(system.scales_CM2).max() < 1  # every map contracts
        assert system.shares_CM.sum() == pytest.approx(1)
        rate = fractals._filling_rate(system, seed=0, class_index=label)
        assert low <= rate <= high


def test_classes_can_be_told_apart() -> None:
    """Nearest neighbour in blurred pixels: 32 classes, chance is 3 %, far better is asked."""
    num_classes, num = 32, 40
    grey = np.stack([images(label, num).max(axis=-1) for label in range(num_classes)])
    coarse = grey.reshape(num_classes, num, 8, 2, 8, 2).mean(axis=(3, 5))
    coarse = coarse.reshape(num_classes, num, -1)
    coarse /= np.linalg.norm(coarse, axis=-1, keepdims=True)
    known, asked = coarse[:, : num // 2].reshape(-1, 64), coarse[:, num // 2 :].reshape(-1, 64)
    nearest = (asked @ known.T).argmax(axis=1) // (num // 2)
    labels = np.repeat(np.arange(num_classes), num // 2)
    assert (nearest == labels).mean() > 0.35


def test_random_words_are_uniform_and_independent_of_order() -> None:
    draws = fractals._uniform(1000, 5, 1, 2, np.arange(100))
    assert draws.shape == (100, 1000)
    assert 0 <= draws.min() < draws.max() < 1
    assert draws.mean() == pytest.approx(0.5, abs=0.005)
    assert draws.var() == pytest.approx(1 / 12, abs=0.001)
    assert abs(np.corrcoef(draws[0], draws[1])[0, 1]) < 0.1
    assert np.array_equal(fractals._uniform(1000, 5, 1, 2, np.array([7]))[0], draws[7])
