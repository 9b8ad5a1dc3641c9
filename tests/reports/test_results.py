"""The tidy frame: what is there, and how absence looks."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest

from bench.errors import UserError
from bench.specs import JobResult, Metric
from reports.study.frame import COLUMNS, frame
from reports.study.scores import Study, scores


def test_a_row_for_each_job_metric_and_seed(made: Any) -> None:
    rows = frame(made.graph, made.results)
    assert tuple(rows.columns) == COLUMNS
    # 9 arms x 3 seeds: a training loss, a fine-tuned accuracy and three few-shot accuracies
    assert len(rows) == 27 * 5
    assert rows["value"].notna().all()
    assert set(rows["status"]) == {"done"}
    assert set(rows["metric"]) == {
        "train_loss",
        "test_top1",
        *(f"fewshot_top1/{k}" for k in (1, 5, 10)),
    }


def test_values_trace_to_their_jobs(made: Any) -> None:
    rows = frame(made.graph, made.results)
    row = rows[(rows["metric"] == "fewshot_top1/5")].iloc[0]
    assert row["value"] == made.results[row["job_id"]].metrics["fewshot_top1/5"].value
    assert row["samples"] == made.results[row["job_id"]].metrics["fewshot_top1/5"].samples


def test_failed_skipped_and_missing_jobs_stay_as_rows(made: Any, broken: Any) -> None:
    rows = frame(broken.graph, broken.results)
    assert len(rows) == len(frame(made.graph, made.results))
    absent = rows[rows["value"].isna()]
    assert dict(absent["status"].value_counts()) == {"failed": 1, "skipped": 4, "not run": 3}
    failed = absent[absent["status"] == "failed"].iloc[0]
    assert failed["reason"] == "the loss became NaN at step 113"
    skipped = absent[absent["status"] == "skipped"].iloc[0]
    assert skipped["reason"] == (
        "pretrain vit-micro4 2048 seed 1 failed: the loss became NaN at step 113"
    )
    assert (absent["reason"] != "").all()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_value_that_is_no_number_is_absent(made: Any, value: float) -> None:
    job_id = made.job("finetune vit-micro4 512 seed 0")
    metric = Metric(name="test_top1", value=value, n=360)
    changed = made.results | {
        job_id: JobResult(job_id=job_id, status="done", metrics={"test_top1": metric})
    }
    row = frame(made.graph, changed).query("job_id == @job_id").iloc[0]
    assert (row["status"], math.isnan(row["value"])) == ("absent", True)
    assert "the value is" in row["reason"]


def test_a_missing_metric_says_so(made: Any) -> None:
    job_id = made.job("finetune vit-micro4 512 seed 0")
    changed = made.results | {job_id: JobResult(job_id=job_id, status="done")}
    row = frame(made.graph, changed).query("job_id == @job_id").iloc[0]
    assert row["reason"] == "the job's record has no test_top1"


def test_limited_runs_are_marked(made: Any) -> None:
    suite = made.graph.suite.model_copy(update={"limit_steps": 5})
    limited = frame(made.graph.model_copy(update={"suite": suite}), made.results)
    assert limited["limited"].all()
    assert not frame(made.graph, made.results)["limited"].any()


def test_scores_group_seeds(made: Any) -> None:
    study = Study(made.graph, made.results, {})
    assert len(study.arms) == 9
    assert [m.metric for m in study.measures] == [
        "test_top1", "fewshot_top1/1", "fewshot_top1/5", "fewshot_top1/10",
    ]  # fmt: skip
    assert all([s.seed for s in group] == [0, 1, 2] for group in study.scores.values())
    assert [arm.upstream_examples for arm in study.arms] == [512] * 3 + [2048] * 3 + [8192] * 3


def test_two_values_for_one_cell_are_refused(made: Any) -> None:
    rows = frame(made.graph, made.results)
    twice = pd.concat([rows, rows[rows["metric"] == "test_top1"].iloc[:1]])
    with pytest.raises(UserError, match="two results of ViT-Micro/4"):
        scores(twice)


def test_transfers_of_different_protocol_stay_apart(made: Any) -> None:
    jobs = []
    for job in made.graph.jobs:
        jobs.append(job)
        if job.labels.stage == "final":
            protocol = job.spec.protocol.model_copy(update={"name": "other", "image_size_px": 64})
            spec = job.spec.model_copy(update={"protocol": protocol})
            labels = job.labels.model_copy(update={"protocol": "other"})
            jobs.append(
                job.model_copy(update={"spec": spec, "job_id": spec.job_id, "labels": labels})
            )
    study = Study(made.graph.model_copy(update={"jobs": tuple(jobs)}), made.results, {})
    tuned = [m for m in study.measures if m.metric == "test_top1"]
    assert [m.setting for m in tuned] == [
        "vit-finetune-micro; finetune-micro",
        "other; finetune-micro",
    ]
