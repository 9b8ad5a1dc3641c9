"""Raw pixels: what every learned representation has to beat.

An image is averaged to a small square and laid out as one vector; nothing is learned. k-NN and
linear probes on it say how far a data set gets without any network.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from baselines.counting import Padding
from baselines.family import FamilyCard, card, positive
from baselines.footprint import FLOAT, Footprint, Numerics

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class Pixels:
    """The pixels of an image, averaged to a square."""

    side_px: int = 16
    """Side of the square."""

    def __post_init__(self) -> None:
        positive(side_px=self.side_px)

    @property
    def feature_dim(self) -> int:
        """Width D of the encoder's output z_BD: three values a pixel."""
        return 3 * self.side_px**2

    @property
    def stride_px(self) -> int:
        """Total stride, in pixels."""
        return 1

    def check_image(self, image_size_px: int) -> None:
        """Raise UserError unless there is an image: every side can be averaged."""
        positive(image_size_px=image_size_px)

    def num_params(self, image_size_px: int) -> int:
        """Return 0: nothing is learned."""
        return 0

    def forward_flops(self, image_size_px: int, *, padding: Padding = "counted") -> int:
        """Return 0: there is nothing but averages, which are no multiply-adds."""
        return 0

    def footprint(self, image_size_px: int, numerics: Numerics) -> Footprint:
        """Return the bytes that a forward pass keeps: the image itself, and its averages."""
        return Footprint(3 * FLOAT * image_size_px**2, 0, FLOAT * self.feature_dim)

    def pre_logits_dim(self, *, pretraining: bool) -> int:
        """Return 0: there is no such layer."""
        return 0

    def encoder(self, *, image_size_px: int, dropout: float, follows: str) -> nn.Module:
        """Return the module x_BCHW -> z_BD; it has no weights."""
        from torch import nn

        return nn.Sequential(nn.AdaptiveAvgPool2d(self.side_px), nn.Flatten())

    def initialize(self, encoder: nn.Module, generator: torch.Generator) -> None:
        """Draw nothing: there are no weights."""


SYSTEMS = (
    card(
        "raw-pixels",
        "Raw pixels",
        "pixels",
        Pixels(),
        image_size_px=32,
        source="this project",
        note="What a representation has to beat: for k-NN and linear probes, untrained.",
    ),
)
"""Cards of the family."""

FAMILY = FamilyCard(
    name="pixels",
    title="Raw pixels",
    word="pixels",
    place=90,
    sizes=Pixels,
    systems=SYSTEMS,
    colour="#8a8a8a",
    dark_colour="#a0a0a0",
    markers=(".",),
)
