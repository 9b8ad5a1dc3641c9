"""Forms of tables: escaping, golden files, round trips."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest

from bench.specs import PlannedJob
from reports.printing import escape
from reports.printing.csv import long_csv, wide_csv
from reports.printing.files import render
from reports.printing.latex import latex
from reports.printing.markdown import markdown
from reports.printing.table import Cell, Column, Sample, Table
from reports.printing.terminal import terminal
from reports.study.study import Study
from reports.tables import (
    comparison,
    cost,
    equal_compute,
    images,
    overview,
    pairs,
    ranks,
    speed,
    training,
)

NASTY = {
    "html": '<script>alert(1)</script><img src=x onerror="x">',
    "markdown": "a | b ` c * d _ e [f](javascript:g) # h ~ $i$",
    "latex": r"\input{/etc/passwd} $x^2$ 50% & {a} ~b #1",
    "formula": '=cmd|"/c calc"!A1',
    "plus": "+1+1",
    "at": "@SUM(A1)",
    "ansi": "\x1b[31mred\x1b[0m\x1b]0;title\x07\x1b[2J",
    "rtl": "abc\u202efdp.exe\u2066",
    "lines": "one\ntwo\r\nthree\tfour\x00five",
    "list": "1. not a list",
    "rule": "---",
    "signed": "+1.5 [-2.0, 1.0]",
    "long": "x" * 10_000,
    "star": "* first of a row",
    "bracket": "[2ex] first of a row",
    "emoji": "𝔐odel 🚀 naïve – ok",
}


def table_of(text: str) -> Table:
    cell = Cell(
        text=text,
        value=0.5,
        n=1,
        marks=(1,),
        samples=(Sample(seed=0, value=None, job_ids=("a",), reason=text),),
    )
    return Table(
        name="nasty", title=text, caption=text, notes=(text,), warning=text,
        columns=(
            Column(key="name", title=text, unit=text, group=text, header=True, align="left"),
            Column(key="value", title="Value"),
        ),
        rows=((Cell(text=text), cell),),
    )  # fmt: skip


@pytest.mark.parametrize("text", NASTY.values(), ids=NASTY.keys())
def test_nothing_breaks_a_markdown_table(text: str) -> None:
    from markdown_it import MarkdownIt

    source = markdown(table_of(text))
    tokens = MarkdownIt("gfm-like", {"html": True, "linkify": False}).parse(source)
    assert sum(token.type == "td_open" for token in tokens) == 2
    inner = [child for token in tokens for child in token.children or []]
    html = {
        token.content for token in [*tokens, *inner] if token.type in ("html_inline", "html_block")
    }
    assert html <= {"<sup>", "</sup>"}
    assert not any(token.type in ("link_open", "image", "code_inline") for token in inner)
    shown = next(t for t in tokens if t.type == "heading_open")
    name = tokens[tokens.index(shown) + 1]
    said = "".join(child.content for child in name.children or [])
    assert said == escape.plain(text)


@pytest.mark.parametrize("text", NASTY.values(), ids=NASTY.keys())
def test_nothing_breaks_latex(text: str) -> None:
    source = latex(table_of(text))
    ours = {
        "begin", "end", "centering", "caption", "label", "toprule", "midrule", "bottomrule", "par",
        "footnotesize", "textsuperscript", "multicolumn", "cmidrule", "usepackage", "ldots", "pm",
        "textbackslash", "textasciitilde", "textasciicircum", "textless", "textgreater", "textbar",
        "textasciigrave",
    }  # fmt: skip
    assert set(re.findall(r"\\([A-Za-z]+)", source)) <= ours
    bare = re.sub(r"\\[\\{}$&#_%]", "", source)
    depth = 0
    for char in bare:
        depth += (char == "{") - (char == "}")
        assert depth >= 0
    assert depth == 0
    assert not re.search(r"\\\\\s*[*\[]", source)
    assert max(map(ord, source)) < 0x180


@pytest.mark.parametrize("text", NASTY.values(), ids=NASTY.keys())
def test_nothing_runs_in_a_spreadsheet(text: str) -> None:
    for form in render(table_of(text), "csv").values():
        for row in csv.reader(io.StringIO(form)):
            for field in row:
                assert not field.startswith(("=", "+", "-", "@", "\t", "\r"))
                assert "\n" not in field


@pytest.mark.parametrize("text", NASTY.values(), ids=NASTY.keys())
def test_nothing_moves_the_terminal(text: str) -> None:
    for shown in (terminal(table_of(text)), terminal(table_of(text), width=60)):
        assert all(ord(char) >= 32 or char == "\n" for char in shown)
        assert not set(shown) & set("\u202e\u2066\u200b")


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}


@pytest.mark.parametrize("text", NASTY.values(), ids=NASTY.keys())
def test_nothing_gets_into_html(text: str) -> None:
    source = render(table_of(text), "html")[".html"]
    parser = _Tags()
    parser.feed(source)
    plain = _Tags()
    plain.feed(render(table_of("name"), "html")[".html"])
    assert parser.tags == plain.tags
    assert parser.attributes == plain.attributes
    assert "\x1b" not in source


def test_negative_numbers_stay_numbers_in_csv() -> None:
    table = Table(
        name="t", title="t", caption="", columns=(Column(key="d", title="d"),),
        rows=((Cell(text="−1.5 [−2.0, −1.0]", value=-0.015, low=-0.02, high=-0.01, n=3),),),
    )  # fmt: skip
    assert wide_csv(table).splitlines() == ["d,d_low,d_high,d_n", "-0.015,-0.02,-0.01,3"]


MODULES = {
    "comparison": comparison, "pairs": pairs, "equal_compute": equal_compute, "images": images,
    "training": training, "ranks": ranks,
}  # fmt: skip


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("which", ["made", "broken"])
def test_tables_look_as_reviewed(
    name: str, which: str, request: pytest.FixtureRequest, golden: Callable[[str, str], None]
) -> None:
    data = request.getfixturevalue(which)
    table = MODULES[name].table(Study(data.graph, data.results, {}, data.hits))
    for form in ("md", "tex", "csv", "html"):
        for suffix, text in render(table, form).items():
            golden(f"reports/{which}-{name}{suffix}", text)
    golden(f"reports/{which}-{name}.txt", terminal(table))


def test_tables_of_timings_look_as_reviewed(made: Any, golden: Callable[[str, str], None]) -> None:
    study = Study(made.graph, made.results, {})
    golden("reports/made-cost.md", markdown(cost.table(study)))
    golden("reports/made-speed.md", markdown(speed.table(study)))


def test_deterministic_tables_hold_no_timings(made: Any) -> None:
    slower = {
        key: result.model_copy(
            update={"cost": result.cost.model_copy(update={"core_s": 1e6, "images_per_s": 1.0})}
        )
        for key, result in made.results.items()
    }
    for module in (comparison, pairs, training, ranks, equal_compute):
        one = module.table(Study(made.graph, made.results, {}))
        assert one == module.table(Study(made.graph, slower, {}))
    assert cost.table(Study(made.graph, made.results, {})) != cost.table(
        Study(made.graph, slower, {})
    )


def test_long_csv_traces_every_value_to_its_job(made: Any) -> None:
    table = comparison.table(Study(made.graph, made.results, {}))
    rows = list(csv.DictReader(io.StringIO(long_csv(table))))
    assert len(rows) == 9 * 4 * 3
    for row in rows:
        result = made.results[row["job_ids"]]
        metric = row["quantity"].removeprefix("digits_")
        assert float(row["value"]) == pytest.approx(result.metrics[metric].value, rel=1e-11)


def test_wide_csv_round_trips(made: Any) -> None:
    import pandas as pd

    study = Study(made.graph, made.results, {})
    table = pd.read_csv(io.StringIO(wide_csv(comparison.table(study))))
    found: dict[tuple[str, int, str], list[float]] = {}
    for job in made.graph.jobs:
        if job.labels.stage in ("final", "fewshot"):
            for name, metric in made.results[job.job_id].metrics.items():
                key = (job.labels.title, job.labels.upstream_examples, name)
                found.setdefault(key, []).append(metric.value)
    assert len(found) == 9 * 4
    for (title, size, metric), values in found.items():
        row = table[(table["system"] == title) & (table["upstream_examples"] == size)]
        mean = sum(values) / len(values)
        assert row[f"digits_{metric}"].item() == pytest.approx(mean, rel=1e-11)


def test_a_table_survives_json(broken: Any) -> None:
    import json

    table = pairs.table(Study(broken.graph, broken.results, {}))
    assert Table.from_json(json.loads(json.dumps(table.to_json()))) == table


def test_a_narrow_terminal_drops_columns_and_says_so(made: Any) -> None:
    study = Study(made.graph, made.results, {})
    table = overview.table(study)
    narrow = terminal(table, width=80)
    assert all(len(line) <= 80 for line in narrow.splitlines())
    assert "Left out here for width: Params" in narrow.replace("\n", " ")
    assert "Fine-tuned" in narrow
    assert "Left out" not in terminal(table)


def test_one_seed_has_no_spread_and_no_verdict(single: Any) -> None:
    study = Study(single.graph, single.results, {})
    assert "±" not in markdown(comparison.table(study)).partition("Top-1")[0]
    shown = markdown(pairs.table(study))
    assert "one seed" in shown
    assert "leads" not in shown.partition("Difference in")[0]


def test_a_limited_run_says_so_first(made: Any) -> None:
    suite = made.graph.suite.model_copy(update={"limit_steps": 5})
    study = Study(made.graph.model_copy(update={"suite": suite}), made.results, {})
    for module in (comparison, pairs, cost, training):
        table = module.table(study)
        for text in (markdown(table), latex(table), terminal(table)):
            assert "Not a result" in text


def test_a_limited_run_says_how_many_images_were_scored(made: Any) -> None:
    suite = made.graph.suite.model_copy(update={"limit_steps": 1})
    jobs = tuple(_scoring_few(job) for job in made.graph.jobs)
    graph = made.graph.model_copy(update={"suite": suite, "jobs": jobs})
    assert Study(graph, made.results, {}).warning == (
        "Limited run: training jobs stopped after at most 1 step, and at most 256 images of a "
        "split were scored. Not a result."
    )


def _scoring_few(job: PlannedJob) -> PlannedJob:
    if job.spec.data is None or job.spec.data.eval_split != "test":
        return job
    data = job.spec.data.model_copy(update={"num_evaluated": 256})
    return job.model_copy(update={"spec": job.spec.model_copy(update={"data": data})})
