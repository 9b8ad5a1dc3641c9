"""The transformer behind the patch embedding, which ViTs and hybrids share.

Source: Dosovitskiy et al., "An Image is Worth 16x16 Words" (arXiv:2010.11929), Table 1 and
section 3.1; the authors' code (google-research/vision_transformer) where the paper is silent:
tanh-approximated GELU, LayerNorm epsilon 1e-6, final LayerNorm before average pooling, initial
values.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from baselines import arrays
from baselines.arrays import Layout, Rule, Shapes, linear, norm
from baselines.family import later, positive
from baselines.footprint import FLOAT, MASK, Footprint, Numerics
from baselines.initial import lecun_normal
from bench.errors import CheckpointError, UserError
from bench.specs import Args

if TYPE_CHECKING:
    import torch
    from torch import nn


MOST_LAYERS = 10_000
"""Deeper ones are slips of the hand."""


@dataclass(frozen=True, kw_only=True)
class Transformer:
    """The encoder behind the patch embedding."""

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
    """How the encoder is told where a patch is (appendix D.4; `_positions.py` says all of it)."""
    posemb_at: Literal["stem", "every-layer", "every-layer-shared"] = later("stem")
    """Where absolute embeddings are added: after the stem, or before every layer, each with its own
    or all with the same."""

    def __post_init__(self) -> None:
        positive(width=self.width, depth=self.depth, num_heads=self.num_heads, mlp_dim=self.mlp_dim)
        if self.depth > MOST_LAYERS:
            raise UserError(f"depth = {self.depth:,} is more than {MOST_LAYERS:,} layers")
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

    def transformer_footprint(self, num_patches: int, numerics: Numerics) -> Footprint:
        """Return the bytes of class token, blocks and final norm.

        Per token and block: inputs and statistics of both norms; inputs of the four dense layers;
        query, key and value; both sides of the GELU; what attention keeps.
        """
        num_tokens = num_patches + int(self.pooling == "token")
        product, residual = numerics.product, self._residual_bytes(numerics)
        norm = residual * self.width + 2 * FLOAT
        block = 2 * norm + product * (6 * self.width + 2 * self.mlp_dim)
        block += self._attention_bytes(num_tokens, numerics)
        outside = norm  # the class token's output is a view of all outputs, unless it is cast
        outside += FLOAT * self.width * int(self.pooling == "token" and not numerics.casts)
        if numerics.dropout:
            block += MASK * (2 * self.width + self.mlp_dim)
            outside += MASK * self.width
        return Footprint(
            image=num_tokens * (self.depth * block + outside),
            shared=self.depth * (product if numerics.casts else 0) * self._kernel_values,
            widest=num_tokens * self._widest_bytes(num_tokens, numerics),
        )

    @property
    def _kernel_values(self) -> int:
        """Weights of the dense layers of a block."""
        return 4 * self.width * self.width + 2 * self.width * self.mlp_dim

    def _residual_bytes(self, numerics: Numerics) -> int:
        """Return the bytes of a value of the residual stream.

        It is what the patch embedding gives, or float32 once a parameter has been added to it.
        """
        absolute = self.posemb in ("learned-1d", "learned-2d")
        return FLOAT if absolute or self.pooling == "token" else numerics.norm

    def _attention_bytes(self, num_tokens: int, numerics: Numerics) -> int:
        """Return what attention keeps for a query besides query, key and value.

        The softmax keeps its output, and its product with the values a cast copy of it; a fused
        kernel keeps one number for each head, and relative logits where there are any. Relative
        attention keeps the query once more.
        """
        relative = self.posemb == "relative"
        logits = numerics.product * 2 * num_tokens * int(relative)  # of 2T - 1 offsets
        per_head = (
            FLOAT + logits if numerics.fused else (numerics.norm + numerics.copied) * num_tokens
        )
        return self.num_heads * per_head + numerics.product * self.width * int(relative)

    def _widest_bytes(self, num_tokens: int, numerics: Numerics) -> int:
        """Return what is held for a token inside the softmax or the MLP, whichever is more."""
        product = numerics.product
        # The block's input and output, and the norm's output.
        around = (2 * self._residual_bytes(numerics) + FLOAT) * self.width
        matrices = 0 if numerics.fused else 2 * numerics.norm * self.num_heads * num_tokens
        return around + max(4 * product * self.width + matrices, 2 * product * self.mlp_dim)

    def transformer(
        self, *, image_size_px: int, patch_px: int, dropout: float, follows: str, **embed: Any
    ) -> nn.Module:
        """Return timm's VisionTransformer with the authors' choices, or with timm's own."""
        from functools import partial

        from torch import nn

        from baselines._positions import Encoder, RelativeAttention

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

    def pre_logits_dim(self, *, pretraining: bool) -> int:
        """Return the width of the dense + tanh layer between encoder and head; 0: none."""
        if self.representation_dim or not pretraining:
            return self.representation_dim
        return self.pretraining_dim or self.width

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


# --- weights in files --------------------------------------------------------------------------


def check_positions(args: Args) -> None:
    """Raise CheckpointError where position embeddings are not those of the released files."""
    words = [str(args[key]) for key in ("posemb", "posemb_at") if args.get(key)]
    if words:  # both are left out at their defaults
        raise CheckpointError(
            f"others' files have no place for these position embeddings ({', '.join(words)})",
            hint='Use layout "safetensors"',
        )


def npz_rules(args: Args, names: Collection[str]) -> Iterator[Rule]:
    """Yield the rules of the authors' files: `models_vit.py`, named as before Flax linen."""
    check_positions(args)
    heads: Any = args["num_heads"]
    depth: Any = args["depth"]
    yield from linear("embedding", "encoder.patch_embed.proj", "conv")
    if args["pooling"] == "token":
        yield Rule("cls", "encoder.cls_token")
    yield Rule("Transformer/posembed_input/pos_embedding", "encoder.pos_embed")
    for index in range(depth):
        theirs, ours = f"Transformer/encoderblock_{index}", f"encoder.blocks.{index}"
        attention = f"{theirs}/MultiHeadDotProductAttention_1"
        yield from norm(f"{theirs}/LayerNorm_0", f"{ours}.norm1")
        for part, name in enumerate(("query", "key", "value")):
            packed = f"{ours}.attn.qkv"
            yield Rule(f"{attention}/{name}/kernel", f"{packed}.weight", "heads", part, heads)
            yield Rule(f"{attention}/{name}/bias", f"{packed}.bias", "heads_bias", part, heads)
        yield Rule(f"{attention}/out/kernel", f"{ours}.attn.proj.weight", "merge", 0, heads)
        yield Rule(f"{attention}/out/bias", f"{ours}.attn.proj.bias")
        yield from norm(f"{theirs}/LayerNorm_2", f"{ours}.norm2")
        for layer in (0, 1):
            yield from linear(f"{theirs}/MlpBlock_3/Dense_{layer}", f"{ours}.mlp.fc{layer + 1}")
    # timm's norm after pooling has another name; the numbers are the same.
    last = "fc_norm" if "encoder.fc_norm.weight" in names else "norm"
    yield from norm("Transformer/encoder_norm", f"encoder.{last}")
    if "pre_logits.weight" in names:
        yield from linear("pre_logits", "pre_logits")
    yield from linear("head", "head")


def released_names(args: Args, names: Collection[str]) -> dict[str, str]:
    """Return the names before Flax linen, by those in a file of either."""
    linen = any("/MultiHeadDotProductAttention_0/" in name for name in names)
    found = {}
    for name in names:
        new = arrays.unwrapped(name)
        if linen:
            new = re.sub(r"(?<=encoderblock_)(\d+)/LayerNorm_1/", r"\1/LayerNorm_2/", new)
            new = new.replace("DotProductAttention_0/", "DotProductAttention_1/")
            new = new.replace("/MlpBlock_0/", "/MlpBlock_3/")
        found[name] = new
    return found


def transformer_args(shapes: Shapes, *, backbone: bool) -> Args | None:
    """Return the sizes that names and shapes give away: of pixels' patches, or of a `backbone`'s.

    None where a file holds no such transformer.
    """
    patch = arrays.first(shapes, "embedding/kernel", "patch_embed.proj.weight")
    stem = arrays.first(shapes, "conv_root/kernel", "patch_embed.backbone.stem.conv.weight")
    if len(patch) != 4 or bool(stem) != backbone:
        return None
    official = "embedding/kernel" in shapes
    mlp = [size[-1] for name, size in shapes.items() if re.search(_MLP, name)]
    found: Args = {
        "width": patch[3] if official else patch[0],
        "depth": arrays.count(shapes, r"(?:encoderblock_|^blocks\.)(\d+)[/.]"),
        "mlp_dim": mlp[0] if mlp else 0,
    }
    return found if backbone else {**found, "patch_px": patch[0] if official else patch[2]}


_MLP = r"(Dense_0/bias|mlp\.fc1\.bias)$"

NPZ = Layout(name="npz", ending=".npz", mark="/", rules=npz_rules, renamed=released_names)
TIMM = arrays.timm("head", check=check_positions)
