"""Published numbers: whole, marked, and about systems of this project."""

from __future__ import annotations

import re
import statistics
from collections import Counter

import pytest

import baselines


def rows(paper: str, table: str):
    return [row for row in baselines.published() if (row.paper, row.table) == (paper, table)]


def test_every_row_has_value_source_and_confidence():
    for row in baselines.published():
        assert row.system
        assert row.source
        assert row.confidence in ("verified", "recalled")
        assert re.fullmatch(r"-?[\d.]+(-[\d.]+)?", row.value), row  # a number or a range


def test_only_image_classification():
    papers = {row.paper for row in baselines.published()}
    assert {"ViT", "BiT", "VTAB", "Noisy Student"} <= papers
    assert not papers & {"DETR", "Decision Transformer"}


@pytest.mark.parametrize(
    ("table", "count"),
    [("Table 1", 15), ("Table 5", 84), ("Table 6", 126), ("Table 7", 24), ("Table 9", 60)],
)
def test_vit_tables_are_whole(table, count):
    assert len(rows("ViT", table)) == count


def test_systems_of_the_scaling_study_all_have_cards():
    titles = {row.system for row in rows("ViT", "Table 6")}
    assert {baselines.system(title).title for title in titles} == titles


def test_table_9_means_are_those_of_table_2():
    """VTAB is the plain mean over 19 tasks: recomputed here, printed there."""
    tasks: dict[tuple[str, str], list[float]] = {}
    for row in rows("ViT", "Table 9"):
        if row.metric == "top1" and row.dataset != "VTAB (19 tasks)":
            tasks.setdefault((row.system, row.pretrain_dataset), []).append(float(row.value))
    printed = {
        (row.system, row.pretrain_dataset): float(row.value)
        for row in rows("ViT", "Table 2")
        if row.dataset.startswith("VTAB")
    }
    assert Counter(len(values) for values in tasks.values())[19] == 3
    for key, values in tasks.items():
        if key in printed and len(values) == 19:
            assert statistics.mean(values) == pytest.approx(printed[key], abs=0.01)
