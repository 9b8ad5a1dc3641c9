"""Vision Transformers: sizes, closed forms, and the builder on timm's modules.

Source: Dosovitskiy et al., "An Image is Worth 16x16 Words" (arXiv:2010.11929), Table 1 and
section 3.1; ViT-Ti and ViT-S from "How to train your ViT?" (arXiv:2106.10270); the authors' code
(google-research/vision_transformer) where the paper is silent: tanh-approximated GELU, LayerNorm
epsilon 1e-6, final LayerNorm before average pooling, initial values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from baselines.counting import Padding
from baselines.family import card, positive
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

    def __post_init__(self) -> None:
        positive(width=self.width, depth=self.depth, num_heads=self.num_heads, mlp_dim=self.mlp_dim)
        if self.representation_dim < 0:
            raise UserError(f"representation_dim = {self.representation_dim} must not be negative")
        if self.width % self.num_heads:
            raise UserError(
                f"width {self.width} is not a multiple of num_heads {self.num_heads}",
                hint="Every head has width / num_heads features",
            )

    @property
    def feature_dim(self) -> int:
        """Width D of the encoder's output z_BD."""
        return self.width

    def transformer_params(self, num_patches: int) -> int:
        """Return the parameters of class token, positions, blocks and final norm."""
        num_class_tokens = int(self.pooling == "token")
        attention = 4 * (self.width * self.width + self.width)
        mlp = 2 * self.width * self.mlp_dim + self.mlp_dim + self.width
        tokens = (num_patches + 2 * num_class_tokens) * self.width
        return tokens + self.depth * (attention + mlp + 4 * self.width) + 2 * self.width

    def transformer_flops(self, num_patches: int) -> int:
        """Return the FLOPs of the blocks: dense layers and the two products of attention."""
        num_tokens = num_patches + int(self.pooling == "token")
        dense = 4 * self.width * self.width + 2 * self.width * self.mlp_dim
        attention = 2 * num_tokens * self.width
        return self.depth * 2 * num_tokens * (dense + attention)

    def transformer_activations(self, num_patches: int) -> int:
        """Return the values kept for the backward pass of the blocks, for one image.

        Per token and block: inputs and outputs of both norms, query, key, value, the input of the
        projection, both sides of the GELU, and one attention weight for each head and token.
        """
        num_tokens = num_patches + int(self.pooling == "token")
        block = 8 * self.width + 2 * self.mlp_dim + self.num_heads * num_tokens
        return num_tokens * (self.depth * block + self.width)

    def transformer(
        self, *, image_size_px: int, patch_px: int, dropout: float, follows: str, **embed: Any
    ) -> nn.Module:
        """Return timm's VisionTransformer with the authors' choices, or with timm's own."""
        from functools import partial

        from timm.models.vision_transformer import VisionTransformer
        from torch import nn

        exact = self.gelu == "erf" or follows == "timm"
        model: nn.Module = VisionTransformer(
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
        normal(0.02). Class token: zero. Norms: one and zero.
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
        nn.init.normal_(encoder.pos_embed, std=0.02, generator=generator)  # type: ignore[arg-type]
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
        """Raise UserError unless patches tile the image."""
        positive(image_size_px=image_size_px)
        if image_size_px % self.patch_px:
            below = image_size_px // self.patch_px * self.patch_px
            near = [str(size) for size in (below, below + self.patch_px) if size]
            raise UserError(
                f"image size {image_size_px} px is not a multiple of the patch side "
                f"{self.patch_px} px",
                hint=f"Use {' or '.join(near)}",
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
