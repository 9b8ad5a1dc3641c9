"""Means over tasks and groups: against the benchmark's own table and the paper's arithmetic."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

import baselines
from bench.data.cards import vtab
from bench.stats import group_means, task_mean

TITLES = {task.title: task.group for task in vtab.TASKS.values()}


def test_means_of_the_papers_table_9() -> None:
    """From the printed tasks; of the last two, Table 2 prints 76.28 and 72.72."""
    rows = pd.read_csv(Path(baselines.__file__).parent / "published.csv")
    rows = rows[(rows.table == "Table 9") & rows.dataset.str.startswith("VTAB-1k/")]
    rows = rows[rows.dataset.str.removeprefix("VTAB-1k/").isin(TITLES)]
    expected = {
        ("ViT-H/14", "JFT-300M"): (77.63, 86.69, 87.00, 65.03),
        ("ViT-L/16", "JFT-300M"): (76.29, 85.56, 86.73, 62.96),
        ("ViT-L/16", "ImageNet-21k"): (72.71, 83.27, 84.65, 57.50),
    }
    for (system, upstream), numbers in expected.items():
        own = rows[(rows.system == system) & (rows.pretrain_dataset == upstream)]
        titles = own.dataset.str.removeprefix("VTAB-1k/")
        scores = dict(zip(titles, own.value.astype(float), strict=True))
        groups = group_means(scores, TITLES)
        assert list(groups) == ["natural", "specialized", "structured"]
        assert [part.n for part in groups.values()] == [7, 4, 8]
        found = (task_mean(scores), *groups.values())
        assert [part.mean for part in found] == pytest.approx(numbers, abs=0.006)


def test_means_of_the_benchmarks_own_results(shared_data: Path) -> None:
    """Two regimes of 19 tasks each; the group means weigh 7, 4 and 8 tasks."""
    table = pd.read_csv(shared_data / "vtab" / "results.csv", header=[0, 1], index_col=0)
    small = table["1000"].astype(float)
    titles = small.columns.str.replace("dSpr-Orient", "dSpr-Ori")
    small.columns = titles
    assert set(titles) == set(TITLES)
    for _, row in small.iterrows():
        scores = {str(task): float(score) for task, score in row.items()}
        groups = group_means(scores, TITLES)
        weighed = sum((part.mean or 0) * part.n for part in groups.values()) / 19
        assert task_mean(scores).mean == pytest.approx(row.mean()) == pytest.approx(weighed)
    best = small.mean(axis=1).idxmax()
    assert best == "Sup-Rotation-100%"
    assert small.loc[best].mean() == pytest.approx(67.966, abs=0.001)


def test_a_missing_task_leaves_its_means_out() -> None:
    groups = {"a": "x", "b": "x", "c": "y"}
    means = group_means({"a": 1.0, "c": 3.0}, groups)
    assert means["x"].mean is None
    assert (means["x"].n, means["x"].missing) == (1, ("b",))
    assert means["y"].mean == 3.0
    assert task_mean({"a": 1.0, "b": None}).missing == ("b",)
    assert task_mean({}).mean is None
    with pytest.raises(ValueError, match="d is in no group"):
        group_means({"d": 1.0}, groups)
