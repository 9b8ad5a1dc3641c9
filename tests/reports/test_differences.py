"""What makes a run off-protocol: every field of a recipe and a protocol is compared, or excused."""

from __future__ import annotations

from pathlib import Path

import pytest

import baselines
from baselines.protocols import PREPARATIONS, PROTOCOLS
from bench.cli.wiring import graph_of
from bench.data import transforms
from bench.specs import (
    Compared,
    DataUse,
    NotCompared,
    PlannedJob,
    Protocol,
    Recipe,
    Record,
    comparisons,
)
from reports.verdicts import differences

RECIPE = baselines.recipe("vit-finetune-cifar")
CHANGED = {
    "polyak": 0.999, "batch_size": 64, "optimizer": "adam", "schedule": "constant", "end_lr": 1e-5,
    "coupled_decay": True, "warmup_steps": 7, "weight_decay": 0.1, "clip_norm": None,
    "dropout": 0.1, "loss": "sigmoid", "drop_steps": (3, 6), "drop_shares": (0.3, 0.6),
    "mixup": 0.2, "label_smoothing": 0.1, "objective": "masked-patch", "head_bias": -10.0,
    "precision": "bfloat16", "momentum_precision": "bfloat16", "patience": 5,
}  # fmt: skip
"""Another value for each field of a recipe that is compared by its value."""

RECORDS: tuple[type[Record], ...] = (Recipe, Protocol, DataUse)
"""Every record whose fields may make a run another one."""

SUITE = """
name = "cifar"
title = "ViT-B/16 on CIFAR"
claim = "A run of the paper."

[[weights]]
systems = ["vit-b16"]
weights = "in21k"

[[transfer]]
kind = "finetune"
datasets = ["{dataset}"]
protocol = "{protocol}"
recipe = "{recipe}"
"""


@pytest.mark.parametrize("record", RECORDS)
def test_every_field_is_compared_or_excused(record: type[Record]) -> None:
    for name, field in record.model_fields.items():
        notes = [note for note in field.metadata if isinstance(note, Compared | NotCompared)]
        assert len(notes) == 1, f"{name}: say Compared(...) or NotCompared(why)"
        if isinstance(notes[0], NotCompared):
            assert len(notes[0].reason) > 10, name
    titles = [compared.title for compared in comparisons(record).values()]
    assert len(set(titles)) == len(titles)


def test_known_effects_are_of_fields_that_are_compared() -> None:
    own = [value for value in vars(differences).values() if isinstance(value, Compared)]
    compared = [*own, *(found for record in RECORDS for found in comparisons(record).values())]
    assert differences.EFFECTS.keys() <= {found.title for found in compared}


def test_another_value_of_a_field_is_a_difference() -> None:
    by_value = {name for name, found in comparisons(Recipe).items() if not found.by_rule}
    assert by_value == CHANGED.keys()
    for name, value in CHANGED.items():
        run = RECIPE.model_copy(update={name: value})
        found = [field.name for field in differences._recipe(run, RECIPE, ()) if field.differs]
        assert found == [comparisons(Recipe)[name].title]


def test_what_the_paper_leaves_open_is_shown_and_not_compared() -> None:
    run = RECIPE.model_copy(update={"precision": "bfloat16", "batch_size": 64})
    found = {field.name: field for field in differences._recipe(run, RECIPE, ("precision",))}
    assert found["arithmetic"].measured == "bfloat16"
    assert found["arithmetic"].published == ""
    assert [name for name, field in found.items() if field.differs] == ["batch size"]


def test_arithmetic_is_a_difference_where_it_is_known() -> None:
    """The released code is known to keep its momentum in bfloat16; nobody printed the rest."""
    published = baselines.recipe("vit-finetune-cifar-code")
    run = published.model_copy(update={"momentum_precision": "float32", "precision": "tf32"})
    rows = [r for r in baselines.published() if r.transfer_id == "vit-finetune-cifar-code"]
    found = differences._recipe(run, published, rows[0].transfer_unprinted)
    assert [str(field) for field in found if field.differs] == [
        "momentum kept in float32, published bfloat16"
    ]
    papers = [r for r in baselines.published() if r.transfer_id == "vit-finetune-cifar"]
    assert all("momentum_precision" in row.transfer_unprinted for row in papers)


def _compared(
    folder: Path, *, dataset: str, protocol: str, recipe: str
) -> tuple[differences.Field, ...]:
    """Return the fields of ViT-B/16 fine-tuned against a number of the ViT paper."""
    file = folder / f"{dataset}.toml"
    file.write_text(SUITE.format(dataset=dataset, protocol=protocol, recipe=recipe))
    graph = graph_of(str(file), None, None, None)
    jobs = {job.job_id: job for job in graph.jobs}
    final = next(job for job in graph.jobs if job.labels.stage == "final")
    row = next(
        row
        for row in baselines.published()
        if (row.system_id, row.upstream_id, row.dataset_id)
        == ("vit-l16" if dataset.startswith("vtab") else "vit-b16", "imagenet-21k", dataset)
    )
    return differences.fields(final, row, jobs=jobs, datasets=graph.datasets)


def _few_shot() -> tuple[differences.Field, ...]:
    """Return the fields of a few-shot job against a number of Table 8."""
    graph = graph_of("position-embeddings", None, None, None, scale="full")
    jobs = {job.job_id: job for job in graph.jobs}
    job = next(job for job in graph.jobs if job.labels.stage == "fewshot")
    row = next(row for row in baselines.published() if row.table == "Table 8")
    return differences.fields(job, row, jobs=jobs, datasets=graph.datasets)


def test_ways_to_prepare_images_have_words_of_their_own() -> None:
    used = {
        name for item in PROTOCOLS.values() for name in (item.train_transform, item.eval_transform)
    }
    assert used <= PREPARATIONS.keys() <= transforms.PRESETS.keys()
    assert len(set(PREPARATIONS.values())) == len(PREPARATIONS)


def test_fields_with_a_rule_of_their_own_are_compared_too(tmp_path: Path) -> None:
    found = _compared(tmp_path, dataset="cifar10", protocol="vit-finetune",
                      recipe="vit-finetune-cifar")  # fmt: skip
    found += _compared(tmp_path, dataset="vtab-dtd", protocol="vtab-384",
                       recipe="vit-finetune-vtab")  # fmt: skip
    found += _few_shot()
    by_rule = {
        compared.title
        for record in RECORDS
        for compared in comparisons(record).values()
        if compared.by_rule
    }
    assert by_rule <= {field.name for field in found}
    differing = {field.name for field in found if field.differs}
    # Files of ImageNet's owner are in another order than its export from TensorFlow Datasets.
    assert differing == {"system", "order of the images"}


def test_larger_known_effects_stand_first(tmp_path: Path) -> None:
    found = _compared(tmp_path, dataset="cifar10", protocol="vit-finetune-512",
                      recipe="vit-finetune-imagenet")  # fmt: skip
    names = [field.name for field in found if field.differs]
    assert names == ["steps", "image size", "split", "learning rates"]


def test_a_job_without_images_has_fields(tmp_path: Path) -> None:
    """`vitbench explain` takes any job, that of the weights too."""
    file = tmp_path / "one.toml"
    file.write_text(SUITE.format(dataset="cifar10", protocol="vit-finetune",
                                 recipe="vit-finetune-cifar"))  # fmt: skip
    graph = graph_of(str(file), None, None, None)
    jobs: dict[str, PlannedJob] = {job.job_id: job for job in graph.jobs}
    for job in graph.jobs:
        assert differences.fields(job, None, jobs=jobs, datasets=graph.datasets)
