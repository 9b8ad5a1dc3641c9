"""Committed tables against records: what differs is named, cell by cell; stale rows say so."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

import reports
from bench.errors import SuiteError, UserError
from bench.specs import JobResult, Metric
from reports.exchange.check import check
from reports.study.study import Study


def tables(made: Any) -> dict[str, Any]:
    study = Study(made.graph, made.results, made.curves)
    return reports.untimed(reports.make_tables(study))


@pytest.fixture
def committed(made: Any, tmp_path: Path) -> Path:
    block = made.graph.suite.report.model_copy(update={"figures": ()})
    suite = made.graph.suite.model_copy(update={"report": block})
    graph = made.graph.model_copy(update={"suite": suite})
    reports.build(graph, made.results, curves={}, out_dir=tmp_path, formats=["csv"])
    return tmp_path


def changed(made: Any, value: float) -> Any:
    job_id = made.job("finetune vit-micro4 512 seed 0")
    metric = Metric(name="test_top1", value=value, n=360)
    result = JobResult(job_id=job_id, status="done", metrics={"test_top1": metric})
    return type(made)(made.graph, {**made.results, job_id: result}, made.curves)


def checked(made: Any, folder: Path) -> list[Any]:
    return check(tables(made), folder, versions=reports.versions_of(made.graph))


def test_the_same_records_check(made: Any, committed: Path) -> None:
    assert checked(made, committed) == []
    assert checked(made, committed / "tables") == []


def test_another_value_is_named_with_its_cell(made: Any, committed: Path) -> None:
    before = made.results[made.job("finetune vit-micro4 512 seed 0")].metrics["test_top1"].value
    found = [d for d in checked(changed(made, 0.5), committed) if d.table == "comparison.long.csv"]
    assert [d.cell for d in found] == ["512 / ViT-Micro/4 / digits_test_top1 / seed 0"]
    assert found[0].kind == "differs"
    assert (found[0].committed, found[0].now) == (f"{before:.12g}", "0.5")
    assert found[0].difference == pytest.approx(0.5 - before)
    assert "committed 0.775, now 0.5 (-0.275)" in str(found[0])


def test_a_difference_within_the_tolerance_is_none(made: Any, committed: Path) -> None:
    before = made.results[made.job("finetune vit-micro4 512 seed 0")].metrics["test_top1"].value
    near = changed(made, before + 0.002)
    assert {d.table for d in checked(near, committed)} >= {"comparison.long.csv"}
    (committed / "tolerances.toml").write_text("[tolerances]\ndigits_test_top1 = 0.01\n")
    assert "comparison.long.csv" not in {d.table for d in checked(near, committed)}


def test_cells_that_came_and_went_are_told(made: Any, broken: Any, committed: Path) -> None:
    found = [d for d in checked(broken, committed) if d.table == "comparison.long.csv"]
    assert {d.kind for d in found} == {"differs"}  # absent cells stay, without a value
    assert all(d.now == "" for d in found)
    path = committed / "tables" / "comparison.long.csv"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:2] + lines[3:] + lines[1:2]))
    kinds = {(d.kind, d.cell) for d in checked(made, committed)}
    assert ("new", "512 / ViT-Micro/4 / digits_test_top1 / seed 1") in kinds
    assert ("gone", "512 / ViT-Micro/4 (no. 2) / digits_test_top1 / seed 0") in kinds


def test_rows_of_older_versions_say_that_they_are_stale(made: Any, committed: Path) -> None:
    with (committed / "tables" / "comparison.long.csv").open() as file:
        row = next(iter(csv.DictReader(file)))
    assert row["versions"] == "finetune@1 vit-finetune-micro@1 vit-micro4@1 digits@1"
    jobs = []
    for job in made.graph.jobs:
        protocol = job.spec.protocol
        if protocol.name == "vit-finetune-micro":
            protocol = protocol.model_copy(update={"version": 2})
        jobs.append(
            job.model_copy(update={"spec": job.spec.model_copy(update={"protocol": protocol})})
        )
    newer = type(made)(made.graph.model_copy(update={"jobs": tuple(jobs)}), made.results, {})
    found = [d for d in checked(newer, committed) if d.table == "comparison.long.csv"]
    assert {d.kind for d in found} == {"stale"}
    assert len(found) == 27
    assert (found[0].committed, found[0].now) == ("vit-finetune-micro@1", "vit-finetune-micro@2")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[tolerances]\nfractoin = 0.1\n", 'no such column or unit. Did you mean "fraction"?'),
        ("[tolerances]\nfraction = -1\n", "tolerances.fraction: must be a number, zero or more"),
        ("[tolerance]\n", r"unknown table. Known: \[tolerances\]"),
        ("tolerances", "tolerances.toml: "),
    ],
)
def test_tolerances_that_make_no_sense_are_refused(
    made: Any, committed: Path, text: str, message: str
) -> None:
    (committed / "tolerances.toml").write_text(text)
    with pytest.raises((UserError, SuiteError), match=message):
        checked(made, committed)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "damaged: no column 'quantity'"),
        ('system,quantity\n"ViT', "comparison.long.csv: unexpected end of data"),
        ("a,b\n1\n", "a line does not have one value per column"),
        (b"\xff\xfe", "comparison.long.csv: 'utf-8'"),
    ],
)
def test_damaged_tables_are_told_in_one_line(
    made: Any, committed: Path, text: str | bytes, message: str
) -> None:
    path = committed / "tables" / "comparison.long.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=message):
        checked(made, committed)


def test_an_empty_folder_is_told(made: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no tables there"):
        checked(made, tmp_path)
