"""What jobs reported, as samples: what is there, and how absence looks."""

from __future__ import annotations

import math
from typing import Any

import pytest

from bench.errors import UserError
from bench.specs import JobResult, Metric
from reports.printing.table import Sample
from reports.study.study import Study


def samples(made: Any, **changes: Any) -> list[Sample]:
    graph = made.graph.model_copy(update=changes)
    return [s for group in Study(graph, made.results, {}).samples.values() for s in group]


def of_job(made: Any, results: dict[str, JobResult], job_id: str) -> Sample:
    found = Study(made.graph, results, {}).samples.values()
    (sample,) = [s for group in found for s in group if s.job_ids == (job_id,)]
    return sample


def test_a_sample_for_each_job_metric_and_seed(made: Any) -> None:
    found = samples(made)
    # 9 arms x 3 seeds: a fine-tuned accuracy and three few-shot accuracies
    assert len(found) == 27 * 4
    assert {sample.status for sample in found} == {"done"}
    assert all(sample.value is not None and sample.n == 360 for sample in found)


def test_values_trace_to_their_jobs(made: Any) -> None:
    for (_, measure), group in Study(made.graph, made.results, {}).samples.items():
        for sample in group:
            (job_id,) = sample.job_ids
            assert sample.value == made.results[job_id].metrics[measure.metric].value


def test_failed_skipped_and_missing_jobs_keep_their_samples(made: Any, broken: Any) -> None:
    found = samples(broken)
    assert len(found) == len(samples(made))
    absent = [sample for sample in found if sample.value is None]
    words = [sample.status for sample in absent]
    assert {word: words.count(word) for word in words} == {"skipped": 4, "not run": 3}
    assert {sample.reason for sample in absent if sample.status == "skipped"} == {
        "pretrain vit-micro4 2048 seed 1 failed: the loss became NaN at step 113"
    }
    assert all(sample.reason for sample in absent)


def test_a_failed_job_says_why(made: Any) -> None:
    job_id = made.job("finetune vit-micro4 512 seed 0")
    failed = JobResult(job_id=job_id, status="failed", error="out of memory")
    sample = of_job(made, made.results | {job_id: failed}, job_id)
    assert (sample.status, sample.value, sample.reason) == ("failed", None, "out of memory")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_value_that_is_no_number_is_absent(made: Any, value: float) -> None:
    job_id = made.job("finetune vit-micro4 512 seed 0")
    metric = Metric(name="test_top1", value=value, n=360)
    result = JobResult(job_id=job_id, status="done", metrics={"test_top1": metric})
    sample = of_job(made, made.results | {job_id: result}, job_id)
    assert (sample.status, sample.value) == ("absent", None)
    assert "the value is" in sample.reason


def test_a_missing_metric_says_so(made: Any) -> None:
    job_id = made.job("finetune vit-micro4 512 seed 0")
    result = JobResult(job_id=job_id, status="done")
    sample = of_job(made, made.results | {job_id: result}, job_id)
    assert sample.reason == "the job's record has no test_top1"


def test_arms_measures_and_seeds_have_their_order(made: Any) -> None:
    study = Study(made.graph, made.results, {})
    assert len(study.arms) == 9
    assert [m.metric for m in study.measures] == [
        "test_top1", "fewshot_top1/1", "fewshot_top1/5", "fewshot_top1/10",
    ]  # fmt: skip
    assert study.accuracies == study.measures
    assert all([s.seed for s in group] == [0, 1, 2] for group in study.samples.values())
    assert [arm.upstream_examples for arm in study.arms] == [512] * 3 + [2048] * 3 + [8192] * 3


def test_two_values_for_one_cell_are_refused(made: Any) -> None:
    first = next(job for job in made.graph.jobs if job.labels.stage == "final")
    spec = first.spec.model_copy(update={"needs": {"checkpoint": first.spec.needs["checkpoint"]}})
    twin = first.model_copy(update={"spec": spec, "job_id": spec.job_id})
    assert twin.job_id != first.job_id
    with pytest.raises(UserError, match="two results of ViT-Micro/4 on digits for test_top1"):
        samples(made, jobs=(*made.graph.jobs, twin))


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


def test_parts_are_made_once_a_study(made: Any) -> None:
    from reports.study.contests import contests

    study = Study(made.graph, made.results, {})
    assert contests(study) is contests(study)
    assert contests(Study(made.graph, made.results, {})) is not contests(study)
