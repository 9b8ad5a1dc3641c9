"""The page: contrast of its colours and the figures', verdicts first, a trace for every value."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

import baselines
import reports
from bench.kinds import stages
from reports.drawing import style
from reports.study.study import Study
from reports.verdicts import summary
from tests.reports.conftest import named_as_ours

TEXT = (
    ("ink", "paper"), ("ink", "raised"), ("ink", "measured"), ("ink", "warm"), ("muted", "paper"),
    ("muted", "raised"), ("muted", "measured"), ("accent", "paper"), ("accent", "raised"),
    ("good", "paper"), ("bad", "paper"), ("bad", "raised"),
)  # fmt: skip
"""Text colours of the page and what they stand on."""


def luminance(color: str) -> float:
    """Return the relative luminance of `#rrggbb` (WCAG 2.1)."""
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, two: str) -> float:
    """Return the contrast ratio of two colours, from 1 to 21 (WCAG 2.1)."""
    low, high = sorted((luminance(one), luminance(two)))
    return (high + 0.05) / (low + 0.05)


def schemes() -> dict[str, dict[str, str]]:
    """Return the page's colours by name, in light, dark and print."""
    css = resources.files("reports.printing").joinpath("page.css").read_text(encoding="utf-8")
    blocks = re.findall(r":root \{([^}]*)\}", css)
    found = [dict(re.findall(r"--([a-z-]+): (#[0-9a-f]+)", block)) for block in blocks]
    long = [{k: v if len(v) == 7 else "#" + "".join(c * 2 for c in v[1:]) for k, v in b.items()}
            for b in found]  # fmt: skip
    return {"light": long[0], "dark": long[0] | long[1], "print": long[0] | long[2]}


def test_letters_can_be_read_on_every_shade_in_light_and_dark() -> None:
    dark = {**style.dark_colors(), **style.SHADES}
    for level in range(1, len(style.SHADES) + 1):
        shade, ink = style.shade(level), style.shade_ink(level)
        assert contrast(shade, ink) >= 4.5, level
        assert contrast(dark[shade], dark[ink]) >= 4.5, level


def test_shares_have_the_shade_of_their_eighth() -> None:
    shares = (0.0, 0.004, 0.005, 0.125, 0.126, 0.5, 0.51, 1.0)
    assert [style.shade_level(share) for share in shares] == [0, 0, 1, 1, 2, 4, 5, 8]


def test_contrast_of_known_colours() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("scheme", ["light", "dark", "print"])
@pytest.mark.parametrize(("front", "back"), TEXT)
def test_text_of_the_page_can_be_read(scheme: str, front: str, back: str) -> None:
    colors = schemes()[scheme]
    assert contrast(colors[front], colors[back]) >= 4.5


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_and_lines_of_figures_can_be_seen(dark: bool) -> None:
    def shown(color: str) -> str:
        return style.dark_colors().get(color, color) if dark else color

    for ink in (style.INK, style.MUTED):
        assert contrast(shown(ink), shown(style.PAPER)) >= 4.5
    series = {style.family_look(family).color for family in (*baselines.FAMILIES, "")}
    series |= {stage.work.colour for stage in stages().values()}
    series |= {*style.SYSTEM_COLORS, *style.SPARE_COLORS}
    for color in series:
        assert contrast(shown(color), shown(style.PAPER)) >= 3, color


class _Text(HTMLParser):
    """The page's text by the id of the section it stands in."""

    def __init__(self) -> None:
        super().__init__()
        self.section = ""
        self.order: list[str] = []
        self.texts: dict[str, list[str]] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "section":
            self.section = dict(attrs).get("id") or ""
            self.order.append(self.section)

    def handle_data(self, data: str) -> None:
        self.texts.setdefault(self.section, []).append(data.strip())

    def text(self, section: str) -> str:
        return " ".join(filter(None, self.texts[section]))


def test_verdicts_stand_first_and_differences_are_listed(made: Any, tmp_path: Path) -> None:
    ours = {
        "vit-b32": "vit-micro4", "bit-r50x1": "bit-r14-micro", "jft-300m": "fractals-64",
        "cifar10": "digits",
    }  # fmt: skip
    published = named_as_ours(baselines.published(), ours)
    block = made.graph.suite.report.model_copy(update={"figures": ()})
    suite = made.graph.suite.model_copy(update={"report": block})
    graph = made.graph.model_copy(update={"suite": suite})
    study = Study(graph, made.results, {}, published=published)
    counts = summary.verdicts(study)
    assert [count.word for count in counts] == ["off-protocol"]
    report = reports.build(graph, made.results, curves={}, published=published, out_dir=tmp_path)
    page = _Text()
    page.feed(report.files["index.html"].read_text(encoding="utf-8"))
    assert page.order[:4] == ["found", "results", "part-published", "differences"]
    assert page.text("found").startswith(f"What was found {counts[0].count} off-protocol")
    assert "Protocol differences" in page.text("differences")
    rows = summary.differences(study).rows
    assert rows
    assert sum(row[3].value for row in rows) >= counts[0].count
    assert len({tuple(cell.text for cell in row) for row in rows}) == len(rows)


def test_every_value_is_traced_to_its_job_and_its_run(made: Any, tmp_path: Path) -> None:
    block = made.graph.suite.report.model_copy(update={"figures": ()})
    suite = made.graph.suite.model_copy(update={"report": block})
    graph = made.graph.model_copy(update={"suite": suite})
    report = reports.build(graph, made.results, curves={}, out_dir=tmp_path)
    page = _Text()
    page.feed(report.files["index.html"].read_text(encoding="utf-8"))
    trace = page.text("jobs")
    for job in graph.jobs:
        if job.labels.stage in ("final", "fewshot"):
            assert job.job_id in trace
            assert job.name in trace
    assert "tags.`vitbench.job_id`" in trace


def test_every_verdict_has_a_meaning() -> None:
    from typing import get_args

    from reports.verdicts.rule import Word

    assert set(summary.MEANINGS) == set(get_args(Word))
