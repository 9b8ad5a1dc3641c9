"""The small numbers in weight standardization and GroupNorm, against a reference in float64.

Sources: google-research/big_transfer (bit_pytorch/models.py): w = (w - mean) / sqrt(var + 1e-10),
GroupNorm epsilon 1e-5; google-research/vision_transformer (models_resnet.py): w = (w - mean) /
(std + 1e-5), GroupNorm epsilon 1e-6, flax's own. Kernels have a mean of .01 and a deviation of .05,
where each of these can be told from the others. One block of full width is computed here with
plain operations, once right and once with each wrong number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from bench.models import build

TOLERANCE = 1e-9
"""Largest difference of one formula in float64, relative to outputs around one."""

NUM_GROUPS = 32

Standardized = Callable[[Tensor], Tensor]


def inside(eps: float) -> Standardized:
    """Weights divided by sqrt(variance + eps)."""
    return lambda w: _centred(w) / (_variance(w) + eps).sqrt()


def outside(eps: float) -> Standardized:
    """Weights divided by (standard deviation + eps)."""
    return lambda w: _centred(w) / (_variance(w).sqrt() + eps)


def _centred(w_OIHW: Tensor) -> Tensor:
    return w_OIHW - w_OIHW.mean(dim=(1, 2, 3), keepdim=True)


def _variance(w_OIHW: Tensor) -> Tensor:
    return _centred(w_OIHW).square().mean(dim=(1, 2, 3), keepdim=True)


class Rule(NamedTuple):
    """How weights are standardized, and GroupNorm's epsilon."""

    standardized: Standardized
    gn_eps: float


BIT = Rule(inside(1e-10), 1e-5)
HYBRID = Rule(outside(1e-5), 1e-6)

WRONG = {
    "bit": {
        "1e-6 in weight standardization": BIT._replace(standardized=inside(1e-6)),
        "timm's 1e-8 in weight standardization": BIT._replace(standardized=inside(1e-8)),
        "added to the standard deviation": BIT._replace(standardized=outside(1e-10)),
        "1e-3 in GroupNorm": BIT._replace(gn_eps=1e-3),
        "the hybrids' 1e-6 in GroupNorm": BIT._replace(gn_eps=1e-6),
    },
    "hybrid": {
        "inside the root": HYBRID._replace(standardized=inside(1e-5)),
        "timm's 1e-8 inside the root": HYBRID._replace(standardized=inside(1e-8)),
        "1e-6 beside the deviation": HYBRID._replace(standardized=outside(1e-6)),
        "1e-3 in GroupNorm": HYBRID._replace(gn_eps=1e-3),
        "BiT's 1e-5 in GroupNorm": HYBRID._replace(gn_eps=1e-5),
    },
}


class Body(NamedTuple):
    """The convolutional parts of a system in float64, with weights drawn for this test."""

    stem: Any
    block: Any
    norm: Any


def drawn(module: nn.Module) -> None:
    """Draw kernels of mean .01 and deviation .05, and norms that change something."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, nn.Conv2d):
                noise = torch.randn(layer.weight.shape, generator=generator, dtype=torch.float64)
                layer.weight.copy_(0.01 + 0.05 * noise)
            elif isinstance(layer, nn.GroupNorm):
                for value, start in ((layer.weight, 1.0), (layer.bias, 0.0)):
                    noise = torch.randn(value.shape, generator=generator, dtype=torch.float64)
                    value.copy_(start + 0.1 * noise)


def body(family: str) -> Body:
    """Return stem and first block of a full-size system, and BiT's last norm."""
    if family == "bit":
        encoder: Any = build("bit-r50x1", num_classes=2, image_size_px=32, layers=(1,)).encoder
        convolutional, norm = encoder, encoder.norm
    else:
        small = {"layers": (1,), "width": 16, "depth": 1, "num_heads": 2, "mlp_dim": 16}
        encoder = build("hybrid-r50-vit-b16", num_classes=2, image_size_px=32, **small).encoder
        convolutional, norm = encoder.patch_embed.backbone, None
    convolutional.double().eval()
    drawn(convolutional)
    return Body(convolutional.stem, convolutional.stages[0].blocks[0], norm)


def image(*shape: int) -> Tensor:
    """Return inputs of deviation .1: a variance that epsilons of 1e-3 and 1e-5 are not lost in."""
    generator = torch.Generator().manual_seed(1)
    return 0.1 * torch.randn(shape, generator=generator, dtype=torch.float64)


# --- the reference -----------------------------------------------------------------------------


def group_norm(x_BCHW: Tensor, norm: Any, eps: float) -> Tensor:
    num, channels, height, width = x_BCHW.shape
    grouped = x_BCHW.reshape(num, NUM_GROUPS, -1)
    mean = grouped.mean(dim=2, keepdim=True)
    variance = (grouped - mean).square().mean(dim=2, keepdim=True)
    plain = ((grouped - mean) / (variance + eps).sqrt()).reshape(num, channels, height, width)
    return plain * norm.weight[:, None, None] + norm.bias[:, None, None]


def conv(x_BCHW: Tensor, layer: Any, rule: Rule) -> Tensor:
    """Stride 1 and an odd kernel: both papers pad by half of it."""
    kernel = rule.standardized(layer.weight)
    return functional.conv2d(x_BCHW, kernel, padding=kernel.shape[-1] // 2)


def bit_block(x: Tensor, block: Any, norm: Any, rule: Rule) -> Tensor:
    """Norm and ReLU before each convolution; the shortcut is of the first one's input."""
    before = group_norm(x, block.norm1, rule.gn_eps).relu()
    y = conv(before, block.conv1, rule)
    y = conv(group_norm(y, block.norm2, rule.gn_eps).relu(), block.conv2, rule)
    y = conv(group_norm(y, block.norm3, rule.gn_eps).relu(), block.conv3, rule)
    y = y + conv(before, block.downsample.conv, rule)
    return group_norm(y, norm, rule.gn_eps).relu()


def hybrid_block(x: Tensor, block: Any, norm: Any, rule: Rule) -> Tensor:
    """Norm and ReLU after each convolution; the shortcut has a norm of its own."""
    shortcut = conv(x, block.downsample.conv, rule)
    shortcut = group_norm(shortcut, block.downsample.norm, rule.gn_eps)
    y = group_norm(conv(x, block.conv1, rule), block.norm1, rule.gn_eps).relu()
    y = group_norm(conv(y, block.conv2, rule), block.norm2, rule.gn_eps).relu()
    return (group_norm(conv(y, block.conv3, rule), block.norm3, rule.gn_eps) + shortcut).relu()


RULES = {"bit": BIT, "hybrid": HYBRID}
BLOCKS = {"bit": bit_block, "hybrid": hybrid_block}


CASES = [(family, words) for family, wrong in WRONG.items() for words in wrong]


def off(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max())


@pytest.mark.parametrize("family", RULES)
def test_a_convolution_standardizes_as_its_authors(family: str) -> None:
    """The 7x7 root alone: no norm behind it could hide a factor."""
    layer = body(family).stem.conv
    x_BCHW = image(1, 3, 12, 12)
    # SAME padding has the odd pixel at the end.
    padded_BCHW = functional.pad(x_BCHW, (3, 3, 3, 3) if family == "bit" else (2, 3, 2, 3))

    def expected(rule: Rule) -> Tensor:
        return functional.conv2d(padded_BCHW, rule.standardized(layer.weight), stride=2)

    with torch.inference_mode():
        found = layer(x_BCHW)
        assert off(found, expected(RULES[family])) < TOLERANCE
        for words, rule in WRONG[family].items():
            if rule.gn_eps == RULES[family].gn_eps:
                assert off(found, expected(rule)) > 10 * TOLERANCE, words


@pytest.mark.parametrize("family", RULES)
def test_a_block_is_that_of_its_authors(family: str) -> None:
    parts = body(family)
    x_BCHW = image(2, 64, 6, 6)
    with torch.inference_mode():
        found = parts.block(x_BCHW)
        found = found if parts.norm is None else parts.norm(found)
        expected = BLOCKS[family](x_BCHW, parts.block, parts.norm, RULES[family])
    assert off(found, expected) < TOLERANCE


@pytest.mark.parametrize(("family", "words"), CASES)
def test_another_epsilon_is_another_block(family: str, words: str) -> None:
    parts = body(family)
    x_BCHW = image(2, 64, 6, 6)
    with torch.inference_mode():
        found = parts.block(x_BCHW)
        found = found if parts.norm is None else parts.norm(found)
        wrong = BLOCKS[family](x_BCHW, parts.block, parts.norm, WRONG[family][words])
    assert off(found, wrong) > 10 * TOLERANCE
