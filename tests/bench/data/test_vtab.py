"""VTAB: 19 cards with the right sizes and classes, the small splits, and label rules."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bench import facts
from bench.data import catalog
from bench.data.cards import vtab
from bench.data.packs import build
from bench.data.readers import READERS
from bench.data.sources import vtab_labels
from bench.data.splits import VTAB_SPLITS, vtab_rows
from bench.errors import DataError
from bench.specs import DatasetCard

EXPECTED = {
    "caltech101": (102, 2754, 306, 6084),
    "cifar100": (100, 45_000, 5000, 10_000),
    "dtd": (47, 1880, 1880, 1880),
    "flowers102": (102, 1020, 1020, 6149),
    "pets": (37, 2944, 736, 3669),
    "svhn": (10, 65_931, 7326, 26_032),
    "sun397": (397, 76_128, 10_875, 21_750),
    "camelyon": (2, 262_144, 32_768, 32_768),
    "eurosat": (10, 16_200, 5400, 5400),
    "resisc45": (45, 18_900, 6300, 6300),
    "retinopathy": (5, 35_126, 10_906, 42_670),
    "clevr-count": (8, 63_000, 7000, 15_000),
    "clevr-dist": (6, 63_000, 7000, 15_000),
    "dmlab": (6, 65_550, 22_628, 22_735),
    "kitti-dist": (4, 6347, 423, 711),
    "dsprites-loc": (16, 589_824, 73_728, 73_728),
    "dsprites-ori": (16, 589_824, 73_728, 73_728),
    "smallnorb-azim": (18, 24_300, 12_150, 12_150),
    "smallnorb-elev": (9, 24_300, 12_150, 12_150),
}
"""Classes, train, val and test, as task_adaptation's scripts and tests have them."""


def card_of(name: str, **fields: object) -> DatasetCard:
    block = fields
    return catalog.resolve(name, block, base_dir=Path("/nowhere"))


# --- cards and splits -----------------------------------------------------------------------


def test_the_cards_are_the_benchmarks_tasks() -> None:
    tasks = {name.removeprefix("vtab-"): task for name, task in vtab.TASKS.items()}
    found = {name: (t.num_classes, t.train, t.val, t.test) for name, t in tasks.items()}
    assert found == EXPECTED
    groups = list(vtab.GROUPS.values())
    assert [groups.count(name) for name in dict.fromkeys(groups)] == [7, 4, 8]
    for name, task in vtab.TASKS.items():
        card = catalog.dataset(name)
        assert card.group == task.group
        assert task.builder in card.how_to_get


def test_exports_name_the_benchmarks_own_splits() -> None:
    """val starts at 90 % of train, 80 or 60 % for some; smallNORB's and CLEVR's lie elsewhere."""
    exports = {name.removeprefix("vtab-"): task.export() for name, task in vtab.TASKS.items()}
    assert all(export["train800"] == "train[:800]" for export in exports.values())
    assert exports["pets"]["val200"] == f"train[{3680 * 80 // 100}:3144]"
    assert exports["eurosat"] == {
        "train800": "train[:800]",
        "val200": f"train[{27_000 * 60 // 100}:16400]",
        "test": f"train[{27_000 * 80 // 100}:]",
    }
    assert exports["dsprites-loc"]["test"] == f"train[{737_280 * 90 // 100}:]"
    assert exports["smallnorb-azim"]["val200"] == "test[0:200]"
    assert exports["smallnorb-azim"]["test"] == f"test[{24_300 // 2}:]"
    assert exports["clevr-dist"]["test"] == "validation"
    assert exports["dtd"]["val200"] == "validation[0:200]"


def test_builders_of_one_version_are_the_benchmarks() -> None:
    """task_adaptation asks for these by their exact version: data/dmlab.py, data/kitti.py."""
    builders = (task.builder.partition(":")[::2] for task in vtab.TASKS.values())
    exact = {name: version for name, version in builders if "*" not in version}
    assert exact == {"dmlab": "2.0.1", "kitti": "3.1.0"}


def test_exports_and_owners_files_have_readers() -> None:
    """The label rules of exports go by the names of the readers of the owners' files."""
    assert {card.reader for card in vtab.CARDS} <= set(READERS)
    rules = {task.own_reader for task in vtab.TASKS.values()} - {""}
    assert rules == set(vtab_labels.EXPORTED) == set(facts.VTAB_OWN_READERS)
    assert rules <= set(READERS)


@pytest.mark.parametrize("name", EXPECTED)
def test_every_task_gives_its_splits(name: str, tmp_path: Path) -> None:
    """Tiny images, as many as the task has, under the task's own name."""
    num_classes, _, _, num_test = EXPECTED[name]
    rng = np.random.default_rng(0)
    labels = {
        split: np.concatenate((np.arange(num_classes), rng.integers(0, num_classes, num)))[:num]
        for split, num in (("train", 1000), ("test", num_test))
    }
    for one in labels.values():
        rng.shuffle(one)
    images = {split: rng.integers(0, 256, (len(one), 1, 1)) for split, one in labels.items()}
    np.savez(
        tmp_path / "set.npz",
        **{f"{split}_labels": one for split, one in labels.items()},
        **{f"{split}_images": one.astype(np.uint8) for split, one in images.items()},
    )
    card = card_of(f"vtab-{name}", reader="arrays", path=str(tmp_path / "set.npz"))
    assert (card.num_classes, card.group) == (num_classes, vtab.GROUPS[f"vtab-{name}"])
    packed = build.packed(card, cache_dir=tmp_path / "cache")
    splits = {split: packed.split(split) for split in (*VTAB_SPLITS, "test")}
    sizes = {split: len(part.labels_N) for split, part in splits.items()}
    assert sizes == {"train800": 800, "val200": 200, "train800val200": 1000, "test": num_test}
    assert all(len(part.images_NHWC) == sizes[split] for split, part in splits.items())
    assert np.array_equal(splits["train800"].labels_N, labels["train"][:800])
    assert np.array_equal(splits["val200"].labels_N, labels["train"][800:])
    assert np.array_equal(
        splits["train800val200"].images_NHWC[:, 0, 0, 0], images["train"][:, 0, 0]
    )
    assert set(splits["train800val200"].labels_N) == set(range(num_classes))


def test_a_set_with_a_val_split_uses_it() -> None:
    train, val = np.tile([1, 0], 600), np.tile([0, 1], 150)
    assert vtab_rows("train800", train, val)[0][1].tolist() == list(range(800))
    (split, rows), = vtab_rows("val200", train, val)  # fmt: skip
    assert (split, rows.tolist()) == ("val", list(range(200)))
    both = vtab_rows("train800val200", train, val)
    assert [(part, len(rows)) for part, rows in both] == [("train", 800), ("val", 200)]


@pytest.mark.parametrize(
    ("num", "start"), [(10_000, 9000), (2000, 1800), (1297, 1097), (1000, 800)]
)
def test_val_starts_at_nine_tenths_or_leaves_200(num: int, start: int) -> None:
    labels = np.tile([1, 0], num)[:num]
    (split, rows), = vtab_rows("val200", labels)  # fmt: skip
    assert (split, rows.tolist()) == ("train", list(range(start, start + 200)))


def test_images_stored_class_by_class_are_drawn() -> None:
    """The first 800 would be of few classes; the draw is fixed, and the parts are disjoint."""
    labels = np.repeat(np.arange(10), 200)
    ((_, train),) = vtab_rows("train800", labels)
    ((_, val),) = vtab_rows("val200", labels)
    assert set(labels[train]) == set(labels[val]) == set(range(10))
    assert not set(train) & set(val)
    assert np.array_equal(train, vtab_rows("train800", labels)[0][1])
    both = vtab_rows("train800val200", labels)
    assert np.array_equal(np.concatenate([rows for _, rows in both]), [*train, *val])


def test_too_few_images() -> None:
    with pytest.raises(DataError, match=r"train800: 799 images to train on and 200 to choose on"):
        vtab_rows("train800", np.tile([1, 0], 500)[:999])
    with pytest.raises(DataError, match=r"900 images to train on and 199 to choose on"):
        vtab_rows("val200", np.tile([1, 0], 450), np.tile([1, 0], 100)[:199])


def test_digits_have_the_small_splits(tmp_path: Path) -> None:
    packed = build.packed(catalog.dataset("digits"), cache_dir=tmp_path)
    whole = packed.split("train")
    for name, rows in (("train800", range(800)), ("val200", range(1097, 1297))):
        part = packed.split(name)
        assert np.array_equal(part.labels_N, whole.labels_N[list(rows)])
        assert np.array_equal(part.images_NHWC, whole.images_NHWC[list(rows)])
        assert set(part.labels_N) == set(range(10))
    with pytest.raises(DataError, match='no split "train900"'):
        packed.split("train900")


# --- label rules ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "values", "labels"),
    [
        (vtab_labels.clevr_count, [3, 4, 10], [0, 1, 7]),
        (
            vtab_labels.clevr_closest,
            [0.1, 8.0, 8.001, 8.5, 8.6, 9.2, 9.9, 10.0, 10.1, 14.0],
            [0, 0, 1, 1, 2, 3, 4, 4, 5, 5],
        ),
        (
            vtab_labels.kitti_closest,
            [-3.0, 8.0, 8.1, 20.0, 20.1, 90.0, 1000.0],
            [0, 0, 1, 1, 2, 2, 3],
        ),
        (vtab_labels.dsprites_x_position, [0, 1, 2, 30, 31], [0, 0, 1, 15, 15]),
        (
            vtab_labels.dsprites_orientation,
            [0, 2, 3, 4, 5, 37, 38, 39],
            [0, 0, 1, 1, 2, 14, 15, 15],
        ),
        (vtab_labels.smallnorb_azimuth, [0, 17], [0, 17]),
        (vtab_labels.smallnorb_elevation, [0, 8], [0, 8]),
    ],
)  # fmt: skip
def test_label_rules(
    rule: Callable[[list[float]], np.ndarray], values: list[float], labels: list[int]
) -> None:
    assert rule(values).tolist() == labels
    assert rule(values).dtype == np.int64


def test_bins_of_dsprites_hold_what_they_should() -> None:
    positions = np.bincount(vtab_labels.dsprites_x_position(np.arange(32)))
    assert positions.tolist() == [2] * 16
    orientations = np.bincount(vtab_labels.dsprites_orientation(np.arange(40)))
    assert orientations.tolist() == [3, 2] * 8
