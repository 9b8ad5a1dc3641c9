"""Hybrids: a transformer on the feature map of a ResNet, one token for each position.

Source: Dosovitskiy et al. (arXiv:2010.11929), section 4.1, and the authors' code
(google-research/vision_transformer, models_resnet.py). The backbone is not BiT's: convolution, then
GroupNorm, then ReLU; TensorFlow's SAME padding; weights divided by standard deviation + 1e-5. `/32`
takes the output of stage 4 of a regular ResNet; `/16` leaves stage 4 out and puts its blocks into
stage 3. The number in a name is the total stride, not a patch side.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from baselines.arrays import Layout, Rule, Shapes, blocks, blocks_by_stage, first, norm
from baselines.counting import Padding, same_pads
from baselines.family import FamilyCard, card, positive
from baselines.footprint import Footprint, Numerics
from baselines.public_weights import JFT, augreg, fine_tuned, original
from baselines.resnet import BLOCKS, ConvStages, initialize_convs
from baselines.transformer import (
    BASE,
    LARGE,
    SMALL,
    TIMM,
    Transformer,
    npz_rules,
    released_names,
    transformer_args,
)
from bench.specs import Args

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class Hybrid(Transformer, ConvStages):
    """A transformer on 1x1 patches of a ResNet's feature map."""

    def __post_init__(self) -> None:
        Transformer.__post_init__(self)
        ConvStages.__post_init__(self)

    def check_image(self, image_size_px: int) -> None:
        """Raise UserError unless there is an image: SAME padding makes every side possible."""
        positive(image_size_px=image_size_px)

    def num_params(self, image_size_px: int) -> int:
        """Return the parameters of the encoder: no representation layer, no head."""
        side = -(-image_size_px // self.stride_px)
        embedding = self.out_channels * self.width + self.width
        return self.body_params(preact=False) + embedding + self.transformer_params(side * side)

    def forward_flops(self, image_size_px: int, *, padding: Padding = "counted") -> int:
        """Return the FLOPs of one image through the encoder."""
        body, side = self.body_flops(image_size_px, same=True, padding=padding)
        embedding = 2 * side * side * self.out_channels * self.width
        return body + embedding + self.transformer_flops(side * side)

    def footprint(self, image_size_px: int, numerics: Numerics) -> Footprint:
        """Return the bytes that a forward pass keeps, and those of its widest layer."""
        body, side = self.body_footprint(image_size_px, numerics, preact=False)
        behind = self.transformer_footprint(side * side, numerics)
        projected = numerics.copied * self.out_channels * side * side
        kernel = numerics.product * self.out_channels * self.width if numerics.casts else 0
        return Footprint(
            image=body.image + projected + behind.image,
            shared=body.shared + kernel + behind.shared,
            widest=max(body.widest, behind.widest),
        )

    def encoder(self, *, image_size_px: int, dropout: float, follows: str) -> nn.Module:
        """Return the module x_BCHW -> z_BD, uninitialized, on torch's default device."""
        from collections import OrderedDict
        from functools import partial

        from timm.layers import HybridEmbed, StdConv2dSame
        from torch import nn

        timm = follows == "timm"
        conv_layer = partial(StdConv2dSame, eps=1e-8) if timm else _std_conv_layer()
        stem, stages, _ = self.body(
            preact=False, conv_layer=conv_layer, gn_eps=1e-5 if timm else 1e-6
        )
        backbone: Any = nn.Sequential(OrderedDict(stem=stem, stages=stages))
        backbone.num_features = self.out_channels  # where HybridEmbed looks for it
        return self.transformer(
            image_size_px=image_size_px,
            patch_px=1,
            dropout=dropout,
            follows=follows,
            embed_layer=partial(
                HybridEmbed,
                backbone=backbone,
                feature_size=-(-image_size_px // self.stride_px),
                feature_ratio=self.stride_px,
            ),
        )

    def initialize(self, encoder: nn.Module, generator: torch.Generator) -> None:
        """Draw the weights; the last norm of every residual branch starts at zero."""
        from torch import nn

        backbone: Any = encoder.patch_embed.backbone  # type: ignore[union-attr]
        initialize_convs(backbone, generator)
        for stage in backbone.stages:
            for block in stage.blocks:
                nn.init.zeros_(block.norm3.weight)
        super().initialize(encoder, generator)


def _std_conv_layer() -> type[nn.Module]:
    """Return timm's SAME-padded convolution with the authors' own weight standardization."""
    import torch
    from timm.layers import StdConv2dSame
    from torch.nn import functional

    class StdConv(StdConv2dSame):
        """Weights are divided by (standard deviation + 1e-5), not by sqrt(variance + eps)."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            std, mean = torch.std_mean(self.weight, dim=(1, 2, 3), correction=0, keepdim=True)
            weight = (self.weight - mean) / (std + 1e-5)
            before, after = same_pads(x.shape[-1], self.kernel_size[0], self.stride[0])
            if before != after:  # else the convolution pads by itself, without a copy
                x = functional.pad(x, (before, after, before, after))
                before = 0
            return functional.conv2d(x, weight, None, self.stride, before)

    return StdConv


_PAPER = "arXiv:2010.11929, section 4.1"

SYSTEMS = (
    card(
        "hybrid-micro",
        "R-micro+ViT-micro/4",
        "hybrid",
        Hybrid(
            layers=(1, 1),
            widths=(32, 64),
            strides=(2, 2),
            stem="3x3",
            stem_width=32,
            num_groups=8,
            width=64,
            depth=1,
            num_heads=4,
            mlp_dim=128,
            pretraining_dim=256,
        ),
        image_size_px=12,
        source="this project",
        note="For laptops: 12 to 32 px.",
    ),
    card(
        "hybrid-micro8",
        "R-micro+ViT-micro/8",
        "hybrid",
        Hybrid(
            layers=(1, 1),
            widths=(32, 64),
            strides=(1, 2),
            stem_width=32,
            num_groups=8,
            width=64,
            depth=1,
            num_heads=4,
            mlp_dim=128,
            pretraining_dim=256,
        ),
        image_size_px=48,
        source="this project",
        note="For laptops: 48 to 96 px.",
    ),
    card(
        "hybrid-r26-vit-s32",
        "R26+ViT-S/32",
        "hybrid",
        Hybrid(layers=BLOCKS[26], **SMALL),
        source="arXiv:2106.10270, Table 2",
        weights=(augreg("R26_S_32"),),
    ),
    card(
        "hybrid-r50-vit-b32",
        "R50x1+ViT-B/32",
        "hybrid",
        Hybrid(layers=BLOCKS[50], **BASE),
        source=_PAPER,
        weights=(JFT,),
    ),
    card(
        "hybrid-r50-vit-b16",
        "R50x1+ViT-B/16",
        "hybrid",
        Hybrid(layers=(3, 4, 9), **BASE),
        source=_PAPER,
        weights=(
            original("R50+ViT-B_16", representation_dim=768),
            fine_tuned("R50+ViT-B_16"),
            JFT,
        ),
    ),
    card(
        "hybrid-r50-vit-l32",
        "R50x1+ViT-L/32",
        "hybrid",
        Hybrid(layers=BLOCKS[50], **LARGE),
        source=_PAPER,
        weights=(augreg("R50_L_32"), JFT),
    ),
    card(
        "hybrid-r50-vit-l16",
        "R50x1+ViT-L/16",
        "hybrid",
        Hybrid(layers=(3, 4, 9), **LARGE),
        source=_PAPER,
        weights=(JFT,),
    ),
)
"""Cards of the family."""


# --- weights in files --------------------------------------------------------------------------


def _npz_rules(args: Args, names: Collection[str]) -> Iterator[Rule]:
    """Yield the rules of the authors' files: `models_resnet.py` below `models_vit.py`."""
    layers: Any = args["layers"]
    ours = "encoder.patch_embed.backbone"
    yield Rule("conv_root/kernel", f"{ours}.stem.conv.weight", "conv")
    yield from norm("gn_root", f"{ours}.stem.norm")
    for stage, index, block in blocks(layers):
        theirs, here = f"block{stage + 1}/unit{index + 1}", f"{ours}.{block}"
        for number in (1, 2, 3):
            yield Rule(f"{theirs}/conv{number}/kernel", f"{here}.conv{number}.weight", "conv")
            yield from norm(f"{theirs}/gn{number}", f"{here}.norm{number}")
        if index == 0:
            yield Rule(f"{theirs}/conv_proj/kernel", f"{here}.downsample.conv.weight", "conv")
            yield from norm(f"{theirs}/gn_proj", f"{here}.downsample.norm")
    yield from npz_rules(args, names)


def _recognize(shapes: Shapes) -> Args | None:
    found = transformer_args(shapes, backbone=True)
    if found is None:
        return None
    theirs = first(shapes, "conv_root/kernel")  # its sides come first, in ours last
    kernel = (theirs or first(shapes, "patch_embed.backbone.stem.conv.weight")[::-1] or (0,))[0]
    return {**found, "layers": blocks_by_stage(shapes), "stem": f"{kernel}x{kernel}"}


def _aliases(title: str) -> list[str]:
    names = [title, title.replace("ViT-", "")]
    return [*names[1:], *(name.replace("R50x1+", "R50+") for name in names)]


FAMILY = FamilyCard(
    name="hybrid",
    title="hybrid",
    word="hybrid",
    place=30,
    sizes=Hybrid,
    systems=SYSTEMS,
    aliases=_aliases,
    layouts=(
        Layout(name="npz", ending=".npz", mark="/", rules=_npz_rules, renamed=released_names),
        TIMM,
    ),
    recognize=_recognize,
    colour="#009e73",
    dark_colour="#2fc197",
    markers=("^", "<", ">"),
)
