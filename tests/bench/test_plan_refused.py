"""What a plan refuses: work that nobody can do, wrong blocks, two results for one cell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.data import catalog
from bench.errors import SuiteError
from bench.plan import plan
from bench.plan import suites as suites
from bench.plan.notes import notes
from bench.plan.spec import JobGraph
from bench.specs import DatasetCard, SplitCard
from tests.bench.blocks import FINETUNE, HEAD, KNN, PRETRAIN, of_stage, planned, stages

# --- what nobody can do ---------------------------------------------------------------------


def test_jft_and_all_that_needs_it_is_refused_with_the_reason(tmp_path: Path) -> None:
    jft = PRETRAIN.replace('"fractals"\nnum_examples = [64]', '"jft-300m"').replace(
        '["vit-micro", "bit-micro"]', '["vit-b16"]'
    )
    jft = jft.replace("pretrain-micro", "vit-pretrain")
    moved = FINETUNE.replace("finetune-micro", "vit-finetune")
    graph = planned(tmp_path, jft, moved)
    assert {job.refused for job in graph.jobs} == {"JFT-300M is not public: internal to Google"}
    assert all(job.exaflops > 0 for job in of_stage(graph, "pretrain"))


def test_weights_that_were_never_released_are_refused(tmp_path: Path) -> None:
    blocks = [
        f'[[weights]]\nsystems = ["vit-l16"]\nweights = "{name}"\n\n' for name in ("jft", "in21k")
    ]
    moved = FINETUNE.replace("finetune-micro", "vit-finetune")
    graph = planned(tmp_path, *blocks, moved)
    refused = {job.labels.upstream: job.refused for job in graph.jobs}
    assert refused["imagenet-21k"] == ""
    assert "never released" in refused["jft-300m"]
    assert sum(bool(job.refused) for job in graph.jobs) == len(graph.jobs) // 2


# --- what is wrong --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("block", "settings", "expected"),
    [
        (KNN, ("transfer[0].systems=['vit-b16']",), "neither pre-trained nor loaded"),
        (KNN, ("transfer[0].datasets=['fractals']",), "fractals has no test split to report on"),
        (KNN, ("transfer[0].datasets=['digit']",), 'datasets[0]: unknown data set "digit". Did'),
        (FINETUNE, ("transfer[0].held_out=0.005",), "transfer[0].held_out: 6 images of digits are"),
        (FINETUNE, ("transfer[0].search=halving",), "transfer[0].search: input should be 'grid'"),
        (FINETUNE, ("system.mine.like=vit-mirco",), 'system.mine.like: unknown system "vit-mirco"'),
        (FINETUNE, ("system.no-positions.args={posem='none'}",), "system.no-positions.args: "),
        (FINETUNE, ("system.vit-micro.like=bit-micro",), "already the name of a system"),
        (
            FINETUNE,
            (
                "recipe.vit-finetune-pets="
                "{steps=1, batch_size=2, optimizer='sgd', schedule='cosine'}",
            ),
            "recipe.vit-finetune-pets: this is already the name of a recipe. Choose another one",
        ),
        (
            FINETUNE,
            ("pretrain[0].epochs=[0, 1]",),
            "pretrain[0].epochs[0]: input should be greater",
        ),
        (FINETUNE, ("pretrain[0].epochs=[1, 1e15]",), "[1]: input should be less than or equal"),
        (FINETUNE, ("pretrain[0].epochs=[1, nan]",), "pretrain[0].epochs[1]: must be a finite"),
        (FINETUNE, ("recipe.pretrain.base_lr=inf",), "recipe.pretrain.base_lr: must be a finite"),
        (
            FINETUNE,
            ("recipe.finetune.learning_rates=[nan]",),
            "learning_rates[0]: must be a finite",
        ),
        (
            FINETUNE,
            ("recipe.pretrain.steps=99999999999",),
            "recipe.pretrain.steps: input should be",
        ),
        (FINETUNE, ("recipe.pretrain.batch_size=9999999",), "recipe.pretrain.batch_size: input"),
        (FINETUNE, ("system.mine.like=mine",), "system.mine.like: mine like mine: a circle"),
        (
            FINETUNE,
            ("system.one.like=two", "system.two.like=three", "system.three.like=two"),
            "system.two.like: two like three like two: a circle",
        ),
        (
            FINETUNE,
            ("system.same.like=vit-micro", "pretrain[0].systems=['vit-micro', 'same']"),
            '"same" is "vit-micro" under another name',
        ),
    ],
    ids=lambda value: value[-1] if isinstance(value, tuple) else "",
)
def test_a_wrong_block_is_told_with_its_key(
    tmp_path: Path, block: str, settings: tuple[str, ...], expected: str
) -> None:
    with pytest.raises(SuiteError) as caught:
        planned(tmp_path, PRETRAIN, block, settings=settings)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


EVALUATE: dict[str, Any] = {"kind": "evaluate", "datasets": ["digits"], "of": "digits"}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"of": "digit"}, 'of: no earlier fine-tuning block trains on "digit". Did you mean "dig'),
        ({"of": ""}, "of: missing: vit-micro is pre-trained here and has no classifier of its own"),
        ({"datasets": ["gratings"]}, "datasets[0]: gratings has 6 classes, but the classifier of"),
    ],
    ids=str,
)
def test_a_classifier_that_is_not_there_or_does_not_fit(
    tmp_path: Path, changes: dict[str, Any], expected: str
) -> None:
    fields = {**EVALUATE, **changes}
    block = "\n[[transfer]]\nprotocol = 'finetune-micro'\n"
    block += "".join(f"{key} = {value!r}\n" for key, value in fields.items())
    with pytest.raises(SuiteError) as caught:
        planned(tmp_path, PRETRAIN, FINETUNE, block)
    assert f"transfer[1].{expected}" in str(caught.value)


@pytest.mark.parametrize(
    ("systems", "weights", "expected"),
    [
        (
            "['vit-b16']",
            "in12k",
            'weights[0].weights: vit-b16 has no weights "in12k". Did you mean',
        ),
        ("['vit-micro']", "in21k", "vit-micro has no weights"),
        ("['vit-b17']", "in21k", 'weights[0].systems[0]: unknown system "vit-b17". Did you mean'),
    ],
)
def test_unknown_weights_are_told(
    tmp_path: Path, systems: str, weights: str, expected: str
) -> None:
    block = f'[[weights]]\nsystems = {systems}\nweights = "{weights}"\n'
    with pytest.raises(SuiteError) as caught:
        planned(tmp_path, block, KNN.replace("fewshot-micro", "vit-fewshot"))
    assert expected in str(caught.value)


def test_a_vtab_protocol_needs_a_thousand_images(tmp_path: Path) -> None:
    cards = dict(catalog.datasets())
    digits = cards["digits"]
    few = {
        **digits.splits,
        "train": digits.splits["train"].model_copy(update={"num_examples": 900}),
    }
    cards["digits"] = digits.model_copy(update={"splits": few})
    path = tmp_path / "kinds.toml"
    path.write_text(HEAD + PRETRAIN + FINETUNE.replace("finetune-micro", "vtab-micro"))
    with pytest.raises(SuiteError, match=r"transfer\[0\]\.protocol: vtab-micro takes 800"):
        plan(suites.load(str(path)), datasets=cards, protocols=catalog.protocols())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (('transfer[0].datasets=["imagenet-v2"]',), "imagenet-v2 has no train split"),
        (('pretrain[0].upstream="imagenet-v2"',), "imagenet-v2 has no train split to learn from"),
        (('pretrain[0].upstream="imagenet-21k"', 'transfer[0].datasets=["imagenet-21k"]'),
         "imagenet-21k has no test split"),
        (('pretrain[0].recipe="vit-micro-masked-patch"',), "BiT-micro has no patches to mask"),
    ],
)  # fmt: skip
def test_what_a_set_or_a_system_cannot_serve_is_told(
    tmp_path: Path, settings: tuple[str, ...], words: str
) -> None:
    with pytest.raises(SuiteError) as caught:
        planned(tmp_path, PRETRAIN, FINETUNE, settings=settings)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ((), ""),
        (("pretrain[0].num_examples=[6]",), "a random part of it cannot be"),
        (('transfer[0].datasets=["tars"]',), "streamed, which is for pre-training only"),
    ],
)
def test_a_streamed_set_serves_whole_pre_training_alone(
    tmp_path: Path, settings: tuple[str, ...], words: str
) -> None:
    splits = {"train": SplitCard(num_examples=12), "test": SplitCard(num_examples=4)}
    tars = DatasetCard(
        name="tars", title="Tars", reader="shards", args={"stream": True}, num_classes=2,
        splits=splits, digest="d",
    )  # fmt: skip
    path = tmp_path / "kinds.toml"
    path.write_text(HEAD + PRETRAIN + FINETUNE, encoding="utf-8")
    whole = ('pretrain[0].upstream="tars"', "pretrain[0].num_examples=[]")
    spec = suites.load(str(path), settings=(*whole, *settings))
    datasets = {**catalog.datasets(), "tars": tars}
    if not words:
        graph = plan(spec, datasets=datasets, protocols=catalog.protocols())
        assert stages(graph)["pretrain"] == 4
        return
    with pytest.raises(SuiteError) as caught:
        plan(spec, datasets=datasets, protocols=catalog.protocols())
    assert words in str(caught.value)


# --- parts of published sets ------------------------------------------------------------------


def in_part(name: str) -> dict[str, DatasetCard]:
    """Return the catalogue with one set of which every second image is here."""
    card = catalog.dataset(name)
    splits = {
        split: part.model_copy(update={"num_examples": part.num_examples // 2})
        for split, part in card.splits.items()
    }
    whole = {split: part.num_examples for split, part in card.splits.items()}
    return {**catalog.datasets(), name: card.model_copy(update={"splits": splits, "whole": whole})}


def plan_in_part(folder: Path, name: str, *blocks: str, limit_steps: int | None = None) -> JobGraph:
    path = folder / "kinds.toml"
    path.write_text(HEAD + "".join(blocks), encoding="utf-8")
    return plan(
        suites.load(str(path), limit_steps=limit_steps),
        datasets=in_part(name),
        protocols=catalog.protocols(),
        file="kinds.toml",
    )


def test_a_part_of_a_published_set_serves_rehearsals_alone(tmp_path: Path) -> None:
    with pytest.raises(SuiteError) as caught:
        plan_in_part(tmp_path, "digits", PRETRAIN, FINETUNE)
    assert str(caught.value) == (
        "kinds.toml: transfer[0]: digits is here in part (648 of 1,297 train, 250 of 500 test "
        "images), for rehearsals alone. Add --limit-steps 2 (--set limit_steps=2), or complete the "
        "files and run `vitbench data prepare digits` again"
    )
    graph = plan_in_part(tmp_path, "digits", PRETRAIN, FINETUNE, limit_steps=2)
    words = "digits: 648 of 1,297 train, 250 of 500 test images: a rehearsal on a part"
    assert graph.parts == (words,)
    assert notes(graph)[0] == words
    assert JobGraph.model_validate_json(graph.model_dump_json()).parts == (words,)
    assert planned(tmp_path, PRETRAIN, FINETUNE).parts == ()


def test_what_weights_were_trained_on_is_the_whole_set_whatever_is_here(tmp_path: Path) -> None:
    """They read none of it: the suite is no rehearsal."""
    block = '[[weights]]\nsystems = ["vit-b16"]\nweights = "in21k"\n'
    moved = FINETUNE.replace("finetune-micro", "vit-finetune")
    graph = plan_in_part(tmp_path, "imagenet-21k", block, moved)
    assert graph.parts == ()
    assert [job.labels for job in graph.jobs] == [
        job.labels for job in planned(tmp_path, block, moved).jobs
    ]


# --- what a report would refuse ---------------------------------------------------------------


def test_two_blocks_for_one_cell_are_refused_with_both_keys(tmp_path: Path) -> None:
    """Other candidates lead to another rate, but both would stand in one cell of the table."""
    other = f"{FINETUNE}learning_rates = [0.01, 0.02]\n"
    with pytest.raises(SuiteError) as caught:
        planned(tmp_path, PRETRAIN, FINETUNE, other)
    words = str(caught.value)
    assert words.startswith(
        "kinds.toml: transfer[1]: a second result of ViT-micro/4 on digits (finetune, seed 0)"
    )
    assert "transfer[0]" in words


def test_the_same_block_twice_is_the_same_jobs(tmp_path: Path) -> None:
    once, twice = planned(tmp_path, PRETRAIN, KNN), planned(tmp_path, PRETRAIN, KNN, KNN)
    assert [job.job_id for job in once.jobs] == [job.job_id for job in twice.jobs]


def test_alternatives_of_one_cell_may_compete(tmp_path: Path) -> None:
    blocks = (
        f'{FINETUNE}best_of = "setup"\n',
        f'{FINETUNE}best_of = "setup"\nlearning_rates = [0.01, 0.02]\n',
    )
    assert len(of_stage(planned(tmp_path, PRETRAIN, *blocks), "final")) == 8
