"""The convolutional body that BiT ResNets and the hybrids' backbones share.

Source: Kolesnikov et al., "Big Transfer" (arXiv:1912.11370), section 3.3, and the authors' code
(google-research/big_transfer, bit_pytorch): 32 groups, stride on the 3x3 convolution, root of 7x7
convolution and max pooling of a zero-padded map. ResNet-200 uses blocks (3, 24, 36, 3).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from baselines.counting import Padding, conv
from baselines.family import positive
from baselines.initial import lecun_normal
from bench.errors import UserError

if TYPE_CHECKING:
    import torch
    from torch import nn


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
        prev = self.scaled(self.stem_width)
        total = 3 * prev * (49 if self.stem == "7x7" else 9) + (0 if preact else 2 * prev)
        for num_blocks, width in zip(self.layers, self.stage_widths, strict=True):
            out = self.scaled(width)
            mid = out // 4
            for block in range(num_blocks):
                shortcut = prev * out + (0 if preact else 2 * out) if block == 0 else 0
                norms = 4 * mid + 2 * (prev if preact else out)
                total += shortcut + norms + prev * mid + 9 * mid * mid + mid * out
                prev = out
        return total

    def body_flops(self, image_size_px: int, *, same: bool, padding: Padding) -> tuple[int, int]:
        """Return the FLOPs of stem and stages on one image, and the side of the last map."""
        prev = self.scaled(self.stem_width)
        if self.stem == "7x7":
            kind: dict[str, Any] = {"same": same, "padding": padding}
            total, side = conv(image_size_px, 3, prev, kernel=7, stride=2, **kind)
            side = -(-side // 2)  # both poolings give half the side, rounded up
        else:
            kind = {"same": same, "padding": padding}
            total, side = conv(image_size_px, 3, prev, kernel=3, **kind)
        for stage, (num_blocks, width) in enumerate(
            zip(self.layers, self.stage_widths, strict=True)
        ):
            out = self.scaled(width)
            for block in range(num_blocks):
                stride = self.strides[stage] if block == 0 else 1
                flops, side = self._block_flops(side, prev, out, stride, block == 0, kind)
                total += flops
                prev = out
        return total, side

    def body_activations(self, image_size_px: int, *, preact: bool) -> tuple[int, int]:
        """Return the values kept for the backward pass of one image, and the side of the last map.

        Inputs of convolutions and of norms; the stem's pooling keeps its padded input and 64-bit
        indices. The last map itself belongs to what comes next.
        """
        prev, side = self.scaled(self.stem_width), image_size_px
        total = 3 * side * side
        if self.stem == "7x7":
            side = -(-side // 2)
            norm_and_relu = 0 if preact else 2 * side * side
            padded = side + 2 if preact else side + 1
            side = -(-side // 2)
            total += prev * (norm_and_relu + padded * padded + 2 * side * side)
        elif not preact:
            total += prev * side * side
        for stage, (num_blocks, width) in enumerate(
            zip(self.layers, self.stage_widths, strict=True)
        ):
            out = self.scaled(width)
            for block in range(num_blocks):
                before = side * side
                stride = self.strides[stage] if block == 0 else 1
                # Uneven SAME padding works on a copy.
                padded = (side + 1) ** 2 if stride > 1 and side % 2 == 0 else 0
                side = -(-side // stride)
                after = side * side
                total += out // 2 * (before + after) + prev * before
                if preact:
                    total += prev * before
                else:
                    total += out * after * (2 if block == 0 else 1)
                if not preact and padded:
                    total += out // 4 * padded
                prev = out
        return total, side

    @staticmethod
    def _block_flops(
        side: int, prev: int, out: int, stride: int, projects: bool, kind: dict[str, Any]
    ) -> tuple[int, int]:
        mid = out // 4
        shortcut = conv(side, prev, out, stride=stride, **kind)[0] if projects else 0
        reduce = conv(side, prev, mid, **kind)[0]
        middle, side_out = conv(side, mid, mid, kernel=3, stride=stride, **kind)
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
