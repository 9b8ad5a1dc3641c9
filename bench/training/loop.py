"""The one training loop, for pre-training and fine-tuning alike.

Recipes follow Dosovitskiy et al., "An Image is Worth 16x16 Words" (arXiv:2010.11929), tables 3
and 4; what is minimized is in `objectives.py`, how a single update is made in `optimizer.py`.

What happens at a step is a function of (seed, step) alone, so a run that is killed and resumed
from a checkpoint has the same bits as one that never stopped: always on a CPU, on a GPU where the
recipe is deterministic (`arithmetic.py`). Nothing on the step path waits for the device: losses
stay there and are read when a progress line is due.

A batch that does not fit the memory is taken in pieces, whose gradients add up. Whatever is drawn
for an image belongs to its place in the batch, so pieces change nothing but rounding; nor do
workers that share the batch (`group.py`). The one exception, a model with batch statistics (the
EfficientNet of Noisy Student), is never cut.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bench.data.parts import Part, most_pieces
from bench.errors import CheckpointError, Diverged, JobError
from bench.specs import Recipe
from bench.training import devices, group, objectives
from bench.training.arithmetic import LossScale, autocast
from bench.training.blocks import recompute
from bench.training.checkpoint import Checkpoints
from bench.training.dropout import drop_by_place
from bench.training.memory import is_exhausted
from bench.training.optimizer import Optimizer, learning_rate

PROGRESS_LINES = 20
"""Progress lines that a run writes, about evenly spaced; the last one at the last step."""

MAX_UNREAD_STEPS = 100
"""Losses are read (and a divergence noticed) at least this often."""

Report = Callable[[dict[str, Any]], None]

Ends = Callable[[int], bool]
"""Whether a run ends at a step, before the last one."""

_log = logging.getLogger(__name__)


class BatchSource(Protocol):
    """Training batches addressed by step and part, so that any step can be repeated."""

    def at(self, step: int, part: Part) -> tuple[Tensor, Tensor]:
        """Return x_BCHW and labels_B of a part of a step's batch, on the device."""
        ...


@dataclass(frozen=True)
class Training:
    """What a training run did, in this attempt and in those whose checkpoint it continues."""

    losses_T: np.ndarray
    """Loss of every step taken, float32."""
    num_images: int
    """Training images seen."""
    stepping_s: float
    """Seconds spent stepping: without checkpoints and reports."""
    resumed_step: int
    """Step at which this attempt took over; 0 for an undisturbed run."""
    earlier_wall_s: float
    """Elapsed seconds of earlier attempts, up to their last checkpoint."""
    earlier_core_s: float
    """CPU seconds of earlier attempts, up to their last checkpoint."""
    pieces: int
    """Pieces that a batch was taken in at the end."""

    def fifths(self) -> tuple[float, float] | None:
        """Return the mean loss over the fourth and the last fifth of the steps, if there are five.

        A run whose loss still falls from one to the other ended before it had learned what it can.
        """
        count = len(self.losses_T) // 5
        if not count:
            return None
        late_T = self.losses_T[-2 * count :].astype(np.float64)
        return float(late_T[:count].mean()), float(late_T[count:].mean())

    def final_loss(self, share: float = 0.05) -> float:
        """Return the mean loss over the last `share` of the steps (at least one step)."""
        count = max(1, round(share * len(self.losses_T)))
        return float(self.losses_T[-count:].astype(np.float64).mean())


def train(
    model: nn.Module,
    batches: BatchSource,
    *,
    recipe: Recipe,
    num_steps: int,
    seed: int,
    checkpoints: Checkpoints | None = None,
    report: Report = lambda line: None,
    pieces: int = 1,
    splits: bool = True,
    ends: Ends = lambda step: False,
) -> Training:
    """Train `model` in place for `num_steps` updates, from the newest checkpoint if there is one.

    Batches are taken in `pieces`; where memory is exhausted, and unless `splits` is false, in twice
    as many, and the step is repeated. `report` gets about twenty progress lines: step, num_steps,
    loss (mean since the line before), lr, images_per_s; after each, `ends` is asked whether the run
    ends there, and again where a run that was killed goes on at such a step. Raises Diverged when a
    loss is not finite, CheckpointError when a checkpoint does not fit the model or cannot be
    written, JobError where the batch cannot be taken in pieces, and Preempted, with a checkpoint of
    the step, in a process that is told to end.
    """
    run = _Run(model, recipe=recipe, num_steps=num_steps, seed=seed, pieces=pieces, splits=splits)
    if checkpoints is not None:
        run.resume(checkpoints)
    resumed_step = run.step
    model.train()
    with nullcontext() if checkpoints is None else checkpoints.kept_up():
        while not run.is_over(ends):
            run.update(batches)
            if run.step in run.report_steps:
                line = run.progress()
                with run.clock.paused():
                    report(line)
            if run.step - run.num_read >= MAX_UNREAD_STEPS or run.step == num_steps:
                run.read_losses()
            if checkpoints is not None and run.is_due(checkpoints):
                run.save(checkpoints)
    return run.finish(resumed_step)


class _Run:
    """The moving parts of one training run: weights, optimizer, losses and clocks."""

    def __init__(
        self,
        model: nn.Module,
        *,
        recipe: Recipe,
        num_steps: int,
        seed: int,
        pieces: int,
        splits: bool,
    ) -> None:
        self.recipe = recipe
        self.num_steps = num_steps
        self.step = 0
        self.num_read = 0
        self.device = next(model.parameters()).device
        self._group = group.current()
        most = _most_pieces(model, recipe, world=self._group.world)
        if pieces > most:
            why = ": the model has batch statistics" if has_batch_statistics(model) else ""
            raise JobError(
                f"a batch of {recipe.batch_size} images cannot be taken in {pieces} pieces{why}",
                hint=f"Use {most} or fewer",
            )
        self.pieces = pieces
        # Of a group all workers must do the same: there the job begins again, in more pieces.
        self._splits = splits and self._group.world == 1 and not has_batch_statistics(model)
        self._most_pieces = most if self._splits else pieces
        self._recomputes = False
        self.objective = objectives.of(model, recipe, seed=seed)
        self._shared = group.Shared(model, self._group)
        self._places = drop_by_place(self._shared.model, seed)
        self.optimizer = Optimizer(self._shared.model, recipe)
        self.averages = {
            name: parameter.detach().clone()
            for name, parameter in self.optimizer.parameters.items()
            if recipe.polyak is not None
        }
        self.losses_T = torch.zeros(num_steps, device=self.device)
        lines = min(PROGRESS_LINES, num_steps)
        self.report_steps = {math.ceil(num_steps * i / lines): i for i in range(1, lines + 1)}
        self.num_images = 0
        self.clock = _Clock()
        self._line = (0.0, 0)
        self._autocast = autocast(self.device.type, recipe.precision)
        self._scale = LossScale(enabled=recipe.precision == "float16")

    def is_over(self, ends: Ends) -> bool:
        """Return whether all steps are taken, or `ends` says so, which may score the model."""
        if self.step == self.num_steps or self.step not in self.report_steps:
            return self.step == self.num_steps
        self.read_losses()
        with self.clock.paused():
            over = ends(self.step)
        self._shared.model.train()  # scoring left it in another mode
        return over

    def update(self, batches: BatchSource) -> None:
        """Take one optimizer step; nothing here waits for the device."""
        loss = self._gradients(batches)
        if self._scale.unscale(self.optimizer.gradients()):
            self.optimizer.step(learning_rate(self.recipe, self.step, num_steps=self.num_steps))
        if self.recipe.polyak is not None:
            with torch.no_grad():
                torch._foreach_lerp_(
                    group.here(self.averages.values()),
                    group.here(self.optimizer.parameters.values()),
                    1 - self.recipe.polyak,
                )
        self.losses_T[self.step] = loss
        self.step += 1
        self.num_images += self.recipe.batch_size

    def _gradients(self, batches: BatchSource) -> Tensor:
        """Leave the gradients of a batch, in more pieces where memory is exhausted; its loss."""
        while True:
            try:
                return self._accumulated(batches)
            except (MemoryError, RuntimeError) as error:
                if not is_exhausted(error) or not self._can_save_memory:
                    raise
            # Here the error is gone, and with it what its frames held.
            self.optimizer.zero_grad()
            devices.release(self.device.type)
            self._save_memory()

    @property
    def _can_save_memory(self) -> bool:
        return self.pieces < self._most_pieces or (self._splits and not self._recomputes)

    def _save_memory(self) -> None:
        """Take a batch in twice as many pieces; as a last resort compute activations twice."""
        if self.pieces < self._most_pieces:
            self.pieces = min(2 * self.pieces, self._most_pieces)
            return
        _log.warning("memory is exhausted at the smallest piece: activations are computed twice")
        self._recomputes = True
        recompute(self._shared.model)

    def _accumulated(self, batches: BatchSource) -> Tensor:
        """Add up the gradients of a batch's pieces, each weighted by its images; its mean loss."""
        num = self.recipe.batch_size
        total = torch.zeros((), device=self.device)
        for piece in range(self.pieces):
            part = self._group.part(piece, self.pieces)
            x_BCHW, labels_B = batches.at(self.step, part)
            place = objectives.Place(self.step, part.rows(num), num)
            if self._places is not None:
                self._places.stand(self.step, place.rows_B, self.device)
            with self._shared.accumulating(is_last=piece == self.pieces - 1):
                loss = self.objective.loss(self._forward, x_BCHW, labels_B, place)
                loss = loss if part.is_whole else loss * (len(labels_B) / num)
                if piece == 0:
                    # Not right after the step: memory freed at once goes back to the kernel.
                    self.optimizer.zero_grad()
                # Gradients of a group are the mean of its workers', and are to be the sum.
                (self._scale.scaled(loss) * self._group.world).backward()
            total += loss.detach()
        return total

    def _forward(self, *inputs: Tensor) -> Tensor:
        with self._autocast:
            outputs: Tensor = self._shared.forward(*inputs)
        return outputs

    def read_losses(self) -> None:
        """Wait for the device and raise Diverged at the first loss that is not finite."""
        unread = slice(self.num_read, self.step)
        self.losses_T[unread] = self._group.total(self.losses_T[unread])
        losses = self.losses_T[unread].cpu()
        bad = (~torch.isfinite(losses)).nonzero()
        if len(bad):
            step = self.num_read + int(bad[0])
            raise Diverged(
                f"the loss became {float(losses[bad[0]]):g} at step {step} of {self.num_steps}",
                hint="Lower the learning rate, lengthen the warm-up or set clip_norm",
            )
        self.num_read = self.step

    def progress(self) -> dict[str, Any]:
        """Return the progress line of this step; the loss is the mean since the line before."""
        self.read_losses()
        index = self.report_steps[self.step]
        start = math.ceil(self.num_steps * (index - 1) / len(self.report_steps))
        stepping_s, num_images = self.clock.totals()["stepping_s"], self.num_images
        elapsed_s, images = stepping_s - self._line[0], num_images - self._line[1]
        self._line = (stepping_s, num_images)
        return {
            "step": self.step,
            "num_steps": self.num_steps,
            "loss": float(self.losses_T[start : self.step].double().mean()),
            "lr": learning_rate(self.recipe, self.step - 1, num_steps=self.num_steps),
            "images_per_s": round(images / max(elapsed_s, 1e-9), 1),
        }

    def is_due(self, checkpoints: Checkpoints) -> bool:
        """Return whether the worker that writes has a reason to save now: the others never save."""
        due = False
        if self._group.leads:
            checkpoints.expect(self._tensors)
            due = checkpoints.due(is_last=self.step == self.num_steps)
        return self._group.agreed(due)

    def save(self, checkpoints: Checkpoints) -> None:
        """Have a checkpoint written, never one with a loss that is not finite."""
        self.read_losses()
        with self.clock.paused():
            tensors = self._shared.whole(self._tensors())
            if self._group.leads:
                checkpoints.save(self.step, tensors, self._meta())

    def resume(self, checkpoints: Checkpoints) -> None:
        """Continue from the newest valid checkpoint, if there is one."""
        found = checkpoints.newest()
        if found is None:
            return
        self.step, tensors, meta = found
        try:
            self._restore(tensors)
            self.num_images = int(meta["num_images"])
            self.clock = _Clock(**meta["clock"])
            self._scale.value, self._scale.good_steps = meta.get("loss_scale", (1.0, 0))
            pieces, world = meta.get("pieces", (1, 1))
        except (KeyError, TypeError, RuntimeError) as error:
            raise CheckpointError(
                f"the checkpoint of step {self.step} in {checkpoints.folder} does not fit the model"
                f" ({error})",
                hint="Delete the folder to start the job again",
            ) from error
        if world == self._group.world:
            self.pieces = max(self.pieces, pieces)  # as many as memory asked for then
        self.num_read = self.step
        self._line = (self.clock.totals()["stepping_s"], self.num_images)

    def finish(self, resumed_step: int) -> Training:
        """Put the averaged weights, if any, into the model and return what the run did."""
        with torch.no_grad():
            for name, average in self.averages.items():
                self.optimizer.parameters[name].copy_(average)
        self._shared.finish()
        return Training(
            losses_T=self.losses_T[: self.step].cpu().numpy(),
            num_images=self.num_images,
            stepping_s=self.clock.totals()["stepping_s"],
            resumed_step=resumed_step,
            earlier_wall_s=self.clock.earlier["wall_s"],
            earlier_core_s=self.clock.earlier["core_s"],
            pieces=self.pieces,
        )

    def _meta(self) -> dict[str, Any]:
        return {
            "num_images": self.num_images,
            "clock": self.clock.totals(),
            "loss_scale": (self._scale.value, self._scale.good_steps),
            "pieces": (self.pieces, self._group.world),
        }

    def _tensors(self) -> dict[str, Tensor]:
        return {
            **{f"model/{name}": value for name, value in self._shared.model.state_dict().items()},
            **{f"optimizer/{name}": value for name, value in self.optimizer.tensors().items()},
            **{f"average/{name}": value for name, value in self.averages.items()},
            "losses_T": self.losses_T[: self.step],
        }

    def _restore(self, tensors: Mapping[str, Tensor]) -> None:
        parts: dict[str, dict[str, Tensor]] = {"model": {}, "optimizer": {}, "average": {}}
        for name, value in self._shared.parted(tensors, self._tensors()).items():
            part, _, rest = name.partition("/")
            parts.setdefault(part, {})[rest] = value
        self._shared.model.load_state_dict(parts["model"])
        self.optimizer.restore(parts["optimizer"])
        for name, average in self.averages.items():
            average.copy_(parts["average"][name])
        self.losses_T[: self.step] = tensors["losses_T"]


class _Clock:
    """Monotonic and CPU time of a run, carried over from the attempts that it continues."""

    def __init__(
        self, *, stepping_s: float = 0.0, core_s: float = 0.0, wall_s: float = 0.0
    ) -> None:
        self.earlier = {"stepping_s": stepping_s, "core_s": core_s, "wall_s": wall_s}
        self._started_s = time.perf_counter()
        self._core_started_s = time.process_time()
        self._paused_s = 0.0

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave what happens inside out of the stepping time."""
        started_s = time.perf_counter()
        try:
            yield
        finally:
            self._paused_s += time.perf_counter() - started_s

    def totals(self) -> dict[str, float]:
        """Return stepping, CPU and elapsed seconds so far."""
        wall_s = time.perf_counter() - self._started_s
        core_s = time.process_time() - self._core_started_s
        return {
            "stepping_s": self.earlier["stepping_s"] + wall_s - self._paused_s,
            "core_s": self.earlier["core_s"] + core_s,
            "wall_s": self.earlier["wall_s"] + wall_s,
        }


def _most_pieces(model: nn.Module, recipe: Recipe, *, world: int) -> int:
    """Return the most pieces that a batch can be taken in and stay the same batch."""
    if has_batch_statistics(model):
        return 1
    return most_pieces(recipe.batch_size, world=world, keeps_pairs=recipe.mixup > 0)


def has_batch_statistics(model: nn.Module) -> bool:
    """Tell whether an image's loss depends on the others of its batch, or piece."""
    return any(isinstance(module, _BatchNorm) for module in model.modules())
