"""Two sets of results: paired differences, what only one has, machines that differ."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bench import stats
from bench.specs import JobResult, Metric
from reports.exchange.compare import Side, compare, words


def side(made: Any, name: str) -> Side:
    titles = {job.job_id: job.name for job in made.graph.jobs}
    done = {key: result for key, result in made.results.items() if result.status == "done"}
    return Side(name, done, titles)


def changed(found: Side, job_id: str, metric: str, value: float | None) -> Side:
    reason = "" if value is not None else "NaN"
    new = Metric(name=metric, value=value, reason=reason, n=360)
    result = found.results[job_id]
    result = result.model_copy(update={"metrics": {**result.metrics, metric: new}})
    return Side("b", {**found.results, job_id: result}, found.titles)


def test_the_same_results_are_equal(made: Any) -> None:
    found = compare(side(made, "a"), side(made, "b"))
    assert found.num_shared == len(made.graph.jobs)
    assert (found.values, found.only_first, found.only_second) == ((), (), ())
    assert found.environment == {}
    assert all(row.equal == row.n and row.mean == 0 for row in found.paired)
    assert "test_top1 (fraction): all 27 equal" in words(found)


def test_differences_are_paired_by_job(made: Any) -> None:
    a = side(made, "a")
    b, shifts = a, []
    for index, job in enumerate(j for j in made.graph.jobs if j.labels.stage == "final"):
        value = a.results[job.job_id].metrics["test_top1"].value or 0.0
        shifts.append(0.001 * index)
        b = changed(b, job.job_id, "test_top1", value + shifts[-1])
    row = next(row for row in compare(a, b).paired if row.metric == "test_top1")
    interval = stats.t_interval(shifts)
    assert interval is not None
    assert (row.n, row.equal) == (27, 1)
    assert row.mean == pytest.approx(sum(shifts) / 27)
    assert (row.low, row.high) == pytest.approx((interval.low, interval.high))
    assert row.largest == pytest.approx(0.026)


def test_values_that_differ_come_first_by_size(made: Any) -> None:
    a = side(made, "a")
    first, second = (made.job(f"finetune vit-micro4 512 seed {seed}") for seed in (0, 1))
    b = changed(changed(a, first, "test_top1", 0.5), second, "test_top1", None)
    found = compare(a, b)
    assert [value.job_id for value in found.values] == [second, first]
    assert found.values[0].difference is None
    assert found.values[1].job == "finetune vit-micro4 512 seed 0"
    text = "\n".join(words(found))
    assert "test_top1 (fraction) 0.763889 -> no value" in text
    assert "0.775 -> 0.5 (-0.275)" in text


def test_jobs_of_one_side_alone_are_named(made: Any) -> None:
    a = side(made, "a")
    job_id = made.job("finetune vit-micro4 512 seed 0")
    less = Side("b", {k: r for k, r in a.results.items() if k != job_id}, a.titles)
    assert compare(a, less).only_first == ("finetune vit-micro4 512 seed 0",)
    assert compare(less, a).only_second == ("finetune vit-micro4 512 seed 0",)
    other = "f" * 16
    twin = Side(
        "b", {**less.results, other: JobResult(job_id=other, status="done")},
        {**a.titles, other: "finetune vit-micro4 512 seed 0"},
    )  # fmt: skip
    assert "under another id" in compare(a, twin).only_first[0]


def test_machines_that_differ_are_told(made: Any) -> None:
    a = side(made, "a")
    results = {
        key: r.model_copy(update={"environment": {**r.environment, "torch": "3.0", "gpu": "H"}})
        for key, r in a.results.items()
    }
    found = compare(a, Side("b", results, a.titles))
    assert found.environment == {"torch": ("2.15.0", "3.0"), "gpu": ("", "H")}
    assert "environment gpu: not stated -> H" in words(found)
    assert json.loads(json.dumps(found.to_json()))["environment"]["torch"] == ["2.15.0", "3.0"]


def test_long_lists_are_cut_and_counted(made: Any) -> None:
    a = side(made, "a")
    found = compare(a, Side("b", dict(list(a.results.items())[:10]), a.titles))
    lines = words(found, limit=5)
    assert sum(line.startswith("only in a: ") for line in lines) == 5
    assert f"and {len(a.results) - 15:,} more" in lines
