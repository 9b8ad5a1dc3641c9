"""What published numbers mean here: every identifier exists, and every row means what it meant."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest

import baselines
from baselines.protocols import PROTOCOLS
from bench import facts, metrics
from bench.data import catalog
from bench.errors import SuiteError
from bench.specs import PublishedResult, Recipe, comparisons

GOLDEN = Path(__file__).parents[1] / "golden" / "published_setups.csv"
DOCUMENT = Path(__file__).parents[2] / "docs" / "extending" / "published.md"
ACCURACIES = ("top1", "mean_top1", "5shot_linear_top1")
ROWS = tuple(enumerate(baselines.published(), 2))
"""Every number with its line in the file."""


def _rows(**names: str) -> list[PublishedResult]:
    return [
        row
        for row in baselines.published()
        if all(getattr(row, name) == value for name, value in names.items())
    ]


def _bare(name: str) -> str:
    return "".join(c for c in name.casefold() if c.isalnum())


# --- identifiers ------------------------------------------------------------------------------


def test_every_identifier_exists() -> None:
    datasets = set(catalog.datasets())
    for line, row in ROWS:
        assert row.system_id in {"", *baselines.systems()}, line
        assert row.upstream_id in {"", *datasets}, line
        assert row.dataset_id in {"", *datasets, *facts.AVERAGES}, line
        assert {row.pretraining_id, row.transfer_id} <= {"", *baselines.recipes()}, line
        assert row.protocol_id in {"", *PROTOCOLS}, line
        for name in row.metric_ids:
            assert metrics.metric(name), line


def test_arguments_belong_to_the_system() -> None:
    for line, row in ROWS:
        if row.system_args:
            card = baselines.systems()[row.system_id]
            made = baselines.variant("x", like=card, title="", args=dict(row.system_args))
            assert made.args != card.args, line


def test_identifiers_are_of_what_the_paper_names() -> None:
    """The paper's words and our titles agree but for case, spaces and punctuation."""
    cards = catalog.datasets()
    others = {"VTAB-1k/dSpr-Orient": "vtab-dsprites-ori"}
    for line, row in ROWS:
        if row.upstream_id:
            named = row.pretrain_dataset.partition(" (")[0]  # "ImageNet-21k (BiT-M)"
            assert _bare(named) == _bare(cards[row.upstream_id].title), line
        if row.dataset_id in cards and others.get(row.dataset) != row.dataset_id:
            assert _bare(row.dataset) == _bare(cards[row.dataset_id].title), line
        if row.dataset_id in facts.AVERAGES:
            assert _bare(row.dataset).startswith(_bare(row.dataset_id)), line


def test_no_data_set_with_a_card_is_left_out() -> None:
    titles = {_bare(card.title) for card in catalog.datasets().values()}
    for line, row in ROWS:
        assert row.dataset_id or _bare(row.dataset) not in titles, line
        assert row.upstream_id or _bare(row.pretrain_dataset) not in titles, line


def test_what_is_not_public_is_what_the_data_cards_refuse() -> None:
    cards = catalog.datasets()
    for line, row in ROWS:
        refused = bool(row.upstream_id and cards[row.upstream_id].refusal)
        assert row.is_public is not refused, line


def test_open_fields_are_compared_ones_of_a_recipe_that_is_named() -> None:
    known = {name for name, compared in comparisons(Recipe).items() if not compared.by_rule}
    for line, row in ROWS:
        assert {*row.pretraining_unprinted, *row.transfer_unprinted} <= known, line
        assert set(row.pretraining_tuned) <= known - {*row.pretraining_unprinted}, line
        assert row.pretraining_id or not (row.pretraining_unprinted or row.pretraining_tuned), line
        assert row.transfer_id or not row.transfer_unprinted, line


def test_what_the_data_size_studies_tuned_is_said() -> None:
    """arXiv:2010.11929, section 4.3: label smoothing (as weight decay and dropout, which Table 3
    prints) on the smaller sets of Figure 3, whose numbers are Table 5; early stopping in Figure 4.
    """
    for _, row in ROWS:
        small = row.upstream_id in ("imagenet-1k", "imagenet-21k") and row.pretraining_id
        tuned = (row.paper, row.table) == ("ViT", "Table 5") and small
        assert row.pretraining_tuned == (("label_smoothing",) if tuned else ())
        stops = (row.paper, row.table) == ("ViT", "Figure 4")
        assert row.early_stopping == ("best validation accuracy" if stops else "")


def test_every_transfer_of_the_paper_has_a_protocol() -> None:
    copied = ("BiT-L", "Noisy Student")
    tables = [f"Table {number}" for number in (2, 5, 6, 7, 8, 9)]
    for row in _rows(paper="ViT"):
        if row.table in tables and row.metric in ACCURACIES and not row.system.startswith(copied):
            assert row.metric_ids
            assert row.protocol_id or row.dataset in ("Average-5", "ObjectNet"), row


# --- meaning ----------------------------------------------------------------------------------


def _meaning(line: int, row: PublishedResult) -> dict[str, str]:
    return {
        "line": str(line),
        "system_id": row.system_id,
        "system_args": " ".join(f"{key}={value}" for key, value in row.system_args),
        "pretraining_id": row.pretraining_id,
        "transfer_id": row.transfer_id,
        "protocol_id": row.protocol_id,
        "image_size_px": str(row.image_size_px or ""),
        "epochs": " ".join(f"{epochs:g}" for epochs in row.epochs),
    }


def test_every_row_means_what_it_meant() -> None:
    """Renew with VITBENCH_REGENERATE=1, and read the difference: numbers get other verdicts."""
    found = [_meaning(line, row) for line, row in ROWS]
    if os.environ.get("VITBENCH_REGENERATE"):
        with GOLDEN.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(found[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(found)
    with GOLDEN.open(encoding="utf-8", newline="") as file:
        assert found == list(csv.DictReader(file))


def test_every_column_is_documented() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert [name for name in PublishedResult.model_fields if f"`{name}`" not in text] == []


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
    assert (row.pretraining_id, row.transfer_id) == (pretraining, transfer)
    assert row.image_size_px == size


def test_the_eight_position_embeddings_of_table_8_differ_in_their_arguments() -> None:
    rows = _rows(paper="ViT", table="Table 8")
    assert {row.system_id for row in rows} == {"vit-b16"}
    assert len({row.system_args for row in rows}) == 8
    assert () in [row.system_args for row in rows]  # learned, one-dimensional, at the stem


def test_dropout_in_a_systems_words_is_that_of_its_recipe() -> None:
    """The authors' README gives each system twice: `dropout=0.0` and `dropout=0.1`."""
    found = {0.0: 0, 0.1: 0}
    for row in _rows(paper="ViT repo", table="README replication", metric="top1"):
        rate = float(row.system.partition("dropout=")[2])
        assert baselines.recipe(row.transfer_id).dropout == rate, row
        found[rate] += 1
    assert found == {0.0: 15, 0.1: 15}


def test_several_lengths_are_all_kept() -> None:
    row = _rows(table="Table 2", system="ViT-L/16", pretrain_dataset="ImageNet-21k")[0]
    assert row.epochs == (30, 90)


def test_bit_is_fine_tuned_as_its_rule_says() -> None:
    sides_px = {"cifar10": 32, "cifar100": 32}
    rows = [row for row in _rows(paper="BiT") if row.table in ("Table 1", "Table 2")]
    followed = [row for row in rows if row.transfer_id]
    assert len(followed) >= 18
    for row in followed:
        num_examples = facts.TRAIN_EXAMPLES.get(row.dataset_id, facts.VTAB_EXAMPLES)
        side_px = sides_px.get(row.dataset_id, 500)
        expected = baselines.hyperrule(num_examples, side_px, system=row.system_id)
        assert (row.transfer_id, row.protocol_id) == expected


# --- the file ---------------------------------------------------------------------------------


def test_cells_are_read_by_their_columns() -> None:
    row = PublishedResult.model_validate(
        {
            "paper": "P", "table": "Table 1", "system": "S", "metric": "top1", "value": "84.0",
            "unit": "%", "source": "here", "confidence": "verified",
            "system_args": "posemb=none depth=64 rate=0.5", "metric_ids": "test_top1 eval_top1",
            "epochs": "7 14", "image_size_px": "384", "is_public": "no",
        }
    )  # fmt: skip
    assert dict(row.system_args) == {"posemb": "none", "depth": 64, "rate": 0.5}
    assert row.metric_ids == ("test_top1", "eval_top1")
    assert (row.epochs, row.image_size_px, row.is_public) == ((7.0, 14.0), 384, False)
    assert hash(row)  # reports look rows up


def test_a_wrong_cell_is_named_with_its_line() -> None:
    good = dict.fromkeys(("paper", "table", "system", "metric", "value", "unit", "source"), "x")
    with pytest.raises(SuiteError, match=r"published\.csv: line 7, image_size_px: Input should be"):
        baselines._published({**good, "confidence": "verified", "image_size_px": "big"}, 7)


# --- facts ------------------------------------------------------------------------------------


def test_the_facts_are_those_of_the_cards() -> None:
    cards = catalog.datasets()
    sizes = {
        **facts.TRAIN_EXAMPLES,
        "imagenet-21k": facts.IMAGENET_21K_IMAGES,
        "jft-300m": facts.JFT_IMAGES,
    }
    assert sizes == {name: cards[name].splits["train"].num_examples for name in sizes}
    assert cards["imagenet-1k"].splits["test"].num_examples == facts.IMAGENET_VAL
    for name, rounded in facts.UPSTREAM_IMAGES.items():
        assert cards[name].splits["train"].num_examples == pytest.approx(rounded, rel=0.02)


def test_the_tasks_of_vtab_are_those_of_the_cards() -> None:
    cards = catalog.datasets()
    tasks = {name: card.group for name, card in cards.items() if name.startswith("vtab-")}
    assert tasks == {name: group for group, names in facts.VTAB_MEMBERS.items() for name in names}
    assert facts.VTAB_GROUPS == {"natural": 7, "specialized": 4, "structured": 8}
    assert facts.VTAB_TASKS == len(facts.AVERAGES["VTAB-1k"]) == 19
    for name in tasks:
        assert cards[name].splits["train"].num_examples == facts.VTAB_EXAMPLES == 1000
