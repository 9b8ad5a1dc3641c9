"""Position embeddings of Table 8: closed forms, what each computes, and other resolutions."""

from __future__ import annotations

import math

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import baselines
from bench.errors import CheckpointError, UserError
from bench.models import build, load_encoder, save_weights

pytestmark = pytest.mark.usefixtures("one_thread")

KINDS = {
    "1-D": {},
    "none": {"posemb": "none"},
    "2-D": {"posemb": "learned-2d"},
    "relative": {"posemb": "relative"},
    "1-D every": {"posemb_at": "every-layer"},
    "1-D shared": {"posemb_at": "every-layer-shared"},
    "2-D every": {"posemb": "learned-2d", "posemb_at": "every-layer"},
    "2-D shared": {"posemb": "learned-2d", "posemb_at": "every-layer-shared"},
}
EVERY_KIND = pytest.mark.parametrize("args", KINDS.values(), ids=KINDS)


def micro(image_size_px: int = 12, **args):
    """A small ViT with weights that are not zero anywhere that counts."""
    return build("vit-micro", num_classes=3, image_size_px=image_size_px, **args)


def images(side_px: int, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 3, side_px, side_px, generator=torch.Generator().manual_seed(1))


@EVERY_KIND
@pytest.mark.parametrize("pooling", ["token", "gap"])
@pytest.mark.parametrize("like", ["vit-micro", "hybrid-micro", "vit-b16"])
def test_closed_forms_equal_torchs_counts(like, pooling, args):
    card = baselines.variant(
        "mine", like=baselines.system(like), title="", args={**args, "pooling": pooling}
    )
    size = card.image_size_px
    with torch.device("meta"):
        model = build(card, num_classes=3)
        with FlopCounterMode(display=False) as counter:
            model.features(torch.zeros(1, 3, size, size))
    assert card.num_params == sum(weight.numel() for weight in model.encoder.parameters())
    assert baselines.forward_flops(card, size) == counter.get_total_flops()


@pytest.mark.parametrize(
    ("kind", "more_params"),
    [
        ("none", -197 * 768),
        ("2-D", (14 - 197) * 768),
        ("relative", (12 * 393 - 197) * 768),
        ("1-D every", 11 * 197 * 768),
        ("1-D shared", 0),
    ],
)
def test_parameters_of_vit_b16(kind, more_params):
    b16 = baselines.system("vit-b16")
    card = baselines.variant("mine", like=b16, title="", args=KINDS[kind])
    assert card.num_params - b16.num_params == more_params


def test_the_encoder_is_timms_where_positions_are():
    from timm.models.vision_transformer import VisionTransformer

    ours = micro(gelu="erf").encoder
    theirs = VisionTransformer(
        12, 4, num_classes=0, embed_dim=64, depth=2, num_heads=4, mlp_ratio=2.0
    )
    theirs.load_state_dict(ours.state_dict())
    x_BCHW = images(12)
    for block in theirs.blocks:
        block.attn.fused_attn = False
    assert torch.equal(ours(x_BCHW), theirs(x_BCHW))


def swapped(x_BCHW: torch.Tensor) -> torch.Tensor:
    """Exchange the first and the last patch of 4 x 4 pixels."""
    other = x_BCHW.clone()
    other[:, :, :4, :4], other[:, :, -4:, -4:] = x_BCHW[:, :, -4:, -4:], x_BCHW[:, :, :4, :4]
    return other


@EVERY_KIND
@pytest.mark.parametrize("pooling", ["token", "gap"])
def test_only_without_positions_an_image_is_a_bag_of_patches(args, pooling):
    model = micro(**args, pooling=pooling).double()
    x_BCHW = images(12).double()
    same = torch.allclose(model.features(x_BCHW), model.features(swapped(x_BCHW)), rtol=1e-10)
    assert same == (args.get("posemb") == "none")


@EVERY_KIND
def test_everything_learns_and_decay_leaves_embeddings_alone(args):
    from bench.training.optimizer import kernels

    model = micro(**args)
    torch.nn.init.normal_(model.head.weight)
    model(images(12)).square().sum().backward()
    assert not [name for name, weight in model.named_parameters() if weight.grad is None]
    embeddings = ("pos_embed", "pos_rows", "pos_columns", "offsets")
    assert not [name for name in kernels(model) if name.endswith(embeddings)]
    for name, weight in model.named_parameters():
        if name.endswith(embeddings):
            assert weight.std().item() == pytest.approx(0.02, rel=0.2), name


def test_2d_embeddings_are_a_row_and_a_column_side_by_side():
    encoder = micro(posemb="learned-2d").encoder
    found_1TD = encoder.positions()
    assert found_1TD.shape == (1, 10, 64)
    assert not found_1TD[0, 0].any()  # the class token
    for row in range(3):
        for column in range(3):
            expected = torch.cat([encoder.pos_rows[0, row], encoder.pos_columns[0, column]])
            assert torch.equal(found_1TD[0, 1 + 3 * row + column], expected)


@pytest.mark.parametrize("place", ["every-layer", "every-layer-shared"])
@pytest.mark.parametrize("kind", ["learned-1d", "learned-2d"])
def test_embeddings_are_added_before_every_layer(kind, place):
    encoder = micro(posemb=kind, posemb_at=place).encoder
    x_BCHW = images(12)
    tokens = torch.cat([encoder.cls_token.expand(2, -1, -1), encoder.patch_embed(x_BCHW)], dim=1)
    for layer, block in enumerate(encoder.blocks):
        tokens = block(tokens + encoder.positions(layer))
    torch.testing.assert_close(encoder(x_BCHW), encoder.norm(tokens)[:, 0])
    shared = torch.equal(encoder.positions(0), encoder.positions(1))
    assert shared == (place == "every-layer-shared")


def test_relative_attention_by_the_definition():
    """Logit of query q and key k: q . k plus q . r[k - q], each over the root of the head size."""
    attention = micro(posemb="relative").encoder.blocks[0].attn.double()
    torch.nn.init.normal_(attention.offsets, generator=torch.Generator().manual_seed(2))
    x_BTD = torch.randn(2, 10, 64, generator=torch.Generator().manual_seed(3)).double()
    q, k, v = attention.qkv(x_BTD).reshape(2, 10, 3, 4, 16).permute(2, 0, 3, 1, 4)
    offsets = attention.offsets.reshape(19, 4, 16)
    logits = torch.zeros(2, 4, 10, 10, dtype=torch.double)
    for query in range(10):
        for key in range(10):
            keys = k[:, :, key] + offsets[key - query + 9]
            logits[:, :, query, key] = (q[:, :, query] * keys).sum(-1) / math.sqrt(16)
    mixed = (logits.softmax(-1) @ v).transpose(1, 2).reshape(2, 10, 64)
    expected = attention.proj(mixed)
    for fused in (False, True):
        attention.fused_attn = fused
        torch.testing.assert_close(attention(x_BTD), expected, rtol=1e-10, atol=1e-12)


# --- another resolution -----------------------------------------------------------------------


@EVERY_KIND
@pytest.mark.parametrize("pooling", ["token", "gap"])
def test_weights_move_to_another_resolution_and_stay_at_their_own(args, pooling):
    source = micro(**args, pooling=pooling, generator=torch.Generator().manual_seed(5))
    same, larger = micro(**args, pooling=pooling), micro(24, **args, pooling=pooling)
    load_encoder(same, source.state_dict())
    assert torch.equal(same.features(images(12)), source.features(images(12)))
    load_encoder(larger, source.state_dict())
    assert torch.isfinite(larger.features(images(24))).all()


@pytest.mark.parametrize("place", ["stem", "every-layer"])
def test_2d_embeddings_are_interpolated_as_the_grid_that_they_make(place):
    from bench.models import interpolate_positions

    source, target = (micro(size, posemb="learned-2d", posemb_at=place) for size in (12, 28))
    load_encoder(target, source.state_dict())
    for layer in range(2):
        expected = interpolate_positions(source.encoder.positions(layer), 7)
        torch.testing.assert_close(target.encoder.positions(layer), expected)


def test_offsets_keep_their_ends_and_their_middle():
    source, target = micro(12, posemb="relative"), micro(20, posemb="relative")
    load_encoder(target, source.state_dict())
    old, new = (model.encoder.blocks[1].attn.offsets for model in (source, target))
    assert len(old) == 2 * 10 - 1
    assert len(new) == 2 * 26 - 1
    for before, after in ((0, 0), (9, 25), (18, 50)):
        torch.testing.assert_close(new[after], old[before])
    torch.testing.assert_close(new[1], old[0] + (old[1] - old[0]) * 18 / 50)


def test_weights_of_another_kind_are_refused():
    with pytest.raises(CheckpointError, match=r"pos_rows|pos_embed"):
        load_encoder(micro(), micro(posemb="learned-2d").state_dict())
    with pytest.raises(CheckpointError, match=r"pos_embed has shape \(2, 10, 64\)"):
        load_encoder(micro(), micro(posemb_at="every-layer").state_dict())


@pytest.mark.parametrize("layout", ["npz", "timm"])
def test_layouts_of_others_have_no_place_for_them(layout, tmp_path):
    ending = "npz" if layout == "npz" else "safetensors"
    with pytest.raises(CheckpointError, match="no place for these position embeddings"):
        save_weights(micro(posemb="relative"), tmp_path / f"x.{ending}", layout=layout)
    assert not list(tmp_path.iterdir())


def test_patches_that_do_not_tile_leave_the_rest_unseen():
    """ViT-H/14 at 384 px is 27 x 27 patches: what lies beyond 378 px changes nothing."""
    h14 = baselines.system("vit-h14")
    assert baselines.forward_flops(h14, 384) == baselines.forward_flops(h14, 378)
    assert baselines.sizes(h14).num_params(384) - h14.num_params == (27**2 - 16**2) * 1280
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        model = build("vit-h14", num_classes=2, image_size_px=384)
        model.features(torch.zeros(1, 3, 384, 384))
    assert baselines.forward_flops(h14, 384) == counter.get_total_flops()
    source, model = micro(12), micro(15)
    load_encoder(model, source.state_dict())
    x_BCHW = images(15)
    assert torch.equal(model.features(x_BCHW), source.features(x_BCHW[:, :, :12, :12]))


# --- names, identity, mistakes ------------------------------------------------------------------


def test_systems_of_before_keep_their_identity():
    card = baselines.system("vit-micro")
    assert not {"posemb", "posemb_at"} & card.args.keys()
    same = build(card, num_classes=2, posemb="learned-1d", posemb_at="stem")
    assert same.system == baselines.use(card)
    other = build(card, num_classes=2, posemb="none")
    assert other.system.args == {**card.args, "posemb": "none"}


def test_a_variant_is_a_card_of_its_own():
    b16 = baselines.system("vit-b16")
    card = baselines.variant("b16-none", like=b16, title="bag", args={"posemb": "none"})
    assert (card.name, card.title, card.weights) == ("b16-none", "bag", ())
    assert card.note == "ViT-B/16 with posemb = none"
    assert card.args == {**b16.args, "posemb": "none"}
    unchanged = baselines.variant("x", like=b16, title="", args={})
    assert baselines.use(unchanged) == baselines.use(b16)
    wide = baselines.variant("w", like=baselines.system("bit-micro"), title="", args={
        "width_factor": 2.0})  # fmt: skip
    assert wide.feature_dim == 256


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("vit-micro", {"posemb": "1d"}, 'is not "learned-1d" or "none"'),
        ("vit-micro", {"posem": "none"}, 'Did you mean "posemb"'),
        ("vit-micro", {"posemb": "none", "posemb_at": "every-layer"}, "has none"),
        ("vit-micro", {"posemb": "relative", "posemb_at": "every-layer"}, "has none"),
        ("vit-micro", {"posemb": "learned-2d", "width": 33, "num_heads": 3}, "width 33 is odd"),
        ("bit-micro", {"posemb": "none"}, 'bit: unknown argument "posemb"'),
    ],
)
def test_impossible_variants_are_told_in_one_line(name, args, message):
    with pytest.raises(UserError, match=message) as caught:
        baselines.variant("mine", like=baselines.system(name), title="", args=args)
    assert "\n" not in str(caught.value)
