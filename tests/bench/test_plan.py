"""What each kind of block becomes: which jobs, what they read, what they need."""

from __future__ import annotations

from pathlib import Path

import pytest

import baselines
from bench.errors import SuiteError
from bench.plan import suites as suites
from tests.bench.blocks import FINETUNE, KNN, PRETRAIN, of_stage, planned, stages

# --- fine-tuning ----------------------------------------------------------------------------


def test_rates_and_held_out_share_come_from_the_recipe_where_the_suite_gives_none(
    tmp_path: Path,
) -> None:
    graph = planned(tmp_path, PRETRAIN, FINETUNE)
    assert stages(graph) == {"pretrain": 4, "candidate": 4, "select": 2, "final": 4}
    candidates = of_stage(graph, "candidate")
    assert {job.spec.recipe.base_lr for job in candidates if job.spec.recipe} == {0.03, 0.1}
    assert {job.spec.data.held_out for job in candidates} == {0.2}
    own = planned(
        tmp_path,
        PRETRAIN,
        FINETUNE,
        settings=("transfer[0].learning_rates=[0.5]", "transfer[0].held_out=0.3"),
    )
    assert stages(own) == {"pretrain": 4, "final": 4}
    assert all(job.spec.recipe and job.spec.recipe.base_lr == 0.5 for job in of_stage(own, "final"))


def test_a_job_never_carries_the_defaults_of_a_recipe(tmp_path: Path) -> None:
    for job in planned(tmp_path, PRETRAIN, FINETUNE).jobs:
        recipe = job.spec.recipe
        if recipe is not None:
            assert (recipe.learning_rates, recipe.held_out, recipe.source) == ((), None, "")


def test_one_rate_needs_no_choice_unless_setups_compete(tmp_path: Path) -> None:
    single = FINETUNE.replace('"finetune"\n', '"one-rate"\n', 2).replace(
        'kind = "one-rate"', 'kind = "finetune"'
    )
    assert stages(planned(tmp_path, PRETRAIN, single)) == {"pretrain": 4, "final": 4}
    best = 'best_of = "setup"\n'
    graph = planned(tmp_path, PRETRAIN, FINETUNE + best, single + best)
    assert stages(graph) == {"pretrain": 4, "candidate": 6, "select": 4, "final": 8}
    assert {job.labels.best_of for job in of_stage(graph, "final")} == {"setup"}
    assert len({job.name for job in graph.jobs}) == len(graph.jobs)


def test_a_search_is_one_job_in_place_of_candidates_and_selection(tmp_path: Path) -> None:
    graph = planned(tmp_path, PRETRAIN, FINETUNE + 'search = "asha"\n')
    assert stages(graph) == {"pretrain": 4, "select": 2, "final": 4}
    for job in of_stage(graph, "select"):
        assert job.spec.kind == "search"
        assert job.spec.params == {"learning_rates": (0.03, 0.1)}
        assert job.spec.recipe is not None
        assert job.spec.recipe.base_lr is None
        assert job.spec.data.held_out == 0.2
        assert set(job.spec.needs) == {"checkpoint"}
        assert job.train_examples == 2 * 10 * 16
    searches = {job.job_id for job in of_stage(graph, "select")}
    assert {job.spec.needs["select"] for job in of_stage(graph, "final")} == searches


def test_vtab_chooses_on_its_own_splits_and_trains_on_a_thousand_images(tmp_path: Path) -> None:
    vtab = FINETUNE.replace("finetune-micro", "vtab-micro").replace(
        '["digits"]', '["digits", "gratings"]'
    )
    graph = planned(tmp_path, PRETRAIN, vtab)
    for job in (*of_stage(graph, "candidate"), *of_stage(graph, "select")):
        assert (job.spec.data.train_split, job.spec.data.eval_split) == ("train800", "val200")
        assert job.spec.data.held_out is None
    for job in of_stage(graph, "final"):
        assert (job.spec.data.train_split, job.spec.data.eval_split) == ("train800val200", "test")


def test_a_length_in_epochs_follows_the_images_of_each_run(tmp_path: Path) -> None:
    settings = ("recipe.finetune={epochs=2, batch_size=16, optimizer='sgd', schedule='cosine'}",)
    settings += ("transfer[0].learning_rates=[0.1, 0.2]",)
    held = planned(tmp_path, PRETRAIN, FINETUNE, settings=settings)
    steps = {stage: of_stage(held, stage)[0].num_steps for stage in ("candidate", "final")}
    assert steps == {"candidate": round(2 * (1297 - 130) / 16), "final": round(2 * 1297 / 16)}
    settings += ("transfer[0].protocol=vtab-micro",)
    vtab = planned(tmp_path, PRETRAIN, FINETUNE, settings=settings)
    steps = {stage: of_stage(vtab, stage)[0].num_steps for stage in ("candidate", "final")}
    assert steps == {"candidate": 100, "final": 125}


# --- frozen features and classifiers --------------------------------------------------------


def test_a_probe_holds_out_a_share_and_neighbours_none(tmp_path: Path) -> None:
    probe = KNN.replace('"knn"', '"probe"').replace("neighbours = [10, 20]", "l2s = [0.01, 1.0]")
    graph = planned(tmp_path, PRETRAIN, KNN, probe)
    assert stages(graph) == {"pretrain": 4, "knn": 4, "probe": 4}
    for job in of_stage(graph, "knn"):
        assert job.spec.params == {"neighbours": (10, 20), "temperature": 0.07}
        assert job.spec.data.held_out is None
    for job in of_stage(graph, "probe"):
        assert job.spec.params == {"l2s": (0.01, 1.0)}
        assert job.spec.data.held_out == 0.1
        assert job.spec.data.eval_split == "test"


def test_classifiers_are_evaluated_where_they_were_fine_tuned(tmp_path: Path) -> None:
    evaluate = """
[[transfer]]
kind = "evaluate"
of = "digits"
datasets = ["digits"]
protocol = "finetune-micro"
"""
    graph = planned(tmp_path, PRETRAIN, FINETUNE, evaluate)
    finals = {job.job_id: job for job in of_stage(graph, "final")}
    found = of_stage(graph, "evaluate")
    assert len(found) == 4
    for job in found:
        classifier = finals[job.spec.needs["checkpoint"]]
        assert job.spec.seed == classifier.spec.seed
        assert job.labels.system == classifier.labels.system
        assert job.labels.recipe == "finetune"
        assert job.spec.params == {"scoring": "top1"}
        assert (job.spec.data.train_split, job.spec.data.eval_split) == ("", "test")
        assert job.train_examples == 0


def test_public_weights_are_one_job_and_a_transfer_of_each_seed(tmp_path: Path) -> None:
    weights = '[[weights]]\nsystems = ["vit-b16", "bit-r50x1"]\nweights = "in21k-in1k"\n'
    moved = FINETUNE.replace("finetune-micro", "vit-finetune")
    shots = KNN.replace("fewshot-micro", "vit-fewshot")
    evaluate = """
[[transfer]]
kind = "evaluate"
datasets = ["imagenet-1k"]
protocol = "vit-finetune"
"""
    graph = planned(tmp_path, weights, moved, shots, evaluate)
    assert stages(graph) == {
        "weights": 2, "candidate": 4, "select": 2, "final": 4, "knn": 2, "evaluate": 2,
    }  # fmt: skip
    first = of_stage(graph, "weights")[0]
    assert (first.dataset, first.labels.upstream) == ("", "imagenet-21k")
    assert first.spec.num_classes == 1000
    assert first.spec.params["weights"] == "in21k-in1k"
    assert first.spec.seed == 0
    assert (first.exaflops, first.pretrain_exaflops, first.refused) == (0, 0, "")
    assert {job.spec.seed for job in of_stage(graph, "final")} == {0, 1}
    starts = {job.job_id for job in of_stage(graph, "weights")}
    assert {job.spec.needs["checkpoint"] for job in of_stage(graph, "final")} == starts


def test_shots_of_imagenet_come_from_its_first_65000_images(tmp_path: Path) -> None:
    """big_vision, configs/common_fewshot.py; sets that are not larger are used whole."""
    weights = '[[weights]]\nsystems = ["vit-b16"]\nweights = "in21k"\n'
    shots = """
[[transfer]]
kind = "fewshot"
datasets = ["imagenet-1k", "cifar100"]
protocol = "vit-fewshot"
shots = [1, 10]
"""
    graph = planned(tmp_path, weights, shots)
    found = {job.dataset: job for job in of_stage(graph, "fewshot")}
    whole = {"shots": (1, 10), "draws": 3, "l2": 1024.0}
    assert found["imagenet-1k"].spec.params == {**whole, "pool": 65_000}
    assert found["cifar100"].spec.params == whole
    flops = baselines.forward_flops(baselines.system("vit-b16"), 224)
    for name, num_images in (("imagenet-1k", 65_000 + 50_000), ("cifar100", 60_000)):
        assert found[name].exaflops == pytest.approx(num_images * flops / 1e18)
        assert found[name].spec.protocol.fewshot_pool is None  # its use stands in the arguments
    with pytest.raises(SuiteError, match=r"imagenet-1k, of which vit-fewshot uses 65,000"):
        planned(tmp_path, weights, shots.replace("10]", "66]"))


def test_a_variant_is_a_system_of_its_own(tmp_path: Path) -> None:
    graph = planned(
        tmp_path, PRETRAIN, KNN, settings=("pretrain[0].systems=['no-positions', 'vit-micro']",)
    )
    none, plain = (
        job for job in graph.jobs if job.labels.stage == "pretrain" and not job.spec.seed
    )
    assert none.spec.system.args["posemb"] == "none"
    assert plain.num_params - none.num_params == 10 * 64  # nine patches and the class token
    assert none.labels.system == none.labels.title == "no-positions"


def test_two_recipes_of_one_system_keep_their_own_choices_and_names(tmp_path: Path) -> None:
    again = PRETRAIN.replace('recipe = "pretrain"', 'recipe = "vit-micro-pretrain"')
    graph = planned(tmp_path, PRETRAIN, again, FINETUNE)
    assert stages(graph) == {"pretrain": 8, "candidate": 8, "select": 4, "final": 8}
    assert len({job.name for job in graph.jobs}) == len(graph.jobs)


def test_a_block_may_name_some_of_the_systems(tmp_path: Path) -> None:
    graph = planned(tmp_path, PRETRAIN, KNN + 'systems = ["BiT-micro"]\n')
    assert {job.labels.system for job in of_stage(graph, "knn")} == {"bit-micro"}


def test_a_system_may_be_like_another_of_the_suite_wherever_that_stands(tmp_path: Path) -> None:
    settings = (
        "system.all={like='both', args={width=32}}",
        "system.both={like='no-positions', args={depth=1}}",
        "pretrain[0].systems=['all']",
    )
    graph = planned(tmp_path, PRETRAIN, KNN, settings=settings)
    args = graph.jobs[0].spec.system.args
    assert (args["posemb"], args["depth"], args["width"]) == ("none", 1, 32)


# --- calibration ------------------------------------------------------------------------------


CALIBRATION = """
[[transfer]]
kind = "calibration"
datasets = ["digits"]
protocol = "finetune-micro"
of = "digits"
bins = 10
"""


def test_calibration_takes_the_classifiers_that_fine_tuning_left(tmp_path: Path) -> None:
    graph = planned(tmp_path, PRETRAIN, FINETUNE, CALIBRATION)
    finals = {job.job_id for job in of_stage(graph, "final")}
    jobs = of_stage(graph, "calibration")
    assert {job.spec.needs["checkpoint"] for job in jobs} == finals
    assert all(job.spec.params == {"bins": 10} for job in jobs)
    assert all(job.exaflops > 0 and not job.train_examples for job in jobs)


@pytest.mark.parametrize(
    ("blocks", "expected"),
    [
        ((CALIBRATION,), 'transfer[0].of: no earlier fine-tuning block trains on "digits"'),
        ((FINETUNE, CALIBRATION.replace('of = "digits"', "")), "transfer[1].of: missing"),
        ((FINETUNE, CALIBRATION.replace("bins = 10", "shots = [1]")), 'a key of kind = "fewshot"'),
        (
            (FINETUNE, CALIBRATION.replace('datasets = ["digits"]', 'datasets = ["imagenet-a"]')),
            "imagenet-a has",
        ),
    ],
)
def test_what_cannot_be_calibrated_is_refused(
    tmp_path: Path, blocks: tuple[str, ...], expected: str
) -> None:
    with pytest.raises(SuiteError) as caught:
        planned(tmp_path, PRETRAIN, *blocks)
    assert expected in str(caught.value)


# --- protocols of a suite's own ---------------------------------------------------------------

PROTOCOL = """
[protocol.mid]
image_size_px = 32
train_transform = "shift"
eval_transform = "resize"
"""


def test_a_protocol_of_the_suites_own_is_what_the_job_gets(tmp_path: Path) -> None:
    moved = KNN.replace("fewshot-micro", "mid")
    graph = planned(tmp_path, PROTOCOL, PRETRAIN, moved)
    (protocol,) = {job.spec.protocol for job in of_stage(graph, "knn")}
    assert protocol is not None
    assert (protocol.name, protocol.image_size_px, protocol.version) == ("mid", 32, 1)
    assert graph.suite == type(graph.suite).model_validate(graph.suite.model_dump())


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (('"resize"', '"rezise"'), 'protocol.mid.eval_transform: unknown transform "rezise". Did'),
        (("mid", "vit-finetune"), "protocol.vit-finetune: this is already the name of a protocol"),
        (("= 32", "= 0"), "protocol.mid.image_size_px: input should be greater than 0, not 0"),
        (("image_size_px", "image_size"), "protocol.mid.image_size"),
    ],
)
def test_a_wrong_protocol_is_refused_with_its_key(
    tmp_path: Path, change: tuple[str, str], expected: str
) -> None:
    block = PROTOCOL.replace(*change)
    with pytest.raises(SuiteError) as caught:
        planned(tmp_path, block, PRETRAIN, KNN.replace("fewshot-micro", "mid"))
    assert expected in str(caught.value)
