"""The contract of a model: features, head, seeds, dropout, and transfer to another resolution."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from bench.errors import CheckpointError, UserError
from bench.models import build, encoder_state, interpolate_positions, load_encoder

VIT = {"width": 64, "depth": 2, "num_heads": 4, "mlp_dim": 128}
STAGES = {"stem": "3x3", "stem_width": 32, "num_groups": 8}
SMALL = {
    "vit": ("vit-b16", {**VIT, "patch_px": 4}),
    "bit": (
        "bit-r50x1",
        {"layers": (1, 1, 2), "widths": (32, 64, 128), "strides": (1, 2, 2), **STAGES},
    ),
    "hybrid": (
        "hybrid-r50-vit-b16",
        {"layers": (1, 1), "widths": (32, 64), "strides": (2, 2), **STAGES, **VIT},
    ),
}


def small(family: str, **arguments):
    """A system of the family with sizes of its own, for 16 px."""
    name, sizes = SMALL[family]
    return build(name, **{"image_size_px": 16, **sizes, **arguments})


def images(image_size_px: int, batch: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.rand(batch, 3, image_size_px, image_size_px, generator=generator) * 2 - 1


@pytest.mark.parametrize("family", SMALL)
def test_contract_of_features_and_head(family):
    model = small(family, num_classes=5)
    x_BCHW = images(16, batch=3)
    z_BD = model.features(x_BCHW)
    assert z_BD.shape == (3, model.feature_dim)
    torch.nn.init.normal_(model.head.weight)
    torch.testing.assert_close(model(x_BCHW), model.head(z_BD))


@pytest.mark.parametrize("family", SMALL)
def test_head_starts_at_zero_and_everything_learns(family):
    model = small(family, num_classes=5, pretraining_head=True)
    x_BCHW = images(16)
    assert torch.equal(model(x_BCHW), torch.zeros(2, 5))
    torch.nn.init.normal_(model.head.weight, generator=torch.Generator().manual_seed(1))
    model(x_BCHW).square().sum().backward()
    without = [name for name, weight in model.named_parameters() if weight.grad is None]
    assert not without


@pytest.mark.parametrize("family", SMALL)
def test_seed_decides_the_bits_and_global_generator_is_untouched(family):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    states = [
        small(family, num_classes=2, generator=torch.Generator().manual_seed(seed)).state_dict()
        for seed in (0, 0, 1)
    ]
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert any(not torch.equal(states[0][key], states[2][key]) for key in states[0])


def test_pretraining_head_is_dense_and_tanh_before_the_linear_layer():
    model = small("vit", num_classes=7, pretraining_head=True)
    assert model.pre_logits is not None
    assert model.pre_logits.weight.shape == (64, 64)
    x_BCHW = images(16)
    expected = torch.tanh(model.pre_logits(model.encoder(x_BCHW)))
    torch.testing.assert_close(model.features(x_BCHW), expected)
    assert small("bit", num_classes=7, pretraining_head=True).pre_logits is None


def test_representation_dim_sets_the_feature_width():
    model = small("vit", num_classes=7, representation_dim=24)
    assert model.feature_dim == 24
    assert model.features(images(16)).shape == (2, 24)


@pytest.mark.parametrize("family", SMALL)
def test_dropout_modules_are_absent_at_zero_and_act_otherwise(family):
    rates = [
        module.p
        for key, module in small(family, num_classes=2).named_modules()
        if isinstance(module, torch.nn.Dropout) and not key.endswith("attn_drop")
    ]
    assert rates == []
    model = small(family, num_classes=2, dropout=0.5)
    x_BCHW = images(16)
    assert not torch.equal(model.features(x_BCHW), model.features(x_BCHW))
    model.eval()
    assert torch.equal(model.features(x_BCHW), model.features(x_BCHW))


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_dropout_rate_is_checked(rate):
    with pytest.raises(UserError, match="must lie in"):
        small("vit", num_classes=2, dropout=rate)


def test_initial_spread_of_weights():
    """Known deviations: Xavier sqrt(2 / (in + out)), LeCun sqrt(1 / in), positions 0.02."""
    model = build("vit-b16", num_classes=2, depth=1, representation_dim=512)
    block = model.encoder.blocks[0]
    for weight, std in [
        (block.attn.qkv.weight[:768], (2 / 1536) ** 0.5),
        (block.attn.qkv.weight[1536:], (2 / 1536) ** 0.5),
        (block.mlp.fc1.weight, (2 / 3840) ** 0.5),
        (model.encoder.patch_embed.proj.weight, (1 / 768) ** 0.5),
        (model.pre_logits.weight, (1 / 768) ** 0.5),
        (model.encoder.pos_embed, 0.02),
        (block.mlp.fc1.bias, 1e-6),
    ]:
        assert weight.std().item() == pytest.approx(std, rel=0.05)
    assert not model.encoder.cls_token.any()
    assert not block.attn.qkv.bias.any()
    hybrid = small("hybrid", num_classes=2)
    norms = [
        b.norm3.weight for stage in hybrid.encoder.patch_embed.backbone.stages for b in stage.blocks
    ]
    assert not any(norm.any() for norm in norms)


@pytest.mark.parametrize("family", SMALL)
def test_load_encoder_copies_all_but_the_head(family):
    source = small(
        family, num_classes=9, generator=torch.Generator().manual_seed(5), pretraining_head=True
    )
    target = small(family, num_classes=3)
    load_encoder(target, source.state_dict())
    x_BCHW = images(16)
    assert torch.equal(target.encoder(x_BCHW), source.encoder(x_BCHW))
    assert not target(x_BCHW).any()


@pytest.mark.parametrize("pooling", ["token", "gap"])
def test_positions_are_interpolated_as_scipy_zooms(pooling):
    source = small("vit", num_classes=2, pooling=pooling)
    target = small("vit", num_classes=2, pooling=pooling, image_size_px=28)
    load_encoder(target, source.state_dict())
    num_class_tokens = int(pooling == "token")
    old = source.encoder.pos_embed.detach().numpy()[0]
    new = target.encoder.pos_embed.detach().numpy()[0]
    grid = old[num_class_tokens:].reshape(4, 4, -1)
    zoomed = ndimage.zoom(grid, (7 / 4, 7 / 4, 1), order=1).reshape(49, -1)
    np.testing.assert_array_equal(new[:num_class_tokens], old[:num_class_tokens])
    np.testing.assert_allclose(new[num_class_tokens:], zoomed, atol=1e-6)


def test_positions_of_a_plane_stay_a_plane():
    """Bilinear with aligned corners keeps a linear ramp: rows 0, 1, 2 become 0, 0.5, 1, 1.5, 2."""
    ramp = torch.arange(3.0).repeat_interleave(3).reshape(1, 9, 1)
    resized = interpolate_positions(ramp, 5, num_class_tokens=0).reshape(5, 5)
    torch.testing.assert_close(resized[:, 2], torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0]))


def test_weights_of_another_system_name_array_and_shapes():
    target = small("vit", num_classes=2)
    with pytest.raises(CheckpointError, match="weights of another model: missing encoder"):
        load_encoder(target, small("bit", num_classes=2).state_dict())
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    wide = small("vit", num_classes=2, mlp_dim=96)
    with pytest.raises(CheckpointError, match=r"mlp.fc1.weight has shape \(96, 64\).*\(128, 64\)"):
        load_encoder(target, wide.state_dict())
    assert all(torch.equal(before[name], t) for name, t in target.state_dict().items())


def test_manual_attention_on_cpu_fused_elsewhere():
    model = small("vit", num_classes=2)
    assert not model.encoder.blocks[0].attn.fused_attn
    assert model.to("meta").encoder.blocks[0].attn.fused_attn


def test_encoder_state_has_no_head():
    state = encoder_state(small("vit", num_classes=2, pretraining_head=True))
    assert all(name.startswith("encoder.") for name in state)
    assert "encoder.pos_embed" in state


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vit-b16", "bit-r50x1"])
def test_full_size_forward_and_backward_at_224_px(name):
    model = build(name, num_classes=1000)
    torch.nn.init.normal_(model.head.weight, std=0.01, generator=torch.Generator().manual_seed(2))
    logits_BK = model(images(224))
    assert logits_BK.shape == (2, 1000)
    torch.nn.functional.cross_entropy(logits_BK, torch.tensor([3, 5])).backward()
    for key, weight in model.named_parameters():
        assert weight.grad is not None, key
        assert torch.isfinite(weight.grad).all(), key
    assert model.encoder(images(224)).std() > 0
