"""Vision Transformers: sizes, closed forms, and the builder on timm's modules.

Source: Dosovitskiy et al., "An Image is Worth 16x16 Words" (arXiv:2010.11929), Table 1 and
section 3.1; ViT-Ti and ViT-S from "How to train your ViT?" (arXiv:2106.10270). The encoder behind
the patches is that of `transformer.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from baselines.arrays import Shapes
from baselines.counting import Padding
from baselines.family import FamilyCard, card, positive
from baselines.footprint import Footprint, Numerics
from baselines.public_weights import JFT, augreg, fine_tuned, original
from baselines.transformer import (
    BASE,
    HALF,
    HUGE,
    LARGE,
    MICRO,
    NPZ,
    SMALL,
    TIMM,
    TINY,
    Transformer,
    transformer_args,
)
from bench.errors import UserError
from bench.specs import Args, SystemCard, WeightsSource

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class Vit(Transformer):
    """A transformer on non-overlapping patches of pixels."""

    patch_px: int
    """Side of a square patch, in pixels."""

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(patch_px=self.patch_px)

    @property
    def stride_px(self) -> int:
        """Pixels between neighbouring patches."""
        return self.patch_px

    def check_image(self, image_size_px: int) -> None:
        """Raise UserError unless at least one patch fits.

        What is left over at the right and at the bottom is not seen, as in the authors' code (a
        convolution without padding): ViT-H/14 sees 378 of 384 px, as 27 x 27 patches.
        """
        positive(image_size_px=image_size_px)
        if image_size_px < self.patch_px:
            raise UserError(
                f"image size {image_size_px} px is smaller than a patch of {self.patch_px} px",
                hint=f"Use {self.patch_px} or more",
            )

    def num_params(self, image_size_px: int) -> int:
        """Return the parameters of the encoder: no representation layer, no head."""
        embedding = 3 * self.patch_px**2 * self.width + self.width
        return embedding + self.transformer_params((image_size_px // self.patch_px) ** 2)

    def forward_flops(self, image_size_px: int, *, padding: Padding = "counted") -> int:
        """Return the FLOPs of one image through the encoder; nothing here is padded."""
        num_patches = (image_size_px // self.patch_px) ** 2
        embedding = 2 * num_patches * 3 * self.patch_px**2 * self.width
        return embedding + self.transformer_flops(num_patches)

    def footprint(self, image_size_px: int, numerics: Numerics) -> Footprint:
        """Return the bytes that a forward pass keeps, and those of its widest layer."""
        behind = self.transformer_footprint((image_size_px // self.patch_px) ** 2, numerics)
        kernel = 3 * self.patch_px**2 * self.width
        return Footprint(
            image=behind.image + 3 * numerics.product * image_size_px**2,
            shared=behind.shared + (numerics.product * kernel if numerics.casts else 0),
            widest=behind.widest,
        )

    def encoder(self, *, image_size_px: int, dropout: float, follows: str) -> nn.Module:
        """Return the module x_BCHW -> z_BD, uninitialized, on torch's default device."""
        return self.transformer(
            image_size_px=image_size_px, patch_px=self.patch_px, dropout=dropout, follows=follows
        )


_PAPER = "arXiv:2010.11929, Table 1"
_AUGREG = "arXiv:2106.10270, Table 2"


def _card(name: str, title: str, sizes: Vit, source: str, *weights: WeightsSource) -> SystemCard:
    return card(name, title, "vit", sizes, source=source, weights=weights)


def _released(file: str, width: int) -> tuple[WeightsSource, ...]:
    return original(file, representation_dim=width), fine_tuned(file)


SYSTEMS = (
    card(
        "vit-micro",
        "ViT-micro/4",
        "vit",
        Vit(**MICRO, patch_px=4),
        image_size_px=12,
        source="this project",
        note="For laptops: 12 to 32 px.",
    ),
    card(
        "vit-micro8",
        "ViT-micro/8",
        "vit",
        Vit(**{**MICRO, "depth": 3}, patch_px=8),
        image_size_px=48,
        source="this project",
        note="For laptops: 48 to 96 px.",
    ),
    _card("vit-ti16", "ViT-Ti/16", Vit(**TINY, patch_px=16), _AUGREG, augreg("Ti_16")),
    _card("vit-s32", "ViT-S/32", Vit(**SMALL, patch_px=32), _AUGREG, augreg("S_32")),
    _card("vit-s16", "ViT-S/16", Vit(**SMALL, patch_px=16), _AUGREG, augreg("S_16")),
    _card(
        "vit-b32", "ViT-B/32", Vit(**BASE, patch_px=32), _PAPER,
        *_released("ViT-B_32", 768), augreg("B_32"), JFT,
    ),
    _card(
        "vit-b16", "ViT-B/16", Vit(**BASE, patch_px=16), _PAPER,
        *_released("ViT-B_16", 768), augreg("B_16"), JFT,
    ),
    _card(
        "vit-l32", "ViT-L/32", Vit(**LARGE, patch_px=32), _PAPER,
        *_released("ViT-L_32", 1024), JFT,
    ),
    _card(
        "vit-l16", "ViT-L/16", Vit(**LARGE, patch_px=16), _PAPER,
        *_released("ViT-L_16", 1024), augreg("L_16"), JFT,
    ),
    _card(
        "vit-h14", "ViT-H/14", Vit(**HUGE, patch_px=14), _PAPER,
        original("ViT-H_14", representation_dim=1280), JFT,
    ),
    card(
        "vit-b32-half",
        "ViT-b/32",
        "vit",
        Vit(**HALF, patch_px=32),
        source="arXiv:2010.11929, Figure 4",
        note="ViT-B/32 with all hidden dimensions halved; that it keeps 12 heads is our reading.",
        weights=(JFT,),
    ),
)  # fmt: skip
"""Cards of the family."""


def _recognize(shapes: Shapes) -> Args | None:
    return transformer_args(shapes, backbone=False)


def _aliases(title: str) -> list[str]:
    return [title.removeprefix("ViT-")]


FAMILY = FamilyCard(
    name="vit",
    title="ViT",
    word="ViT",
    place=10,
    sizes=Vit,
    systems=SYSTEMS,
    aliases=_aliases,
    layouts=(NPZ, TIMM),
    recognize=_recognize,
    colour="#0072b2",
    dark_colour="#4aa8e0",
    markers=("o", "h", "X"),
    has_patches=True,
)
