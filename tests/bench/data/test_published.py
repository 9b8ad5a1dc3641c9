"""Cards of published sets: against the reference table, complete, and refusing clearly."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.data import catalog
from bench.data.packs import build
from bench.errors import DataError


@pytest.mark.parametrize(
    ("name", "num_classes", "train", "test"),
    [
        ("imagenet-1k", 1000, 1_281_167, 50_000),
        ("cifar10", 10, 50_000, 10_000),
        ("cifar100", 100, 50_000, 10_000),
        ("oxford-pets", 37, 3680, 3669),
        ("oxford-flowers102", 102, 2040, 6149),
        ("mnist", 10, 60_000, 10_000),
    ],
)
def test_downstream_sets_have_their_published_counts(
    name: str, num_classes: int, train: int, test: int
) -> None:
    card = catalog.dataset(name)
    assert card.num_classes == num_classes
    assert card.splits["train"].num_examples == train
    assert card.splits["test"].num_examples == test


def test_real_labels_of_the_shared_file_have_the_cards_count(shared_data: Path) -> None:
    import json

    lists = json.loads((shared_data / "imagenet-meta" / "real.json").read_text())
    non_empty = sum(bool(labels) for labels in lists)
    assert non_empty == catalog.dataset("imagenet-1k-real").splits["test"].num_examples


@pytest.mark.parametrize(
    "card", [card for card in catalog.CARDS.values() if not card.digest], ids=lambda card: card.name
)
def test_a_set_that_is_not_located_is_refused_with_its_cure(tmp_path: Path, card: object) -> None:
    named = catalog.dataset(card.name)  # type: ignore[attr-defined]
    told = "JFT-300M is not public" if named.name == "jft-300m" else r"the data are not located\. "
    with pytest.raises(DataError, match=rf"{named.name}: {told}"):
        build.packed(named, cache_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_jft_is_refused_as_not_public(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"jft-300m: .*Not public"):
        build.packed(catalog.dataset("jft-300m"), cache_dir=tmp_path)
    block = {"reader": "image_folder", "path": str(tmp_path)}
    with pytest.raises(DataError, match="no images in class folders"):
        catalog.resolve("jft-300m", block, base_dir=tmp_path)
