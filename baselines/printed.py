"""The setup behind a published number: which system, recipes and protocol it was measured with.

A number can only be answered under its own setup. `published.csv` holds the numbers; this file says
which recipe of `recipes.toml` and which protocol stand behind each, by name. Where print is silent
the field is empty: nothing is compared there.

Sources: arXiv:2010.11929, Tables 3 and 4, section 4.1, appendices B.1.1, B.1.2 and D.4; the README
of google-research/vision_transformer; arXiv:1912.11370, section 3.3 (BiT-HyperRule).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from baselines.bit_rule import hyperrule
from bench.specs import Args, PublishedResult

PRIVATE_UPSTREAMS = ("JFT-300M",)
"""Upstream data that were never released, nor any weights trained on them."""

MEASURES = {
    "top1": ("test_top1", "eval_top1"),
    "mean_top1": ("test_top1",),
    "5shot_linear_top1": ("fewshot_top1/5",),
}
"""Our metrics that answer a published metric, by its name in `published.csv`."""

AVERAGES = {
    "Average-5": ("ImageNet", "CIFAR-10", "CIFAR-100", "Oxford-IIIT Pets", "Oxford Flowers-102"),
}
"""Data sets behind a published average, which is their plain mean (Table 7 checks it)."""

VTAB_MEANS = {
    "VTAB-1k (19 tasks)": "",
    "VTAB-1k mean": "",
    "VTAB-1k Natural (7)": "natural",
    "VTAB-1k Specialized (4)": "specialized",
    "VTAB-1k Structured (8)": "structured",
}
"""Group of tasks behind a published VTAB mean; empty: all 19, as a plain mean over the tasks."""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What a published number was measured with; empty fields are not printed."""

    system: str
    """System, as its card prints it."""
    args: Args
    """Arguments in which the system differs from its card."""
    pretraining: str = ""
    """Name of the pre-training recipe."""
    transfer: str = ""
    """Name of the fine-tuning recipe."""
    protocol: str = ""
    """Name of the transfer protocol."""
    image_size_px: int | None = None
    """Side of the input in transfer, in pixels."""
    epochs: tuple[float, ...] = ()
    """Epochs of pre-training; several where print gives several."""
    unprinted: tuple[str, ...] = ()
    """Fields of the recipes that print leaves open; what stands there is ours or the code's."""


def setup(row: PublishedResult) -> Setup:
    """Return the setup of a published number, as far as it is known."""
    system, args, optimizer = _system(row.system)
    size = int(row.resolution) if row.resolution.isdigit() else None
    pretraining = transfer = protocol = ""
    if row.paper == "ViT":
        pretraining = _pretraining(row, system, optimizer)
        transfer, protocol = _transfer(row)
    elif row.paper == "BiT" and row.table in ("Table 1", "Table 2"):
        transfer, protocol = _hyperrule(row)
    elif row.paper == "ViT repo" and row.metric == "top1":
        transfer, protocol = f"{_finetuning(row.dataset)}-code", "vit-finetune"
    return Setup(
        system=system,
        args=args,
        pretraining=pretraining,
        transfer=transfer,
        protocol=protocol,
        image_size_px=size,
        epochs=tuple(float(text) for text in row.pretrain_epochs.split("/") if text.isdigit()),
        unprinted=_UNPRINTED.get(row.paper, ()),
    )


_UNPRINTED = {"ViT": ("warmup_steps", "loss")}
"""The ViT paper prints neither the warm-up of fine-tuning nor the loss of pre-training."""

# --- systems, as print names them -----------------------------------------------------------

_POSITIONS = {"No": "none", "1-D": "learned-1d", "2-D": "learned-2d", "Rel.": "relative"}
_PLACES = {
    "default/stem": "stem",
    "every layer": "every-layer",
    "every layer-shared": "every-layer-shared",
}


def _system(printed: str) -> tuple[str, Args, str]:
    """Return a system's title, the arguments that print changes, and the optimizer it names."""
    found = re.fullmatch(r"(.+), (\S+) Pos\. Emb\., (.+)", printed)
    if found:
        title, kind, place = found.groups()
        args: Args = {}
        if _POSITIONS[kind] != "learned-1d":
            args["posemb"] = _POSITIONS[kind]
        if _PLACES[place] != "stem":
            args["posemb_at"] = _PLACES[place]
        return title, args, ""
    found = re.fullmatch(r"(.+) \((Adam|SGD)\)", printed)
    if found:
        return found[1], {}, found[2].lower()
    title = re.sub(
        r"^BiT-[SML][ -]|( masked patch prediction|, \d+ steps| dropout=.*)$", "", printed
    )
    return re.sub(r"^(R)(?=\d+x\d+$)", "ResNet", title), {}, ""


# --- recipes --------------------------------------------------------------------------------


def _pretraining(row: PublishedResult, system: str, optimizer: str) -> str:
    """Return the recipe of Table 3 (or Table 7, or appendix B.1.2) behind a row."""
    if "masked patch" in row.system:
        return "vit-masked-patch-jft"
    if row.pretrain_dataset == "ImageNet":
        return "vit-pretrain-i1k"
    if row.pretrain_dataset == "ImageNet-21k":
        return {"ViT-B": "vit-b-pretrain-i21k", "ViT-L": "vit-l-pretrain-i21k"}.get(system[:5], "")
    if row.pretrain_dataset != "JFT-300M":
        return ""
    return _JFT_SGD.get(system, "") if optimizer == "sgd" else _JFT.get(system, "")


_JFT = {
    "ViT-B/16": "vit-b-pretrain-jft",
    "ViT-B/32": "vit-b-pretrain-jft",
    "ViT-L/32": "vit-l32-pretrain-jft",
    "ViT-L/16": "vit-l16-pretrain-jft",
    "ViT-H/14": "vit-h14-pretrain-jft",
    "ResNet50x1": "r50-pretrain-jft",
    "ResNet50x2": "r50-pretrain-jft",
    "ResNet101x1": "r101-pretrain-jft",
    "ResNet152x1": "r152-pretrain-jft",
    "ResNet152x2": "r152-pretrain-jft",
    "R50x1+ViT-B/16": "r50-vit-b-pretrain-jft",
    "R50x1+ViT-B/32": "r50-vit-b-pretrain-jft",
    "R50x1+ViT-L/32": "r50-vit-l32-pretrain-jft",
    "R50x1+ViT-L/16": "r50-vit-l16-pretrain-jft",
}
"""Recipe of Table 3 by system; it has no row for ResNet200x3."""

_JFT_SGD = {"ResNet50x1": "r50-pretrain-jft-sgd", "ResNet152x2": "r152x2-pretrain-jft-sgd"}
"""Recipe of Table 7's SGD columns by system."""


def _transfer(row: PublishedResult) -> tuple[str, str]:
    """Return fine-tuning recipe and protocol of a row of the ViT paper."""
    if row.metric == "5shot_linear_top1":
        return "", "vit-fewshot"
    if row.system.startswith(("BiT-L", "Noisy Student")):
        return "", ""  # copied from other papers
    if row.dataset.startswith("VTAB"):
        return "vit-finetune-vtab", "vtab-384"
    recipe = _finetuning(row.dataset)
    if recipe == "vit-finetune-imagenet" and row.table == "Table 2":
        recipe = "vit-finetune-imagenet-polyak"
    return recipe, "vit-finetune" if recipe else ""


def _finetuning(dataset: str) -> str:
    return {
        "ImageNet": "vit-finetune-imagenet",
        "ImageNet-ReaL": "vit-finetune-imagenet",
        "ImageNet ReaL": "vit-finetune-imagenet",
        "ObjectNet": "vit-finetune-imagenet",
        "CIFAR-10": "vit-finetune-cifar",
        "CIFAR-100": "vit-finetune-cifar",
        "Oxford-IIIT Pets": "vit-finetune-pets",
        "Oxford Flowers-102": "vit-finetune-flowers",
    }.get(dataset, "")


def _hyperrule(row: PublishedResult) -> tuple[str, str]:
    """Return what BiT-HyperRule says for a row's data set: recipe and protocol."""
    for start, (num_examples, image_size_px) in _SIZES.items():
        if row.dataset.startswith(start):
            system = "bit-r152x4" if "R152x4" in row.system else ""
            return hyperrule(num_examples, image_size_px, system=system)
    return "", ""


_SIZES = {
    "ImageNet": (1_281_167, 500),
    "CIFAR": (50_000, 32),
    "Oxford-IIIT Pets": (3680, 500),
    "Oxford Flowers-102": (2040, 500),
    "VTAB-1k": (1000, 500),
}
"""Training images of a data set, and about their side in pixels: what the rule goes by."""
