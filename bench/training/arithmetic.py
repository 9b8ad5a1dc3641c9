"""The arithmetic that a recipe names, the same in every operation of every family.

    float32      IEEE float32 everywhere
    tf32         float32 whose products have ten bits of mantissa: GPUs alone
    bfloat16     products and activations in bfloat16, weights and sums in float32
    float16      the same in float16, with losses scaled so that small gradients survive

torch's own defaults are another thing: on a GPU they run convolutions in TF32 and linear layers in
float32, which favours CNNs over Transformers.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from bench.specs import Precision
from bench.training.group import full, here

_BACKENDS: Any = torch.backends  # its stubs lack what is newer
_HALF = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@contextmanager
def arithmetic(device: str, precision: Precision, *, deterministic: bool) -> Iterator[None]:
    """Compute with this arithmetic while the block runs, and put torch's settings back afterwards.

    With `deterministic` a GPU gives the same bits whenever it does the same work: convolutions and
    the fused kernels of attention have such algorithms, and add up gradients in one order (only
    where torch is not content with a warning); an operation that has none raises RuntimeError.
    Without, libraries choose what is fastest. On a CPU the same threads give the same bits, and
    float32 is IEEE, without being asked.
    """
    if device != "cuda":
        yield
        return
    # cuBLAS wants its workspace fixed before it is first used.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = _settings()
    products = "tf32" if precision == "tf32" else "ieee"
    _set((products,) * 3, deterministic, benchmark=not deterministic)
    try:
        yield
    finally:
        _set(*before)


def autocast(device: str, precision: Precision) -> torch.autocast:
    """Return the context in which a model runs forward."""
    dtype = _HALF.get(precision, torch.bfloat16)
    return torch.autocast(device, dtype=dtype, enabled=precision in _HALF)


class LossScale:
    """Scale of float16 losses: halved when gradients overflow, doubled after a while without.

    Source: Micikevicius et al., arXiv:1710.03740, section 3.2; the numbers are torch's.
    """

    GROWTH_STEPS = 2000

    def __init__(self, *, enabled: bool) -> None:
        self.value = 2.0**16 if enabled else 1.0
        self.good_steps = 0
        self._enabled = enabled

    def scaled(self, loss: Tensor) -> Tensor:
        """Return the loss to go backward from."""
        return loss * self.value if self._enabled else loss

    def unscale(self, gradients: list[Tensor]) -> bool:
        """Divide gradients by the scale, in place; return whether they can be used."""
        if not self._enabled:
            return True
        torch._foreach_mul_(here(gradients), 1 / self.value)
        if not bool(torch.isfinite(total_norm(gradients))):
            self.value, self.good_steps = self.value / 2, 0
            return False
        self.good_steps += 1
        if self.good_steps == self.GROWTH_STEPS:
            self.value, self.good_steps = self.value * 2, 0
        return True


def total_norm(gradients: list[Tensor]) -> Tensor:
    """Return the norm of all gradients together, of those in shards too."""
    return full(torch.nn.utils.get_total_norm(gradients))


def _settings() -> tuple[tuple[str, ...], bool, bool]:
    products = tuple(library.fp32_precision for library in _libraries())
    deterministic = torch.are_deterministic_algorithms_enabled()
    return products, deterministic, torch.backends.cudnn.benchmark


def _set(products: tuple[str, ...], deterministic: bool, benchmark: bool) -> None:
    """Set how float32 is multiplied in each library, and who chooses among algorithms."""
    for library, product in zip(_libraries(), products, strict=True):
        library.fp32_precision = product
    torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.benchmark = benchmark


def _libraries() -> tuple[Any, ...]:
    """Return who multiplies: all at once, then those that have defaults of their own."""
    return _BACKENDS, _BACKENDS.cuda.matmul, _BACKENDS.cudnn.conv
