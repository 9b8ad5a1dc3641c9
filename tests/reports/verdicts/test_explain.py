"""`vitbench explain`: the differing fields, and only these, largest known effect first."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import baselines
from bench import facts
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
    folder: Path,
    *,
    protocol: str = "vit-finetune",
    recipe: str = "vit-finetune-cifar",
    limit_steps: int | None = None,
) -> JobGraph:
    file = folder / "cifar.toml"
    file.write_text(SUITE.format(protocol=protocol, recipe=recipe), encoding="utf-8")
    return graph_of(str(file), None, None, limit_steps)


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


@pytest.mark.parametrize(
    ("limit_steps", "words"),
    [
        (2, ("stopped after at most 2 steps", "scored on at most 512 images of a split")),
        (500, ("stopped after at most 500 steps",)),  # 128,000 images are more than there are
    ],
)
def test_a_limited_run_is_off_protocol_first_of_all(
    tmp_path: Path, limit_steps: int, words: tuple[str, ...]
) -> None:
    found = counterparts(_study(_graph(tmp_path, limit_steps=limit_steps)))
    assert found
    for answer in found:
        assert answer.verdict.word == "off-protocol"
        assert answer.verdict.reasons[: len(words)] == words
        assert not any(reason.startswith("scored") for reason in answer.verdict.reasons[2:])


def test_a_rehearsal_on_a_part_gets_no_verdict_at_all(tmp_path: Path) -> None:
    graph = _graph(tmp_path, limit_steps=2)
    card = graph.datasets["cifar10"]
    part = card.model_copy(update={"whole": {"train": 100_000, "test": 10_000}})
    graph = graph.model_copy(update={"datasets": {**graph.datasets, "cifar10": part}})
    study = _study(graph)
    assert counterparts(study) == []  # of the other set neither: the run is a rehearsal
    words = "cifar10: 50,000 of 100,000 train, 10,000 of 10,000 test images: a rehearsal on a part"
    assert study.warning.endswith(f"Not a result. {words}.")
    final = next(job for job in graph.jobs if job.labels.stage == "final")
    (found,) = explain(study, final.job_id)
    assert found.verdict == f"no published number is answered: {words}"


def test_a_run_under_the_published_protocol_differs_in_nothing(tmp_path: Path) -> None:
    found = counterparts(_study(_graph(tmp_path)))
    tables = {(answer.row.table, answer.row.dataset) for answer in found}
    assert {("Table 5", "CIFAR-10"), ("Table 5", "CIFAR-100")} <= tables
    for answer in found:
        if answer.row.table == "Table 5":
            assert [str(field) for field in answer.fields if field.differs] == []
            assert answer.verdict.word == "undecided"  # one seed


def test_500_steps_and_another_resize_are_named_exactly_and_first(tmp_path: Path) -> None:
    graph = _graph(tmp_path, protocol="vit-finetune-antialias", recipe="short")
    (found,) = explain(_study(graph), "Table 5: ViT-B/16, ImageNet-21k, CIFAR-10")
    assert found.table is not None
    differing = [row[0].text for row in found.table.rows if row[3].text == "differs"]
    assert differing == ["steps", "preparation of test images"]
    steps, images = found.table.rows[:2]
    assert [cell.text for cell in steps[:3]] == ["steps", "500", "10,000"]
    assert [cell.text for cell in images[1:3]] == ["resize, antialiased", "resize, two taps"]
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


def test_a_cell_is_found_by_printed_and_by_our_own_names(tmp_path: Path) -> None:
    study = _study(_graph(tmp_path))
    spellings = (
        "Table 5: ViT-L/16, ImageNet-21k, CIFAR-10",
        "Table 5: vit-l16, imagenet-21k, cifar10",
    )
    assert explain(study, spellings[0]) == explain(study, spellings[1])
    printed = "Table 5: ViT-L/16, ImageNet-21k, ImageNet"
    assert explain(study, printed) == explain(study, "table 5: vit-l16, imagenet-21k, imagenet-1k")


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("Table 5: ViT-X/99", "no published cell"),
        ("Table 5: ViT-L/16, cifar01", 'matches "cifar01". Did you mean "cifar10"?'),
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


# --- what a reader must be told by name ---------------------------------------------------------

VTAB = """
name = "tasks"
title = "ViT-L/16 on VTAB"
claim = "A published run."

[[weights]]
systems = ["vit-l16"]
weights = "in21k"

[[transfer]]
kind = "finetune"
datasets = [{datasets}]
protocol = "vtab-384"
recipe = "vit-finetune-vtab"
"""
CLEVR = "Table 9: ViT-L/16, ImageNet-21k, VTAB-1k/Clevr-Count"
CIFAR_CELL = ("Table 5", "CIFAR-10")
CIFAR = "Table 5: ViT-B/16, ImageNet-21k, CIFAR-10"
DRAWN = "the owner's files, drawn with seed 0"


def _planned(text: str, folder: Path) -> JobGraph:
    file = folder / "suite.toml"
    file.write_text(text, encoding="utf-8")
    return graph_of(str(file), None, None, None)


def _vtab(folder: Path, *, reader: str, datasets: Sequence[str] = ("vtab-clevr-count",)) -> Study:
    """A run on VTAB, CLEVR's images read by a reader."""
    graph = _planned(VTAB.format(datasets=", ".join(f'"{name}"' for name in datasets)), folder)
    card = graph.datasets["vtab-clevr-count"].model_copy(update={"reader": reader})
    cards = {**graph.datasets, "vtab-clevr-count": card}
    return _study(graph.model_copy(update={"datasets": cards}))


def _changed(graph: JobGraph, stage: str, **parts: dict[str, Any]) -> Study:
    """A study of a graph whose jobs of a stage have other fields: `recipe={"dropout": 0.1}`."""
    jobs = []
    for job in graph.jobs:
        if job.labels.stage == stage:
            old: dict[str, Any] = {part: getattr(job.spec, part) for part in parts}
            new = {
                part: {**old[part], **fields}
                if isinstance(old[part], dict)
                else old[part].model_copy(update=fields)
                for part, fields in parts.items()
            }
            job = job.model_copy(update={"spec": job.spec.model_copy(update=new)})
        jobs.append(job)
    return _study(graph.model_copy(update={"jobs": tuple(jobs)}))


def _differing(study: Study, cell: str) -> list[tuple[str, str, str]]:
    """Return what `explain` prints of the fields that differ: name, as run, as published."""
    (found,) = explain(study, cell)
    assert found.table is not None
    rows = [row for row in found.table.rows if row[3].text == "differs"]
    for name, measured, published, *_ in rows:
        assert f"{name.text} {measured.text}, published {published.text}" in found.verdict
    return [(row[0].text, row[1].text, row[2].text) for row in rows]


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (
            {"data": {"squared_px": 384}},
            ("images kept as", "squares of 384 px", "originals"),
        ),
        (
            {"protocol": {"eval_transform": "resize-antialias"}},
            ("preparation of test images", "resize, antialiased", "resize, two taps"),
        ),
        (
            {"protocol": {"eval_transform": "resize-legacy"}},
            ("preparation of test images", "resize, TensorFlow 1's", "resize, two taps"),
        ),
        ({"recipe": {"dropout": 0.1}}, ("dropout", "0.1", "0")),
        ({"recipe": {"weight_decay": 0.1}}, ("weight decay", "0.1", "0")),
        ({"recipe": {"label_smoothing": 0.1}}, ("label smoothing", "0.1", "0")),
    ],
)
def test_pack_resize_dropout_and_decay_are_named(
    tmp_path: Path, parts: dict[str, Any], expected: tuple[str, str, str]
) -> None:
    study = _changed(_graph(tmp_path), "final", **parts)
    assert _differing(study, CIFAR) == [expected]
    (answer,) = [a for a in counterparts(study) if (a.row.table, a.row.dataset) == CIFAR_CELL]
    assert answer.verdict.word == "off-protocol"


def test_squares_stand_next_to_the_preparation_of_test_images(tmp_path: Path) -> None:
    study = _changed(
        _graph(tmp_path),
        "final",
        data={"squared_px": 384},
        protocol={"eval_transform": "resize-antialias", "train_transform": "bit-train"},
    )
    assert [name for name, *_ in _differing(study, CIFAR)] == [
        "preparation of test images", "images kept as", "preparation of training images",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("reader", "words"),
    [("tfds-export", ""), ("clevr-count", DRAWN), ("vtab-folder", "files read by vtab-folder")],
)
def test_another_order_of_vtabs_images_is_named(tmp_path: Path, reader: str, words: str) -> None:
    found = _differing(_vtab(tmp_path, reader=reader), CLEVR)
    assert found == ([("order of the images", words, "TensorFlow Datasets")] if words else [])


def test_a_mean_names_what_differs_in_any_of_its_data_sets(tmp_path: Path) -> None:
    """The mean of the structured tasks: CLEVR-Count is one of eight, and not the first."""
    tasks = facts.VTAB_MEMBERS["structured"][::-1]
    cell = "Figure 2 (derived from Table 9): ViT-L/16, ImageNet-21k, VTAB-1k Structured (8)"
    assert _differing(_vtab(tmp_path, reader="tfds-export", datasets=tasks), cell) == []
    study = _vtab(tmp_path, reader="clevr-count", datasets=tasks)
    assert _differing(study, cell) == [("order of the images", DRAWN, "TensorFlow Datasets")]
    last = next(job for job in study.graph.jobs
                if job.dataset == tasks[-1] and job.labels.stage == "final")  # fmt: skip
    assert any("Structured" in item.title for item in explain(study, last.job_id))


def _fewshot(**changes: Any) -> Study:
    """Table 8's runs: 5-shot ImageNet; a change is of the arguments of few-shot."""
    graph = graph_of("position-embeddings", None, None, None, scale="full")
    return _changed(graph, "fewshot", params=changes)


def _named_in(study: Study, name: str) -> set[tuple[str, str, bool]]:
    found = [answer for answer in counterparts(study) if answer.row.table == "Table 8"]
    assert len(found) == 8
    return {(f.measured, f.published, f.differs) for a in found for f in a.fields if f.name == name}


def test_the_pool_of_few_shot_and_its_order_are_named() -> None:
    pool, order = "images that shots are drawn from", "order of the images"
    first = "the first 65,000 of 1,281,167"
    study = _fewshot()
    assert _named_in(study, pool) == {(first, first, False)}
    assert _named_in(study, order) == {(DRAWN, "TensorFlow Datasets", True)}
    study = _fewshot(pool=1000)
    assert _named_in(study, pool) == {("the first 1,000 of 1,281,167", first, True)}
    graph = graph_of("position-embeddings", None, None, None, scale="full")
    jobs = [
        job.model_copy(
            update={"spec": job.spec.model_copy(
                update={"params": {k: v for k, v in job.spec.params.items() if k != "pool"}})}
        )
        for job in graph.jobs
    ]  # fmt: skip
    study = _study(graph.model_copy(update={"jobs": tuple(jobs)}))
    assert _named_in(study, pool) == {("all 1,281,167", first, True)}
    assert _named_in(study, order) == set()
    exported = graph.datasets["imagenet-1k"].model_copy(update={"reader": "tfds-export"})
    cards = {**graph.datasets, "imagenet-1k": exported}
    study = _study(graph.model_copy(update={"datasets": cards}))
    assert _named_in(study, order) == {("TensorFlow Datasets",) * 2 + (False,)}


# --- what the data-size studies tuned -----------------------------------------------------------


def _sizes(**pretraining: Any) -> Study:
    """Table 5's runs, pre-trained here."""
    graph = graph_of("data-size", None, None, None, scale="full")
    return _changed(graph, "pretrain", **({"recipe": pretraining} if pretraining else {}))


SMALL = "Table 5: ViT-B/16, ImageNet, CIFAR-10, 300 epochs"


def test_tuned_label_smoothing_is_a_difference_of_the_small_sets_alone() -> None:
    study = _sizes()
    tuned = ("pre-training label smoothing", "0", "tuned")
    assert _differing(study, SMALL) == [tuned]
    assert _differing(study, "Table 5: ViT-B/16, ImageNet-21k, CIFAR-10") == [tuned]
    assert _differing(study, "Table 5: ViT-B/16, JFT-300M, CIFAR-10") == []


def test_smoothing_of_ones_own_is_not_held_against_what_is_not_printed() -> None:
    assert _differing(_sizes(label_smoothing=0.1), SMALL) == []


def test_dropout_and_decay_of_pre_training_are_named() -> None:
    found = _differing(_sizes(dropout=0.0, weight_decay=0.1, label_smoothing=0.1), SMALL)
    assert found == [
        ("pre-training weight decay", "0.1", "0.3"),
        ("pre-training dropout", "0", "0.1"),
    ]


def test_early_stopping_of_figure_4_is_a_difference(tmp_path: Path) -> None:
    study = _study(_graph(tmp_path))
    found = explain(study, "Figure 4")
    assert len(found) == 4
    for item in found:
        assert item.table is not None
        ((name, measured, published, state, _),) = item.table.rows
        shown = (name.text, measured.text, published.text, state.text)
        assert shown == ("early stopping", "none", "best validation accuracy", "differs")


def test_a_run_with_dropout_answers_the_readmes_row_with_dropout(tmp_path: Path) -> None:
    for recipe, words in (("vit-finetune-cifar-code", "dropout=0.0"),
                          ("vit-finetune-cifar-code-dropout", "dropout=0.1")):  # fmt: skip
        found = [
            answer for answer in counterparts(_study(_graph(tmp_path, recipe=recipe)))
            if (answer.row.paper, answer.row.table) == ("ViT repo", "README replication")
        ]  # fmt: skip
        assert {answer.row.dataset for answer in found} == {"CIFAR-10", "CIFAR-100"}
        assert {answer.row.system for answer in found} == {f"ViT-B/16 {words}"}
        for answer in found:
            assert [field.name for field in answer.fields if field.differs] == ["split"]


def _named_as_vit_b16(path: Path) -> None:
    """Write a file with the names and shapes that tell a ViT-B/16."""
    arrays = {
        "embedding/kernel": (16, 16, 3, 768),
        "head/kernel": (768, 10),
        **{f"Transformer/encoderblock_{i}/MlpBlock_3/Dense_0/bias": (3072,) for i in range(12)},
    }
    np.savez(path, **{name: np.zeros(shape, np.int8) for name, shape in arrays.items()})


def test_a_file_of_ones_own_is_off_protocol_unless_its_digest_is_the_releases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _named_as_vit_b16(tmp_path / "mine.npz")
    file = tmp_path / "cifar.toml"
    text = SUITE.format(protocol="vit-finetune", recipe="vit-finetune-cifar")
    stated = 'file = "mine.npz"\ntrained_on = ["imagenet-21k"]'
    file.write_text(text.replace('weights = "in21k"', stated), encoding="utf-8")
    cell = "Table 5: ViT-B/16, ImageNet-21k, CIFAR-10"
    (found,) = explain(_study(graph_of(str(file), None, None, None)), cell)
    assert found.verdict.startswith("off-protocol (rule")
    assert (
        "because of 1: weights a file of one's own, unverified, published the authors' release"
        in found.verdict
    )
    # What nobody states answers no published number at all.
    file.write_text(text.replace('weights = "in21k"', 'file = "mine.npz"'), encoding="utf-8")
    assert not counterparts(_study(graph_of(str(file), None, None, None)))
    # The release by its digest: the card's.
    card = baselines.system("vit-b16")
    sha256 = hashlib.sha256((tmp_path / "mine.npz").read_bytes()).hexdigest()
    first, *rest = card.weights
    assert first.name == "in21k"
    known = (first.model_copy(update={"sha256": sha256}), *rest)
    monkeypatch.setitem(baselines.systems(), card.name, card.model_copy(update={"weights": known}))
    study = _study(graph_of(str(file), None, None, None))
    assert study.graph.jobs[0].labels.recipe == "in21k"
    (found,) = explain(study, cell)
    assert not found.verdict.startswith("off-protocol")


def test_a_file_of_ones_own_is_told_with_its_digest(tmp_path: Path) -> None:
    _named_as_vit_b16(tmp_path / "mine.npz")
    file = tmp_path / "cifar.toml"
    text = SUITE.format(protocol="vit-finetune", recipe="vit-finetune-cifar")
    file.write_text(text.replace('weights = "in21k"', 'file = "mine.npz"'), encoding="utf-8")
    study = _study(graph_of(str(file), None, None, None))
    start, final = study.graph.jobs[0], study.graph.jobs[-1]
    loaded = JobResult(
        job_id=start.job_id, status="done", values={"weights_sha256": start.spec.weights_file}
    )
    study = Study(study.graph, {**study.results, start.job_id: loaded}, {})
    (found,) = explain(study, final.job_id)
    assert found.made == (
        f"weights mine.npz (unverified) of vit-b16: sha256 {start.spec.weights_file} "
        "(a file of the user's own)",
    )
