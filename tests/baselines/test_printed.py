"""What stands behind published numbers: the systems, recipes and protocols exist and are right."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

import baselines
from baselines.printed import setup
from baselines.protocols import PROTOCOLS
from bench.errors import UnknownName
from bench.specs import PublishedResult

GOLDEN = Path(__file__).parents[1] / "golden" / "published_setups.csv"
ACCURACIES = ("top1", "mean_top1", "5shot_linear_top1")


def _rows(**names: str) -> list[PublishedResult]:
    return [
        row
        for row in baselines.published()
        if all(getattr(row, name) == value for name, value in names.items())
    ]


def test_every_recipe_and_protocol_behind_print_exists() -> None:
    setups = [setup(row) for row in baselines.published()]
    recipes = {name for known in setups for name in (known.pretraining, known.transfer) if name}
    assert recipes <= set(baselines.recipes())
    assert {known.protocol for known in setups if known.protocol} <= set(PROTOCOLS)


def test_every_transfer_of_the_paper_has_a_protocol() -> None:
    copied = ("BiT-L", "Noisy Student")
    tables = [f"Table {number}" for number in (2, 5, 6, 7, 8, 9)]
    for row in _rows(paper="ViT"):
        if row.table in tables and row.metric in ACCURACIES and not row.system.startswith(copied):
            assert setup(row).protocol or row.dataset in ("Average-5", "ObjectNet"), row


@pytest.mark.parametrize(
    ("names", "pretraining", "transfer", "size"),
    [
        (
            {"table": "Table 2", "system": "ViT-H/14", "dataset": "ImageNet"},
            "vit-h14-pretrain-jft", "vit-finetune-imagenet-polyak", 518,
        ),
        (
            {"table": "Table 2", "system": "ViT-L/16", "dataset": "CIFAR-10",
             "pretrain_dataset": "ImageNet-21k"},
            "vit-l-pretrain-i21k", "vit-finetune-cifar", 384,
        ),
        (
            {"table": "Table 5", "system": "ViT-B/32", "dataset": "ImageNet",
             "pretrain_dataset": "ImageNet"},
            "vit-pretrain-i1k", "vit-finetune-imagenet", 384,
        ),
        (
            {"table": "Table 6", "system": "ResNet152x1", "dataset": "Oxford-IIIT Pets"},
            "r152-pretrain-jft", "vit-finetune-pets", 384,
        ),
        (
            {"table": "Table 7", "system": "ResNet50x1 (SGD)", "dataset": "CIFAR-100"},
            "r50-pretrain-jft-sgd", "vit-finetune-cifar", 384,
        ),
    ],
)  # fmt: skip
def test_the_setup_of_a_number(
    names: dict[str, str], pretraining: str, transfer: str, size: int
) -> None:
    (row,) = _rows(paper="ViT", metric="top1", **names)
    known = setup(row)
    assert (known.pretraining, known.transfer) == (pretraining, transfer)
    assert known.image_size_px == size


def test_the_eight_position_embeddings_of_table_8_differ_in_their_arguments() -> None:
    known = [setup(row) for row in _rows(paper="ViT", table="Table 8")]
    assert {item.system for item in known} == {"ViT-B/16"}
    assert len({tuple(sorted(item.args.items())) for item in known}) == 8
    assert {} in [item.args for item in known]  # learned, one-dimensional, at the stem


def test_several_printed_lengths_are_all_kept() -> None:
    row = _rows(table="Table 2", system="ViT-L/16", pretrain_dataset="ImageNet-21k")[0]
    assert setup(row).epochs == (30, 90)


def test_every_row_means_what_it_meant() -> None:
    with GOLDEN.open(encoding="utf-8") as file:
        expected = list(csv.DictReader(file))
    assert len(expected) == len(baselines.published())
    for line, (row, golden) in enumerate(zip(baselines.published(), expected, strict=True), 2):
        known = setup(row)
        try:
            system = baselines.system(known.system).name
        except UnknownName:
            system = ""
        assert golden == {
            "line": str(line),
            "system_id": system,
            "system_args": " ".join(f"{key}={value}" for key, value in sorted(known.args.items())),
            "pretraining_id": known.pretraining,
            "transfer_id": known.transfer,
            "protocol_id": known.protocol,
            "image_size_px": str(known.image_size_px or ""),
            "epochs": " ".join(f"{epochs:g}" for epochs in known.epochs),
        }
