"""Subsets and held-out parts: nested, balanced, disjoint, functions of labels and seed."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.data.packs.drawn import Drawn
from bench.data.packs.read import Split
from bench.data.splits import drawn_rows, held_out_indices, pool_rows, subset_indices
from bench.errors import DataError

BALANCED = np.repeat(np.arange(64), 256)
LABELS = st.lists(st.integers(0, 6), min_size=2, max_size=80).map(np.array)


def test_subsets_are_nested_and_class_balanced() -> None:
    sizes = (1024, 1030, 4096, 16384)
    subsets = [subset_indices(BALANCED, size, seed=0) for size in sizes]
    for size, subset in zip(sizes, subsets, strict=True):
        assert len(np.unique(subset)) == size
        counts = np.bincount(BALANCED[subset], minlength=64)
        assert counts.max() - counts.min() <= 1
    for smaller, larger in itertools.pairwise(subsets):
        assert set(smaller) < set(larger)
    assert set(subsets[0]) != set(subset_indices(BALANCED, 1024, seed=1))


@settings(max_examples=60, deadline=None)
@given(labels=LABELS, data=st.data(), seed=st.integers(0, 5))
def test_subsets_of_any_labels(labels: np.ndarray, data: st.DataObject, seed: int) -> None:
    size = data.draw(st.integers(1, len(labels)))
    subset = subset_indices(labels, size, seed=seed)
    assert len(set(subset)) == size
    assert set(subset) <= set(subset_indices(labels, len(labels), seed=seed))
    taken, there = np.bincount(labels[subset], minlength=7), np.bincount(labels, minlength=7)
    # Balanced: a class that gave fewer than another by more than one gave all it had.
    assert ((taken.max() - taken <= 1) | (taken == there)).all()


@pytest.mark.parametrize("size", [0, -1, 17])
def test_a_subset_larger_than_the_set(size: int) -> None:
    with pytest.raises(DataError, match=r"images requested from 16\. Ask for 1 to 16"):
        subset_indices(np.arange(16), size, seed=0)


@settings(max_examples=60, deadline=None)
@given(labels=LABELS, share=st.floats(0.01, 0.99), seed=st.integers(0, 5))
def test_held_out_parts_of_any_labels(labels: np.ndarray, share: float, seed: int) -> None:
    train, held = held_out_indices(labels, share, seed=seed)
    assert sorted([*train, *held]) == list(range(len(labels)))
    assert len(held) == min(len(labels) - 1, max(1, round(share * len(labels))))
    for label, there in enumerate(np.bincount(labels)):
        # In class proportions, to within what rounding costs over all classes.
        assert abs((labels[held] == label).sum() - share * there) < 2


def test_held_out_parts_follow_the_seed() -> None:
    first = held_out_indices(BALANCED, 0.1, seed=0)[1]
    assert np.array_equal(first, held_out_indices(BALANCED, 0.1, seed=0)[1])
    assert not np.array_equal(first, held_out_indices(BALANCED, 0.1, seed=1)[1])
    assert set(np.bincount(BALANCED[first])) == {25, 26}


def test_one_image_cannot_be_held_out() -> None:
    with pytest.raises(DataError, match="at least two images"):
        held_out_indices(np.zeros(1, dtype=int), 0.5, seed=0)


# --- the pool of few-shot -----------------------------------------------------------------------


def test_the_pool_is_the_first_images_of_an_order_that_mixes_classes() -> None:
    labels_N = np.random.default_rng(0).permutation(np.repeat(np.arange(50), 20))
    np.testing.assert_array_equal(pool_rows(labels_N, 130), np.arange(130))


def test_the_pool_of_images_stored_class_by_class_is_drawn_with_seed_0() -> None:
    """The first 130 would be of 7 classes."""
    labels_N = np.repeat(np.arange(50), 20)
    rows = pool_rows(labels_N, 130)
    drawn = np.random.default_rng(0).permutation(1000)[:130]
    np.testing.assert_array_equal(rows, np.sort(drawn))
    assert len(np.unique(labels_N[rows])) > 40


def test_a_pool_larger_than_the_set_is_the_set() -> None:
    np.testing.assert_array_equal(pool_rows(np.array([0, 0, 1]), 5), np.arange(3))


# --- drawn rows -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "labels",
    [np.repeat(np.arange(10), 50), np.arange(500) % 10],
    ids=["class by class", "round and round"],
)
def test_drawn_images_are_of_all_classes_however_they_lie(labels: np.ndarray) -> None:
    for num in (10, 50, 64):
        rows = drawn_rows(labels, num)
        assert len(np.unique(rows)) == num
        assert (np.diff(rows) > 0).all()
        counts = np.bincount(labels[rows], minlength=10)
        assert counts.max() - counts.min() <= 1
    assert set(drawn_rows(labels, 10)) < set(drawn_rows(labels, 64))
    assert len(set(drawn_rows(labels, 50) % 50)) > 5  # not the same place in every class


def test_a_small_split_is_whole() -> None:
    for num in (30, 31, 1000):
        np.testing.assert_array_equal(drawn_rows(np.arange(30) % 3, num), np.arange(30))


def test_where_scoring_needs_more_than_labels_none_of_it_is_missed() -> None:
    """Of a set that lies by corruption, severity and class, each of 75 cells is drawn."""
    corruption, severity, labels = (
        part.ravel() for part in np.meshgrid(range(15), range(1, 6), range(40), indexing="ij")
    )
    details = np.stack([corruption, severity], axis=1)
    rows = drawn_rows(labels, 80, details_NF=details)
    cells = {tuple(cell) for cell in details[rows].tolist()}
    assert len(rows) == 80
    assert len(cells) == 75


def test_a_list_of_labels_is_no_cell_of_its_own() -> None:
    """Of ten classes, half of whose images have further labels that no other image has."""
    labels_N = np.repeat(np.arange(10), 20)
    details_NF = np.stack([labels_N, np.where(np.arange(200) % 2, np.arange(200), -1)], axis=1)
    images = np.zeros((200, 2, 2, 3), dtype=np.uint8)

    class Whole:
        def split(self, name: str) -> Split:
            return Split(images, labels_N, details_NF)

    few = Drawn(Whole(), {"test"}, 20).split("test")
    np.testing.assert_array_equal(np.bincount(few.labels_N), [2] * 10)
    cells = Drawn(Whole(), {"test"}, 110, by_details=True).split("test")
    assert cells.details_NF is not None
    assert len(np.unique(cells.details_NF, axis=0)) == 110
