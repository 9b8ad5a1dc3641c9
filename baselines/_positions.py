"""The transformer as a module, with every way to tell it where a patch is.

Source: arXiv:2010.11929, appendix D.4 and Table 8. Printed there: 1-D embeddings of the raster
order; 2-D embeddings, a row's and a column's of D / 2 each, concatenated; relative attention, where
each offset of query and key has an embedding that serves as a key, and the logits of the query
against it are added to those of the content, before the softmax; absolute embeddings added after
the stem, at the beginning of every layer, or there with one set for all layers.

Not printed, and our reading: 2-D embeddings leave the class token alone; the class token is number
0 of the sequence, patches follow, and offsets are differences of these numbers; an offset's
embedding has width D, is split among the heads as keys are, and every layer has its own; relative
logits are scaled as those of the content.

This module imports torch and timm: import it inside functions.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from timm.models.vision_transformer import Attention, VisionTransformer
from torch import Tensor, nn
from torch.nn import functional

Posemb = Literal["learned-1d", "none", "learned-2d", "relative"]


class Encoder(VisionTransformer):
    """timm's VisionTransformer x_BCHW -> z_BD, with the position embeddings of Table 8.

    `num_sets` sets of absolute embeddings are made: 1, or one for each layer. With `every_layer`
    they are added before every layer, otherwise before the first only.

    `pos_embed` (sets, tokens, D) holds 1-D embeddings; `pos_rows` and `pos_columns`
    (sets, side, D / 2) hold 2-D ones; `blocks.i.attn.offsets` (2 tokens - 1, D) relative ones.
    """

    def __init__(
        self, *, posemb: Posemb = "learned-1d", every_layer: bool = False, num_sets: int = 1,
        **arguments: Any,
    ) -> None:  # fmt: skip
        kind = "learn" if posemb == "learned-1d" else "none"
        super().__init__(pos_embed=kind, **arguments)
        self.posemb = posemb
        self.every_layer = every_layer
        side = self.patch_embed.grid_size[0]
        num_tokens = side * side + self.num_prefix_tokens
        width = self.embed_dim
        if posemb == "learned-1d" and num_sets > 1:
            self.pos_embed = nn.Parameter(torch.empty(num_sets, num_tokens, width))
        elif posemb == "learned-2d":
            self.pos_rows = nn.Parameter(torch.empty(num_sets, side, width // 2))
            self.pos_columns = nn.Parameter(torch.empty(num_sets, side, width // 2))
        elif posemb == "relative":
            for block in self.blocks:
                attention: Any = block.attn
                attention.offsets = nn.Parameter(torch.empty(2 * num_tokens - 1, width))

    def forward_features(self, x: Tensor, **options: Any) -> Tensor:
        """Return the tokens of images x_BCHW, after the final norm."""
        return self.encode(self.patch_embed(x))

    def encode(self, patches_BND: Tensor) -> Tensor:
        """Return the output tokens (class token first, where there is one) of patch embeddings."""
        x_BTD: Tensor = self._pos_embed(patches_BND)
        for layer, block in enumerate(self.blocks):
            if layer and self.every_layer:
                x_BTD = x_BTD + self.positions(layer)
            x_BTD = block(x_BTD)
        normed_BTD: Tensor = self.norm(x_BTD)
        return normed_BTD

    def positions(self, layer: int = 0) -> Tensor:
        """Return the absolute embeddings (1, T, D) that are added before a layer."""
        if self.posemb == "learned-1d":
            embeddings: Any = self.pos_embed
            own = layer % len(embeddings)
            return embeddings[own : own + 1]
        own = layer % len(self.pos_rows)
        rows_GE, columns_GE = self.pos_rows[own], self.pos_columns[own]
        side = len(rows_GE)
        grid_GGD = torch.cat(
            [rows_GE[:, None].expand(-1, side, -1), columns_GE[None].expand(side, -1, -1)], dim=2
        )
        grid_ND = grid_GGD.reshape(side * side, -1)
        return functional.pad(grid_ND, (0, 0, self.num_prefix_tokens, 0))[None]

    def _pos_embed(self, x: Tensor) -> Tensor:
        """Return tokens x_BTD: class token, patches, positions of the first layer, dropout."""
        if self.cls_token is not None:
            x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1)
        if self.posemb in ("learned-1d", "learned-2d"):
            x = x + self.positions()
        dropped: Tensor = self.pos_drop(x)
        return dropped


class RelativeAttention(Attention):
    """timm's attention with logits of offsets; `offsets` (2T - 1, D) is made by the encoder.

    Row k - q + T - 1 belongs to key number k as seen from query number q.
    """

    offsets: nn.Parameter

    def forward(
        self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False
    ) -> Tensor:
        """Return x_BTD after attention; there are no masks."""
        assert attn_mask is None
        assert not is_causal
        batch, num_tokens, _ = x.shape
        qkv = self.qkv(x).reshape(batch, num_tokens, 3, self.num_heads, self.head_dim)
        q_BHTE, k_BHTE, v_BHTE = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        scaled_BHTE = q_BHTE * self.scale
        bias_BHTT = self._offset_logits(scaled_BHTE)
        if self.fused_attn:
            x = functional.scaled_dot_product_attention(q_BHTE, k_BHTE, v_BHTE, attn_mask=bias_BHTT)
        else:
            logits_BHTT = scaled_BHTE @ k_BHTE.transpose(-2, -1) + bias_BHTT
            x = logits_BHTT.softmax(dim=-1) @ v_BHTE
        mixed_BTD = x.transpose(1, 2).reshape(batch, num_tokens, -1)
        out_BTD: Tensor = self.proj_drop(self.proj(mixed_BTD))
        return out_BTD

    def _offset_logits(self, q_BHTE: Tensor) -> Tensor:
        """Return logits_BHTT of queries against the embeddings of the offsets to all keys."""
        batch, heads, num_tokens, size = q_BHTE.shape
        keys_HEO = self.offsets.reshape(-1, heads, size).permute(1, 2, 0)
        # Heads first: otherwise every image of the batch would get a copy of the embeddings.
        rows_HRE = q_BHTE.transpose(0, 1).reshape(heads, batch * num_tokens, size)
        by_offset_HBTO = (rows_HRE @ keys_HEO).reshape(heads, batch, num_tokens, -1)
        # Row q is needed from offset T - 1 - q on. One more column, then rows that are one
        # shorter, move each row one further to the left than the row above it.
        flat_HBX = functional.pad(by_offset_HBTO, (0, 1)).flatten(2)
        flat_HBX = functional.pad(flat_HBX, (0, num_tokens - 1))
        shifted = flat_HBX.reshape(heads, batch, num_tokens + 1, 2 * num_tokens - 1)
        return shifted[:, :, :num_tokens, num_tokens - 1 :].transpose(0, 1)
