"""`vitbench explain`: the differing fields, and only these, largest known effect first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import baselines
from bench.cli.wiring import graph_of
from bench.errors import UserError
from bench.plan.spec import JobGraph
from bench.specs import JobResult, Metric
from reports.study.study import Study
from reports.verdicts.explain import explain
from reports.verdicts.linking import counterparts

SUITE = """
name = "cifar"
title = "ViT-B/16 on CIFAR"
claim = "A published run."

[[weights]]
systems = ["vit-b16"]
weights = "in21k"

[[transfer]]
kind = "finetune"
datasets = ["cifar10", "cifar100"]
protocol = "{protocol}"
recipe = "{recipe}"

[recipe.short]
steps = 500
batch_size = 512
optimizer = "sgd"
learning_rates = [0.001, 0.003, 0.01, 0.03]
held_out = 0.02
schedule = "cosine"
warmup_steps = 500
clip_norm = 1.0
"""


def _graph(
    folder: Path, *, protocol: str = "vit-finetune", recipe: str = "vit-finetune-cifar"
) -> JobGraph:
    file = folder / "cifar.toml"
    file.write_text(SUITE.format(protocol=protocol, recipe=recipe), encoding="utf-8")
    return graph_of(str(file), None, None, None)


def _study(graph: JobGraph, accuracy: float = 0.99) -> Study:
    results = {
        job.job_id: JobResult(
            job_id=job.job_id,
            status="done",
            metrics={"test_top1": Metric(name="test_top1", value=accuracy, n=10_000)},
        )
        for job in graph.jobs
        if job.labels.stage == "final"
    }
    return Study(graph, results, {}, published=baselines.published())


def test_a_run_under_the_published_protocol_differs_in_nothing(tmp_path: Path) -> None:
    found = counterparts(_study(_graph(tmp_path)))
    tables = {(answer.row.table, answer.row.dataset) for answer in found}
    assert {("Table 5", "CIFAR-10"), ("Table 5", "CIFAR-100")} <= tables
    for answer in found:
        if answer.row.table == "Table 5":
            assert [str(field) for field in answer.fields if field.differs] == []
            assert answer.verdict.word in ("within noise", "off")  # one seed


def test_500_steps_and_another_resize_are_named_exactly_and_first(tmp_path: Path) -> None:
    graph = _graph(tmp_path, protocol="vit-finetune-antialias", recipe="short")
    (found,) = explain(_study(graph), "Table 5: ViT-B/16, ImageNet-21k, CIFAR-10")
    assert found.table is not None
    differing = [row[0].text for row in found.table.rows if row[3].text == "differs"]
    assert differing == ["steps", "preparation of test images"]
    steps, images = found.table.rows[:2]
    assert [cell.text for cell in steps[:3]] == ["steps", "500", "10,000"]
    assert [cell.text for cell in images[1:3]] == ["resize-antialias", "resize"]
    assert found.verdict.startswith("off-protocol (rule")
    assert "because of 2: steps 500, published 10,000; preparation of test images" in found.verdict


def test_weights_of_another_release_are_named(tmp_path: Path) -> None:
    file = tmp_path / "cifar.toml"
    text = SUITE.format(protocol="vit-finetune", recipe="vit-finetune-cifar")
    file.write_text(text.replace('"in21k"', '"augreg-in21k"'), encoding="utf-8")
    study = _study(graph_of(str(file), None, None, None))
    (found,) = explain(study, "Table 5: ViT-B/16, ImageNet-21k, CIFAR-10")
    assert "weights AugReg's release, published the authors' release" in found.verdict


def test_a_job_is_explained_by_the_start_of_its_id(tmp_path: Path) -> None:
    study = _study(_graph(tmp_path))
    final = next(job for job in study.graph.jobs if job.labels.stage == "final")
    by_job = explain(study, final.job_id[:8])
    assert any("Table 5" in item.title for item in by_job)
    weights = study.graph.jobs[0]
    assert len(explain(study, weights.job_id)) >= len(by_job)  # it is behind every cell


def test_public_weights_are_told_with_their_digest(tmp_path: Path) -> None:
    study = _study(_graph(tmp_path))
    start = study.graph.jobs[0]
    values = {"weights": "in21k", "weights_sha256": "1" * 64}
    loaded = JobResult(job_id=start.job_id, status="done", values=values)
    study = Study(
        study.graph, {**study.results, start.job_id: loaded}, {}, published=study.published
    )
    (found,) = explain(study, "Table 5: ViT-B/16, ImageNet-21k, CIFAR-10")
    assert found.made == (
        f"weights in21k of vit-b16: sha256 {'1' * 64} (of the first use: its owner publishes none)",
    )


def test_a_number_that_nobody_ran_says_so(tmp_path: Path) -> None:
    study = _study(_graph(tmp_path))
    (private,) = explain(study, "Table 2: ViT-H/14, CIFAR-10")
    assert private.table is None
    assert private.verdict.startswith("not public")
    assert "vit-h14-pretrain-jft" in private.verdict
    (public,) = explain(study, "Table 5: ViT-L/16, ImageNet-21k, CIFAR-10")
    assert public.verdict.startswith("not run")


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("Table 5: ViT-X/99", "no published cell"),
        ("ViT-B/16", "published cells match"),
        ("ffffffff", "no job of cifar"),
    ],
)
def test_what_is_not_clear_is_told(tmp_path: Path, what: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        explain(_study(_graph(tmp_path)), what)
    assert words in str(caught.value)


def test_a_job_without_counterpart_shows_its_own_protocol_alone(made: Any) -> None:
    study = Study(made.graph, made.results, {}, published=baselines.published())
    job = next(job for job in made.graph.jobs if job.labels.stage == "final")
    (found,) = explain(study, job.job_id)
    assert found.verdict.startswith("no published number is answered")
    assert found.table is not None
    assert [column.key for column in found.table.columns] == ["field", "measured"]
    shown = {row[0].text: row[1].text for row in found.table.rows}
    assert job.spec.recipe is not None
    assert shown["batch size"] == str(job.spec.recipe.batch_size)
