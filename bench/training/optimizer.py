"""How weights are updated: schedules, Adam and SGD, clipping, losses.

The rules are those of the authors' released code (vision_transformer, big_vision), stated as
closed forms: steps are counted from 0; weight decay is decoupled, multiplied by the learning rate
and applied to kernels only; momentum is m = g + 0.9 m, w -= lr m. With `coupled_decay` SGD adds
decay times the weight to the (clipped) gradient of kernels instead. Weights and state are float32;
with `momentum_precision = "bfloat16"` the momentum, or Adam's mean, is rounded to it where it is
kept between steps, as in the authors' code.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.adamw import adamw
from torch.optim.sgd import sgd

from bench.specs import Recipe
from bench.training.arithmetic import total_norm
from bench.training.group import here


def learning_rate(recipe: Recipe, step: int, *, num_steps: int) -> float:
    """Return the rate of update number `step`, counted from 0.

    With W warm-up steps and p = clip((t - W) / (T - W), 0, 1): cosine is b (1 + cos(pi p)) / 2,
    linear is e + (b - e) (1 - p) with e = `end_lr`, constant is b; each times min(1, t / W), and a
    tenth for every step in `drop_steps` (or share of T in `drop_shares`) that lies before t; the
    step itself still has the old rate, as in big_transfer.
    """
    base_lr, warmup = recipe.base_lr, recipe.warmup_steps
    if base_lr is None:
        raise ValueError("the recipe's learning rate must be chosen before training")
    progress = min(1.0, max(0.0, (step - warmup) / max(1, num_steps - warmup)))
    if recipe.schedule == "cosine":
        rate = base_lr * (1 + math.cos(math.pi * progress)) / 2
    elif recipe.schedule == "linear":
        rate = recipe.end_lr + (base_lr - recipe.end_lr) * (1 - progress)
    else:
        rate = base_lr
    drops = (*recipe.drop_steps, *(round(share * num_steps) for share in recipe.drop_shares))
    for drop in drops:
        if drop < step:
            rate /= 10
    return rate * min(1.0, step / warmup) if warmup else rate


def kernels(model: nn.Module) -> dict[str, Tensor]:
    """Return what weight decay applies to: the weights of linear and convolution layers.

    Biases, norms, class tokens and position embeddings are left alone. Going by the number of
    dimensions would not do: the embeddings have as many as a kernel.
    """
    layers = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    return {
        f"{prefix}.weight" if prefix else "weight": module.weight
        for prefix, module in model.named_modules()
        if isinstance(module, layers) and module.weight.requires_grad
    }


def clip_gradients(gradients: list[Tensor], max_norm: float) -> None:
    """Scale gradients in place by min(1, max_norm / their global norm).

    Unlike torch's own function nothing is added to the norm, which agrees with the authors' code
    beyond six digits.
    """
    torch._foreach_mul_(here(gradients), (max_norm / total_norm(gradients)).clamp(max=1.0))


def loss_of(
    logits_BK: Tensor, labels_B: Tensor, *, loss: str, label_smoothing: float = 0.0
) -> Tensor:
    """Return the mean loss over a batch.

    `softmax`: cross-entropy, with a share of `label_smoothing` of each target spread evenly over
    all classes; `sigmoid`: binary cross-entropies, summed over classes.
    """
    logits_BK = logits_BK.float()
    if loss == "softmax":
        return functional.cross_entropy(logits_BK, labels_B, label_smoothing=label_smoothing)
    targets = functional.one_hot(labels_B, logits_BK.shape[1]).to(logits_BK.dtype)
    losses_BK = functional.binary_cross_entropy_with_logits(logits_BK, targets, reduction="none")
    return losses_BK.sum(dim=1).mean()


class Optimizer:
    """torch's fused Adam or SGD over the trainable parameters of a model.

    Fused, because one call for all parameters is three to six times faster than a loop over them,
    on a CPU too. Through torch's functions rather than its classes, because the first optimizer
    object of a process imports torch's compiler, which takes seconds.
    """

    def __init__(self, model: nn.Module, recipe: Recipe) -> None:
        self._recipe = recipe
        self.parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self._fused = all(p.device.type in ("cpu", "cuda") for p in self.parameters.values())
        decayed = {id(kernel) for kernel in kernels(model).values()}
        self._groups = [
            (
                [name for name, p in self.parameters.items() if (id(p) in decayed) == is_decayed],
                recipe.weight_decay if is_decayed else 0.0,
            )
            for is_decayed in (True, False)
        ]
        self._momentum = "momentum" if recipe.optimizer == "sgd" else "mean"
        kept = torch.bfloat16 if recipe.momentum_precision == "bfloat16" else None
        self._state: dict[str, dict[str, Tensor]] = {
            self._momentum: {
                name: torch.zeros_like(p, dtype=kept) for name, p in self.parameters.items()
            }
        }
        if recipe.optimizer == "adam":
            self._state["square"] = {
                name: torch.zeros_like(p) for name, p in self.parameters.items()
            }
            self._state["count"] = {
                name: torch.zeros((), device=p.device) for name, p in self.parameters.items()
            }

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Clip the gradients and update the weights at learning rate `rate`.

        Parameters without a gradient stay as they are.
        """
        clip_norm = self._recipe.clip_norm
        if clip_norm is not None:
            clip_gradients(self.gradients(), clip_norm)
        for names, weight_decay in self._groups:
            used = [name for name in names if self.parameters[name].grad is not None]
            if used:
                self._update(used, rate=rate, weight_decay=weight_decay)

    def gradients(self) -> list[Tensor]:
        """Return the gradients that there are."""
        return [p.grad for p in self.parameters.values() if p.grad is not None]

    def zero_grad(self) -> None:
        """Drop the gradients."""
        for parameter in self.parameters.values():
            parameter.grad = None

    def _update(self, names: list[str], *, rate: float, weight_decay: float) -> None:
        parameters = here(self.parameters[name] for name in names)
        gradients = here(self.parameters[name].grad for name in names)  # type: ignore[misc]
        state: dict[str, list[Any]] = {
            key: here(values[name] for name in names) for key, values in self._state.items()
        }
        stored = state[self._momentum]
        if self._recipe.momentum_precision == "bfloat16":
            # Only what is stored is rounded, as in the authors' code: the update is not.
            state[self._momentum] = [m.to(p.dtype) for m, p in zip(stored, parameters, strict=True)]
        update = self._sgd if self._recipe.optimizer == "sgd" else self._adam
        update(parameters, gradients, state, rate=rate, weight_decay=weight_decay)
        if state[self._momentum] is not stored:
            torch._foreach_copy_(stored, state[self._momentum])

    def _sgd(
        self,
        parameters: list[Any],
        gradients: list[Any],
        state: dict[str, list[Any]],
        *,
        rate: float,
        weight_decay: float,
    ) -> None:
        # torch's own decay of SGD is coupled with the gradient.
        coupled = weight_decay if self._recipe.coupled_decay else 0.0
        if weight_decay and not coupled:
            torch._foreach_mul_(parameters, 1 - rate * weight_decay)
        sgd(
            parameters,
            gradients,
            state["momentum"],
            fused=self._fused,
            foreach=False,
            lr=rate,
            momentum=0.9,
            weight_decay=coupled,
            dampening=0.0,
            nesterov=False,
            maximize=False,
        )

    def _adam(
        self,
        parameters: list[Any],
        gradients: list[Any],
        state: dict[str, list[Any]],
        *,
        rate: float,
        weight_decay: float,
    ) -> None:
        adamw(
            parameters,
            gradients,
            state["mean"],
            state["square"],
            [],
            state["count"],
            fused=self._fused,
            foreach=False,
            lr=rate,
            beta1=0.9,
            beta2=0.999,
            eps=1e-8,
            weight_decay=weight_decay,
            amsgrad=False,
            maximize=False,
        )

    def tensors(self) -> dict[str, Tensor]:
        """Return the state by `key/parameter`, for a checkpoint."""
        return {
            f"{key}/{name}": value
            for key, values in self._state.items()
            for name, value in values.items()
        }

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over the state that `tensors` returned; raises KeyError where one is missing."""
        for key, values in self._state.items():
            for name, value in values.items():
                # Copied into place: fused updates rely on the parameter's layout in memory.
                value.copy_(tensors[f"{key}/{name}"])
