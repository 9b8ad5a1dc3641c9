"""What a system keeps in memory for its backward pass, in bytes: the terms its family says it in.

Under `torch.autocast` convolutions and dense layers take and give numbers of half the bytes, and
keep copies of their inputs and weights in them. Softmax and GroupNorm stay float32 on an
accelerator, input and output, where a CPU has them in the half type; LayerNorm works on the sum of
the residual branches, which is float32 everywhere. So half the bytes in a product are far from half
the bytes kept.
"""

from __future__ import annotations

from dataclasses import dataclass

FLOAT = 4
"""Bytes of a float32."""
INDEX = 8
"""Bytes of an index that max pooling keeps for each output."""
MASK = 1
"""Bytes of dropout's mask for each value."""


@dataclass(frozen=True, kw_only=True)
class Numerics:
    """How a system is computed, as far as memory depends on it; by default plain float32."""

    product: int = FLOAT
    """Bytes of a value that convolutions and dense layers take or give: 4, or 2 under autocast."""
    norm: int = FLOAT
    """Bytes of a value that GroupNorm and softmax take or give: 4, or 2 on a CPU under autocast."""
    fused: bool = False
    """Whether attention is one fused kernel, which keeps no matrix of weights."""
    dropout: bool = False
    """Whether dropout keeps its masks."""

    @property
    def casts(self) -> bool:
        """Whether products are of fewer bytes than weights, and copies of the weights are kept."""
        return self.product < FLOAT

    @property
    def copied(self) -> int:
        """Bytes of the copy of a norm's output that the product after it keeps; 0: none is made."""
        return self.product if self.product < self.norm else 0


@dataclass(frozen=True)
class Footprint:
    """Bytes that a forward pass holds besides weights."""

    image: int
    """Kept for each image until its backward pass, the input of the first layer included."""
    shared: int
    """Kept once for all images of a pass: cast and standardized weights."""
    widest: int
    """Held for each image inside the widest layer: what a pass that keeps nothing needs."""

    @property
    def trained(self) -> int:
        """Most that is held for each image in training.

        The backward pass frees what it has used: half of the widest layer covers its gradients.
        """
        return self.image + self.widest // 2
