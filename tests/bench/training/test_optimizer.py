"""Schedules, optimizer steps, clipping and losses against closed forms and hand-written NumPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from bench.data.parts import Part
from bench.specs import Recipe
from bench.training import loop as training
from bench.training import optimizer as optim


def recipe(**fields: object) -> Recipe:
    defaults = {
        "steps": 10,
        "batch_size": 4,
        "optimizer": "sgd",
        "base_lr": 0.1,
        "schedule": "constant",
    }
    return Recipe.model_validate({**defaults, **fields})


def rates(num_steps: int, **fields: object) -> list[float]:
    spec = recipe(steps=num_steps, **fields)
    return [optim.learning_rate(spec, step, num_steps=num_steps) for step in range(num_steps)]


class Classifier(nn.Module):
    """One of everything that decay must tell apart: kernels, biases, norms, embeddings."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 4, 2, stride=2)
        self.cls = nn.Parameter(torch.ones(1, 1, 4))
        self.position = nn.Parameter(torch.ones(1, 5, 4))
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 3)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        z_BTD = self.patch(x_BCHW).flatten(2).transpose(1, 2)
        z_BTD = torch.cat([self.cls.expand(len(z_BTD), -1, -1), z_BTD], dim=1) + self.position
        return self.head(self.norm(z_BTD).mean(dim=1))


class Constant:
    """The same batch at every step."""

    def __init__(self, x: torch.Tensor, targets: torch.Tensor) -> None:
        self.batch = x, targets

    def at(self, step: int, part: Part) -> tuple[torch.Tensor, torch.Tensor]:
        return self.batch


# --- schedules ------------------------------------------------------------------------------


def test_cosine_without_warmup_is_the_closed_form() -> None:
    expected = [0.5 * (1 + math.cos(math.pi * t / 8)) for t in range(8)]
    assert rates(8, base_lr=1.0, schedule="cosine") == pytest.approx(expected, abs=1e-15)


def test_linear_decay_starts_at_the_peak_and_would_reach_zero_one_step_after_the_last() -> None:
    assert rates(4, base_lr=2.0, schedule="linear") == pytest.approx([2.0, 1.5, 1.0, 0.5])


def test_warmup_starts_at_zero_and_peaks_when_it_ends() -> None:
    found = rates(12, base_lr=1.0, schedule="cosine", warmup_steps=4)
    assert found[:5] == pytest.approx([0, 0.25, 0.5, 0.75, 1.0])
    assert found[8] == pytest.approx(0.5)  # half-way between 4 and 12
    assert all(rate > 0 for rate in found[1:])
    assert found[4:] == sorted(found[4:], reverse=True)


def test_constant_after_warmup() -> None:
    found = rates(5, base_lr=0.3, schedule="constant", warmup_steps=2)
    assert found == pytest.approx([0, 0.15, 0.3, 0.3, 0.3])


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_a_run_that_is_all_warmup_has_finite_rates(schedule: str) -> None:
    assert rates(3, base_lr=1.0, schedule=schedule, warmup_steps=3) == pytest.approx(
        [0, 1 / 3, 2 / 3]
    )


@pytest.mark.parametrize(
    "supports",
    [
        (100, 200, 300, 400, 500),
        (500, 3000, 6000, 9000, 10_000),
        (500, 6000, 12_000, 18_000, 20_000),
    ],
    ids=["small", "medium", "large"],
)
def test_bit_hyperrule_is_get_lr_of_big_transfer(supports: tuple[int, ...]) -> None:
    def get_lr(step: int, base_lr: float) -> float:
        if step < supports[0]:
            return base_lr * step / supports[0]
        for support in supports[1:]:
            if support < step:
                base_lr /= 10
        return base_lr

    found = rates(
        supports[-1],
        base_lr=0.003,
        schedule="constant",
        warmup_steps=supports[0],
        drop_steps=supports[1:-1],
    )
    expected = [get_lr(step, 0.003) for step in range(supports[-1])]
    assert found == pytest.approx(expected, rel=1e-12)
    boundary = supports[1]
    assert found[boundary] == pytest.approx(0.003)
    assert found[boundary + 1] == pytest.approx(0.0003)


def test_linear_decay_to_a_floor_is_that_of_the_authors_code() -> None:
    """Literal `create_learning_rate_schedule` of vision_transformer, with linear_end."""

    def step_fn(step: int, base: float, total: int, warmup: int, end: float) -> float:
        progress = min(max((step - warmup) / float(total - warmup), 0.0), 1.0)
        lr = end + (base - end) * (1.0 - progress)
        return lr * min(1.0, step / warmup)

    found = rates(50, base_lr=0.03, schedule="linear", end_lr=1e-5, warmup_steps=7)
    expected = [step_fn(step, 0.03, 50, 7, 1e-5) for step in range(50)]
    assert found == pytest.approx(expected, rel=1e-12)
    with pytest.raises(ValueError, match="belongs to the linear schedule"):
        recipe(schedule="cosine", end_lr=1e-5)


def test_drops_as_shares_are_drops_at_steps() -> None:
    fields = {"base_lr": 1.0, "schedule": "constant", "warmup_steps": 5}
    for num_steps in (40, 400, 777):
        by_share = rates(num_steps, drop_shares=(0.25, 0.575, 0.75, 0.925), **fields)
        steps = tuple(round(share * num_steps) for share in (0.25, 0.575, 0.75, 0.925))
        assert by_share == rates(num_steps, drop_steps=steps, **fields)
    thirds = rates(90, drop_shares=(0.3333333333333333,), base_lr=1.0, schedule="constant")
    assert thirds[30] == 1.0
    assert thirds[31] == pytest.approx(0.1)
    with pytest.raises(ValueError, match="between 0 and 1"):
        recipe(drop_shares=(30.0,))


def test_task_adaptation_keeps_the_old_rate_at_the_boundary() -> None:
    """Piecewise at 300, 600 and 900 of 1,000 steps after 80 of warm-up (VTAB's script)."""

    def literal(step: int) -> float:
        rate = 0.01
        for boundary in (300, 600, 900):
            rate = rate * 0.1 if step > boundary else rate
        return rate * min(1.0, step / 80)

    found = rates(
        1000, base_lr=0.01, schedule="constant", warmup_steps=80, drop_steps=(300, 600, 900)
    )
    assert found == pytest.approx([literal(step) for step in range(1000)], rel=1e-12)


def test_a_rate_that_nobody_chose_is_an_error() -> None:
    with pytest.raises(ValueError, match="must be chosen"):
        rates(3, base_lr=None)


# --- decay ----------------------------------------------------------------------------------


def test_kernels_are_the_weights_of_linear_and_convolution_layers() -> None:
    assert set(optim.kernels(Classifier())) == {"patch.weight", "head.weight"}


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_decay_touches_kernels_only(optimizer: str) -> None:
    """Without a gradient, what decays shrinks by 1 - lr * decay a step, and nothing else moves."""
    model = Classifier()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}

    class Zero(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x) * 0.0

    spec = recipe(optimizer=optimizer, base_lr=0.1, weight_decay=0.5)
    batches = Constant(torch.ones(2, 3, 4, 4), torch.tensor([0, 1]))
    training.train(Zero(), batches, recipe=spec, num_steps=2, seed=0)
    for name, parameter in model.named_parameters():
        factor = 0.95**2 if name in {"patch.weight", "head.weight"} else 1.0
        torch.testing.assert_close(parameter.detach(), before[name] * factor, msg=name)


# --- optimizer steps, whatever the loss: given gradients, in float64 --------------------------

NUM_UPDATES = 3


def given(seed: int = 0) -> tuple[Classifier, list[dict[str, np.ndarray]]]:
    """A model in float64, and gradients of its parameters for three updates."""
    rng = np.random.default_rng(seed)
    model = Classifier().double()
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.from_numpy(rng.normal(size=shapes[name])))
    updates = [
        {name: rng.normal(size=shape) for name, shape in shapes.items()} for _ in range(NUM_UPDATES)
    ]
    return model, updates


def updated(model: nn.Module, updates: list[dict[str, np.ndarray]], spec: Recipe) -> None:
    """Take the updates in place, at the recipe's rates."""
    optimizer = optim.Optimizer(model, spec)
    for step, grads in enumerate(updates):
        for name, parameter in model.named_parameters():
            parameter.grad = torch.from_numpy(grads[name].copy())
        optimizer.step(optim.learning_rate(spec, step, num_steps=NUM_UPDATES))


def by_hand(
    values: dict[str, np.ndarray], updates: list[dict[str, np.ndarray]], spec: Recipe
) -> dict[str, np.ndarray]:
    """The released code's formulas, one parameter and one update at a time."""
    kernel = {"patch.weight", "head.weight"}
    first = {name: np.zeros_like(value) for name, value in values.items()}
    second = {name: np.zeros_like(value) for name, value in values.items()}
    values = {name: value.copy() for name, value in values.items()}
    for t, grads in enumerate(updates, 1):
        lr = optim.learning_rate(spec, t - 1, num_steps=len(updates))
        norm = math.sqrt(sum((g**2).sum() for g in grads.values()))
        clip = 1.0 if spec.clip_norm is None else min(1.0, spec.clip_norm / norm)
        for name, value in values.items():
            decay = spec.weight_decay if name in kernel else 0.0
            g = grads[name] * clip
            if spec.optimizer == "adam":
                first[name] = 0.9 * first[name] + 0.1 * g
                second[name] = 0.999 * second[name] + 0.001 * g**2
                mean, square = first[name] / (1 - 0.9**t), second[name] / (1 - 0.999**t)
                change = mean / (np.sqrt(square) + 1e-8) + decay * value
            elif spec.coupled_decay:
                first[name] = g + decay * value + 0.9 * first[name]
                change = first[name]
            else:
                first[name] = g + 0.9 * first[name]
                change = first[name] + decay * value
            values[name] = value - lr * change
    return values


SPECS = {
    "adam": {"optimizer": "adam", "weight_decay": 0.1, "base_lr": 8e-4, "schedule": "linear"},
    "adam-clipped": {"optimizer": "adam", "weight_decay": 0.3, "clip_norm": 1.0},
    "sgd-clipped": {"clip_norm": 1.0, "schedule": "cosine"},
    "sgd-unclipped": {"clip_norm": 1e9},
    "sgd-decoupled": {"weight_decay": 0.1},
    "sgd-coupled": {"weight_decay": 0.1, "coupled_decay": True},
}


@pytest.mark.parametrize("fields", SPECS.values(), ids=SPECS)
def test_three_updates_are_those_of_the_formulas(fields: dict[str, object]) -> None:
    spec = recipe(**fields)
    model, updates = given()
    before = {name: p.detach().numpy().copy() for name, p in model.named_parameters()}
    updated(model, updates, spec)
    expected = by_hand(before, updates, spec)
    for name, parameter in model.named_parameters():
        change = parameter.detach().numpy() - before[name]
        np.testing.assert_allclose(change, expected[name] - before[name], rtol=1e-6, err_msg=name)


@pytest.mark.parametrize("fields", SPECS.values(), ids=SPECS)
def test_three_updates_are_those_of_torchs_own_optimizers(fields: dict[str, object]) -> None:
    spec = recipe(**{**fields, "schedule": "constant"})
    model, updates = given()
    twin, _ = given()
    updated(model, updates, spec)
    kernels = [twin.patch.weight, twin.head.weight]
    others = [p for p in twin.parameters() if all(p is not kernel for kernel in kernels)]
    rate = float(spec.base_lr or 0)
    groups = [
        {"params": kernels, "weight_decay": spec.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    reference: torch.optim.Optimizer
    if spec.optimizer == "adam":
        reference = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.999), eps=1e-8)
    else:
        if not spec.coupled_decay:
            groups[0]["weight_decay"] = 0.0
        reference = torch.optim.SGD(groups, lr=rate, momentum=0.9)
    for grads in updates:
        for name, parameter in twin.named_parameters():
            parameter.grad = torch.from_numpy(grads[name].copy())
        if spec.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(twin.parameters(), spec.clip_norm)
        if spec.optimizer == "sgd" and not spec.coupled_decay:
            with torch.no_grad():
                for kernel in kernels:
                    kernel *= 1 - rate * spec.weight_decay
        reference.step()
    for (name, ours), theirs in zip(model.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=2e-6, atol=1e-9, msg=name)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_momentum_kept_in_bfloat16_is_rounded_between_steps_alone(optimizer: str) -> None:
    """By hand, in float64 NumPy: m is rounded after the update that it made."""
    layer = nn.Linear(3, 2, bias=False)
    spec = recipe(optimizer=optimizer, momentum_precision="bfloat16")
    optimizer_ = optim.Optimizer(layer, spec)
    weight = layer.weight.detach().numpy().astype(np.float64)
    rng = np.random.default_rng(0)
    mean = square = np.zeros_like(weight)
    for step in range(1, 6):
        gradient = rng.normal(size=weight.shape).astype(np.float32)
        layer.weight.grad = torch.from_numpy(gradient)
        optimizer_.step(0.1)
        if optimizer == "sgd":
            mean = gradient + 0.9 * mean
            weight = weight - 0.1 * mean
        else:
            mean, square = 0.1 * gradient + 0.9 * mean, 0.001 * gradient**2 + 0.999 * square
            size = np.sqrt(square / (1 - 0.999**step)) + 1e-8
            weight = weight - 0.1 * mean / (1 - 0.9**step) / size
        np.testing.assert_allclose(layer.weight.detach().numpy(), weight, rtol=3e-6, atol=1e-7)
        mean = torch.from_numpy(mean).float().bfloat16().double().numpy()
    kept = optimizer_.tensors()
    key = "momentum" if optimizer == "sgd" else "mean"
    assert {name for name, value in kept.items() if value.dtype == torch.bfloat16} == {
        f"{key}/weight"
    }
    other = optim.Optimizer(layer, spec)
    other.restore(kept)
    assert torch.equal(other.tensors()[f"{key}/weight"], kept[f"{key}/weight"])


def test_coupled_decay_belongs_to_sgd() -> None:
    with pytest.raises(ValueError, match="belongs to sgd"):
        recipe(optimizer="adam", coupled_decay=True)


# --- optimizer steps in the training loop against NumPy ---------------------------------------


def linear_problem() -> tuple[nn.Linear, Constant, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(8, 5)), rng.integers(0, 3, size=8)
    model = nn.Linear(5, 3).double()
    with torch.no_grad():  # whatever other tests drew
        model.weight.copy_(torch.from_numpy(rng.uniform(-0.45, 0.45, size=(3, 5))))
        model.bias.zero_()
    batches = Constant(torch.from_numpy(x), torch.from_numpy(labels))
    return model, batches, x, labels


def gradients(
    x: np.ndarray, labels: np.ndarray, weight: np.ndarray, bias: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Softmax cross-entropy by hand; float32 logits, as the loop computes its loss."""
    logits = (x @ weight.T + bias).astype(np.float32).astype(np.float64)
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    shares[np.arange(len(labels)), labels] -= 1
    shares /= len(labels)
    return shares.T @ x, shares.sum(axis=0)


def test_three_sgd_steps_with_momentum_and_clipping() -> None:
    model, batches, x, labels = linear_problem()
    w, b = model.weight.detach().numpy().copy(), model.bias.detach().numpy().copy()
    mw, mb = np.zeros_like(w), np.zeros_like(b)
    clipped = []
    for step in range(3):
        gw, gb = gradients(x, labels, w, b)
        norm = math.sqrt((gw**2).sum() + (gb**2).sum())
        scale = min(1.0, 0.3 / norm)
        clipped.append(scale < 1)
        mw, mb = gw * scale + 0.9 * mw, gb * scale + 0.9 * mb
        rate = 0.5 * 0.5 * (1 + math.cos(math.pi * step / 3))
        w, b = w - rate * mw, b - rate * mb
    spec = recipe(base_lr=0.5, schedule="cosine", clip_norm=0.3)
    training.train(model, batches, recipe=spec, num_steps=3, seed=0)
    assert any(clipped)
    np.testing.assert_allclose(model.weight.detach().numpy(), w, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(model.bias.detach().numpy(), b, rtol=1e-6, atol=1e-8)


def test_three_adam_steps_with_decoupled_decay() -> None:
    model, batches, x, labels = linear_problem()
    values = {"w": model.weight.detach().numpy().copy(), "b": model.bias.detach().numpy().copy()}
    first = {name: np.zeros_like(value) for name, value in values.items()}
    second = {name: np.zeros_like(value) for name, value in values.items()}
    for t in range(1, 4):
        found = dict(zip("wb", gradients(x, labels, values["w"], values["b"]), strict=True))
        for name, g in found.items():
            first[name] = 0.9 * first[name] + 0.1 * g
            second[name] = 0.999 * second[name] + 0.001 * g**2
            adam = (first[name] / (1 - 0.9**t)) / (np.sqrt(second[name] / (1 - 0.999**t)) + 1e-8)
            decay = 0.2 if name == "w" else 0.0
            values[name] = values[name] - 0.01 * (adam + decay * values[name])
    spec = recipe(optimizer="adam", base_lr=0.01, weight_decay=0.2)
    training.train(model, batches, recipe=spec, num_steps=3, seed=0)
    np.testing.assert_allclose(model.weight.detach().numpy(), values["w"], rtol=1e-5)
    np.testing.assert_allclose(model.bias.detach().numpy(), values["b"], rtol=1e-5)


def test_decaying_everything_would_be_another_result() -> None:
    """The kernels-only rule is visible after one step, so the tests above can fail."""
    torch.manual_seed(0)
    model = Classifier()
    twin = Classifier()
    twin.load_state_dict(model.state_dict())
    spec = recipe(optimizer="adam", base_lr=8e-4, weight_decay=0.1)
    x, y = torch.randn(4, 3, 4, 4), torch.tensor([0, 1, 2, 0])
    training.train(model, Constant(x, y), recipe=spec, num_steps=1, seed=0)
    nn.functional.cross_entropy(twin(x), y).backward()
    with torch.no_grad():
        for parameter in twin.parameters():
            gradient = parameter.grad
            assert gradient is not None
            adam = gradient / (gradient.abs() + 1e-8)  # the first step of Adam
            parameter -= 8e-4 * (adam + 0.1 * parameter)
    torch.testing.assert_close(model.head.weight, twin.head.weight, rtol=1e-5, atol=1e-8)
    assert (model.position - twin.position).abs().max() > 5e-5


def test_clipping_leaves_small_gradients_and_scales_large_ones_together() -> None:
    small = [torch.tensor([0.3]), torch.tensor([0.4])]
    optim.clip_gradients(small, 1.0)
    assert [float(g) for g in small] == pytest.approx([0.3, 0.4])
    large = [torch.tensor([3.0]), torch.tensor([[4.0]])]
    optim.clip_gradients(large, 1.0)
    assert [float(g) for g in large] == pytest.approx([0.6, 0.8], rel=1e-7)
    zero = [torch.zeros(2)]
    optim.clip_gradients(zero, 1.0)
    assert zero[0].tolist() == [0, 0]


# --- losses ---------------------------------------------------------------------------------


def test_softmax_loss() -> None:
    logits = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])
    expected = (math.log(math.exp(-2) + math.exp(-1) + 1) + math.log(3)) / 2
    labels = torch.tensor([2, 0])
    assert float(optim.loss_of(logits, labels, loss="softmax")) == pytest.approx(expected)


def test_label_smoothing_gives_every_class_its_share() -> None:
    """Targets of 0.1 over 4 classes: 0.925 for the label, 0.025 for the others."""
    logits = [0.5, -1.0, 2.0, 0.0]
    log_sum = math.log(sum(math.exp(value) for value in logits))
    targets = [0.025, 0.025, 0.925, 0.025]
    expected = -sum(t * (value - log_sum) for t, value in zip(targets, logits, strict=True))
    found = optim.loss_of(
        torch.tensor([logits]), torch.tensor([2]), loss="softmax", label_smoothing=0.1
    )
    assert float(found) == pytest.approx(expected)


def test_sigmoid_loss_sums_over_classes_and_averages_over_the_batch() -> None:
    logits = torch.tensor([[0.0, 1.0], [2.0, -1.0]])
    labels = torch.tensor([0, 0])

    def softplus(value: float) -> float:
        return math.log1p(math.exp(value))

    expected = (softplus(-0.0) + softplus(1.0) + softplus(-2.0) + softplus(-1.0)) / 2
    assert float(optim.loss_of(logits, labels, loss="sigmoid")) == pytest.approx(expected)
