"""BiT ResNets: pre-activation ResNet-v2 with GroupNorm and weight-standardized convolutions.

Source: Kolesnikov et al., "Big Transfer" (arXiv:1912.11370), section 3.3, and the authors' code
(google-research/big_transfer, bit_pytorch): weights standardized with epsilon 1e-10. The ViT
paper's baseline CNN (section 4.1). Stem and stages are those of `resnet.py`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from baselines.arrays import (
    Layout,
    Rule,
    Shapes,
    blocks,
    blocks_by_stage,
    first,
    linear,
    norm,
    timm,
    unwrapped,
)
from baselines.counting import Padding
from baselines.family import FamilyCard, card, positive
from baselines.footprint import Footprint, Numerics
from baselines.public_weights import JFT, bit
from baselines.resnet import BLOCKS, ConvStages, initialize_convs
from bench.specs import Args

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class Bit(ConvStages):
    """A BiT ResNet."""

    @property
    def feature_dim(self) -> int:
        """Width D of the encoder's output z_BD."""
        return self.out_channels

    def check_image(self, image_size_px: int) -> None:
        """Raise UserError unless there is an image: padding makes every side possible."""
        positive(image_size_px=image_size_px)

    def num_params(self, image_size_px: int) -> int:
        """Return the parameters of the encoder, final norm included; no head."""
        return self.body_params(preact=True) + 2 * self.out_channels

    def forward_flops(self, image_size_px: int, *, padding: Padding = "counted") -> int:
        """Return the FLOPs of one image through the encoder."""
        return self.body_flops(image_size_px, same=False, padding=padding)[0]

    def footprint(self, image_size_px: int, numerics: Numerics) -> Footprint:
        """Return the bytes that a forward pass keeps, and those of its widest layer."""
        body, side = self.body_footprint(image_size_px, numerics, preact=True)
        last = 2 * numerics.norm * self.out_channels * side * side
        return replace(body, image=body.image + last)

    def pre_logits_dim(self, *, pretraining: bool) -> int:
        """Return 0: the head is linear, in pre-training too."""
        return 0

    def encoder(self, *, image_size_px: int, dropout: float, follows: str) -> nn.Module:
        """Return the module x_BCHW -> z_BD, uninitialized, on torch's default device.

        Dropout acts on the pooled features; the paper's ResNets use none.
        """
        from collections import OrderedDict
        from functools import partial

        from timm.layers import StdConv2d
        from torch import nn

        std_conv = partial(StdConv2d, eps=1e-8 if follows == "timm" else 1e-10)
        stem, stages, norm_layer = self.body(preact=True, conv_layer=std_conv, gn_eps=1e-5)
        parts = OrderedDict(
            stem=stem,
            stages=stages,
            norm=norm_layer(self.out_channels),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(1),
        )
        if dropout:
            parts["dropout"] = nn.Dropout(dropout)
        return nn.Sequential(parts)

    def initialize(self, encoder: nn.Module, generator: torch.Generator) -> None:
        """Draw the weights: convolutions truncated LeCun normal, norms one and zero."""
        initialize_convs(encoder, generator)


_SIZES = ((50, 1), (50, 2), (50, 3), (101, 1), (101, 3), (152, 1), (152, 2), (152, 4), (200, 3))

_RELEASED = ((50, 1), (50, 3), (101, 1), (101, 3), (152, 2), (152, 4))

SYSTEMS = (
    card(
        "bit-micro",
        "BiT-micro",
        "bit",
        Bit(
            layers=(1, 1),
            widths=(64, 128),
            strides=(2, 2),
            stem="3x3",
            stem_width=32,
            num_groups=8,
        ),
        image_size_px=12,
        source="this project",
        note="For laptops: 12 to 32 px.",
    ),
    card(
        "bit-micro8",
        "BiT-micro/8",
        "bit",
        Bit(
            layers=(1, 1),
            widths=(64, 128),
            strides=(1, 2),
            stem_width=32,
            num_groups=8,
        ),
        image_size_px=48,
        source="this project",
        note="For laptops: 48 to 96 px. Total stride 8, as the patches of ViT-micro/8.",
    ),
    *(
        card(
            f"bit-r{depth}x{factor}",
            f"ResNet{depth}x{factor}",
            "bit",
            Bit(layers=BLOCKS[depth], width_factor=factor),
            source="arXiv:1912.11370, section 3.3",
            weights=(*(bit(f"R{depth}x{factor}") if (depth, factor) in _RELEASED else ()), JFT),
        )
        for depth, factor in _SIZES
    ),
)
"""Cards of the family."""


# --- weights in files --------------------------------------------------------------------------


def _npz_rules(args: Args, names: Collection[str]) -> Iterator[Rule]:
    """Yield the rules of the authors' files: `bit_pytorch/models.py`."""
    scale = ("gamma", "beta")
    kernel = "standardized_conv2d/kernel"
    layers: Any = args["layers"]
    yield Rule(f"resnet/root_block/{kernel}", "encoder.stem.conv.weight", "conv")
    for stage, index, block in blocks(layers):
        theirs, here = f"resnet/block{stage + 1}/unit{index + 1:02d}", f"encoder.{block}"
        for number, letter in enumerate("abc", 1):
            yield Rule(f"{theirs}/{letter}/{kernel}", f"{here}.conv{number}.weight", "conv")
            yield from norm(f"{theirs}/{letter}/group_norm", f"{here}.norm{number}", scale)
        if index == 0:
            yield Rule(f"{theirs}/a/proj/{kernel}", f"{here}.downsample.conv.weight", "conv")
    yield from norm("resnet/group_norm", "encoder.norm", scale)
    yield from linear("resnet/head/conv2d", "head", "dense_hwio")


def _released_names(args: Args, names: Collection[str]) -> dict[str, str]:
    """Return names without the running numbers that some files carry, by those in a file."""
    number = r"/standardized_conv2d_\d+/"
    return {name: re.sub(number, "/standardized_conv2d/", unwrapped(name)) for name in names}


def _recognize(shapes: Shapes) -> Args | None:
    theirs = "resnet/root_block/standardized_conv2d/kernel"
    root = first(shapes, theirs, "stem.conv.weight")
    if len(root) != 4:
        return None
    kernel, width = (root[0], root[3]) if theirs in shapes else (root[2], root[0])
    found: Args = {"layers": blocks_by_stage(shapes), "stem": f"{kernel}x{kernel}"}
    # Only full-size stems tell the width factor; micro systems differ in their stages anyway.
    return {**found, "width_factor": width / 64} if width % 64 == 0 else found


def _aliases(title: str) -> list[str]:
    if not title.startswith("ResNet"):
        return []
    short = "R" + title.removeprefix("ResNet")
    # S, M and L say what a BiT was pre-trained on; the architecture is the same.
    return [short, f"BiT-{short}", f"BiT-{title}", *(f"BiT-{size} {short}" for size in "SML")]


FAMILY = FamilyCard(
    name="bit",
    title="BiT ResNet",
    word="BiT",
    place=20,
    sizes=Bit,
    systems=SYSTEMS,
    aliases=_aliases,
    layouts=(
        Layout(name="npz", ending=".npz", mark="/", rules=_npz_rules, renamed=_released_names),
        timm("head.fc", axes="dense_oihw"),
    ),
    recognize=_recognize,
    colour="#d55e00",
    dark_colour="#f0883e",
    markers=("s", "D", "P"),
)
