"""What is known of the published data sets: the paper's upstream and downstream sets and VTAB.

Facts alone (splits, counts, classes, terms, how to get them); no images come with the harness. A
card has no digest until its files are located by a suite's `[dataset.NAME]` block. Where a number
was not looked up but recalled, the selector of the split, the source or the licence says so.

Sources: Dosovitskiy et al. (arXiv:2010.11929), section 4.1; Kolesnikov et al. (arXiv:1912.11370);
Zhai et al., VTAB (arXiv:1910.04867) and google-research/task_adaptation, whose scripts give the
splits of the 19 tasks.
"""

from __future__ import annotations

from typing import NamedTuple

from bench.specs import DatasetCard, SplitCard

RECALLED = "recalled, not looked up"


class _Set(NamedTuple):
    """One row of the table below."""

    name: str
    title: str
    reader: str
    num_classes: int
    train: int
    test: int
    test_selector: str
    licence: str
    source: str
    how_to_get: str


_IMAGENET_TERMS = "no licence granted; research use under the ImageNet terms of access"
_IMAGENET_VAL = "the 50,000 validation images, which papers report on"

_SETS = (
    _Set("imagenet-1k", "ImageNet", "image_folder", 1000, 1_281_167, 50_000, _IMAGENET_VAL,
         _IMAGENET_TERMS, "Russakovsky et al., arXiv:1409.0575",
         "Register at image-net.org, download ILSVRC2012, sort into class folders"),
    _Set("imagenet-1k-real", "ImageNet ReaL", "image_folder", 1000, 1_281_167, 46_837,
         "validation images with at least one ReaL label; a hit is any of them",
         f"labels Apache-2.0; images: {_IMAGENET_TERMS}",
         "Beyer et al., arXiv:2006.07159; google-research/reassessed-imagenet, real.json",
         "ImageNet's validation images and real.json"),
    _Set("imagenet-v2", "ImageNet-V2", "image_folder", 1000, 1_281_167, 10_000,
         f"matched-frequency; folders are class numbers, sorted as numbers ({RECALLED})",
         f"MIT ({RECALLED})", "Recht et al., arXiv:1902.10811",
         "ImageNet to train on; imagenetv2-matched-frequency.tar.gz from its owner to test on"),
    _Set("imagenet-a", "ImageNet-A", "image_folder", 1000, 1_281_167, 7500,
         f"200 of the classes: scores of the other 800 are left out ({RECALLED})",
         f"MIT ({RECALLED})", "Hendrycks et al., arXiv:1907.07174",
         "ImageNet to train on; imagenet-a.tar from its owner to test on"),
    _Set("imagenet-r", "ImageNet-R", "image_folder", 1000, 1_281_167, 30_000,
         f"200 of the classes: scores of the other 800 are left out ({RECALLED})",
         f"MIT ({RECALLED})", "Hendrycks et al., arXiv:2006.16241",
         "ImageNet to train on; imagenet-r.tar from its owner to test on"),
    _Set("imagenet-sketch", "ImageNet-Sketch", "image_folder", 1000, 1_281_167, 50_889,
         f"all sketches ({RECALLED})", f"MIT ({RECALLED})", "Wang et al., arXiv:1905.13549",
         "ImageNet to train on; the sketches from their owner to test on"),
    _Set("imagenet-21k", "ImageNet-21k", "shards", 21_843, 14_197_122, 0, "",
         _IMAGENET_TERMS, f"Deng et al., CVPR 2009; number of images {RECALLED}",
         "Register at image-net.org, download the fall 2011 release, pack it into shards"),
    _Set("jft-300m", "JFT-300M", "shards", 18_291, 303_000_000, 0, "",
         "not public: internal to Google", "Sun et al., arXiv:1707.02968; "
         "arXiv:2010.11929, section 4.1: 18k classes and 303M images",
         "Not public, so nobody outside Google can train on it: use imagenet-21k or fractals, "
         "or start from public weights"),
    _Set("cifar10", "CIFAR-10", "cifar", 10, 50_000, 10_000, "test_batch",
         "none stated; the owner asks to cite the report",
         "Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
         "Download cifar-10-python.tar.gz from its owner's page and unpack it"),
    _Set("cifar100", "CIFAR-100", "cifar", 100, 50_000, 10_000, "test (fine labels)",
         "none stated; the owner asks to cite the report",
         "Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
         "Download cifar-100-python.tar.gz from its owner's page and unpack it"),
    _Set("oxford-pets", "Oxford-IIIT Pets", "image_folder", 37, 3680, 3669, "test.txt",
         f"CC BY-SA 4.0 ({RECALLED})", "Parkhi et al., CVPR 2012",
         "Download images and annotations from the owner, sort trainval and test by breed"),
    _Set("oxford-flowers102", "Oxford Flowers-102", "image_folder", 102, 2040, 6149,
         "tstid; training is trnid and valid together, 1,020 each",
         f"none stated ({RECALLED})", "Nilsback and Zisserman, ICVGIP 2008",
         "Download 102flowers.tgz, imagelabels.mat and setid.mat from the owner"),
    _Set("mnist", "MNIST", "idx", 10, 60_000, 10_000, "t10k",
         f"CC BY-SA 3.0 ({RECALLED})", "LeCun, Cortes and Burges",
         "Download the four idx.gz files into one folder"),
    _Set("fashion-mnist", "Fashion-MNIST", "idx", 10, 60_000, 10_000, "t10k",
         "MIT", "Xiao et al., arXiv:1708.07747",
         "Download the four idx.gz files into one folder"),
    _Set("svhn", "SVHN", "arrays", 10, 73_257, 26_032, "test_32x32",
         f"non-commercial use only ({RECALLED})", "Netzer et al., NIPS workshop 2011",
         "Download train_32x32.mat and test_32x32.mat and convert them to arrays"),
    _Set("eurosat", "EuroSAT", "image_folder", 10, 21_600, 5400,
         "the last fifth, as in VTAB (16,200 train, 5,400 val, 5,400 test)",
         f"MIT ({RECALLED})", "Helber et al., arXiv:1709.00029",
         "Download EuroSAT.zip (RGB) from its owner and sort it into train/ and test/"),
    _Set("stl10", "STL-10", "arrays", 10, 5000, 8000, "test",
         f"none stated ({RECALLED})", "Coates et al., AISTATS 2011",
         "Download stl10_binary.tar.gz and convert it to arrays"),
)  # fmt: skip

_NATURAL, _SPECIALIZED, _STRUCTURED = "natural", "specialized", "structured"


class _Task(NamedTuple):
    """One VTAB task: counts of its full splits, as task_adaptation has them."""

    name: str
    title: str
    dataset: str
    group: str
    num_classes: int
    train: int
    val: int
    test: int


_TASKS = (
    _Task("caltech101", "Caltech101", "caltech101", _NATURAL, 102, 2754, 306, 6084),
    _Task("cifar100", "CIFAR-100", "cifar(num_classes=100)", _NATURAL, 100, 45_000, 5000, 10_000),
    _Task("dtd", "DTD", "dtd", _NATURAL, 47, 1880, 1880, 1880),
    _Task("flowers102", "Flowers102", "oxford_flowers102", _NATURAL, 102, 1020, 1020, 6149),
    _Task("pets", "Pets", "oxford_iiit_pet", _NATURAL, 37, 2944, 736, 3669),
    _Task("svhn", "SVHN", "svhn", _NATURAL, 10, 65_931, 7326, 26_032),
    _Task("sun397", "Sun397", "sun397", _NATURAL, 397, 76_128, 10_875, 21_750),
    _Task("camelyon", "Camelyon", "patch_camelyon", _SPECIALIZED, 2, 262_144, 32_768, 32_768),
    _Task("eurosat", "EuroSAT", "eurosat", _SPECIALIZED, 10, 16_200, 5400, 5400),
    _Task("resisc45", "Resisc45", "resisc45", _SPECIALIZED, 45, 18_900, 6300, 6300),
    _Task("retinopathy", "Retinopathy", 'diabetic_retinopathy(config="btgraham-300")',
          _SPECIALIZED, 5, 35_126, 10_906, 42_670),
    _Task("clevr-count", "Clevr-Count", 'clevr(task="count_all")',
          _STRUCTURED, 8, 63_000, 7000, 15_000),
    _Task("clevr-dist", "Clevr-Dist", 'clevr(task="closest_object_distance")',
          _STRUCTURED, 6, 63_000, 7000, 15_000),
    _Task("dmlab", "DMLab", "dmlab", _STRUCTURED, 6, 65_550, 22_628, 22_735),
    _Task("kitti-dist", "KITTI-Dist", 'kitti(task="closest_vehicle_distance")',
          _STRUCTURED, 4, 6347, 423, 711),
    _Task("dsprites-loc", "dSpr-Loc", 'dsprites(predicted_attribute="label_x_position")',
          _STRUCTURED, 16, 589_824, 73_728, 73_728),
    _Task("dsprites-ori", "dSpr-Ori", 'dsprites(predicted_attribute="label_orientation")',
          _STRUCTURED, 16, 589_824, 73_728, 73_728),
    _Task("smallnorb-azim", "sNORB-Azim", 'smallnorb(predicted_attribute="label_azimuth")',
          _STRUCTURED, 18, 24_300, 12_150, 12_150),
    _Task("smallnorb-elev", "sNORB-Elev", 'smallnorb(predicted_attribute="label_elevation")',
          _STRUCTURED, 9, 24_300, 12_150, 12_150),
)  # fmt: skip

VTAB_GROUPS = {f"vtab-{task.name}": task.group for task in _TASKS}
"""Group of each VTAB task; the paper averages over the 19 tasks, not over the three groups."""


def cards() -> tuple[DatasetCard, ...]:
    """Return the cards of all published sets, in no way located."""
    return (*(_card(row) for row in _SETS), *(_vtab_card(task) for task in _TASKS))


def _card(row: _Set) -> DatasetCard:
    splits = {"train": SplitCard(num_examples=row.train, selector="the owner's training split")}
    if row.test:
        splits["test"] = SplitCard(num_examples=row.test, selector=row.test_selector)
    return DatasetCard(
        name=row.name,
        title=row.title,
        reader=row.reader,
        num_classes=row.num_classes,
        splits=splits,
        metric="real-top1" if row.name == "imagenet-1k-real" else "top1",
        source=row.source,
        licence=row.licence,
        how_to_get=row.how_to_get,
    )


def _vtab_card(task: _Task) -> DatasetCard:
    """VTAB-1k: 800 of train and 200 of val to choose with, all 1,000 to train the final model."""
    return DatasetCard(
        name=f"vtab-{task.name}",
        title=f"VTAB-1k {task.title}",
        reader="image_folder",
        num_classes=task.num_classes,
        splits={
            "train": SplitCard(
                num_examples=1000, selector="train800val200: train[:800] and val[:200]"
            ),
            "train800": SplitCard(num_examples=800, selector=f"train[:800] of {task.train:,}"),
            "val200": SplitCard(num_examples=200, selector=f"val[:200] of {task.val:,}"),
            "test": SplitCard(num_examples=task.test, selector="the whole test split"),
        },
        source="Zhai et al., arXiv:1910.04867; google-research/task_adaptation, "
        f"data set {task.dataset}, {task.group} group",
        licence="that of the task's own data set",
        how_to_get="Export the four splits from TensorFlow Datasets into image folders: the first "
        "examples in file order count, so no other copy has the same 1,000 images",
    )
