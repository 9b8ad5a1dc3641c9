"""Cards and protocols: complete, light, and resolved from a suite's own blocks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bench.data import catalog, transforms
from bench.errors import DataError, UnknownName
from bench.specs import DatasetBlock, DatasetCard, Protocol


@pytest.mark.parametrize("card", catalog.datasets().values(), ids=lambda card: card.name)
def test_every_card_is_complete(card: DatasetCard) -> None:
    assert {"train", "test"} & set(card.splits)  # evaluation sets have no train split
    assert card.licence
    assert card.source
    assert card.how_to_get
    assert not card.class_names or len(card.class_names) == card.num_classes
    assert catalog.dataset(card.name) is card


@pytest.mark.parametrize("protocol", catalog.protocols().values(), ids=lambda item: item.name)
def test_every_protocol_names_presets_that_exist(protocol: Protocol) -> None:
    assert protocol.train_transform in transforms.PRESETS
    assert protocol.eval_transform in transforms.PRESETS
    assert protocol.source
    assert catalog.protocol(protocol.name) is protocol


def test_digests_of_packaged_sets_are_pinned() -> None:
    """A digest that changes makes every result on the set a new job: never by accident."""
    assert catalog.dataset("digits").digest == "39a398942e17cae8"
    assert (
        catalog.dataset("fractals").digest
        == catalog.formula_card(
            "other-name", num_classes=64, images_per_class=256, image_size_px=16
        ).digest
    )


def test_the_catalog_imports_nothing_heavy() -> None:
    code = (
        "import sys; from bench.data import catalog; catalog.datasets();"
        "print(sorted({'numpy', 'torch', 'PIL', 'sklearn', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_unknown_names_are_told_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r'unknown data set "digit".*Did you mean "digits"'):
        catalog.dataset("digit")
    with pytest.raises(UnknownName, match="fewshot-micro"):
        catalog.protocol("fewshots-micro")
    with pytest.raises(UnknownName, match=r"dataset.mine.reader.*image_folder"):
        catalog.resolve("mine", DatasetBlock(reader="imagefolder"), base_dir=Path())


def test_a_formula_block_becomes_a_card() -> None:
    block = DatasetBlock(
        reader="formula", num_classes=5, images_per_class=7, image_size_px=16, seed=3
    )
    card = catalog.resolve("mine", block, base_dir=Path())
    assert card.splits["train"].num_examples == 35
    assert card.num_classes == 5
    other = catalog.resolve("mine", block.model_copy(update={"seed": 4}), base_dir=Path())
    assert other.digest != card.digest


@pytest.mark.parametrize("missing", ["num_classes", "images_per_class", "image_size_px"])
def test_a_formula_block_needs_its_sizes(missing: str) -> None:
    sizes = {"num_classes": 5, "images_per_class": 7, "image_size_px": 16, missing: None}
    with pytest.raises(DataError, match=rf"dataset\.mine: .*needs {missing}"):
        catalog.resolve("mine", DatasetBlock(reader="formula", **sizes), base_dir=Path())


def test_a_folder_block_needs_a_path() -> None:
    with pytest.raises(DataError, match=r"dataset\.mine: .*needs path"):
        catalog.resolve("mine", DatasetBlock(reader="image_folder"), base_dir=Path())


def test_leaving_out_damage_is_refused_where_it_has_no_effect(tmp_path: Path) -> None:
    block = DatasetBlock(reader="cifar", path=str(tmp_path), skip_damaged=True)
    with pytest.raises(DataError, match="skip_damaged has no effect on the cifar reader"):
        catalog.resolve("mine", block, base_dir=tmp_path)
