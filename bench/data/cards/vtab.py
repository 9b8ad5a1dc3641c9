"""The 19 tasks of VTAB: cards, groups, and where each one's 1,000 images come from.

VTAB-1k trains on the first 800 of train and the first 200 of val, in the file order of TensorFlow
Datasets, and tests on the whole test split (Zhai et al., arXiv:1910.04867). A card's train split is
these 1,000 in that order; `train800` and `val200` are its parts (`splits.vtab_rows`). Classes,
counts and exceptions as google-research/task_adaptation, task_adaptation/data, has them.
"""

from __future__ import annotations

from typing import NamedTuple

from bench.facts import (
    NATURAL,
    SPECIALIZED,
    STRUCTURED,
    VTAB_EXAMPLES,
    VTAB_TRAIN,
    VTAB_VAL,
)
from bench.specs import DatasetCard, SplitCard

DRAWN = "drawn with seed 0, not the first of TensorFlow Datasets"
"""What a selector says of images in their owner's layout."""


class Task(NamedTuple):
    """One task: counts of its full splits, and where its val and test splits lie."""

    name: str
    title: str
    dataset: str
    """Name and arguments in task_adaptation."""
    builder: str
    """Name and version in TensorFlow Datasets."""
    group: str
    num_classes: int
    train: int
    val: int
    test: int
    val_in: str = "train"
    """Split of the builder that val is cut from: `train` after its own images, or one that is
    there (`validation`), or `test`."""
    test_in: str = "test"
    """Split expression of the test set."""
    own_reader: str = ""
    """Reader of the owner's layout and name of the label rule, where the label is a rule's."""
    note: str = ""

    def export(self) -> dict[str, str]:
        """Return the split expressions of TensorFlow Datasets that give the benchmark's splits."""
        start = self.train if self.val_in == "train" else 0
        return {
            "train800": f"train[:{VTAB_TRAIN}]",
            "val200": f"{self.val_in}[{start}:{start + VTAB_VAL}]",
            "test": self.test_in,
        }


_FIRST_60 = "train is the first 60 % of the one split there is, val and test are fifths"
_GENERATED = "80, 10 and 10 % of the one split there is"

_TASKS = (
    Task("caltech101", "Caltech101", "caltech101", "caltech101:3.*.*",
         NATURAL, 102, 2754, 306, 6084,
         note="train is class-balanced, test is not"),
    Task("cifar100", "CIFAR-100", "cifar(num_classes=100)", "cifar100:3.*.*",
         NATURAL, 100, 45_000, 5000, 10_000),
    Task("dtd", "DTD", "dtd", "dtd:3.*.*", NATURAL, 47, 1880, 1880, 1880, "validation"),
    Task("flowers102", "Flowers102", "oxford_flowers102", "oxford_flowers102:2.*.*",
         NATURAL, 102, 1020, 1020, 6149, "validation"),
    Task("pets", "Pets", "oxford_iiit_pet", "oxford_iiit_pet:3.*.*", NATURAL, 37, 2944, 736, 3669,
         note="val starts at 80 % of train"),
    Task("svhn", "SVHN", "svhn", "svhn_cropped:3.*.*", NATURAL, 10, 65_931, 7326, 26_032),
    Task("sun397", "Sun397", "sun397", "sun397/tfds:4.*.*", NATURAL, 397, 76_128, 10_875, 21_750,
         "validation"),
    Task("camelyon", "Camelyon", "patch_camelyon", "patch_camelyon:2.*.*",
         SPECIALIZED, 2, 262_144, 32_768, 32_768, "validation"),
    Task("eurosat", "EuroSAT", "eurosat", "eurosat/rgb:2.*.*", SPECIALIZED, 10, 16_200, 5400, 5400,
         test_in="train[21600:]", note=_FIRST_60),
    Task("resisc45", "Resisc45", "resisc45", "resisc45:3.*.*", SPECIALIZED, 45, 18_900, 6300, 6300,
         test_in="train[25200:]", note=_FIRST_60),
    Task("retinopathy", "Retinopathy", 'diabetic_retinopathy(config="btgraham-300")',
         "diabetic_retinopathy_detection/btgraham-300:3.*.*",
         SPECIALIZED, 5, 35_126, 10_906, 42_670, "validation",
         note="resized to an eyeball radius of 300 px (recalled), on grey"),
    Task("clevr-count", "Clevr-Count", 'clevr(task="count_all")', "clevr:3.*.*",
         STRUCTURED, 8, 63_000, 7000, 15_000, test_in="validation", own_reader="clevr-count",
         note="3 to 10 objects; test is the owner's val, whose scenes are public"),
    Task("clevr-dist", "Clevr-Dist", 'clevr(task="closest_object_distance")', "clevr:3.*.*",
         STRUCTURED, 6, 63_000, 7000, 15_000, test_in="validation", own_reader="clevr-dist",
         note="smallest depth, at 8, 8.5, 9, 9.5 and 10; test is the owner's val"),
    Task("dmlab", "DMLab", "dmlab", "dmlab:2.0.1",
         STRUCTURED, 6, 65_550, 22_628, 22_735, "validation",
         note="{close, far, very far} x {positive, negative reward}"),
    Task("kitti-dist", "KITTI-Dist", 'kitti(task="closest_vehicle_distance")', "kitti:3.1.0",
         STRUCTURED, 4, 6347, 423, 711, "validation", own_reader="kitti-dist",
         note="car, van or truck within 8 m, 20 m, farther, none; split by drive"),
    Task("dsprites-loc", "dSpr-Loc", 'dsprites(predicted_attribute="label_x_position")',
         "dsprites:2.*.*", STRUCTURED, 16, 589_824, 73_728, 73_728,
         test_in="train[663552:]", own_reader="dsprites-loc",
         note=f"32 positions in 16 classes; {_GENERATED}"),
    Task("dsprites-ori", "dSpr-Ori", 'dsprites(predicted_attribute="label_orientation")',
         "dsprites:2.*.*", STRUCTURED, 16, 589_824, 73_728, 73_728,
         test_in="train[663552:]", own_reader="dsprites-ori",
         note=f"40 orientations in 16 classes; {_GENERATED}"),
    Task("smallnorb-azim", "sNORB-Azim", 'smallnorb(predicted_attribute="label_azimuth")',
         "smallnorb:2.*.*", STRUCTURED, 18, 24_300, 12_150, 12_150, "test", "test[12150:]",
         "smallnorb-azim", "left image; val is the first half of the owner's test, test the other"),
    Task("smallnorb-elev", "sNORB-Elev", 'smallnorb(predicted_attribute="label_elevation")',
         "smallnorb:2.*.*", STRUCTURED, 9, 24_300, 12_150, 12_150, "test", "test[12150:]",
         "smallnorb-elev", "left image; val is the first half of the owner's test, test the other"),
)  # fmt: skip

TASKS = {f"vtab-{task.name}": task for task in _TASKS}
"""Tasks by card name, in the order of the benchmark's groups."""

GROUPS = {name: task.group for name, task in TASKS.items()}
"""Group of each task. The paper averages over the 19 tasks; `stats.group_means` gives both."""


def _card(name: str, task: Task) -> DatasetCard:
    return DatasetCard(
        name=name,
        title=f"VTAB-1k {task.title}",
        reader="tfds-export",
        num_classes=task.num_classes,
        splits={
            "train": SplitCard(
                num_examples=VTAB_EXAMPLES,
                selector=f"train[:{VTAB_TRAIN}] of {task.train:,} (train800), then "
                f"val[:{VTAB_VAL}] of {task.val:,} (val200)",
            ),
            "test": SplitCard(
                num_examples=task.test,
                selector="the whole test split" + (f"; {task.note}" if task.note else ""),
            ),
        },
        group=task.group,
        source="Zhai et al., arXiv:1910.04867; google-research/task_adaptation, "
        f"data set {task.dataset}, {task.group} group",
        licence="that of the task's own data set",
        how_to_get=_how_to_get(name, task),
    )


def _how_to_get(name: str, task: Task) -> str:
    """Return the export that has the benchmark's own images, and the reader that comes close."""
    splits = " ".join(f"--split {split}={where}" for split, where in task.export().items())
    label = f" --label {task.own_reader}" if task.own_reader else ""
    own = f'; reader "{task.own_reader}" takes others of the owner\'s files' if label else ""
    return (
        f"Export the exact images: python export_tfds.py '{task.builder}' {name} "
        f"{splits}{label}{own}"
    )


CARDS = tuple(_card(name, task) for name, task in TASKS.items())
"""The tasks, not located."""
