"""Training in a process that is told to end, or killed, while a checkpoint is written behind it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench import preemption
from bench.data.parts import WHOLE, Part
from bench.errors import Preempted
from bench.specs import Recipe
from bench.training import Checkpoints, checkpoint
from bench.training import loop as training
from tests.processes import CLEAN

pytestmark = pytest.mark.xdist_group("processes")

NUM_STEPS = 12
RECIPE = Recipe.model_validate(
    {
        "steps": NUM_STEPS, "batch_size": 8, "optimizer": "adam", "base_lr": 0.01,
        "schedule": "cosine", "mixup": 0.2, "polyak": 0.7, "precision": "bfloat16",
    }
)  # fmt: skip


class Noise:
    """Random batches that are a function of the step; `then` happens in step `at_step`.

    Of a batch in pieces it comes between the last two.
    """

    def __init__(self, at_step: int = -1, then: Callable[[], None] = lambda: None) -> None:
        self.at_step = at_step
        self.then = then

    def at(self, step: int, part: Part = WHOLE) -> tuple[Tensor, Tensor]:
        if step == self.at_step and part.piece == part.pieces - 1:
            self.then()
        rng = np.random.default_rng((7, step))
        x_BCHW = torch.from_numpy(rng.normal(size=(8, 3, 4, 4)).astype(np.float32))
        labels_B = torch.from_numpy(rng.integers(0, 5, size=8))
        rows_B = torch.from_numpy(part.rows(8))
        return x_BCHW[rows_B], labels_B[rows_B]


def run(
    checkpoints: Checkpoints | None = None, batches: Noise | None = None, *, pieces: int = 1
) -> tuple[dict[str, Tensor], training.Training]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(48, 16), nn.GELU(), nn.Linear(16, 5))
    done = training.train(
        model, batches or Noise(), recipe=RECIPE, num_steps=NUM_STEPS, seed=3,
        checkpoints=checkpoints, pieces=pieces,
    )  # fmt: skip
    return model.state_dict(), done


def assert_continues_with_the_same_bits(folder: Path, *, steps: set[int], pieces: int = 1) -> None:
    expected, whole = run(pieces=pieces)
    found, done = run(Checkpoints(folder, "job", interval_s=1e9), pieces=pieces)
    assert done.resumed_step in steps
    np.testing.assert_array_equal(done.losses_T, whole.losses_T)
    for name, value in expected.items():
        assert torch.equal(value, found[name]), name


# --- the moments of a write -----------------------------------------------------------------


def heed_and_train(folder: Path, *, moment: str, number: int) -> None:
    """Train in this process, which gets a signal while it writes the checkpoint of step 6."""
    checkpoints = Checkpoints(folder, "job", interval_s=0)
    calls = dict.fromkeys(("save_file", "replace"), 0)

    def strike() -> None:
        os.kill(os.getpid(), number)

    def save_file(stored: dict[str, Tensor], path: Path) -> None:
        calls["save_file"] += 1
        if calls["save_file"] == 6 and moment == "before":
            strike()
        real_save(stored, path)
        if calls["save_file"] == 6 and moment == "half way":
            content = path.read_bytes()
            path.write_bytes(content[: len(content) // 2])
            strike()
            path.write_bytes(content)

    def replace(source: Path, target: Path) -> None:
        calls["replace"] += 1  # twice for each checkpoint: tensors, sidecar
        if calls["replace"] == {"before its name": 11, "before the sidecar's": 12}.get(moment):
            strike()
        real_replace(source, target)
        if calls["replace"] == 12 and moment == "after":
            strike()

    real_save, real_replace = checkpoint.save_file, os.replace
    checkpoint.save_file, os.replace = save_file, replace  # type: ignore[assignment]
    with preemption.heeded():
        run(checkpoints)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize(
    "moment", ["before", "half way", "before its name", "before the sidecar's", "after"]
)
def test_struck_while_a_checkpoint_is_written(tmp_path: Path, moment: str, number: int) -> None:
    arguments = {"moment": moment, "number": number}
    process = CLEAN.Process(target=heed_and_train, args=(tmp_path,), kwargs=arguments)
    process.start()
    process.join(60)
    assert process.exitcode == -number
    if number == signal.SIGTERM:  # the write is finished, and the step that it came in
        assert not list(tmp_path.glob("*.tmp"))
        assert_continues_with_the_same_bits(tmp_path, steps={6, 7, 8})
    else:
        assert_continues_with_the_same_bits(tmp_path, steps={5, 6})


# --- told to end ----------------------------------------------------------------------------


@pytest.mark.parametrize("pieces", [1, 4])
@pytest.mark.parametrize("step", [0, 5, NUM_STEPS - 1])
def test_a_process_that_is_told_to_end_saves_the_step_it_is_in(
    tmp_path: Path, step: int, pieces: int
) -> None:
    """The last step too: what follows is not told any more."""
    told = list[int]()
    before = signal.signal(signal.SIGTERM, lambda number, frame: told.append(number))
    batches = Noise(step, lambda: signal.raise_signal(signal.SIGTERM))
    try:
        with (
            pytest.raises(Preempted, match=f"its checkpoint is of step {step + 1}$"),
            preemption.heeded(),
        ):
            run(Checkpoints(tmp_path, "job"), batches, pieces=pieces)
        assert told == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)
    assert_continues_with_the_same_bits(tmp_path, steps={step + 1}, pieces=pieces)


def train_and_hang(folder: Path) -> None:
    """Train in this process, which is told to end in a step that does not."""
    preemption.GRACE_S = 0.2

    def hang() -> None:
        signal.raise_signal(signal.SIGTERM)
        time.sleep(60)

    with preemption.heeded():
        run(Checkpoints(folder, "job", interval_s=0), Noise(5, hang))


def test_a_step_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    process = CLEAN.Process(target=train_and_hang, args=(tmp_path,))
    process.start()
    process.join(30)
    assert process.exitcode == -signal.SIGTERM
    assert_continues_with_the_same_bits(tmp_path, steps={5})


def test_ctrl_c_saves_and_a_second_one_does_not_wait(tmp_path: Path) -> None:
    def press(times: int) -> Noise:
        return Noise(5, lambda: [signal.raise_signal(signal.SIGINT) for _ in range(times)] and None)

    for times, steps in ((1, {6}), (2, {0})):
        folder = tmp_path / str(times)
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            with pytest.raises(KeyboardInterrupt), preemption.heeded():
                run(Checkpoints(folder, "job"), press(times))
        finally:
            signal.signal(signal.SIGINT, before)
        assert_continues_with_the_same_bits(folder, steps=steps)
