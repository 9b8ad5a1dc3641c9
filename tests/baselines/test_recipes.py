"""Recipes: the published facts, copied by value from the tables, and nothing else."""

from __future__ import annotations

import doctest

import pytest

import baselines
from baselines import bit_rule
from baselines.protocols import PROTOCOLS
from bench.specs import Recipe

JFT, I21K, I1K = 7, 90, 300
"""Epochs; L/16 and H/14 at 14, and L at 30, are set by suites or stand below."""

# name: epochs, base rate, decay, weight decay, dropout, clipping (arXiv:2010.11929, Table 3)
TABLE_3 = {
    "vit-b-pretrain-jft": (JFT, 8e-4, "linear", 0.1, 0.0, None),
    "vit-l32-pretrain-jft": (JFT, 6e-4, "linear", 0.1, 0.0, None),
    "vit-l16-pretrain-jft": (JFT, 4e-4, "linear", 0.1, 0.0, None),
    "vit-h14-pretrain-jft": (14, 3e-4, "linear", 0.1, 0.0, None),
    "r50-pretrain-jft": (JFT, 1e-3, "linear", 0.1, 0.0, None),
    "r101-pretrain-jft": (JFT, 8e-4, "linear", 0.1, 0.0, None),
    "r152-pretrain-jft": (JFT, 6e-4, "linear", 0.1, 0.0, None),
    "r50-vit-b-pretrain-jft": (JFT, 8e-4, "linear", 0.1, 0.0, None),
    "r50-vit-l32-pretrain-jft": (JFT, 2e-4, "linear", 0.1, 0.0, None),
    "r50-vit-l16-pretrain-jft": (JFT, 4e-4, "linear", 0.1, 0.0, None),
    "vit-b-pretrain-i21k": (I21K, 1e-3, "linear", 0.03, 0.1, None),
    "vit-l-pretrain-i21k": (I21K, 1e-3, "linear", 0.03, 0.1, None),
    "vit-pretrain-i1k": (I1K, 3e-3, "cosine", 0.3, 0.1, 1.0),
}

IMAGENET_RATES = (0.003, 0.01, 0.03, 0.06)
OTHER_RATES = (0.001, 0.003, 0.01, 0.03)

# name: steps, rates, share held out (arXiv:2010.11929, Table 4 and appendix B.1.1), warm-up (code)
TABLE_4 = {
    "vit-finetune-imagenet": (20_000, IMAGENET_RATES, 0.01, 500),
    "vit-finetune-imagenet-polyak": (20_000, IMAGENET_RATES, 0.01, 500),
    "vit-finetune-cifar": (10_000, OTHER_RATES, 0.02, 500),
    "vit-finetune-pets": (500, OTHER_RATES, 0.1, 100),
    "vit-finetune-flowers": (500, OTHER_RATES, 0.1, 100),
    "vit-finetune-vtab": (2_500, (), None, 0),
}

# name: steps, share held out, warm-up, dropout (released code)
CODE = {
    "vit-finetune-imagenet-code": (20_000, 0.01, 500, 0.0),
    "vit-finetune-cifar-code": (10_000, 0.02, 500, 0.0),
    "vit-finetune-pets-code": (500, 0.1, 100, 0.0),
    "vit-finetune-flowers-code": (500, 0.1, 100, 0.0),
    "vit-finetune-imagenet-code-dropout": (20_000, 0.01, 500, 0.1),
    "vit-finetune-cifar-code-dropout": (10_000, 0.02, 500, 0.1),
}

# name: (warm-up, decays, end), mixup (arXiv:1912.11370, section 3.3; bit_hyperrule.py)
HYPERRULE = {
    "bit-hyperrule-small": ((0, 150, 300, 450, 500), 0.0),
    "bit-hyperrule-medium": ((0, 3000, 6000, 9000, 10_000), 0.1),
    "bit-hyperrule-large": ((0, 6000, 12_000, 18_000, 20_000), 0.1),
    "bit-hyperrule-small-code": ((100, 200, 300, 400, 500), 0.0),
    "bit-hyperrule-medium-code": ((500, 3000, 6000, 9000, 10_000), 0.1),
    "bit-hyperrule-large-code": ((500, 6000, 12_000, 18_000, 20_000), 0.1),
}

SGD_PRETRAINING = {
    "r50-pretrain-jft-sgd": (7, (10 / 40, 23 / 40, 30 / 40, 37 / 40)),
    "r152x2-pretrain-jft-sgd": (7, (10 / 40, 23 / 40, 30 / 40, 37 / 40)),
    "bit-pretrain-i1k": (90, (30 / 90, 60 / 90, 80 / 90)),
    "bit-pretrain-i21k": (90, (30 / 90, 60 / 90, 80 / 90)),
    "bit-pretrain-jft": (40, (10 / 40, 23 / 40, 30 / 40, 37 / 40)),
}

OTHERS = {"vit-masked-patch-jft", "augreg-pretrain-i21k", "augreg-finetune", "vtab-script"}

MICRO = {
    "vit-micro-pretrain",
    "bit-micro-pretrain",
    "hybrid-micro-pretrain",
    "bit-micro-pretrain-sgd",
    "vit-micro-masked-patch",
    "micro-finetune",
    "bit-micro-finetune",
    "micro-finetune-vtab",
}


def facts(recipe: Recipe) -> dict[str, object]:
    """What a recipe says beyond the defaults, without its source."""
    return recipe.model_dump(exclude_defaults=True, exclude={"source"})


def without_none(**fields: object) -> dict[str, object]:
    return {key: value for key, value in fields.items() if value not in (None, 0, 0.0, ())}


def test_every_recipe_is_checked_here_and_names_its_source() -> None:
    checked = {*TABLE_3, *TABLE_4, *CODE, *HYPERRULE, *SGD_PRETRAINING, *OTHERS, *MICRO}
    assert set(baselines.recipes()) == checked
    for name, recipe in baselines.recipes().items():
        known = ("arXiv:", "google-research/", "tuned for")
        assert recipe.source.startswith(known), name
        assert "\n" not in recipe.source


def test_the_header_lists_every_recipe() -> None:
    from importlib.resources import files

    text = (files("baselines") / "recipes.toml").read_text(encoding="utf-8")
    header = {word.rstrip(",") for line in text.splitlines() if line.startswith("#")
              for word in line.split()}  # fmt: skip
    assert set(baselines.recipes()) <= header


@pytest.mark.parametrize("name", TABLE_3)
def test_table_3(name: str) -> None:
    epochs, rate, schedule, decay, dropout, clip = TABLE_3[name]
    assert facts(baselines.recipe(name)) == without_none(
        epochs=epochs, batch_size=4096, optimizer="adam", base_lr=rate, schedule=schedule,
        warmup_steps=10_000, weight_decay=decay, dropout=dropout, clip_norm=clip,
    )  # fmt: skip


@pytest.mark.parametrize("name", TABLE_4)
def test_table_4(name: str) -> None:
    steps, rates, held_out, warmup = TABLE_4[name]
    assert facts(baselines.recipe(name)) == without_none(
        steps=steps, batch_size=512, optimizer="sgd", learning_rates=rates, held_out=held_out,
        base_lr=0.01 if name.endswith("vtab") else None,
        warmup_steps=warmup,
        schedule="cosine", clip_norm=1.0, polyak=0.9999 if name.endswith("polyak") else None,
    )  # fmt: skip


@pytest.mark.parametrize("name", CODE)
def test_released_code(name: str) -> None:
    steps, held_out, warmup, dropout = CODE[name]
    assert facts(baselines.recipe(name)) == without_none(
        steps=steps, batch_size=512, optimizer="sgd", base_lr=0.03, held_out=held_out,
        schedule="cosine", warmup_steps=warmup, clip_norm=1.0, dropout=dropout,
        momentum_precision="bfloat16",
    )  # fmt: skip


@pytest.mark.parametrize("name", HYPERRULE)
def test_bit_hyperrule(name: str) -> None:
    (warmup, *drops, end), mixup = HYPERRULE[name]
    assert facts(baselines.recipe(name)) == without_none(
        steps=end, batch_size=512, optimizer="sgd", base_lr=0.003, schedule="constant",
        warmup_steps=warmup, drop_steps=tuple(drops), mixup=mixup,
    )  # fmt: skip


@pytest.mark.parametrize("name", SGD_PRETRAINING)
def test_sgd_pretraining(name: str) -> None:
    epochs, shares = SGD_PRETRAINING[name]
    assert facts(baselines.recipe(name)) == {
        "epochs": epochs, "batch_size": 4096, "optimizer": "sgd",
        "base_lr": pytest.approx(0.03 * 4096 / 256), "schedule": "constant",
        "drop_shares": pytest.approx(shares), "warmup_steps": 5000, "weight_decay": 1e-4,
        "coupled_decay": True,
    }  # fmt: skip


def test_masked_patch_prediction() -> None:
    assert facts(baselines.recipe("vit-masked-patch-jft")) == {
        "steps": 1_000_000, "batch_size": 4096, "optimizer": "adam", "base_lr": 2e-4,
        "schedule": "cosine", "warmup_steps": 10_000, "objective": "masked-patch",
    }  # fmt: skip


def test_augreg_and_vtab_scripts() -> None:
    pretraining = facts(baselines.recipe("augreg-pretrain-i21k"))
    assert pretraining | {"epochs": 0} == {
        "epochs": 0, "batch_size": 4096, "optimizer": "adam", "base_lr": 1e-3,
        "schedule": "cosine", "warmup_steps": 10_000,
        # big_vision's 1e-4 is not multiplied by the rate of 1e-3.
        "weight_decay": pytest.approx(1e-4 / 1e-3),
        "clip_norm": 1.0, "loss": "sigmoid", "head_bias": -10.0,
        "momentum_precision": "bfloat16",
    }  # fmt: skip
    assert facts(baselines.recipe("augreg-finetune")) == {
        "steps": 500, "batch_size": 512, "optimizer": "sgd", "base_lr": 0.03,
        "schedule": "cosine", "warmup_steps": 100, "clip_norm": 1.0,
        "momentum_precision": "bfloat16",
    }  # fmt: skip
    assert facts(baselines.recipe("vtab-script")) == {
        "steps": 1000, "batch_size": 64, "optimizer": "sgd", "base_lr": 0.01,
        "schedule": "constant", "warmup_steps": 80, "drop_steps": (300, 600, 900),
    }  # fmt: skip


# --- BiT-HyperRule ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("num_examples", "image_size_px", "paper", "code"),
    [
        (1_000, 64, ("small", "bit-small"), ("small", "bit-small")),
        (19_999, 95, ("small", "bit-small"), ("small", "bit-small")),
        (20_000, 96, ("medium", "bit-384"), ("medium", "bit-large")),
        (50_000, 32, ("medium", "bit-small"), ("medium", "bit-small")),
        (499_999, 500, ("medium", "bit-384"), ("medium", "bit-large")),
        (500_000, 500, ("large", "bit-384"), ("large", "bit-large")),
        (1_281_167, 400, ("large", "bit-384"), ("large", "bit-large")),
    ],
)
def test_the_rule(
    num_examples: int, image_size_px: int, paper: tuple[str, str], code: tuple[str, str]
) -> None:
    size, protocol = paper
    found = baselines.hyperrule(num_examples, image_size_px)
    assert found == (f"bit-hyperrule-{size}", protocol)
    size, protocol = code
    found = baselines.hyperrule(num_examples, image_size_px, variant="code")
    assert found == (f"bit-hyperrule-{size}-code", protocol)


def test_the_largest_system_of_the_paper_has_larger_images() -> None:
    assert baselines.hyperrule(50_000, 400, system="bit-r152x4")[1] == "bit-large"
    assert baselines.hyperrule(50_000, 32, system="bit-r152x4")[1] == "bit-small"


@pytest.mark.parametrize(("protocol", "resized_px"), [("bit-small", 160), ("bit-384", 448),
                                                      ("bit-large", 512)])  # fmt: skip
def test_the_rule_crops_what_it_resized(protocol: str, resized_px: int) -> None:
    from bench.data.transforms import bit_resize_px

    assert bit_resize_px(PROTOCOLS[protocol].image_size_px) == resized_px


def test_examples_in_the_documentation() -> None:
    results = doctest.testmod(bit_rule)
    assert (results.attempted, results.failed) == (2, 0)
