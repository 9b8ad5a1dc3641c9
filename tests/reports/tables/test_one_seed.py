"""One seed: intervals are over images alone, say so, and single nobody out."""

from __future__ import annotations

import pytest

from reports.study.study import Study
from reports.tables import images, ranks
from tests.reports.conftest import default_suite, make_suite


@pytest.mark.parametrize("num_seeds", [1, 3])
def test_intervals_say_what_they_are_over(num_seeds: int) -> None:
    made = make_suite(default_suite(seeds=tuple(range(num_seeds))))
    study = Study(made.graph, made.results, made.curves, made.hits)
    over = {1: "over test images alone", 3: "over test images and seeds together"}[num_seeds]
    for table in (images.table(study), ranks.table(study)):
        assert table.rows
        assert over in table.caption
        assert "seeds together" not in table.caption or num_seeds > 1
    places = [
        cell
        for row in ranks.table(study).rows
        for cell, column in zip(row, ranks.table(study).columns, strict=True)
        if "over images" in column.title
    ]
    assert places
    assert num_seeds > 1 or not any(cell.strong for cell in places)
