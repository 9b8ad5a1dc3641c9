"""How a model computes, where there are several ways to the same numbers: its kernels.

    attention   plain    three products: no product of queries and keys is computed twice
                fused    torch's scaled dot-product attention: it keeps no T x T matrix
    gelu        library  torch's GELU; on a CPU its tanh form is several times slower than the exact
                fast     tanh GELU by the logistic function (float32, within 3e-6 of torch's); in
                         half precision the exact GELU, from which the tanh form is 4.8e-4 away at
                         most, its slope 9e-4: as far as bfloat16 rounds values of 0.25
    linear      library  torch's linear layers
                onednn   oneDNN's, where another library is slow in float32 (MKL on AMD)
    layout      contiguous, channels_last: of what convolutions read and write
    compiled    no, yes: by torch.compile

They move the last bits and no weight, and leave names, shapes and state dicts alone.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from bench.specs import Record


class Kernels(Record):
    """The kernels of a model; the defaults are the plain path."""

    attention: Literal["plain", "fused"] = "plain"
    """How attention is computed, where there is any."""
    gelu: Literal["library", "fast"] = "library"
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
            module.__class__ = FastGelu if kernels.gelu == "fast" else nn.GELU
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


# --- GELU -------------------------------------------------------------------------------------

_LINEAR = 2 * math.sqrt(2 / math.pi)
_CUBIC = 0.044715 * _LINEAR
"""0.5 (1 + tanh(u / 2)) is the logistic function of u = _LINEAR x + _CUBIC x^3."""
_CHUNK = 1 << 16
"""Elements that are worked on at once on a thread: they and two temporaries fit its cache."""


class FastGelu(nn.GELU):
    """The tanh GELU in a form that is fast on a CPU."""

    def forward(self, input: Tensor) -> Tensor:
        """Return gelu(x), in the shape of x."""
        if input.dtype != torch.float32:
            return functional.gelu(input)
        output: Tensor = _TanhGelu.apply(input)
        return output


class _TanhGelu(torch.autograd.Function):
    """x sigmoid(u), which keeps its slope in place of x: as much memory, and backward a product."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.contiguous()
        y = torch.empty_like(x)
        slope = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        _fill(x.view(-1), y.view(-1), slope if slope is None else slope.view(-1))
        if slope is not None:
            ctx.save_for_backward(slope)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (slope,) = ctx.saved_tensors
        return gradients[0] * slope


def _fill(x_N: Tensor, y_N: Tensor, slope_N: Tensor | None) -> None:
    """Write GELU of x_N and, if asked for, its slope: s + x u' s (1 - s), with s = sigmoid(u)."""
    chunk = min(_CHUNK * torch.get_num_threads(), max(1, len(x_N)))
    linear, both = torch.tensor(_LINEAR), torch.tensor(-2 * _LINEAR)
    ratio_C, share_C = torch.empty(chunk), torch.empty(chunk)
    for start in range(0, len(x_N), chunk):
        x = x_N[start : start + chunk]
        ratio, share = ratio_C[: len(x)], share_C[: len(x)]
        torch.addcmul(linear, x, x, value=_CUBIC, out=ratio)  # u / x
        torch.mul(ratio, x, out=share).sigmoid_()
        torch.mul(x, share, out=y_N[start : start + chunk])
        if slope_N is not None:
            torch.add(both, ratio, alpha=3, out=ratio).mul_(x)  # x u'
            torch.ops.aten.sigmoid_backward.grad_input(ratio, share, grad_input=ratio)
            torch.add(share, ratio, out=slope_N[start : start + chunk])


# --- linear layers ----------------------------------------------------------------------------


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
