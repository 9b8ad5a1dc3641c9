"""What a job is said to hold on a device, added up by hand, and against what a real step holds."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import baselines
from bench import memory
from bench.data.parts import Part, largest_part
from bench.memory import GIB
from bench.models import build
from bench.specs import Recipe
from bench.training import train
from tests.held import Held


def recipe(**changes: Any) -> Recipe:
    return Recipe(
        **{"steps": 2, "batch_size": 8, "optimizer": "adam", "base_lr": 1e-3,
           "schedule": "constant", **changes}
    )  # fmt: skip


def forecast(recipe: Recipe, device: Any = "cpu", num_classes: int = 1000) -> memory.Memory:
    return memory.training(
        baselines.system("vit-b16"), recipe,
        image_size_px=224, num_classes=num_classes, device=device,
    )  # fmt: skip


def test_states_are_float32_whatever_the_arithmetic() -> None:
    gib = 86_567_656 * 4 / GIB
    for precision in ("float32", "bfloat16"):
        found = forecast(recipe(precision=precision))
        assert found.weights_gib == found.gradients_gib == pytest.approx(gib)
        assert found.optimizer_gib == pytest.approx(2 * gib)
    assert forecast(recipe(optimizer="sgd")).optimizer_gib == pytest.approx(gib)
    assert forecast(recipe(optimizer="sgd", polyak=0.9)).optimizer_gib == pytest.approx(2 * gib)


def test_a_checkpoint_is_copied_to_the_memory_of_the_host() -> None:
    gib = 86_567_656 * 4 / GIB
    assert forecast(recipe(polyak=0.9)).saved_gib == pytest.approx(4 * gib)
    assert forecast(recipe(polyak=0.9), "cuda").saved_gib == 0


def test_bfloat16_keeps_copies_of_the_weights_and_less_of_each_image() -> None:
    full, half = forecast(recipe(), "cuda"), forecast(recipe(precision="bfloat16"), "cuda")
    assert full.shared_gib == 0
    assert half.shared_gib == pytest.approx(2 * 85.5e6 / GIB, rel=0.01)
    assert 0.5 < half.image_gib / full.image_gib < 0.65


def test_many_classes_mixup_and_pixels_are_counted() -> None:
    plain, many = forecast(recipe()), forecast(recipe(), num_classes=21_843)
    assert (many.image_gib - plain.image_gib) * GIB == pytest.approx(20_843 * 12)
    sigmoid = forecast(recipe(loss="sigmoid"))
    assert (sigmoid.image_gib - plain.image_gib) * GIB == pytest.approx(1000 * 12)
    pixels = 3 * 4 * 224**2
    mixed = forecast(recipe(mixup=0.1))
    assert (mixed.image_gib - plain.image_gib) * GIB == pytest.approx(3 * pixels + 4000)


def test_images_that_fit() -> None:
    found = forecast(recipe())
    assert found.most_images(found.fixed_gib + 10.5 * found.image_gib) == 10
    assert found.most_images(found.fixed_gib) == 0
    assert found.most_images(0.1) == 0
    assert found.gib(10) == pytest.approx(found.fixed_gib + 10 * found.image_gib)


class OneBatch:
    """The same images at every step."""

    def __init__(self, num: int, size_px: int) -> None:
        self._images = torch.zeros(num, 3, size_px, size_px), torch.arange(num) % 10

    def at(self, step: int, part: Part) -> tuple[Tensor, Tensor]:
        rows_B = torch.from_numpy(part.rows(len(self._images[1])))
        return self._images[0][rows_B], self._images[1][rows_B]


CUT = [
    ("vit-ti16", 96, {"depth": 4}),
    ("bit-r50x1", 64, {"layers": (2, 2), "width_factor": 0.5, "num_groups": 8}),
    ("hybrid-r26-vit-s32", 64, {"layers": (1, 2), "width": 96, "mlp_dim": 192, "depth": 3}),
]
NEVER_CUT = ("noisy-student-b7", 64, {"width_factor": 1.0, "depth_factor": 0.5}, 1)


@pytest.mark.ordinary
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("name", "size_px", "args", "pieces"),
    [*((*case, pieces) for case in CUT for pieces in (1, 3)), NEVER_CUT],
)
def test_a_real_step_holds_what_is_forecast(
    name: str, size_px: int, args: dict[str, Any], pieces: int, precision: str
) -> None:
    """Within a quarter: the real loop, optimizer and average; weights were there before."""
    followed = recipe(polyak=0.9, precision=precision, batch_size=16)
    model = build(name, num_classes=10, image_size_px=size_px, **args)
    batches = OneBatch(16, size_px)
    with Held() as held:
        train(model, batches, recipe=followed, num_steps=2, seed=0, pieces=pieces)
    num_images = largest_part(16, pieces)
    said = memory.training(
        model.system, followed, image_size_px=size_px, num_classes=10, device="cpu"
    )
    there_gib = said.weights_gib + said.saved_gib  # and no checkpoint is made
    assert said.gib(num_images) - there_gib == pytest.approx(held.most / GIB, rel=0.25)
