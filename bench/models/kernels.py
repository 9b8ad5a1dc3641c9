"""How a model computes, where there are several ways to the same numbers: its kernels.

    attention   plain    three products: no product of queries and keys is computed twice
                fused    torch's scaled dot-product attention: it keeps no T x T matrix
    gelu        library  torch's
                exact    in half precision the exact GELU for its tanh form, which is 4.8e-4 away at
                         most, its slope 9e-4: as far as bfloat16 rounds values of 0.25 and of 0.5
    linear      library  torch's linear layers
                onednn   oneDNN's, where another library is slow in float32 (MKL on AMD)
    layout      contiguous, channels_last: of what convolutions read and write
    compiled    no, yes: by torch.compile

They move the last bits and no weight, and leave names, shapes and state dicts alone.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from bench.specs import Record


class Kernels(Record):
    """The kernels of a model; the defaults are the plain path."""

    attention: Literal["plain", "fused"] = "plain"
    """How attention is computed, where there is any."""
    gelu: Literal["library", "exact"] = "library"
    """How the tanh GELU is computed."""
    linear: Literal["library", "onednn"] = "library"
    """Who multiplies in linear layers."""
    layout: Literal["contiguous", "channels_last"] = "contiguous"
    """Order of feature maps in memory."""
    compiled: Literal["no", "yes"] = "no"
    """Whether torch.compile makes kernels of the encoder's own."""

    def __str__(self) -> str:
        plain = Kernels().model_dump()
        chosen = [f"{key} {value}" for key, value in self.model_dump().items()
                  if value != plain[key]]  # fmt: skip
        return ", ".join(chosen) or "plain"


def default(device: str) -> Kernels:
    """Return the kernels of a device that nothing was measured on."""
    # Three plain products are up to seven times faster than torch's fused attention on a CPU.
    return Kernels(attention="plain" if device == "cpu" else "fused")


def put(encoder: nn.Module, kernels: Kernels) -> None:
    """Have an encoder compute by these kernels; a layout or compilation is not taken back."""
    onednn = kernels.linear == "onednn" and has_onednn()
    for module in encoder.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = kernels.attention == "fused"  # type: ignore[assignment]
        if is_tanh_gelu(module):
            module.__class__ = ExactGelu if kernels.gelu == "exact" else nn.GELU
        if type(module) in (nn.Linear, OneDnnLinear):
            module.__class__ = OneDnnLinear if onednn else nn.Linear
    if kernels.layout == "channels_last":
        encoder.register_forward_pre_hook(_channels_last)
    if kernels.compiled == "yes":
        encoder.compile()


def is_tanh_gelu(module: nn.Module) -> bool:
    """Tell whether a layer is the tanh approximation of GELU."""
    return isinstance(module, nn.GELU) and module.approximate == "tanh"


def has_onednn() -> bool:
    """Tell whether this torch has oneDNN's linear layer: it is no promised interface."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def _channels_last(encoder: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    # Convolutions write in the layout that they read.
    return (inputs[0].contiguous(memory_format=torch.channels_last), *inputs[1:])


# --- layers -----------------------------------------------------------------------------------


class ExactGelu(nn.GELU):
    """A tanh GELU that is computed exactly in half precision: the difference is less than what
    rounds, and a CPU's kernel for tanh takes two to three times as long as that for erf."""

    def forward(self, input: Tensor) -> Tensor:
        """Return gelu(x), in the shape of x."""
        is_half = input.dtype in (torch.bfloat16, torch.float16)
        return functional.gelu(input, approximate="none" if is_half else self.approximate)


class OneDnnLinear(nn.Linear):
    """A linear layer whose three products are oneDNN's."""

    def forward(self, input: Tensor) -> Tensor:
        """Return x W' + b, for x of any shape with features last."""
        output: Tensor = _OneDnnProduct.apply(input, self.weight, self.bias)
        return output


class _OneDnnProduct(torch.autograd.Function):
    """oneDNN's linear layer, forward and backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight_OI)
        return _product(x, weight_OI, bias_O)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight_OI = ctx.saved_tensors
        gradient = gradients[0]
        needed = ctx.needs_input_grad
        rows_NO = gradient.reshape(-1, gradient.shape[-1])
        rows_NI = x.reshape(-1, x.shape[-1])
        return (
            _product(gradient, weight_OI.t()) if needed[0] else None,
            _product(rows_NI.t(), rows_NO.t()).t() if needed[1] else None,
            rows_NO.sum(0) if needed[2] else None,
        )


def _product(x: Tensor, weight_OI: Tensor, bias_O: Tensor | None = None) -> Tensor:
    output: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight_OI, bias_O, "none", [], "")
    return output
