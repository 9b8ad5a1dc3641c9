"""Generated micro tasks: fixed, balanced enough, learnable, and asking for what they say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.data import catalog
from bench.data.cards import generated, vtab
from bench.data.packs import build
from bench.data.sources import sprites

TASKS = tuple(generated.SPRITES)


@pytest.mark.parametrize("name", TASKS)
def test_cards_pack_to_their_counts(name: str, tmp_path: Path) -> None:
    card = catalog.dataset(name)
    packed = build.packed(card, cache_dir=tmp_path)
    sizes = {split: len(packed.split(split).labels_N) for split in card.splits}
    assert sizes == {"train": 1200, "val": 400, "test": 400}
    assert packed.split("test").images_NHWC.shape == (400, 16, 16, 3)
    for split in ("train800", "val200", "train800val200", "test"):
        assert set(packed.split(split).labels_N) == set(range(card.num_classes))
    assert np.array_equal(packed.split("val200").labels_N, packed.split("val").labels_N[:200])


def test_the_groups_of_the_benchmark_all_have_a_micro_task() -> None:
    groups = {card.group for card in generated.CARDS if card.group}
    assert groups == {vtab.NATURAL, vtab.SPECIALIZED, vtab.STRUCTURED}


@pytest.mark.parametrize("name", TASKS)
def test_images_are_fixed_and_splits_differ(name: str) -> None:
    images, labels = sprites.generate(name, "val", seed=0)
    again, _ = sprites.generate(name, "val", seed=0)
    assert np.array_equal(images, again)
    assert not np.array_equal(images, sprites.generate(name, "test", seed=0)[0])
    assert not np.array_equal(images, sprites.generate(name, "val", seed=1)[0])
    counts = np.bincount(labels)
    assert counts.min() > 0.6 * len(labels) / len(counts)


def moments(images_NHWC: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the brightness's centre (x, in pixels) and main axis (in [0, pi))."""
    value = images_NHWC.sum(axis=-1).astype(float)
    value /= value.sum(axis=(1, 2), keepdims=True)
    centre = np.arange(images_NHWC.shape[1]) + 0.5
    x, y = (value * centre[None, None, :]).sum((1, 2)), (value * centre[None, :, None]).sum((1, 2))
    dx, dy = centre[None, None, :] - x[:, None, None], centre[None, :, None] - y[:, None, None]
    xx, yy, xy = ((value * term).sum((1, 2)) for term in (dx * dx, dy * dy, dx * dy))
    return x, np.arctan2(2 * xy, xx - yy) / 2 % np.pi


def test_location_is_where_the_shape_is() -> None:
    """Inside the image; at its edge a part of the shape is cut off."""
    images, labels = sprites.generate("sprites-location", "test", seed=0)
    inside = (labels > 1) & (labels < 6)
    x, _ = moments(images[inside])
    assert np.abs(x - (labels[inside] + 0.5) * 2).max() < 1.3
    assert (x // 2 == labels[inside]).mean() > 0.95


def test_orientation_is_the_main_axis() -> None:
    images, labels = sprites.generate("sprites-orientation", "test", seed=0)
    _, axis = moments(images)
    miss = (axis - labels * np.pi / 6 + np.pi / 2) % np.pi - np.pi / 2
    assert np.abs(miss).max() < np.pi / 12


def test_gratings_have_their_energy_across_the_stripes() -> None:
    images, labels = sprites.generate("gratings", "test", seed=0)
    grey = images.sum(axis=-1).astype(float)
    grey -= grey.mean(axis=(1, 2), keepdims=True)
    power = np.abs(np.fft.fft2(grey, s=(64, 64))) ** 2
    peak = power.reshape(len(power), -1).argmax(axis=1)
    frequency = np.fft.fftfreq(64)
    angle = np.arctan2(frequency[peak // 64], frequency[peak % 64]) % np.pi
    miss = (angle - labels * np.pi / 6 + np.pi / 2) % np.pi - np.pi / 2
    assert (np.abs(miss) < np.pi / 12).mean() > 0.97
