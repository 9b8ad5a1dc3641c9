"""Metrics of which the lower is better: who leads, in which units, and what leaves them out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import reports
from bench import stats
from bench.specs import JobResult, Metric
from reports.printing.markdown import markdown
from reports.study import averages
from reports.study.contests import contests
from reports.study.leading import leader
from reports.study.study import Study
from reports.tables import comparison, equal_compute, pairs, ranks

NLL = {"vit": 0.40, "bit": 0.20, "hybrid": 0.30}


@pytest.fixture(scope="module")
def study(made: Any) -> Study:
    """The made-up suite with a calibration of each classifier: BiT is best at it."""
    jobs, results = [], dict(made.results)
    for job in made.graph.jobs:
        jobs.append(job)
        if job.labels.stage == "final":
            spec = job.spec.model_copy(
                update={
                    "kind": "calibration", "recipe": None, "needs": {"checkpoint": job.job_id},
                    "params": {"bins": 15},
                }
            )  # fmt: skip
            labels = job.labels.model_copy(update={"stage": "calibration", "recipe": ""})
            update = {"spec": spec, "job_id": spec.job_id, "labels": labels, "name": "calibration"}
            jobs.append(job.model_copy(update=update))
            nll = NLL[job.labels.family] + 0.001 * job.spec.seed
            found = {"ece": nll / 10, "nll": nll}
            metrics = {key: Metric(name=key, value=v, n=360) for key, v in found.items()}
            results[spec.job_id] = JobResult(job_id=spec.job_id, status="done", metrics=metrics)
    return Study(made.graph.model_copy(update={"jobs": tuple(jobs)}), results, made.curves)


def test_the_lower_leads_where_the_card_says_so() -> None:
    found = stats.paired_difference([0.1, 0.11, 0.12], [0.3, 0.32, 0.31])
    assert leader(found, "nll") == "first"
    assert leader(found, "test_top1") == "second"
    assert leader(stats.paired_difference([0.1], [0.3]), "nll") == "unknown"


def test_what_a_kind_reports_is_compared_by_itself(study: Study) -> None:
    assert [m.metric for m in study.measures][:4] == ["test_top1", "ece", "nll", "fewshot_top1/1"]
    table = comparison.table(study)
    shown = {column.title: (column.unit, column.base_unit) for column in table.columns}
    assert shown["ECE"] == ("%", "fraction")
    assert shown["NLL"] == ("nats", "nats")
    place = [column.title for column in table.columns].index("NLL")
    for row, arm in zip(table.rows, study.arms, strict=True):
        assert row[place].strong == (arm.family == "bit")
        assert row[place].text == f"{NLL[arm.family] + 0.001:.3f} ± 0.001"
    assert "lower is better" in table.caption


def test_pairs_say_who_leads_and_in_which_unit(study: Study, golden: Callable[..., None]) -> None:
    for contest in contests(study):
        if contest.measure.metric in ("ece", "nll"):
            assert contest.verdict == f"{'BiT' if contest.role == 'bit' else 'hybrid'} leads"
            assert contest.difference.mean > 0
    table = pairs.table(study)
    assert {c.unit for c in table.columns if c.title == "Difference"} == {""}
    text = markdown(table)
    assert "ECE (points)" in text
    assert "NLL (nats)" in text
    golden("reports/calibrated-pairs.md", text)
    golden("reports/calibrated-comparison.md", markdown(comparison.table(study)))


def test_what_is_made_of_accuracies_leaves_them_out(study: Study) -> None:
    others = {"ece", "nll"}
    assert not others & {m.metric for m in (*study.accuracies, *averages.headline(study))}
    for table in (ranks.table(study), equal_compute.table(study)):
        text = markdown(table)
        assert "ECE" not in text
        assert "NLL" not in text


@pytest.mark.ordinary
def test_the_whole_report_is_made(study: Study, tmp_path: Path) -> None:
    made = reports.build(study.graph, study.results, curves=study.curves, out_dir=tmp_path)
    assert not [line for line in made.findings if "ECE" in line or "NLL" in line]
