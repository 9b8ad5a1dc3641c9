"""Tables of several environments say so under them; those of one say nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import reports
from bench.specs import JobResult, PlannedJob
from reports.study import status
from reports.study.made import in_words, made_with
from reports.study.study import Study
from reports.verdicts.explain import explain


def study(made: Any, change: Callable[[PlannedJob], dict[str, str]] = lambda job: {}) -> Study:
    """Return the made-up suite; `change` gives facts of a job's environment other values."""
    jobs = {job.job_id: job for job in made.graph.jobs}
    results: dict[str, JobResult] = {
        job_id: result.model_copy(
            update={"environment": {**result.environment, **change(jobs[job_id])}}
        )
        for job_id, result in made.results.items()
    }
    return Study(made.graph, results, made.curves, made.hits)


def of_stage(name: str, **facts: str) -> Callable[[PlannedJob], dict[str, str]]:
    return lambda job: facts if job.labels.stage == name else {}


def captions(study: Study) -> dict[str, str]:
    return {name: table.caption for name, table in reports.make_tables(study).items()}


def test_one_environment_is_not_spoken_of(made: Any) -> None:
    plain = reports.make_tables(study(made))
    assert not any("made with" in table.caption for table in plain.values())
    # Another Python or platform moves no number; a job that failed states nothing.
    same = study(made, lambda job: {"python": job.job_id, "git": job.job_id, "cores": job.job_id})
    assert reports.make_tables(same) == plain


def test_two_versions_of_torch_are_named_under_the_tables_of_their_values(made: Any) -> None:
    said = "Results were made with torch 2.9.1 and 2.15.0."
    found = captions(study(made, of_stage("fewshot", torch="2.9.1")))
    for name in ("comparison", "pairs", "ranks", "overview", "cost"):
        assert found[name].endswith(said), name
    for name in ("images", "training"):  # fine-tuning alone
        assert "made with" not in found[name], name


def test_what_stands_behind_a_value_counts(made: Any) -> None:
    found = captions(study(made, of_stage("pretrain", timm="1.0", torch="2.14.0")))
    assert found["images"].endswith("Results were made with torch 2.14.0 and 2.15.0.")


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"vitbench": "0.2.0"}, "with vitbench 0.1.0 and 0.2.0"),
        ({"timm": "1.0.27"}, "with timm 0.1.0 and 1.0.27"),
        ({"cuda": "13.0"}, "with CUDA 0.1.0 and 13.0"),
        ({"decoders": "16"}, "with 0.1.0 and 16 threads that decode images"),
        ({"device": "NVIDIA H200"}, "on NVIDIA H200 and Test CPU 2.0 GHz"),
    ],
)
def test_each_fact_that_can_move_a_number_is_named(
    made: Any, facts: dict[str, str], words: str
) -> None:
    (key,) = facts
    base = {} if key == "device" else {key: "0.1.0"}

    def change(job: PlannedJob) -> dict[str, str]:
        return facts if job.spec.seed == 1 else base

    assert captions(study(made, change))["comparison"].endswith(f"Results were made {words}.")


def test_jobs_that_use_no_device_have_none_to_mix(made: Any) -> None:
    chosen = {job.labels.stage for job in made.graph.jobs if job.spec.kind == "select"}
    (stage,) = chosen
    found = study(made, of_stage(stage, device="Host CPU", decoders="3"))
    assert "were made" not in captions(found)["comparison"]
    found = study(made, of_stage(stage, device="Host CPU", torch="2.9.1"))
    assert captions(found)["comparison"].endswith("made with torch 2.9.1 and 2.15.0.")


def test_facts_in_words() -> None:
    assert in_words({}) == ""
    facts = {"torch": ("2.9", "2.10", "2.11"), "device": ("A",)}
    assert in_words(facts) == "with torch 2.9, 2.10 and 2.11, on A"


def test_versions_come_in_their_order(made: Any) -> None:
    versions = ("2.10.0", "2.9.1", "2.9.1+cpu")
    mixed = study(made, lambda job: {"torch": versions[job.spec.seed]})
    ids = [job.job_id for job in mixed.graph.jobs]
    assert made_with(mixed, ids)["torch"] == ("2.9.1", "2.9.1+cpu", "2.10.0")
    assert made_with(mixed, []) == {}


def test_the_page_and_explain_name_them_too(made: Any) -> None:
    mixed = study(made, of_stage("pretrain", torch="2.14.0", cuda="13.0"))
    machine = dict(status.machine(mixed))
    assert (machine["torch"], machine["cuda"]) == ("2.14.0 · 2.15.0", "13.0")
    (found,) = explain(mixed, made.job("finetune vit-micro4 512 seed 0"))
    assert found.made == ("made with torch 2.14.0 and 2.15.0, with CUDA 13.0, on Test CPU 2.0 GHz",)
