"""What `plan` and `ls suites` show of scales, of refused jobs and of time."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from bench.cli.app import Things
from bench.cli.listing import duration, plan_rows, show_plan
from bench.cli.lists import LISTS
from bench.cli.wiring import graph_of
from bench.paths import CachePaths
from bench.schedule import Estimates


def shown(suite: str, scale: str | None, *settings: str, colours: bool = False) -> str:
    graph = graph_of(suite, settings, None, None, scale=scale)
    rows = plan_rows(graph, {}, Estimates(graph, {}).seconds)
    console = Console(
        file=io.StringIO(), width=140, force_terminal=colours, color_system="standard",
    )  # fmt: skip
    show_plan(console, graph, rows, cache=CachePaths(Path("none")))
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def test_a_plan_says_its_scale_what_to_expect_and_what_it_takes() -> None:
    text = shown("vtab", "public")
    assert "scale                        public" in text
    assert "ViT-L/16, ImageNet-21k: mean 72.7" in text
    assert "exaFLOPs; about" in text.partition("stage")[0]  # the suite's own words on its cost
    assert "on one device" in text
    assert "refused" not in text


def test_a_plan_counts_refused_jobs_and_leaves_them_out_of_the_time() -> None:
    text = shown("head", "full")
    assert "refused: 6 jobs, since JFT-300M is not public: internal to Google" in text
    assert "of them refused; about 0 s left" in text
    mixed = shown("state-of-the-art", "full")
    assert "refused: 71 jobs, since JFT-300M is not public" in mixed


def test_a_plan_says_how_large_checkpoints_become() -> None:
    assert "checkpoints: at most 7,249.5 MiB each (vit-h14); a running job keeps two" in shown(
        "state-of-the-art", "public"
    )
    assert "checkpoints" not in shown("speed", "public")


def test_a_plan_says_the_size_that_pictures_are_seen_at() -> None:
    text = shown("data-size", "public")
    assert re.search(r"weights +vit-b16 +224 +\d", text)
    assert re.search(r"final +vit-b16 +384 +\d", text)
    assert re.search(r"profile +vit-micro +12, 24, 36 +3 ", shown("speed", "smoke"))


def test_a_plan_says_memory_and_pieces() -> None:
    line = r"final +vit-l16 .* (\S+) GiB +(\d+) *\n"
    for memory_gib, least in ((24, 20), (80, 5)):
        text = shown("data-size", "public", f"device_memory_gib={memory_gib}")
        found = re.search(line, text)
        assert found is not None
        assert 0.8 * memory_gib < float(found[1]) <= 0.9 * memory_gib
        assert least < int(found[2]) < 2 * least


def test_what_is_too_large_for_the_device_is_told_in_red() -> None:
    text = shown("data-size", "public", "device_memory_gib=3", colours=True)
    red = re.findall(r"\x1b\[31m(.*?)\x1b\[0m", text)
    assert any("too large for the device: ViT-L/16 at 384 px needs" in words for words in red)
    assert all("and there are 3.0: choose a smaller input or system" in words for words in red)


def test_a_suite_of_one_scale_shows_none() -> None:
    text = shown("quickstart", None)
    assert "scale" not in text
    assert "jobs at a time" in text


def test_suites_are_listed_with_claim_source_scales_and_jobs() -> None:
    rows = {row["name"]: row for row in LISTS["suites"]()}
    assert rows["vtab"]["scales"] == ["smoke", "public", "full"]
    assert rows["vtab"]["jobs"] == 15
    assert rows["vtab"]["source"].startswith("arXiv:2010.11929")
    assert rows["quickstart"]["scales"] == []
    assert rows["quickstart"]["jobs"] == 108
    assert all(row["claim"] for row in rows.values())


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "0 s"), (200, "3 min 20 s"), (7500, "2 h 05 min"), (360_000, "4 days")],
)
def test_a_duration_is_told_as_a_person_would(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_everything_that_can_be_listed_has_rows_of_equal_keys() -> None:
    assert [thing.value for thing in Things] == list(LISTS)
    for name, rows in LISTS.items():
        found = rows()
        assert found or name == "plugins"
        assert len({tuple(row) for row in found}) <= 1
