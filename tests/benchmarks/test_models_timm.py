"""By how much timm's choices change the numbers: the table in docs/systems.md.

Run `pytest tests/benchmarks/test_models_timm.py -s -m slow` (about two minutes on one core). Both
implementations get the same random weights; printed is the largest difference of a logit, in units
of the logits' own spread, so that it does not depend on the scale of the head.
"""

from __future__ import annotations

import pytest
import torch

from bench.models import build, interpolate_positions, load_encoder
from bench.models.build import Classifier

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]


def random_model(name: str, **arguments: object) -> Classifier:
    """A model with a head that is not zero and norms that are not one."""
    model = build(name, num_classes=100, **arguments).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        model.head.weight.normal_(std=model.feature_dim**-0.5, generator=generator)
        for layer in model.modules():
            if isinstance(layer, torch.nn.LayerNorm | torch.nn.GroupNorm):
                layer.weight.normal_(mean=1, std=0.1, generator=generator)
                layer.bias.normal_(std=0.1, generator=generator)
    return model


def as_timm(model: Classifier) -> Classifier:
    """The same weights in timm's implementation."""
    name = {"vit": "vit-b16", "bit": "bit-r50x1", "hybrid": "hybrid-r50-vit-b16"}
    other = build(
        name[model.system.family],
        num_classes=100,
        image_size_px=model.image_size_px,
        implementation="timm",
        **model.system.args,
    ).eval()
    state = model.state_dict()
    if hasattr(other.encoder, "fc_norm") and hasattr(other.encoder.fc_norm, "weight"):
        for part in ("weight", "bias"):
            state[f"encoder.fc_norm.{part}"] = state.pop(f"encoder.norm.{part}")
    other.load_state_dict(state)
    return other


def images(image_size_px: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.rand(2, 3, image_size_px, image_size_px, generator=generator) * 2 - 1


@torch.inference_mode()
def relative_difference(one: Classifier, other: Classifier) -> float:
    x_BCHW = images(one.image_size_px)
    expected = one(x_BCHW)
    return ((other(x_BCHW) - expected).abs().max() / expected.std()).item()


def show(what: str, value: float) -> None:
    print(f"\n| {what} | {value:.1e} |")


@pytest.mark.parametrize(
    ("what", "name", "arguments", "low", "high"),
    [
        ("GELU: tanh or exact (ViT-B/16, 224 px)", "vit-b16", {}, 1e-5, 1e-1),
        (
            "average pooling: norm before or after (ViT-S/16)",
            "vit-s16",
            {"pooling": "gap"},
            0.01,
            5,
        ),
        ("std + 1e-5 or sqrt(var + 1e-8) (R26+ViT-S/32)", "hybrid-r26-vit-s32", {}, 1e-4, 0.5),
        ("the same (R50x1+ViT-B/16)", "hybrid-r50-vit-b16", {}, 1e-4, 0.5),
        ("epsilon 1e-10 or 1e-8 (BiT R50x1)", "bit-r50x1", {}, 0, 1e-3),
    ],
)
def test_forward_differs(what, name, arguments, low, high):
    model = random_model(name, **arguments)
    value = relative_difference(model, as_timm(model))
    show(what, value)
    assert low <= value <= high


def test_tanh_alone_is_what_differs_in_a_vit():
    """With timm's GELU overridden, timm's token ViT and ours are the same function."""
    model = random_model("vit-s16", gelu="erf")
    value = relative_difference(model, as_timm(model))
    show("ViT-S/16 with exact GELU on both sides", value)
    assert value < 1e-5


def test_dropping_the_representation_layer():
    model = random_model("vit-s16", representation_dim=384)
    plain = random_model("vit-s16")
    load_encoder(plain, model.state_dict())
    plain.head.load_state_dict(model.head.state_dict())
    value = relative_difference(model, plain)
    show("representation layer kept or dropped (ViT-S/16)", value)
    assert value > 0.5


def test_resizing_positions():
    source = random_model("vit-s32")
    with torch.no_grad():
        source.encoder.pos_embed.normal_(std=0.5, generator=torch.Generator().manual_seed(4))
    positions_1ND = source.encoder.pos_embed
    ours = interpolate_positions(positions_1ND, 12)
    theirs = interpolate_positions(positions_1ND, 12, as_timm=True)
    value = ((ours - theirs).square().mean().sqrt() / ours.square().mean().sqrt()).item()
    show("positions 224 -> 384 px, relative rms (ViT-S/32)", value)
    assert value > 0.1
    larger = []
    for implementation in ("authors", "timm"):
        model = build(
            "vit-s32", num_classes=100, image_size_px=384, gelu="erf",
            implementation=implementation,
        ).eval()  # fmt: skip
        load_encoder(model, source.state_dict())
        model.head.load_state_dict(source.head.state_dict())
        larger.append(model)
    value = relative_difference(*larger)
    show("the same, logits", value)
    assert value > 0.01
