"""Arithmetic of convolutions, in closed form: sizes of maps and floating-point operations.

One multiply-add is 2 FLOPs. Normalization, activations, pooling and weight standardization count
nothing, which is the usual convention and that of `torch.utils.flop_counter`. The padding rule says
whether multiply-adds on zero padding count: `counted` (every tap of the kernel, as torch counts) or
`skipped` (only taps inside the image). The ResNet rows of ViT Table 6 fit the second.
"""

from __future__ import annotations

from typing import Literal

Padding = Literal["counted", "skipped"]
"""Whether multiply-adds on zero padding are counted."""


def same_pads(side_px: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return the padding before and after an axis that gives `ceil(side / stride)` outputs."""
    total = max((-(-side_px // stride) - 1) * stride + kernel - side_px, 0)
    return total // 2, total - total // 2


def conv_pads(side_px: int, kernel: int, stride: int, *, same: bool) -> tuple[int, int]:
    """Return TensorFlow's `SAME` pads, or the symmetric `(kernel - 1) // 2` of torch."""
    return same_pads(side_px, kernel, stride) if same else ((kernel - 1) // 2, (kernel - 1) // 2)


def out_side(side_px: int, kernel: int, stride: int, pads: tuple[int, int]) -> int:
    """Return the side of the output map."""
    return (side_px + sum(pads) - kernel) // stride + 1


def conv(
    side_px: int,
    in_channels: int,
    out_channels: int,
    *,
    kernel: int = 1,
    stride: int = 1,
    same: bool = False,
    padding: Padding = "counted",
) -> tuple[int, int]:
    """Return (FLOPs, output side) of a square 2-D convolution on one image.

    A depthwise convolution of C channels is `in_channels=1, out_channels=C`.
    """
    pads = conv_pads(side_px, kernel, stride, same=same)
    side_out = out_side(side_px, kernel, stride, pads)
    if padding == "counted":
        taps = side_out * kernel
    else:
        starts = range(-pads[0], side_out * stride - pads[0], stride)
        taps = sum(min(start + kernel, side_px) - max(start, 0) for start in starts)
    return 2 * taps * taps * in_channels * out_channels, side_out
