"""What each family says it keeps, against what autograd keeps of the real model.

Models are of fake tensors: they have shapes, types and devices, autograd saves them, and nothing is
computed, so that full sizes and a device that is not here cost nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional

import baselines
from baselines.footprint import Footprint, Numerics
from bench.memory import GIB, numerics_of
from bench.models import build
from bench.specs import DeviceKind, Precision
from tests.held import Held

TINY_VIT = {"patch_px": 4, "width": 32, "num_heads": 4, "mlp_dim": 64, "depth": 2}

SMALL: list[tuple[str, int, dict[str, Any]]] = [
    ("vit-b16", 16, TINY_VIT),
    ("vit-b16", 34, {**TINY_VIT, "pooling": "gap", "depth": 1}),
    ("vit-b16", 16, {**TINY_VIT, "pooling": "gap", "posemb": "none"}),
    ("vit-b16", 16, {**TINY_VIT, "posemb": "learned-2d", "posemb_at": "every-layer"}),
    ("bit-r50x1", 16, {"layers": (1, 2), "strides": (1, 2), "stem": "3x3"}),
    ("bit-r50x1", 65, {"layers": (1, 2, 1)}),
    ("hybrid-r50-vit-b16", 16, {"layers": (1, 1), "stem": "3x3", "depth": 1}),
    ("hybrid-r50-vit-b16", 65, {"layers": (1, 2), "depth": 1}),
    ("noisy-student-b7", 64, {"width_factor": 1.0, "depth_factor": 0.5}),
]
FULL: list[tuple[str, int, dict[str, Any]]] = [
    ("vit-b16", 384, {}),
    ("vit-b16", 224, {"posemb": "relative"}),
    ("vit-h14", 224, {}),
    ("bit-r50x1", 384, {}),
    ("bit-r152x4", 480, {}),
    ("hybrid-r50-vit-b16", 384, {}),
    ("hybrid-r50-vit-l32", 225, {}),
    ("noisy-student-b7", 600, {}),
]
ARITHMETIC: list[tuple[DeviceKind, Precision]] = [
    ("cpu", "float32"), ("cpu", "bfloat16"), ("cuda", "float32"), ("cuda", "bfloat16"),
    ("cuda", "float16"),
]  # fmt: skip


def fused_attention(q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None) -> Tensor:
    """torch's fused kernels; where no device is, it would take the plain way."""
    kernels = torch.ops.aten
    out: Any
    if q.device.type == "cpu":
        out = kernels._scaled_dot_product_flash_attention_for_cpu(q, k, v)
    elif q.dtype == torch.float32 or attn_mask is not None:
        out = kernels._scaled_dot_product_efficient_attention(q, k, v, attn_mask, True)
    else:
        out = kernels._scaled_dot_product_flash_attention(q, k, v)
    return out[0]  # type: ignore[no-any-return]


@pytest.fixture(autouse=True)
def _a_device_that_is_not_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let autocast and attention go the way that they go where there is a GPU."""
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *args, **options: True)
    monkeypatch.setattr(
        functional, "scaled_dot_product_attention",
        lambda q, k, v, attn_mask=None, **options: fused_attention(q, k, v, attn_mask),
    )  # fmt: skip


@contextmanager
def counted(weights: set[int]) -> Iterator[list[Tensor]]:
    """Collect what autograd saves, each storage once, weights left out."""
    seen, kept = set(weights), []

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()._cdata
        if storage not in seen:
            seen.add(storage)
            kept.append(tensor)  # which keeps the storage, so that no other takes its address
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield kept


def kept_bytes(
    name: str, size_px: int, args: dict[str, Any], *, batch: int, device: DeviceKind,
    precision: Precision, fused: bool,
) -> int:  # fmt: skip
    """Return the bytes that autograd keeps of the real model's features."""
    with torch.device("meta"):
        model = build(name, num_classes=2, image_size_px=size_px, **args)
    half = {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(precision)
    with FakeTensorMode(allow_non_fake_inputs=True):
        model.to_empty(device=device)
        for module in model.modules():
            if hasattr(module, "fused_attn"):
                module.fused_attn = fused  # type: ignore[assignment]
        x_BCHW = torch.empty(batch, 3, size_px, size_px, device=device)
        held = [*model.parameters(), *model.buffers()]
        weights = {tensor.untyped_storage()._cdata for tensor in held}
        cast = torch.autocast(device, dtype=half or torch.bfloat16, enabled=half is not None)
        with counted(weights) as kept, cast:
            model(x_BCHW)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept)


def said(name: str, size_px: int, args: dict[str, Any], numerics: Numerics) -> Footprint:
    card = baselines.variant("x", like=baselines.system(name), title="", args=args)
    return baselines.sizes(card).footprint(size_px, numerics)


def check(
    name: str, size_px: int, args: dict[str, Any], device: DeviceKind, precision: Precision
) -> None:
    """Compare both attention kernels, for two batches: what an image adds, and what is shared."""
    for fused in (False, True):
        if fused and (args.get("posemb") == "relative" and device == "cpu"):
            continue  # no such kernel
        two, four = (
            kept_bytes(
                name, size_px, args, batch=batch, device=device, precision=precision, fused=fused
            )
            for batch in (2, 4)
        )
        plain = numerics_of(precision, device)
        found = said(
            name, size_px, args, Numerics(product=plain.product, norm=plain.norm, fused=fused)
        )
        assert found.image == pytest.approx((four - two) / 2, rel=0.03), fused
        shared = 2 * two - four
        assert found.shared == pytest.approx(shared, rel=0.05, abs=0.03 * found.image), fused


@pytest.mark.parametrize(
    ("name", "size_px", "args"), SMALL[::4], ids=[name for name, _, _ in SMALL[::4]]
)
def test_a_family_keeps_what_it_says(name: str, size_px: int, args: dict[str, Any]) -> None:
    check(name, size_px, args, "cuda", "bfloat16")


@pytest.mark.ordinary
@pytest.mark.parametrize(("device", "precision"), ARITHMETIC)
@pytest.mark.parametrize(("name", "size_px", "args"), SMALL)
def test_it_does_in_every_arithmetic(
    name: str, size_px: int, args: dict[str, Any], device: DeviceKind, precision: Precision
) -> None:
    check(name, size_px, args, device, precision)


@pytest.mark.slow
@pytest.mark.parametrize(("device", "precision"), ARITHMETIC)
@pytest.mark.parametrize(("name", "size_px", "args"), FULL)
def test_it_does_at_full_size(
    name: str, size_px: int, args: dict[str, Any], device: DeviceKind, precision: Precision
) -> None:
    check(name, size_px, args, device, precision)


def most_bytes(name: str, size_px: int, args: dict[str, Any], *, batch: int, train: bool) -> int:
    """Return the most bytes that the real model ever holds beside its weights, on a CPU."""
    with torch.device("meta"):
        model = build(name, num_classes=2, image_size_px=size_px, **args)
    with FakeTensorMode(allow_non_fake_inputs=True):
        model.to_empty(device="cpu").train(train)
        x_BCHW = torch.empty(batch, 3, size_px, size_px)
        with Held() as held, torch.set_grad_enabled(train):
            logits_BK = model(x_BCHW)
            if train:
                logits_BK.sum().backward()
    return held.most


@pytest.mark.ordinary
@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize(
    ("name", "size_px", "args"),
    [
        ("vit-b16", 128, {"depth": 2}),
        ("vit-b16", 384, {"depth": 2}),
        ("bit-r50x1", 128, {"layers": (1, 2, 1)}),
        ("hybrid-r50-vit-b16", 128, {"layers": (1, 2), "depth": 1}),
        ("noisy-student-b7", 128, {"width_factor": 1.0, "depth_factor": 0.5}),
    ],
)
def test_the_most_that_is_ever_held_for_an_image(
    name: str, size_px: int, args: dict[str, Any], train: bool
) -> None:
    eight, sixteen = (
        most_bytes(name, size_px, args, batch=batch, train=train) for batch in (8, 16)
    )
    found = said(name, size_px, args, Numerics())
    expected = found.trained if train else found.widest
    assert expected == pytest.approx((sixteen - eight) / 8, rel=0.25)


@pytest.mark.parametrize(
    ("name", "batch_size", "size_px", "float32_gib", "bfloat16_gib"),
    [
        ("vit-l16", 512, 384, 436, 286),
        ("vit-b16", 512, 384, 165, 108),
        ("bit-r50x1", 512, 384, 109, 135),
        ("vit-b16", 4096, 224, 450, 295),
    ],
)
def test_half_the_bytes_of_products_are_not_half_the_memory(
    name: str, batch_size: int, size_px: int, float32_gib: float, bfloat16_gib: float
) -> None:
    """Known answers: saved tensors of whole batches, matrices of attention left out.

    In bfloat16 they were counted where attention falls back on float32 queries, keys and values,
    which takes two bytes more for each than a fused kernel.
    """
    card = baselines.system(name)
    fell_back = 0.0
    if name.startswith("vit"):
        width, depth = card.feature_dim, {"vit-l16": 24, "vit-b16": 12}[name]
        num_tokens = (size_px // 16) ** 2 + 1
        fell_back = 2 * 3 * width * num_tokens * depth * batch_size / GIB
    for precision, known_gib, more_gib in (
        ("float32", float32_gib, 0.0), ("bfloat16", bfloat16_gib, fell_back),
    ):  # fmt: skip
        found = baselines.sizes(card).footprint(size_px, numerics_of(precision, "cuda"))  # type: ignore[arg-type]
        found_gib = (batch_size * found.image + found.shared) / GIB + more_gib
        assert found_gib == pytest.approx(known_gib, rel=0.01)
