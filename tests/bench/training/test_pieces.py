"""A batch in pieces is the same batch: losses, weights, draws; and what happens without memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench import models
from bench.data import loader
from bench.data.packs.read import Split
from bench.data.parts import WHOLE, Part
from bench.data.transforms import preset
from bench.errors import JobError
from bench.specs import Recipe
from bench.training import loop as training
from bench.training.blocks import recompute
from bench.training.checkpoint import Checkpoints
from bench.training.dropout import Dropout, Places, _mixed, drop_by_place
from bench.training.objectives import MaskedPatches

NUM_STEPS, BATCH = 20, 12


def recipe(**fields: object) -> Recipe:
    defaults = {
        "steps": NUM_STEPS,
        "batch_size": BATCH,
        "optimizer": "sgd",
        "base_lr": 0.01,
        "schedule": "cosine",
        "clip_norm": 1.0,
    }
    return Recipe.model_validate({**defaults, **fields})


def network(spec: Recipe, system: str) -> nn.Module:
    model = models.build(
        system,
        num_classes=7,
        image_size_px=12,
        pretraining_head=True,
        dropout=spec.dropout,
        generator=torch.Generator().manual_seed(1),
    )
    nn.init.normal_(model.head.weight, std=0.1, generator=torch.Generator().manual_seed(2))
    if spec.objective == "masked-patch":
        return MaskedPatches(model, generator=torch.Generator().manual_seed(2))
    return model


def batches() -> loader.Batches:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (30, 12, 12, 3), dtype=np.uint8)
    split = Split(images, rng.integers(0, 7, 30))
    transform = preset("vit-train", size_px=12)
    return loader.Batches(split, None, transform, batch_size=BATCH, seed=3)


def trained(
    spec: Recipe, *, system: str = "vit-micro", **keys: Any
) -> tuple[training.Training, nn.Module]:
    model = network(spec, system)
    done = training.train(
        model, keys.pop("batches", batches()), recipe=spec, num_steps=NUM_STEPS, seed=3, **keys
    )
    return done, model


@pytest.mark.parametrize(
    ("system", "fields"),
    [
        ("vit-micro", {}),
        ("bit-micro", {}),
        ("hybrid-micro", {}),
        ("vit-micro", {"dropout": 0.1, "mixup": 0.3, "polyak": 0.9}),
        ("bit-micro", {"mixup": 0.3, "loss": "sigmoid"}),
        ("vit-micro", {"objective": "masked-patch", "dropout": 0.1}),
    ],
    ids=["vit", "bit", "hybrid", "dropout-mixup-polyak", "mixup-sigmoid", "masked-patch"],
)
def test_pieces_change_nothing_but_rounding(system: str, fields: dict[str, object]) -> None:
    spec = recipe(**fields)
    whole, model = trained(spec, system=system)
    for pieces in (2, 5):
        parted, other = trained(spec, system=system, pieces=pieces)
        assert parted.pieces == pieces
        assert parted.num_images == whole.num_images == NUM_STEPS * BATCH
        np.testing.assert_allclose(parted.losses_T, whole.losses_T, rtol=1e-6)
        for name, value in model.state_dict().items():
            torch.testing.assert_close(other.state_dict()[name], value, rtol=1e-4, atol=1e-6)


def test_single_images_are_pieces_too() -> None:
    whole, _ = trained(recipe())
    alone, _ = trained(recipe(), pieces=BATCH)
    np.testing.assert_allclose(alone.losses_T, whole.losses_T, rtol=1e-6)


def test_a_resumed_run_in_pieces_has_the_same_bits(tmp_path: Path) -> None:
    spec = recipe(dropout=0.1, mixup=0.3, polyak=0.9, precision="bfloat16", optimizer="adam")
    expected, model = trained(spec, pieces=3)

    class Dying(loader.Batches):
        def at(self, step: int, part: Part = WHOLE) -> tuple[Tensor, Tensor]:
            if step == 7 and part.piece == 1:
                raise KeyboardInterrupt
            return super().at(step, part)

    checkpoints = Checkpoints(tmp_path, "job", interval_s=0)
    dying = batches()
    dying.__class__ = Dying
    with pytest.raises(KeyboardInterrupt):
        trained(spec, pieces=3, checkpoints=checkpoints, batches=dying)
    resumed, other = trained(spec, pieces=3, checkpoints=checkpoints)
    assert resumed.resumed_step == 7
    np.testing.assert_array_equal(resumed.losses_T, expected.losses_T)
    for name, value in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name


# --- memory -----------------------------------------------------------------------------------


class Small:
    """A device that holds no more than so many images: forward raises beyond."""

    def __init__(self, model: nn.Module, images: int) -> None:
        self.asked: list[int] = []
        self._images = images
        model.register_forward_pre_hook(self)

    def __call__(self, model: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.asked.append(len(inputs[0]))
        if len(inputs[0]) > self._images:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")


def test_exhausted_memory_halves_the_pieces_and_repeats_the_step() -> None:
    spec = recipe(dropout=0.1)
    whole, _ = trained(spec)
    model = network(spec, "vit-micro")
    small = Small(model, images=4)
    done = training.train(model, batches(), recipe=spec, num_steps=NUM_STEPS, seed=3)
    assert done.pieces == 4
    assert small.asked[:3] == [12, 6, 2]  # whole, in two, in four: of one pair or two each
    np.testing.assert_allclose(done.losses_T, whole.losses_T, rtol=1e-6)


def test_exhausted_memory_at_one_image_is_an_error() -> None:
    model = network(recipe(), "vit-micro")
    small = Small(model, images=0)
    with pytest.raises(torch.OutOfMemoryError):
        training.train(model, batches(), recipe=recipe(), num_steps=NUM_STEPS, seed=3)
    assert small.asked[-2:] == [1, 1]  # the last time with activations computed twice


@pytest.mark.parametrize("system", ["vit-micro", "bit-micro", "hybrid-micro"])
def test_activations_computed_twice_change_no_bit(system: str) -> None:
    spec = recipe(dropout=0.1, mixup=0.3)
    expected, model = trained(spec, system=system, pieces=2)
    twice, kept = network(spec, system), {}
    for name, one in (("once", network(spec, system)), ("twice", twice)):
        if name == "twice":
            recompute(one)
        kept[name] = kept_bytes(one)
    done = training.train(twice, batches(), recipe=spec, num_steps=NUM_STEPS, seed=3, pieces=2)
    assert kept["twice"] < 0.7 * kept["once"]
    np.testing.assert_array_equal(done.losses_T, expected.losses_T)
    for name, value in model.state_dict().items():
        assert torch.equal(twice.state_dict()[name], value), name


def kept_bytes(model: nn.Module) -> int:
    """Return the bytes that autograd keeps of a forward pass, weights aside."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.eval()(torch.randn(6, 3, 12, 12)).sum()
    model.train()
    return sum(kept.values())


def test_a_batch_that_may_not_be_split_is_not() -> None:
    model = network(recipe(), "vit-micro")
    small = Small(model, images=3)
    with pytest.raises(torch.OutOfMemoryError):
        training.train(model, batches(), recipe=recipe(), num_steps=1, seed=3, splits=False)
    assert small.asked == [12]


@pytest.mark.parametrize(("fields", "pieces", "most"), [({}, 13, 12), ({"mixup": 0.1}, 7, 6)])
def test_more_pieces_than_images(fields: dict[str, object], pieces: int, most: int) -> None:
    with pytest.raises(JobError, match=f"12 images cannot be taken in {pieces} pieces") as caught:
        trained(recipe(**fields), pieces=pieces)
    assert caught.value.hint == f"Use {most} or fewer"


def test_batch_statistics_are_those_of_a_whole_batch() -> None:
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(432), nn.Linear(432, 7))
    with pytest.raises(JobError, match="batch statistics"):
        training.train(model, batches(), recipe=recipe(), num_steps=1, seed=3, pieces=2)
    small = Small(model, images=3)
    with pytest.raises(torch.OutOfMemoryError):
        training.train(model, batches(), recipe=recipe(), num_steps=1, seed=3)
    assert small.asked == [12]


# --- dropout ----------------------------------------------------------------------------------


def test_the_hash_is_splitmix64() -> None:
    state = torch.tensor((1234567 + 0x9E3779B97F4A7C15) % 2**64 - 2**64)  # its first state
    assert int(_mixed(state)) % 2**64 == 6457827717110365317  # Vigna's reference, first output


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_drops_its_share_and_keeps_the_mean(rate: float) -> None:
    places = Places(seed=5)
    layer = Dropout(rate, places, layer=0)
    places.stand(0, np.arange(400), torch.device("cpu"))
    kept = layer(torch.ones(400, 13, 11))
    num = kept.numel()
    share = (kept == 0).double().mean().item()
    assert abs(share - rate) < 4 * (rate * (1 - rate) / num) ** 0.5
    assert abs(kept.double().mean().item() - 1) < 5 * (rate / (1 - rate) / num) ** 0.5
    assert len(kept.unique()) == 2
    layer.eval()
    assert torch.equal(layer(torch.ones(3, 2)), torch.ones(3, 2))


def test_draws_differ_by_seed_step_image_layer_and_value() -> None:
    def dropped(*, seed: int = 1, step: int = 2, row: int = 3, layer: int = 4) -> Tensor:
        places = Places(seed)
        places.stand(step, np.array([row]), torch.device("cpu"))
        return (Dropout(0.5, places, layer=layer)(torch.ones(1, 4096)) == 0).double()[0]

    own = dropped()
    assert torch.equal(own, dropped())
    others = [dropped(seed=2), dropped(step=3), dropped(row=4), dropped(layer=5), own.roll(1)]
    for other in [*others, own.roll(2), own.roll(4)]:
        # Correlation of independent draws: normal with deviation 1 / sqrt(n).
        found = torch.corrcoef(torch.stack((own, other)))[0, 1].item()
        assert abs(found) < 4 / 4096**0.5


def test_dropout_does_not_depend_on_who_else_is_there() -> None:
    places = Places(seed=5)
    layer = Dropout(0.3, places, layer=1)
    x = torch.randn(10, 3, 5)
    places.stand(4, np.arange(10), torch.device("cpu"))
    together = layer(x)
    places.stand(4, np.array([7, 2]), torch.device("cpu"))
    assert torch.equal(layer(x[[7, 2]]), together[[7, 2]])
    with pytest.raises(ValueError, match="not told which images"):
        layer(x)


def test_every_dropout_layer_of_a_model_is_replaced() -> None:
    model = models.build("vit-micro", num_classes=7, image_size_px=12, dropout=0.1)
    num = sum(isinstance(layer, nn.Dropout) and layer.p > 0 for layer in model.modules())
    names = set(model.state_dict())
    assert drop_by_place(model, seed=0) is not None
    layers = [layer for layer in model.modules() if isinstance(layer, Dropout)]
    assert len(layers) == num > 4
    assert set(model.state_dict()) == names
    assert drop_by_place(model, seed=0) is None
