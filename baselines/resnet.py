"""The convolutional body that BiT ResNets and the hybrids' backbones share.

Source: Kolesnikov et al., "Big Transfer" (arXiv:1912.11370), section 3.3, and the authors' code
(google-research/big_transfer, bit_pytorch): 32 groups, stride on the 3x3 convolution, root of 7x7
convolution and max pooling of a zero-padded map. ResNet-200 uses blocks (3, 24, 36, 3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from baselines.counting import Padding, conv, same_pads
from baselines.family import positive
from baselines.footprint import FLOAT, INDEX, Footprint, Numerics
from baselines.initial import lecun_normal
from bench.errors import UserError

if TYPE_CHECKING:
    import torch
    from torch import nn


class Block(NamedTuple):
    """One bottleneck."""

    channels: int
    out: int
    stride: int
    projects: bool

    @property
    def mid(self) -> int:
        """Channels between its convolutions."""
        return self.out // 4


@dataclass(frozen=True, kw_only=True)
class ConvStages:
    """Stem and stages of a ResNet."""

    layers: tuple[int, ...]
    """Blocks in each stage."""
    width_factor: float = 1
    """Factor on all widths."""
    widths: tuple[int, ...] = (256, 512, 1024, 2048)
    """Output channels of each stage, before `width_factor`; the bottleneck has a quarter."""
    strides: tuple[int, ...] = (1, 2, 2, 2)
    """Stride of each stage's first block."""
    stem: Literal["7x7", "3x3"] = "7x7"
    """`7x7`: stride 2, then max pooling of stride 2; `3x3`: stride 1, no pooling (small images)."""
    stem_width: int = 64
    """Channels of the stem, before `width_factor`."""
    num_groups: int = 32
    """Groups of GroupNorm; must divide every width and bottleneck."""

    def __post_init__(self) -> None:
        positive(
            layers=self.layers,
            width_factor=self.width_factor,
            widths=self.widths,
            strides=self.strides,
            stem_width=self.stem_width,
            num_groups=self.num_groups,
        )
        if not len(self.layers) <= min(len(self.widths), len(self.strides)):
            raise UserError(
                f"{len(self.layers)} stages in layers {self.layers} need as many widths "
                f"{self.widths} and strides {self.strides}"
            )
        stem, *outs = (self.scaled(width) for width in (self.stem_width, *self.stage_widths))
        for channels in (stem, *(out // 4 for out in outs)):
            if channels % 8 or channels % self.num_groups:
                raise UserError(
                    f"{channels} channels (stem, or a quarter of a stage's width) are not a "
                    f"multiple of 8 and of num_groups {self.num_groups}",
                    hint="Choose widths in multiples of 32 and num_groups that divides a quarter",
                )

    @property
    def stage_widths(self) -> tuple[int, ...]:
        """Output channels of the stages there are, before `width_factor`."""
        return self.widths[: len(self.layers)]

    def scaled(self, width: int) -> int:
        """Return a width times `width_factor`."""
        return int(width * self.width_factor)

    @property
    def stride_px(self) -> int:
        """Total stride, in pixels."""
        stride = 4 if self.stem == "7x7" else 1
        for step in self.strides[: len(self.layers)]:
            stride *= step
        return stride

    @property
    def out_channels(self) -> int:
        """Channels of the last stage."""
        return self.scaled(self.stage_widths[-1])

    def body_params(self, *, preact: bool) -> int:
        """Return the parameters of stem and stages (GroupNorm has a scale and a bias)."""
        stem = self.scaled(self.stem_width)
        total = 3 * stem * (49 if self.stem == "7x7" else 9) + (0 if preact else 2 * stem)
        for b in self.blocks():
            shortcut = b.channels * b.out + (0 if preact else 2 * b.out) if b.projects else 0
            norms = 4 * b.mid + 2 * (b.channels if preact else b.out)
            total += shortcut + norms + b.channels * b.mid + 9 * b.mid * b.mid + b.mid * b.out
        return total

    def blocks(self) -> Iterator[Block]:
        """Yield the blocks in order."""
        channels = self.scaled(self.stem_width)
        for stage, num_blocks in enumerate(self.layers):
            out = self.scaled(self.widths[stage])
            for index in range(num_blocks):
                stride = 1 if index else self.strides[stage]
                yield Block(channels, out, stride=stride, projects=not index)
                channels = out

    def body_flops(self, image_size_px: int, *, same: bool, padding: Padding) -> tuple[int, int]:
        """Return the FLOPs of stem and stages on one image, and the side of the last map."""
        stem = self.scaled(self.stem_width)
        kind: dict[str, Any] = {"same": same, "padding": padding}
        if self.stem == "7x7":
            total, side = conv(image_size_px, 3, stem, kernel=7, stride=2, **kind)
            side = -(-side // 2)  # both poolings give half the side, rounded up
        else:
            total, side = conv(image_size_px, 3, stem, kernel=3, **kind)
        for block in self.blocks():
            flops, side = self._block_flops(side, block, kind)
            total += flops
        return total, side

    def body_footprint(
        self, image_size_px: int, numerics: Numerics, *, preact: bool
    ) -> tuple[Footprint, int]:
        """Return the bytes of stem and stages, and the side of the last map.

        With `preact` the last map belongs to the norm that comes next; else it is kept here, by the
        ReLU that gave it.
        """
        image, side = self._stem_bytes(image_size_px, numerics, preact=preact)
        block_bytes = _preact_bytes if preact else _postact_bytes
        # The ends of both branches and their sum; behind a norm they are of its type.
        held = 4 * numerics.product if preact else 3 * numerics.norm + numerics.product
        widest = 0
        for block in self.blocks():
            after = -(-side // block.stride)
            image += block_bytes(block, side, after, numerics)
            widest = max(widest, block.out * after * after * held)
            side = after
        # Standardized weights; where torch's own norm does not make them, their numerator too.
        weight = numerics.product + (0 if preact else FLOAT)
        return Footprint(image, weight * self.body_params(preact=preact), widest), side

    def _stem_bytes(
        self, image_size_px: int, numerics: Numerics, *, preact: bool
    ) -> tuple[int, int]:
        """Return what the stem keeps of an image, and the side of its map.

        It keeps a padded image, and pooling its padded input and an index for each output.
        """
        channels, side = self.scaled(self.stem_width), image_size_px
        norm = 0 if preact else 2 * numerics.norm  # input, and output of the ReLU
        if self.stem == "3x3":
            return (3 * numerics.product + channels * norm) * side * side, side
        seen = side if preact else _copied_side(side, 7, 2)
        total = 3 * numerics.product * seen * seen
        side = -(-side // 2)
        pooled = side + (2 if preact else sum(same_pads(side, 3, 2)))
        pixel = numerics.product if preact else numerics.norm
        total += channels * (norm * side * side + pixel * pooled * pooled)
        side = -(-side // 2)
        total += channels * INDEX * side * side
        if not preact and not numerics.copied:
            total += channels * pixel * side * side  # the input of the first block
        return total, side

    @staticmethod
    def _block_flops(side: int, block: Block, kind: dict[str, Any]) -> tuple[int, int]:
        channels, mid, out = block.channels, block.mid, block.out
        shortcut = (
            conv(side, channels, out, stride=block.stride, **kind)[0] if block.projects else 0
        )
        reduce = conv(side, channels, mid, **kind)[0]
        middle, side_out = conv(side, mid, mid, kernel=3, stride=block.stride, **kind)
        expand = conv(side_out, mid, out, **kind)[0]
        return shortcut + reduce + middle + expand, side_out

    def body(self, *, preact: bool, conv_layer: Callable[..., nn.Module], gn_eps: float) -> Any:
        """Return stem and stages of timm's blocks, as (stem, stages, norm layer)."""
        from functools import partial

        from timm.layers import GroupNormAct
        from timm.models import resnetv2
        from torch import nn

        norm_layer = partial(GroupNormAct, num_groups=self.num_groups, eps=gn_eps)
        prev = self.scaled(self.stem_width)
        if self.stem == "7x7":
            stem = resnetv2.create_resnetv2_stem(
                3, prev, "fixed" if preact else "same", preact, conv_layer, norm_layer
            )
        else:
            stem = nn.Sequential()
            stem.add_module("conv", conv_layer(3, prev, 3))
            if not preact:
                stem.add_module("norm", norm_layer(prev))
        stages = nn.Sequential()
        for num_blocks, width, stride in zip(
            self.layers, self.stage_widths, self.strides, strict=False
        ):
            stage = resnetv2.ResNetStage(
                prev,
                self.scaled(width),
                stride=stride,
                dilation=1,
                depth=num_blocks,
                block_fn=resnetv2.PreActBottleneck if preact else resnetv2.Bottleneck,
                act_layer=nn.ReLU,
                conv_layer=conv_layer,
                norm_layer=norm_layer,
            )
            stages.append(stage)
            prev = self.scaled(width)
        return stem, stages, norm_layer


def _preact_bytes(block: Block, before: int, after: int, numerics: Numerics) -> int:
    """Return what a block of norm, ReLU, convolution (three times) keeps of an image.

    Each norm keeps its input and the ReLU its output; convolutions share it, or copy it.
    """
    normed = 2 * numerics.norm + numerics.copied
    first = normed + (numerics.copied if block.projects else 0)
    maps = block.channels * first * before**2
    return maps + block.mid * normed * (before**2 + after**2)


def _postact_bytes(block: Block, before: int, after: int, numerics: Numerics) -> int:
    """Return what a block of convolution, norm, ReLU (three times) keeps of an image.

    The block's input is kept by the ReLU before it. An unevenly padded convolution keeps a copy.
    """
    copied, norm = numerics.copied, numerics.norm
    total = block.channels * copied * (2 if block.projects else 1) * before**2
    padded = _copied_side(before, 3, block.stride)
    second = numerics.product * padded**2 if padded > before else copied * before**2
    total += block.mid * (2 * norm * (before**2 + after**2) + second + copied * after**2)
    return total + block.out * norm * (3 if block.projects else 2) * after**2


def _copied_side(side: int, kernel: int, stride: int) -> int:
    """Return the side of what a SAME convolution sees: padded before it where pads are uneven."""
    before, after = same_pads(side, kernel, stride)
    return side if before == after else side + before + after


def initialize_convs(module: nn.Module, generator: torch.Generator) -> None:
    """Draw convolutions from a truncated LeCun normal; set norms to one and zero."""
    from torch import nn

    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            lecun_normal(layer.weight, generator)
        elif isinstance(layer, nn.GroupNorm):
            nn.init.ones_(layer.weight)
            nn.init.zeros_(layer.bias)


BLOCKS = {
    26: (2, 2, 2, 2),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}
"""Blocks of the four stages, by the number in a ResNet's name."""
