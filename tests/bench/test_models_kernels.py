"""Kernels of a model against torch's own, number by number."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from bench import models
from bench.models import kernels
from bench.models.kernels import ExactGelu, Kernels, OneDnnLinear


def slopes(function: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.clone().requires_grad_()
    y = function(x)
    (slope,) = torch.autograd.grad(y, x, torch.ones_like(y))
    return y.detach(), slope


def test_the_exact_gelu_is_the_tanh_form_within_what_bfloat16_rounds() -> None:
    x = torch.linspace(-12, 12, 100_001, dtype=torch.float64)
    tanh = slopes(lambda x: functional.gelu(x, approximate="tanh"), x)
    exact = slopes(functional.gelu, x)
    assert (tanh[0] - exact[0]).abs().max() < 4.8e-4
    assert (tanh[1] - exact[1]).abs().max() < 9e-4
    normal = torch.randn(100_000, generator=torch.Generator().manual_seed(0)).double()
    rounded = functional.gelu(normal, approximate="tanh")
    off = (functional.gelu(normal) - rounded).norm()
    assert off < (rounded.bfloat16().double() - rounded).norm() / 5


def test_it_stays_the_tanh_form_in_float32() -> None:
    x = torch.randn(100, generator=torch.Generator().manual_seed(0))
    gelu = ExactGelu(approximate="tanh")
    assert torch.equal(gelu(x), functional.gelu(x, approximate="tanh"))
    assert torch.equal(gelu(x.bfloat16()), functional.gelu(x.bfloat16()))


@pytest.mark.skipif(not kernels.has_onednn(), reason="this torch has no oneDNN")
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("frozen", [True, False])
def test_onednn_multiplies_as_torch(bias: bool, frozen: bool) -> None:
    theirs = nn.Linear(24, 40, bias=bias)
    theirs.weight.requires_grad_(not frozen)
    ours = copy.deepcopy(theirs)
    ours.__class__ = OneDnnLinear
    x = torch.randn(3, 5, 24, generator=torch.Generator().manual_seed(0))
    gradient = torch.randn(3, 5, 40, generator=torch.Generator().manual_seed(1))
    found = []
    for layer in (ours, theirs):
        inputs = x.clone().requires_grad_()
        layer(inputs).backward(gradient)
        found.append([inputs.grad, *(p.grad for p in layer.parameters())])
    for ours_grad, theirs_grad in zip(*found, strict=True):
        torch.testing.assert_close(ours_grad, theirs_grad)


def test_kernels_leave_names_and_weights_alone_and_can_be_taken_back() -> None:
    model = models.build("vit-micro", num_classes=3, image_size_px=16)
    before = [(name, id(value)) for name, value in model.named_parameters()]
    fast = Kernels(attention="fused", gelu="exact", linear="onednn")
    kernels.put(model.encoder, fast)
    assert [(name, id(value)) for name, value in model.named_parameters()] == before
    assert str(fast) == "attention fused, gelu exact, linear onednn"
    kinds = {type(module) for module in model.encoder.modules()}
    assert kinds >= {ExactGelu, OneDnnLinear}
    kernels.put(model.encoder, kernels.default("cpu"))
    kinds = {type(module) for module in model.encoder.modules()}
    assert not kinds & {ExactGelu, OneDnnLinear}


def test_an_exact_gelu_stays_exact() -> None:
    model = models.build("vit-micro", num_classes=3, image_size_px=16, gelu="erf")
    kernels.put(model.encoder, Kernels(gelu="exact"))
    assert not any(isinstance(module, ExactGelu) for module in model.modules())


@pytest.mark.slow
def test_a_compiled_encoder_gives_the_same() -> None:
    """It needs a C++ compiler, as torch.compile does on a CPU."""
    model = models.build("vit-micro", num_classes=3, image_size_px=16, depth=1)
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    expected = model.features(x)
    names = list(model.state_dict())
    kernels.put(model.encoder, Kernels(compiled="yes"))
    torch.testing.assert_close(model.features(x), expected)
    assert list(model.state_dict()) == names
