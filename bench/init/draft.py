"""A suite for pictures: systems, protocols, recipe and seeds that fit them, said as comments.

What is chosen, and by what: the side by the pictures' own sizes (`look.fitting`); the systems by
the side, micro ones up to 64 px and released weights above; the recipe by the number of training
pictures (`baselines/own_rule.py`); shots and neighbours by the smallest class.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from baselines.own_rule import LEAST_STEPS, MOST_SHARE, MOST_STEPS, PASSES, own_rule
from bench.init.look import Looked
from bench.specs import Recipe

NUM_UPSTREAM, EPOCHS = 16_384, 3
SEEDS = (0, 1, 2)
L2S = (1e-4, 1e-3, 1e-2, 0.1, 1.0)
SHOTS = (1, 5, 10)
NEIGHBOURS = 5
MINUTES = 15
"""Time on this machine that a suite should not take longer than."""

RELEASED_RATES = (0.001, 0.003, 0.01, 0.03)
"""For released weights: those of arXiv:2010.11929, Table 4."""

SHORTER = (MOST_STEPS, 1_500, 1_000, 750, LEAST_STEPS)
"""Most steps of fine-tuning that are tried, until a suite fits its time."""


@dataclass(frozen=True)
class Choice:
    """Systems and protocols for a side of pictures."""

    vit: str
    bit: str
    finetune: str
    frozen: str
    pretrain: str = ""
    """Protocol of pre-training; empty: released weights are taken."""
    weights: tuple[str, str] = ("", "")
    """Released weights of both."""


def _released(size_px: int, vit: str, weights: str) -> Choice:
    """Return released weights of one upstream set, and of nearly equal work for an image."""
    return Choice(
        vit,
        "bit-r50x1",
        f"finetune-{size_px}",
        f"frozen-{size_px}",
        weights=(weights, "in21k"),
    )


CHOICES = {
    16: Choice("vit-micro", "bit-micro", "finetune-micro", "frozen-micro-16", "pretrain-micro"),
    32: Choice(
        "vit-micro", "bit-micro", "finetune-micro-32", "frozen-micro-32", "pretrain-micro-24"
    ),
    64: Choice(
        "vit-micro8", "bit-micro8", "finetune-micro-64", "frozen-micro-64", "pretrain-micro-48"
    ),
    96: _released(96, "vit-s16", "augreg-in21k"),
    160: _released(160, "vit-s16", "augreg-in21k"),
    224: _released(224, "vit-s16", "augreg-in21k"),
    384: _released(384, "vit-b32", "in21k"),
}
"""By side, in pixels."""


def draft(
    looked: Looked,
    *,
    folder: Path,
    found: list[str],
    most_steps: int = MOST_STEPS,
    has_gpu: bool = False,
) -> str:
    """Return a suite file that will lie in `folder`; `found` is what to say of the pictures.

    Fine-tuning takes `most_steps` at most. Full-size systems are fine-tuned on a GPU alone.
    """
    choice = CHOICES[looked.size_px]
    tunes = can_choose(looked) and (has_gpu or bool(choice.pretrain))
    parts = [
        _head(looked, found, has_gpu=has_gpu and not choice.pretrain),
        _dataset(looked, folder),
        _pretraining(choice) if choice.pretrain else _loading(choice),
        _floors(choice),
        *([_finetuning(looked, choice, most_steps)] if tunes else []),
        _frozen(looked, choice),
        _report(choice),
    ]
    return "\n".join(parts)


def can_choose(looked: Looked) -> bool:
    """Return whether there are pictures enough to hold some out of every class, to choose on."""
    return _held_out(looked) is not None


def _held_out(looked: Looked) -> float | None:
    share = own_rule(looked.num_train, looked.card.num_classes).held_out
    assert share is not None
    least = looked.card.num_classes / looked.num_train
    return None if least > MOST_SHARE else max(share, round(least + 0.0005, 3))


def _head(looked: Looked, found: list[str], *, has_gpu: bool) -> str:
    name = looked.card.name
    lines = "\n".join(f"# {line}" for line in found)
    gpus = "gpus = 1\n" if has_gpu else ""
    return f"""\
# Written by `vitbench init`, and yours to change: docs/suites.md says what every key means, and
# `vitbench plan THIS_FILE` what it does and how long that takes.
#
{lines}

name = "{name}"
title = {_quoted(f"{name}: ViT against BiT ResNet")}
claim = "{_claim(looked)}"
seeds = {list(SEEDS)}  # the more, the narrower the intervals
num_threads = 1
{gpus}"""


def _claim(looked: Looked) -> str:
    pretrains = bool(CHOICES[looked.size_px].pretrain)
    terms = "equal pre-training compute" if pretrains else "equal work for an image"
    return f"At {terms}, a ViT and a CNN do not do equally well on {looked.card.name}."


def _dataset(looked: Looked, folder: Path) -> str:
    block = looked.block
    count = len(looked.damaged)
    words = "1 file does not decode" if count == 1 else f"{count:,} files do not decode"
    damaged = f"skip_damaged = true  # {words}\n" if count else ""
    lead, squashed = "# Pictures stay as they are, and protocols crop or squash them.\n", ""
    if "image_size_px" in block:
        lead = f"# Every picture is squashed to a square of {looked.size_px} px, once.\n"
        squashed = f"image_size_px = {looked.size_px}\n"
    return f"""\
{lead}[dataset.{looked.card.name}]
reader = "{block["reader"]}"
path = {_quoted(_relative(Path(block["path"]), folder))}
{squashed}{damaged}"""


def _pretraining(choice: Choice) -> str:
    block = """\
[[pretrain]]
systems = ["{system}"]
upstream = "fractals"
num_examples = [{num}]
epochs = [{epochs}]
recipe = "{family}-micro-pretrain"
protocol = "{protocol}"
"""
    both = [
        block.format(
            system=system, num=NUM_UPSTREAM, epochs=EPOCHS, family=family, protocol=choice.pretrain
        )
        for system, family in ((choice.vit, "vit"), (choice.bit, "bit"))
    ]
    return "# Pre-training on formula-driven fractals: nothing to download, equal compute.\n" + (
        "\n".join(both)
    )


def _loading(choice: Choice) -> str:
    block = """\
[[weights]]
systems = ["{system}"]
weights = "{weights}"
"""
    both = zip((choice.vit, choice.bit), choice.weights, strict=True)
    return "# Released weights, both of ImageNet-21k; they are downloaded, once.\n" + "\n".join(
        block.format(system=system, weights=weights) for system, weights in both
    )


def _floors(choice: Choice) -> str:
    return f"""\
# Rows that keep one honest: the same systems untrained, and no system at all. The majority class
# and chance come with them.
[[weights]]
systems = ["{choice.vit}", "{choice.bit}", "raw-pixels"]
weights = "untrained"
"""


def _finetuning(looked: Looked, choice: Choice, most_steps: int) -> str:
    name, classes = looked.card.name, looked.card.num_classes
    recipe = own_rule(looked.num_train, classes, most_steps=most_steps)
    wanted = own_rule(looked.num_train, classes).steps
    cut = f"; {wanted:,} were too long for the time there is" if recipe.steps != wanted else ""
    return f"""\
# The rule for {looked.num_train:,} training pictures: {PASSES} passes over them, at least
# {LEAST_STEPS:,} steps and at most {MOST_STEPS:,}{cut}.
# Rate and length are chosen on pictures held out of train.
[recipe.{name}-finetune]
steps = {recipe.steps}
{_recipe(recipe)}
[[transfer]]
kind = "finetune"
systems = ["{choice.vit}", "{choice.bit}"]
datasets = ["{name}"]
protocol = "{choice.finetune}"
recipe = "{name}-finetune"
learning_rates = {_numbers(recipe.learning_rates if choice.pretrain else RELEASED_RATES)}
held_out = {_held_out(looked)}
"""


def _recipe(recipe: Recipe) -> str:
    return f"""\
batch_size = {recipe.batch_size}
optimizer = "{recipe.optimizer}"
schedule = "{recipe.schedule}"
warmup_steps = {recipe.warmup_steps}
clip_norm = {recipe.clip_norm}
patience = {recipe.patience}
"""


def _frozen(looked: Looked, choice: Choice) -> str:
    name = looked.card.name
    start = f'datasets = ["{name}"]\nprotocol = "{choice.frozen}"\n'
    smallest = min(looked.per_class["train"])
    shots = [count for count in SHOTS if count <= max(1, smallest)]
    parts = [
        f'[[transfer]]\nkind = "knn"\n{start}neighbours = [{min(NEIGHBOURS, looked.num_train)}]\n',
        f'[[transfer]]\nkind = "fewshot"\n{start}shots = {shots}\ndraws = 3\nl2 = 2.0\n',
    ]
    if can_choose(looked):
        held_out = f"held_out = {_held_out(looked)}\n"
        parts.insert(
            0, f'[[transfer]]\nkind = "probe"\n{start}l2s = {_numbers(L2S)}\n{held_out}'
        )  # fmt: skip
    return "# The same features, frozen: what fine-tuning has to beat.\n" + "\n".join(parts)


def _report(choice: Choice) -> str:
    match = "" if choice.pretrain else 'match = "forward_gflops"\n'
    return f"""\
[[pair]]
systems = ["{choice.vit}", "{choice.bit}"]
{match}
[report]
figures = ["systems", "confusion", "learning_curves"]
"""


def _numbers(values: tuple[float, ...]) -> str:
    return "[" + ", ".join(f"{value:g}" for value in values) + "]"


def _relative(path: Path, folder: Path) -> str:
    """Return a path as the suite file gives it: relative where it lies below its folder."""
    return os.path.relpath(path, folder) if path.is_relative_to(folder) else str(path)


def _quoted(text: str) -> str:
    """Return text as a TOML string: JSON's escapes are TOML's."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
