"""Tables of the paper with a run: measured cells first, numbers without an answer folded."""

from __future__ import annotations

from typing import Any

import pytest

import baselines
from bench.cli.wiring import graph_of
from bench.specs import JobResult, Metric, PublishedResult
from reports.paper.with_measured import paper_table
from reports.printing.files import render
from reports.printing.table import Table
from reports.study.study import Study
from reports.tables import published
from reports.verdicts.cells import printed_cell
from tests.reports.conftest import named_as_ours

NUMBERS = {"2": 31, "5": 84, "6": 108, "7": 24, "8": 8, "9": 60}
"""Accuracies in each table of the ViT paper."""


@pytest.fixture(scope="module")
def rows() -> tuple[PublishedResult, ...]:
    """Every published number."""
    return tuple(baselines.published())


def text(table: Table) -> str:
    """Return the Markdown form."""
    return render(table, "md")[".md"]


@pytest.mark.parametrize(("number", "count"), NUMBERS.items())
def test_every_number_of_print_can_be_read(
    made: Any, rows: tuple[PublishedResult, ...], number: str, count: int
) -> None:
    study = Study(made.graph, made.results, {}, published=rows)
    table = paper_table(study, number, title="test")
    assert f"{count} numbers as printed" in table.caption
    shown = text(table)
    of_table = [r for r in rows if (r.paper, r.table) == ("ViT", f"Table {number}")]
    for row in of_table:
        if row.unit in ("%", "fraction") and row.dataset:
            assert printed_cell(row).text in shown


def test_measured_cells_stand_first_and_a_system_has_one_line_without_answers(
    made: Any, rows: tuple[PublishedResult, ...]
) -> None:
    study = Study(made.graph, made.results, {}, published=rows)
    table = paper_table(study, "5", title="test")
    verdicts = [row[-1].text for row in table.rows]
    measured = verdicts.count("no counterpart")
    assert measured == len(study.samples)
    assert verdicts[:measured] == ["no counterpart"] * measured
    folded = table.rows[measured:]
    assert {row[-1].text for row in folded} == {"not run", "not public"}
    assert [row[3].text for row in folded] == ["6 numbers"] * 14
    assert "54 not run, 30 not public" in table.caption
    first = folded[0][4]
    assert first.text == "77.91 to 98.13"
    assert table.notes[first.marks[0] - 1].startswith("As printed: CIFAR-10 98.13, CIFAR-100 87.13")


def test_an_arm_that_answers_nothing_is_not_hidden_by_one_that_does(
    made: Any, rows: tuple[PublishedResult, ...]
) -> None:
    """ViT answers CIFAR-10 of Table 5 here; the ResNet next to it answers nothing there."""
    ours = {"vit-b32": "vit-micro4", "imagenet-21k": "fractals-64", "cifar10": "digits"}
    study = Study(made.graph, made.results, {}, published=named_as_ours(rows, ours))
    table = paper_table(study, "5", title="test")
    titles_of = {row[0].text for row in table.rows if row[-1].text == "no counterpart"}
    assert {arm.title for arm in study.arms if arm.family != "vit"} <= titles_of
    answered = [row for row in table.rows if row[4].value is not None and row[5].value is not None]
    assert {(row[0].text, row[3].text) for row in answered} == {("ViT-B/32", "CIFAR-10")}
    left = [row for row in table.rows if row[:2] == answered[0][:2] and row not in answered]
    assert "5 numbers" in [row[3].text for row in left]


def test_what_was_planned_but_never_run_is_folded_too(rows: tuple[PublishedResult, ...]) -> None:
    study = Study(graph_of("scaling", None, None, None, scale="full"), {}, {}, published=rows)
    table = paper_table(study, "6", title="test")
    assert [row[-1].text for row in table.rows] == ["not public"] * 18  # systems and lengths
    assert "108 not public" in table.caption


def test_every_mark_names_a_note_of_its_own_table(rows: tuple[PublishedResult, ...]) -> None:
    """One fine-tuning is done, one failed, the rest was not run."""
    graph = graph_of("data-size", None, None, None, scale="public")
    done, failed = [job for job in graph.jobs if job.labels.stage == "final"][:2]
    value = Metric(name="test_top1", value=0.9, n=10_000)
    results = {
        done.job_id: JobResult(job_id=done.job_id, status="done", metrics={"test_top1": value}),
        failed.job_id: JobResult(job_id=failed.job_id, status="failed", error="out of memory"),
    }
    study = Study(graph, results, {}, published=rows)
    for table in (paper_table(study, "5", title="test"), published.table(study)):
        marks = {mark for row in table.rows for cell in row for mark in cell.marks}
        assert marks == set(range(1, len(table.notes) + 1))
        measured = [row for row in table.rows if row[-1].text in ("undecided", "failed")]
        assert {row[-1].text for row in measured} == {"undecided", "failed"}
        for row in measured:
            assert len(row[-1].marks) == 1
            assert not row[-3].marks


@pytest.mark.parametrize(
    ("value", "std", "unit", "shown", "kept"),
    [
        ("88.55", "0.04", "%", "88.55 ± 0.04", 0.8855),
        ("0.61382", "", "fraction", "61.382", 0.61382),
        ("0.640", "0.010", "fraction", "64.0 ± 1.0", 0.64),
    ],
)
def test_print_is_shown_in_per_cent_with_its_own_digits(
    rows: tuple[PublishedResult, ...], value: str, std: str, unit: str, shown: str, kept: float
) -> None:
    row = rows[0].model_copy(update={"value": value, "std": std, "unit": unit})
    assert printed_cell(row).text == shown
    assert printed_cell(row).value == pytest.approx(kept)
