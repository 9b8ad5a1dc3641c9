"""Vision Transformers: sizes, closed forms, and the builder on timm's modules.

Source: Dosovitskiy et al., "An Image is Worth 16x16 Words" (arXiv:2010.11929), Table 1 and
section 3.1; ViT-Ti and ViT-S from "How to train your ViT?" (arXiv:2106.10270); the authors' code
(google-research/vision_transformer) where the paper is silent: tanh-approximated GELU, LayerNorm
epsilon 1e-6, final LayerNorm before average pooling, initial values.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from baselines.counting import Padding
from baselines.family import card, later, positive
from baselines.public_weights import JFT, augreg, fine_tuned, original
from bench.errors import UserError
from bench.specs import WeightsSource

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class Transformer:
    """The encoder behind the patch embedding, which ViTs and hybrids share."""

    width: int
    """D, size of a token."""
    depth: int
    """Number of transformer blocks."""
    num_heads: int
    """Attention heads; must divide `width`."""
    mlp_dim: int
    """Hidden size of the MLP."""
    pooling: Literal["token", "gap"] = "token"
    """`token`: the class token's output; `gap`: the mean over patch tokens, no class token."""
    gelu: Literal["tanh", "erf"] = "tanh"
    """`tanh`: the approximation the authors use; `erf`: exact, as timm."""
    representation_dim: int = 0
    """Width of a dense + tanh layer between encoder and head; 0: none."""
    pretraining_dim: int = 0
    """Hidden width of the pre-training head; 0: as wide as the encoder, as the authors. Narrow
    encoders learn slowly behind a zero-initialized head of their own width."""
    posemb: Literal["learned-1d", "none", "learned-2d", "relative"] = later("learned-1d")
    """How the encoder is told where a patch is (appendix D.4; `positions.py` says all of it)."""
    posemb_at: Literal["stem", "every-layer", "every-layer-shared"] = later("stem")
    """Where absolute embeddings are added: after the stem, or before every layer, each with its own
    or all with the same."""

    def __post_init__(self) -> None:
        positive(width=self.width, depth=self.depth, num_heads=self.num_heads, mlp_dim=self.mlp_dim)
        if self.representation_dim < 0:
            raise UserError(f"representation_dim = {self.representation_dim} must not be negative")
        if self.width % self.num_heads:
            raise UserError(
                f"width {self.width} is not a multiple of num_heads {self.num_heads}",
                hint="Every head has width / num_heads features",
            )
        if self.posemb == "learned-2d" and self.width % 2:
            raise UserError(
                f"width {self.width} is odd, and 2-D position embeddings have half of it for rows "
                "and half for columns"
            )
        if self.posemb in ("none", "relative") and self.posemb_at != "stem":
            raise UserError(
                f'posemb_at = "{self.posemb_at}" says where absolute position embeddings are '
                f'added, and posemb = "{self.posemb}" has none',
                hint='Leave posemb_at out, or use posemb = "learned-1d" or "learned-2d"',
            )

    @property
    def feature_dim(self) -> int:
        """Width D of the encoder's output z_BD."""
        return self.width

    def transformer_params(self, num_patches: int) -> int:
        """Return the parameters of class token, positions, blocks and final norm."""
        class_token = self.width * int(self.pooling == "token")
        attention = 4 * (self.width * self.width + self.width)
        mlp = 2 * self.width * self.mlp_dim + self.mlp_dim + self.width
        tokens = class_token + self._position_params(num_patches)
        return tokens + self.depth * (attention + mlp + 4 * self.width) + 2 * self.width

    def _position_params(self, num_patches: int) -> int:
        num_tokens = num_patches + int(self.pooling == "token")
        if self.posemb == "relative":
            return self.depth * (2 * num_tokens - 1) * self.width
        rows = {"none": 0, "learned-1d": num_tokens, "learned-2d": math.isqrt(num_patches)}
        return self.num_position_sets * rows[self.posemb] * self.width

    @property
    def num_position_sets(self) -> int:
        """Sets of absolute position embeddings: one, or one for each layer."""
        return self.depth if self.posemb_at == "every-layer" else 1

    def transformer_flops(self, num_patches: int) -> int:
        """Return the FLOPs of the blocks: dense layers and the two products of attention.

        Relative attention has a third: queries with the embeddings of all 2T - 1 offsets.
        """
        num_tokens = num_patches + int(self.pooling == "token")
        dense = 4 * self.width * self.width + 2 * self.width * self.mlp_dim
        attention = 2 * num_tokens * self.width
        if self.posemb == "relative":
            attention += (2 * num_tokens - 1) * self.width
        return self.depth * 2 * num_tokens * (dense + attention)

    def transformer_activations(self, num_patches: int) -> int:
        """Return the values kept for the backward pass of the blocks, for one image.

        Per token and block: inputs and outputs of both norms, query, key, value, the input of the
        projection, both sides of the GELU, and one attention weight for each head and token;
        relative attention keeps the query once more.
        """
        num_tokens = num_patches + int(self.pooling == "token")
        block = 8 * self.width + 2 * self.mlp_dim + self.num_heads * num_tokens
        block += self.width * int(self.posemb == "relative")
        return num_tokens * (self.depth * block + self.width)

    def transformer(
        self, *, image_size_px: int, patch_px: int, dropout: float, follows: str, **embed: Any
    ) -> nn.Module:
        """Return timm's VisionTransformer with the authors' choices, or with timm's own."""
        from functools import partial

        from torch import nn

        from baselines.positions import Encoder, RelativeAttention

        exact = self.gelu == "erf" or follows == "timm"
        if self.posemb == "relative":
            embed["attn_layer"] = RelativeAttention
        model: nn.Module = Encoder(
            posemb=self.posemb,
            every_layer=self.posemb_at != "stem",
            num_sets=self.num_position_sets,
            img_size=image_size_px,
            patch_size=patch_px,
            num_classes=0,
            embed_dim=self.width,
            depth=self.depth,
            num_heads=self.num_heads,
            # timm multiplies this by the width and truncates: half a unit more keeps it exact.
            mlp_ratio=(self.mlp_dim + 0.5) / self.width,
            act_layer=partial(nn.GELU, approximate="none" if exact else "tanh"),
            global_pool="avg" if self.pooling == "gap" else "token",
            class_token=self.pooling == "token",
            # The authors normalize, then average; timm's default averages, then normalizes.
            fc_norm=None if follows == "timm" else False,
            pos_drop_rate=dropout,
            proj_drop_rate=dropout,
            weight_init="skip",
            **embed,
        )
        return model

    def initialize(self, encoder: nn.Module, generator: torch.Generator) -> None:
        """Draw the weights as the authors' code does.

        Patch embedding: truncated LeCun normal. Dense layers: Xavier uniform, with query, key and
        value each on its own. Biases of the MLP: normal(1e-6), others zero. Positions:
        normal(0.02), of every kind. Class token: zero. Norms: one and zero.
        """
        from torch import nn

        for name, layer in encoder.named_modules():
            if isinstance(layer, nn.LayerNorm):
                nn.init.ones_(layer.weight)
                nn.init.zeros_(layer.bias)
            elif isinstance(layer, nn.Linear):
                for part in layer.weight.chunk(3) if name.endswith("qkv") else (layer.weight,):
                    nn.init.xavier_uniform_(part, generator=generator)
                if ".mlp." in name:
                    nn.init.normal_(layer.bias, std=1e-6, generator=generator)
                else:
                    nn.init.zeros_(layer.bias)
        projection: Any = encoder.patch_embed.proj  # type: ignore[union-attr]
        lecun_normal(projection.weight, generator)
        nn.init.zeros_(projection.bias)
        for name, parameter in encoder.named_parameters():
            if re.search(r"(^|\.)(pos_embed|pos_rows|pos_columns|offsets)$", name):
                nn.init.normal_(parameter, std=0.02, generator=generator)
        if encoder.cls_token is not None:
            nn.init.zeros_(encoder.cls_token)  # type: ignore[arg-type]


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

    def activations(self, image_size_px: int) -> int:
        """Return the values kept for the backward pass of one image."""
        num_patches = (image_size_px // self.patch_px) ** 2
        return 3 * image_size_px**2 + self.transformer_activations(num_patches)

    def encoder(self, *, image_size_px: int, dropout: float, follows: str) -> nn.Module:
        """Return the module x_BCHW -> z_BD, uninitialized, on torch's default device."""
        return self.transformer(
            image_size_px=image_size_px, patch_px=self.patch_px, dropout=dropout, follows=follows
        )


def lecun_normal(weight: torch.Tensor, generator: torch.Generator) -> None:
    """Fill a weight (out, in, ...) from a normal of variance 1 / fan-in, cut at two deviations."""
    from torch import nn

    std = weight[0].numel() ** -0.5 / 0.87962566103423978  # what the cut takes from the deviation
    nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std, generator=generator)


MICRO: dict[str, Any] = {
    "width": 64,
    "depth": 2,
    "num_heads": 4,
    "mlp_dim": 128,
    "pretraining_dim": 256,
}
TINY: dict[str, Any] = {"width": 192, "depth": 12, "num_heads": 3, "mlp_dim": 768}
SMALL: dict[str, Any] = {"width": 384, "depth": 12, "num_heads": 6, "mlp_dim": 1536}
HALF: dict[str, Any] = {"width": 384, "depth": 12, "num_heads": 12, "mlp_dim": 1536}
BASE: dict[str, Any] = {"width": 768, "depth": 12, "num_heads": 12, "mlp_dim": 3072}
LARGE: dict[str, Any] = {"width": 1024, "depth": 24, "num_heads": 16, "mlp_dim": 4096}
HUGE: dict[str, Any] = {"width": 1280, "depth": 32, "num_heads": 16, "mlp_dim": 5120}

_PAPER = "arXiv:2010.11929, Table 1"
_AUGREG = "arXiv:2106.10270, Table 2"


def _released(file: str, representation_dim: int) -> tuple[WeightsSource, ...]:
    return original(file, representation_dim=representation_dim), fine_tuned(file)


CARDS = (
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
        "vit-ti16",
        "ViT-Ti/16",
        "vit",
        Vit(**TINY, patch_px=16),
        source=_AUGREG,
        weights=(augreg("Ti_16"),),
    ),
    card(
        "vit-s32",
        "ViT-S/32",
        "vit",
        Vit(**SMALL, patch_px=32),
        source=_AUGREG,
        weights=(augreg("S_32"),),
    ),
    card(
        "vit-s16",
        "ViT-S/16",
        "vit",
        Vit(**SMALL, patch_px=16),
        source=_AUGREG,
        weights=(augreg("S_16"),),
    ),
    card(
        "vit-b32",
        "ViT-B/32",
        "vit",
        Vit(**BASE, patch_px=32),
        source=_PAPER,
        weights=(*_released("ViT-B_32", 768), augreg("B_32"), JFT),
    ),
    card(
        "vit-b16",
        "ViT-B/16",
        "vit",
        Vit(**BASE, patch_px=16),
        source=_PAPER,
        weights=(*_released("ViT-B_16", 768), augreg("B_16"), JFT),
    ),
    card(
        "vit-l32",
        "ViT-L/32",
        "vit",
        Vit(**LARGE, patch_px=32),
        source=_PAPER,
        weights=(*_released("ViT-L_32", 1024), JFT),
    ),
    card(
        "vit-l16",
        "ViT-L/16",
        "vit",
        Vit(**LARGE, patch_px=16),
        source=_PAPER,
        weights=(*_released("ViT-L_16", 1024), augreg("L_16"), JFT),
    ),
    card(
        "vit-h14",
        "ViT-H/14",
        "vit",
        Vit(**HUGE, patch_px=14),
        source=_PAPER,
        weights=(original("ViT-H_14", representation_dim=1280), JFT),
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
)
"""Cards of the family."""
