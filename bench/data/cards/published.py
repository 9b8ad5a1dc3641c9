"""What is known about the published data sets: the paper's upstream and downstream sets and VTAB.

Facts alone (splits, counts, classes, terms, how to get them); no images come with the harness. A
card has no digest until its files are located by a suite's `[dataset.NAME]` block. Where a number
was not looked up but recalled, the selector of the split, the source or the licence says so.

ImageNet and its evaluation sets are in `imagenet.py`, the tasks of VTAB in `vtab.py`.

Sources: Dosovitskiy et al. (arXiv:2010.11929), section 4.1; Kolesnikov et al. (arXiv:1912.11370).
"""

from __future__ import annotations

from typing import NamedTuple

from bench.facts import JFT_IMAGES, TRAIN_EXAMPLES
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


_SETS = (
    _Set("jft-300m", "JFT-300M", "shards", 18_291, JFT_IMAGES, 0, "",
         "not public: internal to Google", "Sun et al., arXiv:1707.02968; "
         "arXiv:2010.11929, section 4.1: 18k classes and 303M images",
         "Not public, so nobody outside Google can train on it: use imagenet-21k or fractals, "
         "or start from public weights"),
    _Set("cifar10", "CIFAR-10", "cifar", 10, TRAIN_EXAMPLES["cifar10"], 10_000, "test_batch",
         "none stated; the owner asks to cite the report",
         "Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
         "Download cifar-10-python.tar.gz from its owner's page and unpack it"),
    _Set("cifar100", "CIFAR-100", "cifar", 100, TRAIN_EXAMPLES["cifar100"], 10_000,
         "test (fine labels)",
         "none stated; the owner asks to cite the report",
         "Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
         "Download cifar-100-python.tar.gz from its owner's page and unpack it"),
    _Set("oxford-pets", "Oxford-IIIT Pets", "oxford-pets", 37, TRAIN_EXAMPLES["oxford-pets"], 3669,
         "test.txt", f"CC BY-SA 4.0 ({RECALLED})", "Parkhi et al., CVPR 2012",
         "Download images.tar.gz and annotations.tar.gz from the owner and unpack them"),
    _Set("oxford-flowers102", "Oxford Flowers-102", "oxford-flowers", 102,
         TRAIN_EXAMPLES["oxford-flowers102"], 6149,
         "tstid; training is trnid and valid together, 1,020 each",
         f"none stated ({RECALLED})", "Nilsback and Zisserman, ICVGIP 2008",
         "Download 102flowers.tgz, imagelabels.mat and setid.mat from the owner"),
    _Set("mnist", "MNIST", "idx", 10, 60_000, 10_000, "t10k",
         f"CC BY-SA 3.0 ({RECALLED})", "LeCun, Cortes and Burges",
         "Download the four idx.gz files into one folder"),
    _Set("fashion-mnist", "Fashion-MNIST", "idx", 10, 60_000, 10_000, "t10k",
         "MIT", "Xiao et al., arXiv:1708.07747",
         "Download the four idx.gz files into one folder"),
    _Set("svhn", "SVHN", "svhn", 10, 73_257, 26_032, "test_32x32",
         f"non-commercial use only ({RECALLED})", "Netzer et al., NIPS workshop 2011",
         "Download train_32x32.mat and test_32x32.mat from the owner into one folder"),
    _Set("eurosat", "EuroSAT", "eurosat", 10, 21_600, 5400,
         "the last fifth of each class by number; the owner gives no split",
         f"MIT ({RECALLED})", "Helber et al., arXiv:1709.00029",
         "Download EuroSAT.zip (RGB) from its owner and unpack it"),
    _Set("stl10", "STL-10", "stl10", 10, 5000, 8000, "test",
         f"none stated ({RECALLED})", "Coates et al., AISTATS 2011",
         "Download stl10_binary.tar.gz from the owner and unpack it"),
    _Set("dtd", "Describable Textures", "dtd", 47, 1880, 1880, "test1.txt, the first of ten splits",
         f"research only ({RECALLED})", "Cimpoi et al., CVPR 2014",
         "Download dtd-r1.0.1.tar.gz from the owner and unpack it"),
)  # fmt: skip


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
        source=row.source,
        licence=row.licence,
        how_to_get=row.how_to_get,
    )


CARDS = tuple(_card(row) for row in _SETS)
"""The published sets, in no way located."""
