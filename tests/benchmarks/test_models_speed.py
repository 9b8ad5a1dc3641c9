"""Our micro ViT against a bare timm model of the same sizes, and all micro systems' rates.

Run `taskset -c 1 pytest tests/benchmarks/test_models_speed.py -s -m slow` on a quiet machine.
Rounds
are interleaved and the fastest counts. Asserted is that both sides compute the same loss.
"""

from __future__ import annotations

import time

import pytest
import torch
from torch import nn

import baselines
from bench.models import build

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

BATCH, ROUNDS = 128, 12


def step(model: nn.Module, x_BCHW: torch.Tensor, y_B: torch.Tensor) -> float:
    model.zero_grad()
    loss = nn.functional.cross_entropy(model(x_BCHW), y_B)
    loss.backward()
    return loss.item()


def rates(models: dict[str, nn.Module], x_BCHW: torch.Tensor, y_B: torch.Tensor) -> dict:
    """Images per second of forward and backward, rounds interleaved, first round not counted."""
    best = dict.fromkeys(models, float("inf"))
    for model in models.values():
        step(model, x_BCHW, y_B)
    for _ in range(ROUNDS):
        for name, model in models.items():
            start = time.perf_counter()
            step(model, x_BCHW, y_B)
            best[name] = min(best[name], time.perf_counter() - start)
    return {name: BATCH / seconds for name, seconds in best.items()}


def batch(image_size_px: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x_BCHW = torch.rand(BATCH, 3, image_size_px, image_size_px, generator=generator)
    return x_BCHW, torch.randint(0, 10, (BATCH,), generator=generator)


def test_micro_vit_against_bare_timm():
    from timm.models.vision_transformer import VisionTransformer

    card = baselines.system("vit-micro")
    args = {key: card.args[key] for key in ("depth", "num_heads")}
    ours = build(card, num_classes=10, gelu="erf")
    theirs = VisionTransformer(
        card.image_size_px,
        card.patch_px,
        num_classes=10,
        embed_dim=card.feature_dim,
        mlp_ratio=card.args["mlp_dim"] / card.feature_dim,
        **args,
    )
    theirs.load_state_dict(
        {key.removeprefix("encoder."): value for key, value in ours.state_dict().items()}
    )
    x_BCHW, y_B = batch(card.image_size_px)
    assert step(ours, x_BCHW, y_B) == pytest.approx(step(theirs, x_BCHW, y_B), rel=1e-5)
    found = rates({"ours": ours, "timm": theirs}, x_BCHW, y_B)
    ratio = found["ours"] / found["timm"]
    print(f"\nvit-micro: {found['ours']:.0f} img/s, bare timm {found['timm']:.0f}: {ratio:.2f}x")


@pytest.mark.parametrize("name", ["vit-micro", "bit-micro", "hybrid-micro"])
def test_rate_of_micro_systems(name):
    card = baselines.system(name)
    model = build(card, num_classes=10, pretraining_head=True)
    x_BCHW, y_B = batch(card.image_size_px)
    assert step(model, x_BCHW, y_B) == pytest.approx(torch.tensor(10.0).log().item(), rel=1e-5)
    rate = rates({name: model}, x_BCHW, y_B)[name]
    gflops = 3 * baselines.forward_flops(card, card.image_size_px) * rate / 1e9
    print(f"\n{name}: {rate:.0f} img/s forward and backward, {gflops:.0f} GFLOP/s")
