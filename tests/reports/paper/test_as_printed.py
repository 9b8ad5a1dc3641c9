"""The paper's tables: golden files, completeness, and that nothing heavy is needed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import baselines
from bench import cost
from reports.paper import as_printed as paper
from reports.printing.files import render

NAMES = ("1", "2", "5", "6", "6-compute", "7", "8", "9")
TABLES = {
    table.name: table
    for table in paper.tables(
        baselines.published(), systems=baselines.systems(), compute=cost.table_6()
    )
}


def test_tables_are_those_of_the_paper() -> None:
    assert list(TABLES) == [f"paper-table-{name}" for name in NAMES]


@pytest.mark.parametrize("name", TABLES)
def test_tables_look_as_reviewed(name: str, golden: Callable[[str, str], None]) -> None:
    for form in paper.FORMATS:
        for suffix, text in render(TABLES[name], form).items():
            golden(f"paper/{name}{suffix}", text)


@pytest.mark.parametrize(
    ("name", "num_values"), [("2", 30 + 5), ("5", 84), ("6", 108), ("7", 24), ("8", 8), ("9", 60)]
)
def test_every_published_value_is_shown(name: str, num_values: int) -> None:
    cells = [cell for row in TABLES[f"paper-table-{name}"].rows for cell in row]
    assert sum(cell.value is not None for cell in cells) == num_values


def test_the_two_rows_at_odds_with_the_paper_are_marked() -> None:
    rows = TABLES["paper-table-6-compute"].rows
    marked = [(row[0].text, row[1].text) for row in rows if row[2].marks]
    assert marked == [("ViT-B/32", "7"), ("R50x1+ViT-L/16", "7")]
    unmarked = [row[4].value for row in rows if not row[2].marks]
    assert len(unmarked) == 16
    assert all(value is not None and abs(value) < 0.01 for value in unmarked)


def test_files_are_written_whole(tmp_path: Path) -> None:
    files = paper.write(TABLES.values(), tmp_path, formats=("md", "csv"))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(files)
    assert len(files) == 3 * len(NAMES)


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import baselines, sys; from bench import cost;"
        "from reports.paper import as_printed as paper;"
        "t = paper.tables(baselines.published(), systems=baselines.systems(),"
        " compute=cost.table_6());"
        "from reports.printing.files import render;"
        "[render(x, f) for x in t for f in paper.FORMATS];"
        "print([m for m in ('torch', 'timm', 'pandas', 'seaborn', 'ray', 'mlflow')"
        " if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
