"""Noisy Student: EfficientNets, the strongest CNNs that the ViT paper compares with.

Source: Xie et al., "Self-training with Noisy Student" (arXiv:1911.04252); Tan and Le,
"EfficientNet" (arXiv:1905.11946), Table 1, scaled by width and depth factors; TensorFlow's SAME
padding, batch-norm epsilon 1e-3 and momentum 0.99, as the authors' code. EfficientNet-L2 is the row
"Noisy Student" of ViT Table 2.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from baselines.arrays import Shapes, first, timm
from baselines.counting import Padding, conv, same_pads
from baselines.family import FamilyCard, card, positive
from baselines.footprint import Footprint, Numerics
from bench.errors import UserError
from bench.specs import Args, Training, WeightsSource

if TYPE_CHECKING:
    import torch
    from torch import nn

KERNELS = (3, 3, 5, 3, 5, 5, 3)
STRIDES = (1, 2, 2, 2, 1, 2, 1)
EXPANSIONS = (1, 6, 6, 6, 6, 6, 6)


class _Block(NamedTuple):
    """One (inverted) bottleneck: channels in, expanded, squeezed and out."""

    channels: int
    expanded: int
    squeezed: int
    out: int
    kernel: int
    stride: int

    @property
    def expands(self) -> bool:
        return self.expanded != self.channels


@dataclass(frozen=True, kw_only=True)
class NoisyStudent:
    """An EfficientNet."""

    width_factor: float = 1
    """Factor on all widths, then rounded to a multiple of 8."""
    depth_factor: float = 1
    """Factor on all block counts, rounded up."""
    layers: tuple[int, ...] = (1, 2, 2, 3, 3, 4, 1)
    """Blocks of the seven stages, before `depth_factor`."""
    widths: tuple[int, ...] = (16, 24, 40, 80, 112, 192, 320)
    """Output channels of the seven stages, before `width_factor`."""
    stem_width: int = 32
    """Channels of the stem, before `width_factor`."""
    top_width: int = 1280
    """Channels of the last convolution, before `width_factor`."""

    def __post_init__(self) -> None:
        positive(
            width_factor=self.width_factor,
            depth_factor=self.depth_factor,
            layers=self.layers,
            widths=self.widths,
            stem_width=self.stem_width,
            top_width=self.top_width,
        )
        if len(self.layers) != len(KERNELS) or len(self.widths) != len(KERNELS):
            raise UserError(f"layers and widths need {len(KERNELS)} entries, one for each stage")

    @property
    def feature_dim(self) -> int:
        """Width D of the encoder's output z_BD."""
        return self.scaled(self.top_width)

    @property
    def stride_px(self) -> int:
        """Total stride, in pixels."""
        return 2 * math.prod(STRIDES)

    def scaled(self, width: int) -> int:
        """Return a width times `width_factor`, to the nearest multiple of 8 that keeps 90 %."""
        wanted = width * self.width_factor
        rounded = max(8, int(wanted + 4) // 8 * 8)
        return rounded + 8 if rounded < 0.9 * wanted else rounded

    def check_image(self, image_size_px: int) -> None:
        """Raise UserError unless there is an image: SAME padding makes every side possible."""
        positive(image_size_px=image_size_px)

    def blocks(self) -> Iterator[_Block]:
        """Yield the blocks in order."""
        channels = self.scaled(self.stem_width)
        for stage, width in enumerate(self.widths):
            out, expansion = self.scaled(width), EXPANSIONS[stage]
            for index in range(math.ceil(self.layers[stage] * self.depth_factor)):
                expanded = channels * expansion
                yield _Block(
                    channels,
                    expanded,
                    round(expanded * (0.25 / expansion)),
                    out,
                    KERNELS[stage],
                    STRIDES[stage] if index == 0 else 1,
                )
                channels = out

    def num_params(self, image_size_px: int) -> int:
        """Return the parameters of the encoder, no head (batch-norm statistics are none)."""
        stem, top = self.scaled(self.stem_width), self.feature_dim
        total = 27 * stem + 2 * stem + self.scaled(self.widths[-1]) * top + 2 * top
        for b in self.blocks():
            expand = b.channels * b.expanded + 2 * b.expanded if b.expands else 0
            depthwise = b.kernel**2 * b.expanded + 2 * b.expanded
            squeeze = 2 * b.expanded * b.squeezed + b.squeezed + b.expanded
            total += expand + depthwise + squeeze + b.expanded * b.out + 2 * b.out
        return total

    def forward_flops(self, image_size_px: int, *, padding: Padding = "counted") -> int:
        """Return the FLOPs of one image through the encoder."""
        stem = self.scaled(self.stem_width)
        total, side = conv(image_size_px, 3, stem, kernel=3, stride=2, same=True, padding=padding)
        for b in self.blocks():
            if b.expands:
                total += conv(side, b.channels, b.expanded)[0]
            depthwise, side = conv(
                side, 1, b.expanded, kernel=b.kernel, stride=b.stride, same=True, padding=padding
            )
            total += depthwise + 4 * b.expanded * b.squeezed + conv(side, b.expanded, b.out)[0]
        return total + conv(side, self.scaled(self.widths[-1]), self.feature_dim)[0]

    def footprint(self, image_size_px: int, numerics: Numerics) -> Footprint:
        """Return the bytes that a forward pass keeps, and those of its widest layer.

        Inputs of convolutions, of norms and of activations (which work in place on a copy), and
        what the squeeze scales: all as products are, since batch normalization takes any type.
        """
        values = 3 * (image_size_px + sum(same_pads(image_size_px, 3, 2))) ** 2
        side = -(-image_size_px // 2)
        values += 2 * self.scaled(self.stem_width) * side**2
        widest = 0
        for b in self.blocks():
            padded = side + sum(same_pads(side, b.kernel, b.stride)) if b.stride > 1 else side
            after = -(-side // b.stride)
            widened = b.expanded * (2 * side**2 + padded**2) if b.expands else 0
            values += b.channels * side**2 + widened + (4 * b.expanded + b.out) * after**2
            held = 2 * (b.channels + b.expanded) * side**2 + b.expanded * after**2
            widest = max(widest, held)
            side = after
        values += (self.scaled(self.widths[-1]) + 2 * self.feature_dim) * side * side
        shared = numerics.product * self.num_params(image_size_px) if numerics.casts else 0
        return Footprint(numerics.product * values, shared, numerics.product * widest)

    def pre_logits_dim(self, *, pretraining: bool) -> int:
        """Return 0: the head is linear, in pre-training too."""
        return 0

    def encoder(self, *, image_size_px: int, dropout: float, follows: str) -> nn.Module:
        """Return the module x_BCHW -> z_BD, uninitialized, on torch's default device.

        Dropout acts on the pooled features, as in EfficientNet.
        """
        from functools import partial

        from timm.models._efficientnet_builder import decode_arch_def
        from timm.models.efficientnet import EfficientNet
        from torch import nn

        kinds = ("ds" if expansion == 1 else "ir" for expansion in EXPANSIONS)
        stages = zip(kinds, self.layers, KERNELS, STRIDES, EXPANSIONS, self.widths, strict=True)
        blocks = [[f"{t}_r{r}_k{k}_s{s}_e{e}_c{c}_se0.25"] for t, r, k, s, e, c in stages]
        model: nn.Module = EfficientNet(
            decode_arch_def(blocks, self.depth_factor),
            num_classes=0,
            num_features=self.feature_dim,
            stem_size=self.stem_width,
            pad_type="same",
            act_layer=nn.SiLU,
            norm_layer=partial(
                nn.BatchNorm2d, eps=1e-3, momentum=0.1 if follows == "timm" else 0.01
            ),
            round_chs_fn=self.scaled,
            drop_rate=dropout,
        )
        return model

    def initialize(self, encoder: nn.Module, generator: torch.Generator) -> None:
        """Draw the weights: convolutions normal of variance 2 / fan-out, norms at their start."""
        from torch import nn

        for layer in encoder.modules():
            if isinstance(layer, nn.Conv2d):
                fan_out = layer.weight[0, 0].numel() * layer.out_channels // layer.groups
                std = math.sqrt(2 / fan_out)
                nn.init.normal_(layer.weight, std=std, generator=generator)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
            elif isinstance(layer, nn.BatchNorm2d):
                layer.reset_parameters()  # constants: draws nothing


def _weights(name: str, note: str) -> WeightsSource:
    """Return released weights as timm has them: the authors' own are TensorFlow checkpoints."""
    return WeightsSource(
        name=name.split(".")[1],
        url=f"hf-hub:timm/{name}",
        layout="timm",
        trained_on=(Training(dataset="imagenet-1k", unlabelled="jft-300m"),),
        licence="Apache-2.0",
        note=f"{note}; made for images less the mean of ImageNet's channels, over their deviation",
    )


SYSTEMS = (
    card(
        "noisy-student-b7",
        "Noisy Student (EfficientNet-B7)",
        "noisy-student",
        NoisyStudent(width_factor=2.0, depth_factor=3.1),
        image_size_px=600,
        source="arXiv:1911.04252, Table 2",
        weights=(_weights("tf_efficientnet_b7.ns_jft_in1k", "converted from the authors' files"),),
    ),
    card(
        "noisy-student-l2",
        "Noisy Student (EfficientNet-L2)",
        "noisy-student",
        NoisyStudent(width_factor=4.3, depth_factor=5.3),
        image_size_px=800,
        source="arXiv:1911.04252, Table 2; arXiv:2010.11929, Table 2",
        weights=(
            _weights("tf_efficientnet_l2.ns_jft_in1k", "800 px, converted from the authors' files"),
            _weights(
                "tf_efficientnet_l2.ns_jft_in1k_475", "475 px, converted from the authors' files"
            ),
        ),
    ),
)
"""Cards of the family."""


def _recognize(shapes: Shapes) -> Args | None:
    top = first(shapes, "conv_head.weight")
    if not top:
        return None
    return {"width_factor": {2560: 2.0, 5504: 4.3}.get(top[0], top[0] / 1280)}


FAMILY = FamilyCard(
    name="noisy-student",
    title="Noisy Student",
    word="Noisy Student",
    place=40,
    sizes=NoisyStudent,
    systems=SYSTEMS,
    layouts=(timm("classifier"),),
    recognize=_recognize,
    colour="#c0609a",
    markers=("*",),
    has_batch_statistics=lambda sizes: True,
)
