"""What a recipe's arithmetic means: the same in every library, and put back afterwards."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bench import models
from bench.training.arithmetic import LossScale, _settings, arithmetic, autocast

BACKENDS: Any = torch.backends


def test_torchs_own_default_treats_convolutions_and_products_differently() -> None:
    """If this changes, the arithmetic of a GPU is still stated, and docs/suites.md is wrong."""
    assert BACKENDS.cudnn.conv.fp32_precision == "tf32"
    assert BACKENDS.cuda.matmul.fp32_precision != "tf32"


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16", "float16"])
@pytest.mark.parametrize("deterministic", [True, False])
def test_a_gpu_multiplies_float32_in_one_way_everywhere(
    precision: Any, deterministic: bool
) -> None:
    before = _settings()
    with arithmetic("cuda", precision, deterministic=deterministic):
        expected = "tf32" if precision == "tf32" else "ieee"
        assert BACKENDS.cudnn.conv.fp32_precision == expected
        assert BACKENDS.cuda.matmul.fp32_precision == expected
        assert torch.are_deterministic_algorithms_enabled() == deterministic
        assert not torch.is_deterministic_algorithms_warn_only_enabled()
        assert torch.backends.cudnn.benchmark != deterministic
        assert torch.backends.cuda.mem_efficient_sdp_enabled()  # has a way that is deterministic
    assert _settings() == before


def test_a_cpu_is_left_as_it_is() -> None:
    before = _settings()
    with arithmetic("cpu", "float32", deterministic=True):
        assert _settings() == before


def test_half_precision_computes_in_it() -> None:
    layer, x_BD = torch.nn.Linear(3, 2), torch.ones(1, 3)
    for precision, dtype in (
        ("float32", torch.float32), ("tf32", torch.float32),
        ("bfloat16", torch.bfloat16), ("float16", torch.float16),
    ):  # fmt: skip
        with autocast("cpu", precision):  # type: ignore[arg-type]
            assert layer(x_BD).dtype == dtype


def test_losses_are_scaled_down_when_gradients_overflow_and_up_again() -> None:
    scale = LossScale(enabled=True)
    assert scale.scaled(torch.tensor(2.0)).item() == 2 * 2.0**16
    gradients = [torch.full((3,), 2.0**16), torch.tensor([2.0**17])]
    assert scale.unscale(gradients)
    assert [gradient.tolist() for gradient in gradients] == [[1.0] * 3, [2.0]]
    assert not scale.unscale([torch.tensor([float("inf")])])
    assert (scale.value, scale.good_steps) == (2.0**15, 0)
    for _ in range(LossScale.GROWTH_STEPS):
        assert scale.unscale([torch.ones(1)])
    assert (scale.value, scale.good_steps) == (2.0**16, 0)


def test_other_arithmetic_leaves_losses_alone() -> None:
    scale, loss, gradient = LossScale(enabled=False), torch.tensor(2.0), torch.ones(2)
    assert scale.scaled(loss) is loss
    assert scale.unscale([gradient])
    assert gradient.tolist() == [1.0, 1.0]


NO_DETERMINISTIC_GRADIENT = {
    "AdaptiveAvgPool2DBackward0", "AdaptiveMaxPool2DBackward0", "AvgPool3DBackward0",
    "MaxPool3DWithIndicesBackward0", "FractionalMaxPool2DBackward0", "MaxUnpool2DBackward0",
    "UpsampleLinear1DBackward0", "UpsampleBilinear2DBackward0", "UpsampleBicubic2DBackward0",
    "UpsampleBilinear2DAaBackward0", "UpsampleBicubic2DAaBackward0", "GridSampler2DBackward0",
    "ReflectionPad1DBackward0", "ScatterReduceBackward0", "KthvalueBackward0", "MedianBackward0",
}  # fmt: skip
"""Operations whose gradient torch has no deterministic way for on a GPU, and raises
(`torch.use_deterministic_algorithms`)."""


def operations(loss: torch.Tensor) -> set[str]:
    """Return the names of all operations that a loss goes back through."""
    found: set[str] = set()
    seen: set[Any] = set()
    waiting: list[Any] = [loss.grad_fn]
    while waiting:
        step = waiting.pop()
        if step is not None and step not in seen:
            seen.add(step)
            found.add(step.name())
            waiting += [before for before, _ in step.next_functions]
    return found


@pytest.mark.parametrize("system", ["vit-micro", "bit-micro", "hybrid-micro"])
def test_systems_train_by_operations_that_have_a_deterministic_way(system: str) -> None:
    model = models.build(system, num_classes=3, image_size_px=16)
    found = operations(model(torch.rand(2, 3, 16, 16)).logsumexp(dim=1).sum())
    assert len(found) > 5
    assert not found & NO_DETERMINISTIC_GRADIENT
