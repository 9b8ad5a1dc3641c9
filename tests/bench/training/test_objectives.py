"""Masked patch prediction: targets, corruption, what the encoder sees, learning, resumption."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench.data import loader, transforms
from bench.data.packs.read import Split
from bench.data.parts import Part
from bench.data.sources.fractals import images as fractal_images
from bench.errors import JobError
from bench.models import build, encoder_state, load_encoder
from bench.specs import Recipe
from bench.training import loop as training
from bench.training import objectives
from bench.training.checkpoint import Checkpoints
from bench.training.objectives import MaskedPatches, Place, corruption, patch_colours

NUM_STEPS = 6


def recipe(**fields: object) -> Recipe:
    defaults = {
        "steps": NUM_STEPS,
        "batch_size": 16,
        "optimizer": "adam",
        "base_lr": 0.003,
        "schedule": "cosine",
        "objective": "masked-patch",
    }
    return Recipe.model_validate({**defaults, **fields})


def network(dropout: float = 0.0, **args: str) -> MaskedPatches:
    model = build("vit-micro", num_classes=2, image_size_px=16, dropout=dropout, **args)
    return MaskedPatches(model, generator=torch.Generator().manual_seed(1))


def fractals() -> loader.Batches:
    images = [
        fractal_images(seed=0, class_index=c, instances_N=np.arange(16), image_size_px=16)
        for c in range(4)
    ]
    split = Split(np.concatenate(images), np.repeat(np.arange(4), 16))
    transform = transforms.preset("shift-flip", size_px=16)
    return loader.Batches(split, None, transform, batch_size=16, seed=0)


# --- targets --------------------------------------------------------------------------------


def image_of(*colours: tuple[int, int, int]) -> Tensor:
    """Patches of 2 x 2 pixels side by side, of 8-bit colours, in [-1, 1]."""
    rows = torch.tensor(colours).T.float() / 127.5 - 1
    return rows[None, :, None].repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)


def image_grid(*colours: tuple[int, int, int]) -> Tensor:
    return torch.cat([image_of(*colours), image_of(*reversed(colours))], dim=2)


def test_a_colour_is_three_bits_of_each_channel() -> None:
    x_BCHW = image_grid((0, 0, 0), (255, 255, 255))
    assert patch_colours(x_BCHW, 2).tolist() == [[0, 511, 511, 0]]
    for channel, step in enumerate((64, 8, 1)):
        for value in range(256):
            colour = [0, 0, 0]
            colour[channel] = value
            found = patch_colours(image_of(tuple(colour)), 2)
            # Eight equal steps of [0, 255], by exact arithmetic.
            assert found.item() == step * min(7, value * 8 // 255)


def test_a_colour_is_that_of_the_mean_and_the_rest_of_the_image_does_not_count() -> None:
    pixels = torch.full((1, 3, 5, 5), -1.0)
    pixels[:, 0, 0, :2] = 1.0  # half of the first patch's red, half-way: 4 of 8
    pixels[:, :, 4], pixels[:, :, :, 4] = 1.0, 1.0  # no whole patch
    assert patch_colours(pixels, 2).tolist() == [[4 * 64, 0, 0, 0]]


# --- corruption -----------------------------------------------------------------------------


@pytest.mark.parametrize("num_patches", [2, 9, 196])
def test_half_of_the_patches_of_every_image(num_patches: int) -> None:
    where_BM, source_BM, masked_BM = corruption(50, num_patches, seed=0, step=3)
    assert where_BM.shape == (50, max(1, round(num_patches / 2)))
    assert all(len(set(row)) == len(row) for row in where_BM)
    assert 0 <= where_BM.min() <= where_BM.max() < num_patches
    assert 0 <= source_BM.min() <= source_BM.max() < num_patches
    assert (source_BM[masked_BM] == where_BM[masked_BM]).all()


def test_shares_of_mask_other_and_same() -> None:
    where_BM, source_BM, masked_BM = corruption(2000, 20, seed=0, step=0)
    num = where_BM.size
    replaced = source_BM != where_BM
    for share, expected in ((masked_BM.mean(), 0.8), (replaced.mean(), 0.1)):
        assert abs(share - expected) < 5 * math.sqrt(expected * (1 - expected) / num)
    # Every patch is as likely to be corrupted, and every other one as likely to be put there.
    corrupted = np.bincount(where_BM.ravel(), minlength=20)
    assert abs(corrupted - num / 20).max() < 5 * math.sqrt(2000 * 0.25)
    distance = ((source_BM - where_BM) % 20)[replaced]
    assert set(distance) == set(range(1, 20))


def test_corruption_is_a_function_of_seed_and_step() -> None:
    first = corruption(4, 9, seed=1, step=2)
    again = corruption(4, 9, seed=1, step=2)
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    for other in (corruption(4, 9, seed=1, step=3), corruption(4, 9, seed=2, step=2)):
        assert (first.where_BM != other.where_BM).any()


@pytest.mark.parametrize("args", [{}, {"pooling": "gap"}, {"posemb": "learned-2d"}])
def test_the_encoder_sees_the_corrupted_patches(args: dict[str, str]) -> None:
    model = network(**args)
    nn.init.normal_(model.patch_head.weight, generator=torch.Generator().manual_seed(2))
    x_BCHW = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    drawn = corruption(3, 16, seed=0, step=0)
    found_BMC = model(x_BCHW, *(torch.from_numpy(values) for values in drawn))
    patches = model.encoder.patch_embed(x_BCHW)
    corrupted = patches.clone()
    for image in range(3):
        for where, source, masked in zip(*(values[image] for values in drawn), strict=True):
            put = model.mask_embedding[0, 0] if masked else patches[image, source]
            corrupted[image, where] = put
    tokens = model.encoder.encode(corrupted)[:, -16:]
    expected = torch.stack(
        [model.patch_head(tokens[image, drawn.where_BM[image]]) for image in range(3)]
    )
    torch.testing.assert_close(found_BMC, expected)


def test_the_loss_is_the_mean_over_corrupted_patches() -> None:
    model = network()
    nn.init.normal_(model.patch_head.weight, generator=torch.Generator().manual_seed(2))
    x_BCHW, labels_B = fractals().at(0)
    objective = objectives.of(model, recipe(), seed=4)
    found = objective.loss(model, x_BCHW, labels_B, Place(7, np.arange(16), 16))
    drawn = corruption(16, 16, seed=4, step=7)
    logits_BMC = model(x_BCHW, *(torch.from_numpy(values) for values in drawn)).double()
    colours_BN = patch_colours(x_BCHW, 4).numpy()
    losses = []
    for image, row in enumerate(drawn.where_BM):
        for index, patch in enumerate(row):
            shares = logits_BMC[image, index].softmax(0)
            losses.append(-shares[colours_BN[image, patch]].log().item())
    assert found.item() == pytest.approx(np.mean(losses), rel=1e-5)


# --- training -------------------------------------------------------------------------------


def test_it_starts_at_chance_and_learns_colours_of_fractals() -> None:
    model = network()
    done = training.train(model, fractals(), recipe=recipe(), num_steps=150, seed=0)
    assert done.losses_T[0] == pytest.approx(math.log(512), rel=1e-5)
    colours, _ = fractals().at(0)
    shares = np.bincount(patch_colours(colours, 4).ravel(), minlength=512) / 256
    entropy = -(shares[shares > 0] * np.log(shares[shares > 0])).sum()
    assert done.final_loss() < 0.95 * entropy  # knows more than how frequent colours are


def test_everything_that_counts_has_a_gradient() -> None:
    model = network()
    nn.init.normal_(model.patch_head.weight)
    objective = objectives.of(model, recipe(), seed=0)
    objective.loss(model, *fractals().at(0), Place(0, np.arange(16), 16)).backward()
    assert not [name for name, weight in model.named_parameters() if weight.grad is None]


@pytest.mark.parametrize("fields", [{}, {"polyak": 0.9, "dropout": 0.2}], ids=["plain", "all"])
def test_a_killed_run_ends_with_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fields: dict[str, float]
) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    spec = recipe(**fields)

    class Dying:
        def at(self, step: int, part: Part) -> tuple[Tensor, Tensor]:
            if step == 4:
                raise KeyboardInterrupt
            return fractals().at(step, part)

    whole = network(spec.dropout)
    expected = training.train(whole, fractals(), recipe=spec, num_steps=NUM_STEPS, seed=3)
    checkpoints = Checkpoints(tmp_path, "job", interval_s=0)
    resumed = network(spec.dropout)
    for batches in (Dying(), fractals()):
        resumed = network(spec.dropout)
        try:
            done = training.train(
                resumed, batches, recipe=spec, num_steps=NUM_STEPS, seed=3, checkpoints=checkpoints
            )
        except KeyboardInterrupt:
            continue
    assert done.resumed_step == 4
    np.testing.assert_array_equal(done.losses_T, expected.losses_T)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_the_encoder_transfers_and_the_rest_is_dropped() -> None:
    model = network()
    training.train(model, fractals(), recipe=recipe(), num_steps=2, seed=0)
    target = build("vit-micro", num_classes=5, image_size_px=16)
    load_encoder(target, model.state_dict())
    for name, value in encoder_state(target).items():
        assert torch.equal(value, model.state_dict()[name]), name
    assert not {name for name in model.state_dict() if not name.startswith("encoder.")} - {
        "mask_embedding",
        "patch_head.weight",
        "patch_head.bias",
    }


# --- mistakes -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bit-micro", "hybrid-micro"])
def test_other_families_are_told(name: str) -> None:
    model = build(name, num_classes=2, image_size_px=16)
    with pytest.raises(JobError, match="is for ViTs, not for the"):
        MaskedPatches(model, generator=torch.Generator())


def test_a_single_patch_is_told() -> None:
    model = build("vit-micro", num_classes=2, image_size_px=4)
    with pytest.raises(JobError, match="a single patch"):
        MaskedPatches(model, generator=torch.Generator())


def test_a_classifier_predicts_no_patches() -> None:
    with pytest.raises(JobError, match="needs a model that predicts patches"):
        objectives.of(build("vit-micro", num_classes=2), recipe(), seed=0)


@pytest.mark.parametrize("fields", [{"mixup": 0.1}, {"loss": "sigmoid"}])
def test_recipes_that_contradict_it_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="its own targets"):
        recipe(**fields)
