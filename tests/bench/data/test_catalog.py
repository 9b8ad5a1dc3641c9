"""Cards and protocols: complete, light, and resolved from a suite's own blocks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated

import pytest
from pydantic import BaseModel, BeforeValidator, SerializeAsAny, ValidationError

from bench.data import catalog, transforms
from bench.data.cards.generated import formula_card
from bench.data.readers import READERS, block
from bench.data.readers.base import DatasetOptions
from bench.errors import DataError, UnknownName
from bench.specs import DatasetCard, Protocol


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
        == formula_card("other-name", num_classes=64, images_per_class=256, image_size_px=16).digest
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
        catalog.resolve("mine", {"reader": "imagefolder"}, base_dir=Path())


def test_a_formula_block_becomes_a_card() -> None:
    sizes = {
        "reader": "formula",
        "num_classes": 5,
        "images_per_class": 7,
        "image_size_px": 16,
        "seed": 3,
    }
    card = catalog.resolve("mine", sizes, base_dir=Path())
    assert card.splits["train"].num_examples == 35
    assert card.num_classes == 5
    other = catalog.resolve("mine", {**sizes, "seed": 4}, base_dir=Path())
    assert other.digest != card.digest


@pytest.mark.parametrize("missing", ["num_classes", "images_per_class", "image_size_px"])
def test_a_formula_block_needs_its_sizes(missing: str) -> None:
    sizes = {"reader": "formula", "num_classes": 5, "images_per_class": 7, "image_size_px": 16}
    del sizes[missing]
    with pytest.raises(DataError, match=rf"dataset\.mine\.{missing}: missing"):
        catalog.resolve("mine", sizes, base_dir=Path())


def test_a_folder_block_needs_a_path() -> None:
    with pytest.raises(DataError, match=r"dataset\.mine\.path: missing"):
        catalog.resolve("mine", {"reader": "image_folder"}, base_dir=Path())


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"reader": "cifar", "skip_damaged": True},
         r"skip_damaged: the cifar reader has no such key\. Known keys: image_size_px, "),
        ({"reader": "cifar", "test_share": 0.3}, r"test_share: the cifar reader has no such key\."),
        ({"reader": "image_folder", "stream": True}, r"stream: the image_folder reader "),
        ({"reader": "image_folder", "test_shar": 0.3}, r"test_shar: .*Did you mean \"test_share\""),
        ({"reader": "formula"}, r"path: the formula reader has no such key\. Known keys: image_s"),
    ],
)  # fmt: skip
def test_a_key_of_another_reader_is_refused(keys: dict[str, object], told: str) -> None:
    with pytest.raises(DataError, match=rf"^dataset\.mine\.{told}"):
        catalog.resolve("mine", {"path": "x", **keys}, base_dir=Path())


class Suite(BaseModel):
    """A record with blocks, as a suite is."""

    dataset: dict[str, Annotated[SerializeAsAny[DatasetOptions], BeforeValidator(block)]] = {}


def suite_error(found: object) -> tuple[str, str]:
    """Return place and message of the first error."""
    with pytest.raises(ValidationError) as caught:
        Suite.model_validate({"dataset": {"mine": found}})
    first = caught.value.errors()[0]
    return ".".join(map(str, first["loc"])), first["msg"]


def test_blocks_validate_inside_another_record() -> None:
    suite = Suite.model_validate({"dataset": {"mine": {"reader": "csv", "path": "a", "seed": 1}}})
    assert type(suite.dataset["mine"]) is READERS["csv"].options
    dumped = suite.model_dump()
    assert dumped["dataset"]["mine"]["test_share"] == 0.2
    assert (
        Suite.model_validate(dumped) == suite == Suite.model_validate_json(suite.model_dump_json())
    )


@pytest.mark.parametrize(
    ("found", "place", "told"),
    [
        ({"reader": "imagefolder", "path": "a"}, "reader",
         'unknown reader "imagefolder". Did you mean "image_folder"?'),
        ({"reader": "digits"}, "reader", 'unknown reader "digits". Known readers: '),
        ({"path": "a"}, "reader", "Field required"),
        ({"reader": 7}, "reader", "Input should be a valid string"),
        ({"reader": "csv"}, "path", "Field required"),
        ({"reader": "csv", "path": "a", "seed": -1}, "seed", "Input should be greater than"),
        ({"reader": "svhn", "path": "a", "seed": 1}, "seed", "the svhn reader has no such key. "),
    ],
)  # fmt: skip
def test_a_wrong_block_is_an_error_at_its_key(found: object, place: str, told: str) -> None:
    where, message = suite_error(found)
    assert where == f"dataset.mine.{place}"
    assert message.startswith(told)


def test_a_block_that_is_no_table() -> None:
    assert suite_error("csv")[0] == "dataset.mine"


def test_cards_of_other_distributions_join_the_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    """One good card, one whose name is taken, and one that is no card; the rest stands."""
    from bench import plugins

    card = catalog.published("cifar10")
    offered = {
        "good": card.model_copy(update={"name": "theirs"}),
        "taken": card,
        "wrong": "no card",
    }
    points = tuple(Point(name, found) for name, found in offered.items())
    monkeypatch.setattr(plugins, "entry_points", lambda: {"vitbench.datasets": points})
    monkeypatch.delitem(vars(catalog.CARDS), "_found", raising=False)
    assert catalog.datasets()["theirs"] == offered["good"]
    assert catalog.CARDS.origin("theirs") == "their-data"
    assert set(catalog.CARDS.broken) == {"taken", "wrong"}
    assert catalog.dataset("cifar10") is card
    with pytest.raises(
        UnknownName, match=r'unknown data set "wrong" \(their-data: .*no DatasetCard'
    ):
        catalog.dataset("wrong")
    monkeypatch.undo()
    vars(catalog.CARDS).pop("_found", None)


class Point:
    """Stands in for an entry point of another distribution."""

    def __init__(self, name: str, found: object) -> None:
        self.name, self._found = name, found
        self.dist = SimpleNamespace(name="their-data")

    def load(self) -> object:
        return self._found
