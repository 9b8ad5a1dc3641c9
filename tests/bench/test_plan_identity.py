"""A job's identity changes when, and only when, something that changes its number changes.

Every field of every record is walked: a new field that is in neither list below fails here, until
somebody says whether it changes a number.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import pytest

import baselines
from bench.data import catalog
from bench.errors import SuiteError
from bench.plan import plan
from bench.plan import suites as suites
from bench.plan.spec import JobGraph, SuiteSpec
from bench.specs import DatasetCard, JobSpec, Protocol, Recipe, Record, SplitCard, SystemCard

SUITE = """
name = "identity"
title = "Every kind of job"
claim = "Identity follows the number."
scale = "smoke"
seeds = [0]

[scales.smoke]
expected = "words"

[recipe.pretrain]
steps = 30
batch_size = 16
optimizer = "sgd"
base_lr = 3e-3
schedule = "linear"

[recipe.finetune]
steps = 10
batch_size = 16
optimizer = "sgd"
schedule = "cosine"
learning_rates = [0.03, 0.1]

[system.mine]
like = "vit-micro"
title = "Mine"
args = { depth = 1 }

[[pretrain]]
systems = ["mine"]
upstream = "fractals"
num_examples = [64]
recipe = "pretrain"
protocol = "pretrain-micro"

[[transfer]]
kind = "finetune"
datasets = ["digits"]
protocol = "finetune-micro"
recipe = "finetune"

[[transfer]]
kind = "fewshot"
datasets = ["digits"]
protocol = "fewshot-micro"
shots = [1]

[[transfer]]
kind = "knn"
datasets = ["digits"]
protocol = "fewshot-micro"
neighbours = [10]

[[transfer]]
kind = "probe"
datasets = ["digits"]
protocol = "fewshot-micro"
l2s = [0.1]

[[transfer]]
kind = "evaluate"
of = "digits"
datasets = ["digits"]
protocol = "finetune-micro"
"""


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> SuiteSpec:
    path = tmp_path_factory.mktemp("identity") / "identity.toml"
    path.write_text(SUITE, encoding="utf-8")
    return suites.load(str(path))


def planned(
    suite: SuiteSpec,
    *,
    datasets: Mapping[str, DatasetCard] | None = None,
    protocols: Mapping[str, Protocol] | None = None,
) -> JobGraph:
    return plan(
        suite,
        datasets=datasets or catalog.datasets(),
        protocols=protocols or catalog.protocols(),
    )


def ids(graph: JobGraph) -> set[str]:
    return {job.job_id for job in graph.jobs}


# --- another value of any field -------------------------------------------------------------


def another(annotation: Any, value: Any) -> Any:
    """Return a value of this annotation that is not `value`."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return next(word for word in inner if word != value)
    if origin in (typing.Union, types.UnionType):
        kinds = [kind for kind in inner if kind is not type(None)]
        return another(kinds[0], value)
    if annotation is Recipe:
        return Recipe(steps=1, batch_size=1, optimizer="sgd", schedule="cosine")
    if origin is dict:
        return {**(value or {}), "more": "1"}
    if origin is tuple:
        return (*(value or ()), 0.5 if inner[0] is float else 7)
    if annotation is bool:
        return not value
    if annotation is int:
        return (value or 0) + 7
    if annotation is float:
        return 0.5 if value != 0.5 else 0.25
    assert annotation is str, annotation
    return (value or "") + "x"


def changed(record: Record) -> Iterator[tuple[str, Any]]:
    """Yield the path of every leaf field of a record, and a copy with another value there.

    Copies are not validated: what is tested is what the identity depends on.
    """
    for name, info in type(record).model_fields.items():
        value = getattr(record, name)
        if isinstance(value, Record):
            for path, copy in changed(value):
                yield f"{name}.{path}", record.model_copy(update={name: copy})
        else:
            other = another(info.annotation, value)
            yield name, record.model_copy(update={name: other})


# --- the identity itself --------------------------------------------------------------------


def test_every_field_of_a_spec_is_part_of_its_identity(suite: SuiteSpec) -> None:
    for job in planned(suite).jobs:
        paths = set()
        for path, spec in changed(job.spec):
            assert spec.job_id != job.job_id, f"{job.spec.kind}: {path}"
            paths.add(path)
        assert {"kind_version", "system.args", "data.digest", "protocol.version", "seed"} <= paths


def test_the_order_of_arguments_is_not(suite: SuiteSpec) -> None:
    for job in planned(suite).jobs:
        spec = job.spec
        turned = spec.model_copy(
            update={
                "params": dict(reversed(spec.params.items())),
                "needs": dict(reversed(spec.needs.items())),
            }
        )
        assert turned.job_id == spec.job_id
        assert JobSpec.model_validate_json(spec.model_dump_json()).job_id == spec.job_id


# --- what a suite, a card or a recipe says ---------------------------------------------------

CHANGES_A_SUITE_NUMBER = {"seeds", "num_threads", "limit_steps", "gpus", "tpus"}
"""Top-level fields of a suite that change numbers; its blocks are walked below."""
NO_NUMBER_IN_A_SUITE = {
    "name", "title", "claim", "source", "decoders", "device_memory_gib", "max_attempts", "report",
    "scales", "workers",
}  # fmt: skip
BLOCKS = {
    "scale",
    "pretrain",
    "weights",
    "transfer",
    "pair",
    "recipe",
    "protocol",
    "dataset",
    "system",
    "profile",
}


def test_words_and_resources_of_a_suite_change_no_job(suite: SuiteSpec) -> None:
    assert set(SuiteSpec.model_fields) == CHANGES_A_SUITE_NUMBER | NO_NUMBER_IN_A_SUITE | BLOCKS
    before = ids(planned(suite))
    for path, other in changed(suite.model_copy(update=dict.fromkeys(BLOCKS, ""))):
        field = path.partition(".")[0]
        if field in BLOCKS or field == "scales":
            continue
        restored = other.model_copy(update={name: getattr(suite, name) for name in BLOCKS})
        if path == "gpus":  # the walk finds a part of one, which is no job's that trains
            restored = restored.model_copy(update={"gpus": 1.0})
        assert (ids(planned(restored)) != before) == (field in CHANGES_A_SUITE_NUMBER), path


NO_NUMBER_IN_A_RECIPE = {"source", "deterministic"}
"""The same threads of a CPU give the same bits, asked or not."""
DEFAULTS_IN_A_RECIPE = {"learning_rates", "held_out"}
"""Defaults for the planner: they change which jobs there are, not what a job is."""


def test_a_recipe_changes_its_jobs_unless_its_source_does(suite: SuiteSpec) -> None:
    recipe = suite.recipe["pretrain"]
    before = planned(suite).jobs[0].job_id
    for path, other in changed(recipe):
        if path in ("epochs", "examples"):
            other = other.model_copy(update={"steps": None})
        if path == "precision":  # the walk finds one that CPUs do not have
            other = other.model_copy(update={"precision": "bfloat16"})
        graph = planned(suite.model_copy(update={"recipe": {**suite.recipe, "pretrain": other}}))
        same = path in NO_NUMBER_IN_A_RECIPE | DEFAULTS_IN_A_RECIPE
        assert (graph.jobs[0].job_id == before) == same, path


def test_a_gpu_is_asked_for_the_same_bits_by_the_recipe(suite: SuiteSpec) -> None:
    on_gpu = suite.model_copy(update={"gpus": 1})
    recipes = {
        name: {**suite.recipe, "pretrain": suite.recipe["pretrain"].model_copy(update=update)}
        for name, update in {
            "fast": {"deterministic": False}, "tf32": {"precision": "tf32"},
            "float16": {"precision": "float16"}, "as before": {},
        }.items()
    }  # fmt: skip
    found = {
        name: planned(on_gpu.model_copy(update={"recipe": recipe})).jobs[0]
        for name, recipe in recipes.items()
    }
    assert len({job.job_id for job in found.values()}) == 4
    assert {job.spec.device for job in found.values()} == {"cuda"}
    assert planned(suite).jobs[0].spec.device == "cpu"


@pytest.mark.parametrize("precision", ["tf32", "float16"])
def test_arithmetic_that_cpus_do_not_have_is_refused(suite: SuiteSpec, precision: str) -> None:
    recipe = suite.recipe["pretrain"].model_copy(update={"precision": precision})
    asked = suite.model_copy(update={"recipe": {**suite.recipe, "pretrain": recipe}})
    with pytest.raises(SuiteError, match=rf"{precision} is arithmetic of GPUs, .* runs on CPUs"):
        planned(asked)


def test_the_names_of_recipes_and_systems_change_no_job(suite: SuiteSpec, tmp_path: Path) -> None:
    text = SUITE.replace('"mine"', '"yours"').replace("system.mine", "system.yours")
    text = text.replace('title = "Mine"', 'title = "Yours"').replace("recipe.pretrain", "recipe.p")
    text = text.replace('recipe = "pretrain"', 'recipe = "p"')
    path = tmp_path / "renamed.toml"
    path.write_text(text, encoding="utf-8")
    renamed = planned(suites.load(str(path)))
    assert ids(renamed) == ids(planned(suite))
    assert {job.labels.system for job in renamed.jobs} == {"yours"}


NO_NUMBER_ON_A_DATASET = {
    "title", "reader", "args", "class_names", "metric", "group", "source", "licence",
    "how_to_get",
}  # fmt: skip
"""Fields of a data card besides the content: the digest stands for what a reader yields."""


@pytest.mark.parametrize("name", ["fractals", "digits"])
def test_a_data_card_changes_jobs_by_its_content_alone(suite: SuiteSpec, name: str) -> None:
    cards = catalog.datasets()
    before = ids(planned(suite))
    for path, other in changed(cards[name]):
        if path == "name":  # it is the key, too
            continue
        if path == "splits":
            num = cards[name].splits["train"].num_examples * 2
            other = other.model_copy(
                update={"splits": {**cards[name].splits, "train": SplitCard(num_examples=num)}}
            )
        if path == "num_classes" and name == "digits":
            other = other.model_copy(update={"num_classes": 9})
        if path == "whole":  # a part is planned where steps are limited; its digest is its own
            limited = suite.model_copy(update={"limit_steps": 2})
            part = planned(limited, datasets={**cards, name: other})
            assert part.parts
            assert ids(part) == ids(planned(limited))
            continue
        after = ids(planned(suite, datasets={**cards, name: other}))
        same = path in NO_NUMBER_ON_A_DATASET
        if path == "splits":  # lengths are in steps here, and the digest holds the images
            same = True
        if path == "scoring":  # read by `evaluate` alone
            same = name == "fractals"
        assert (after == before) == same, path


@pytest.mark.parametrize("name", ["pretrain-micro", "finetune-micro", "fewshot-micro"])
def test_a_protocol_changes_its_jobs_unless_its_source_does(suite: SuiteSpec, name: str) -> None:
    protocols = catalog.protocols()
    before = ids(planned(suite))
    for path, other in changed(protocols[name]):
        if path in ("image_size_px", "fewshot_pool"):
            other = other.model_copy(update={path: 20})
        after = ids(planned(suite, protocols={**protocols, name: other}))
        same = path == "source"
        if path == "fewshot_pool":  # read by `fewshot` alone
            same = name != "fewshot-micro"
        assert (after == before) == same, path


def test_a_pool_changes_few_shot_alone_and_only_where_the_set_is_larger(suite: SuiteSpec) -> None:
    protocols, num_train = catalog.protocols(), catalog.dataset("digits").splits["train"]
    before = planned(suite).jobs

    def changed_by(pool: int) -> set[str]:
        other = protocols["fewshot-micro"].model_copy(update={"fewshot_pool": pool})
        after = planned(suite, protocols={**protocols, "fewshot-micro": other}).jobs
        return {one.spec.kind for one, two in zip(before, after, strict=True)
                if one.job_id != two.job_id}  # fmt: skip

    assert changed_by(num_train.num_examples) == set()
    assert changed_by(num_train.num_examples - 1) == {"fewshot"}


NUMBER_ON_A_SYSTEM = {"family", "args", "version", "follows"}


def test_a_system_is_used_by_its_function_alone() -> None:
    card = baselines.system("vit-micro")
    before = baselines.use(card)
    for path, other in changed(card):
        assert (baselines.use(other) == before) == (path not in NUMBER_ON_A_SYSTEM), path
    assert set(SystemCard.model_fields) >= NUMBER_ON_A_SYSTEM


def test_the_planner_leaves_no_default_of_a_recipe_in_a_job(suite: SuiteSpec) -> None:
    empty = {name: Recipe.model_fields[name].default for name in DEFAULTS_IN_A_RECIPE | {"source"}}
    for job in planned(suite).jobs:
        if job.spec.recipe is not None:
            assert {name: getattr(job.spec.recipe, name) for name in empty} == empty
