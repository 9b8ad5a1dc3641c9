"""First values that several families, and the layer before the head, are drawn from."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def lecun_normal(weight: torch.Tensor, generator: torch.Generator) -> None:
    """Fill a weight (out, in, ...) from a normal of variance 1 / fan-in, cut at two deviations."""
    from torch import nn

    std = weight[0].numel() ** -0.5 / 0.87962566103423978  # what the cut takes from the deviation
    nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std, generator=generator)
