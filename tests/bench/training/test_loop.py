"""The training loop: exact resumption, progress, divergence, isolation of randomness."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from bench.data.parts import WHOLE, Part
from bench.errors import CheckpointError, Diverged
from bench.specs import Recipe
from bench.training import loop as training
from bench.training import objectives
from bench.training.checkpoint import Checkpoints

NUM_STEPS = 12


def recipe(**fields: object) -> Recipe:
    defaults = {
        "steps": NUM_STEPS,
        "batch_size": 8,
        "optimizer": "adam",
        "base_lr": 0.01,
        "schedule": "cosine",
        "warmup_steps": 3,
        "weight_decay": 0.1,
        "clip_norm": 0.5,
    }
    return Recipe.model_validate({**defaults, **fields})


def network(dropout: float = 0.0) -> nn.Module:
    """A small network with a buffer that training changes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(6 * 16, 5),
        )


class Noise:
    """Random batches that are a function of the step."""

    def at(self, step: int, part: Part = WHOLE) -> tuple[torch.Tensor, torch.Tensor]:
        rng = np.random.default_rng((7, step))
        x_BCHW = torch.from_numpy(rng.normal(size=(8, 3, 4, 4)).astype(np.float32))
        labels_B = torch.from_numpy(rng.integers(0, 5, size=8))
        rows_B = torch.from_numpy(part.rows(8))
        return x_BCHW[rows_B], labels_B[rows_B]


class Dying(Noise):
    """Fails when the batch of step `fatal` is asked for."""

    def __init__(self, fatal: int) -> None:
        self.fatal = fatal

    def at(self, step: int, part: Part = WHOLE) -> tuple[torch.Tensor, torch.Tensor]:
        if step == self.fatal:
            raise KeyboardInterrupt
        return super().at(step, part)


class Requested(Checkpoints):
    """Checkpoints of the steps that the test wants one of."""

    is_wanted = False

    def due(self, *, is_last: bool = False) -> bool:
        return self.is_wanted and not is_last


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    assert left.keys() == right.keys()
    for name, value in left.items():
        assert torch.equal(value, right[name]), name


@pytest.fixture(autouse=True)
def _no_syncing(monkeypatch: pytest.MonkeyPatch) -> None:
    """These processes live on, so nothing depends on the disk's own cache: save the seconds."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


Line = dict[str, Any]


def undisturbed(spec: Recipe) -> tuple[dict[str, torch.Tensor], training.Training, list[Line]]:
    model, lines = network(spec.dropout), list[Line]()
    done = training.train(
        model, Noise(), recipe=spec, num_steps=NUM_STEPS, seed=3, report=lines.append
    )
    return weights(model), done, lines


def untimed(lines: list[Line]) -> dict[int, Line]:
    return {
        line["step"]: {key: value for key, value in line.items() if key != "images_per_s"}
        for line in lines
    }


# --- resumption -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"optimizer": "sgd", "weight_decay": 0.0},
        {"dropout": 0.3},
        {"precision": "bfloat16"},
        {"precision": "float16"},
        {"loss": "sigmoid"},
        {"mixup": 0.2, "polyak": 0.7, "drop_steps": (4, 8)},
    ],
    ids=["adam", "sgd", "dropout", "bfloat16", "float16", "sigmoid", "mixup-polyak-drops"],
)
def test_killed_at_any_step_the_run_ends_with_the_same_bits(
    tmp_path: Path, fields: dict[str, object]
) -> None:
    spec = recipe(**fields)
    expected, whole, expected_lines = undisturbed(spec)
    for fatal in range(NUM_STEPS):
        folder, lines = tmp_path / str(fatal), list[Line]()

        def attempt(
            batches: Noise, folder: Path = folder, lines: list[Line] = lines
        ) -> tuple[nn.Module, training.Training]:
            # Every third step has a checkpoint, so the kill costs up to two steps.
            checkpoints = Requested(folder, "job")
            model = network(spec.dropout)

            def report(line: Line) -> None:
                lines.append(line)
                checkpoints.is_wanted = line["step"] % 3 == 0

            done = training.train(
                model,
                batches,
                recipe=spec,
                num_steps=NUM_STEPS,
                seed=3,
                checkpoints=checkpoints,
                report=report,
            )
            return model, done

        with pytest.raises(KeyboardInterrupt):
            attempt(Dying(fatal))
        model, done = attempt(Noise())
        assert_same(weights(model), expected)
        np.testing.assert_array_equal(done.losses_T, whole.losses_T)
        assert untimed(lines) == untimed(expected_lines)
        assert done.resumed_step == fatal // 3 * 3
        assert done.num_images == whole.num_images == NUM_STEPS * 8


def test_the_last_fifths_of_the_losses_are_means_of_whole_steps() -> None:
    def done(*losses: float) -> training.Training:
        return training.Training(
            losses_T=np.array(losses, np.float32), num_images=1, stepping_s=1.0, resumed_step=0,
            earlier_wall_s=0.0, earlier_core_s=0.0, pieces=1,
        )  # fmt: skip

    assert done(*range(10)).fifths() == (6.5, 8.5)
    assert done(5, 4, 3, 2, 1, 0).fifths() == (1.0, 0.0)  # six steps: fifths of one
    assert done(4, 3, 2, 1).fifths() is None


def test_earlier_attempts_are_counted_in_the_cost(tmp_path: Path) -> None:
    spec = recipe()
    checkpoints = Checkpoints(tmp_path, "job", interval_s=0)
    with pytest.raises(KeyboardInterrupt):
        training.train(
            network(),
            Dying(6),
            recipe=spec,
            num_steps=NUM_STEPS,
            seed=3,
            checkpoints=checkpoints,
        )
    done = training.train(
        network(), Noise(), recipe=spec, num_steps=NUM_STEPS, seed=3, checkpoints=checkpoints
    )
    assert done.resumed_step == 6
    assert done.earlier_wall_s > 0
    assert done.earlier_core_s > 0
    assert done.stepping_s > 0


@pytest.mark.ordinary
def test_a_process_killed_by_the_kernel_is_resumed_by_another(tmp_path: Path) -> None:
    spec = recipe()
    expected, _, _ = undisturbed(spec)
    script = f"""
import importlib.util, os, signal, sys
from pathlib import Path
spec = importlib.util.spec_from_file_location("training_tests", {str(Path(__file__))!r})
tests = importlib.util.module_from_spec(spec)
sys.modules["training_tests"] = tests
spec.loader.exec_module(tests)
tests.torch.set_num_threads(1)

class Killing(tests.Noise):
    def at(self, step, part):
        if step == 7:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().at(step, part)

tests.training.train(
    tests.network(), Killing(), recipe=tests.recipe(), num_steps=tests.NUM_STEPS, seed=3,
    checkpoints=tests.Checkpoints(Path({str(tmp_path)!r}), "job", interval_s=0),
)
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(training.__file__).parents[2])}
    dead = subprocess.run([sys.executable, "-c", script], env=environment, check=False)
    assert dead.returncode == -signal.SIGKILL
    model = network()
    done = training.train(
        model,
        Noise(),
        recipe=spec,
        num_steps=NUM_STEPS,
        seed=3,
        checkpoints=Checkpoints(tmp_path, "job"),
    )
    assert done.resumed_step in (6, 7)  # the newest was being written
    assert_same(weights(model), expected)


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, "job", interval_s=0)
    training.train(
        network(), Noise(), recipe=recipe(), num_steps=2, seed=0, checkpoints=checkpoints
    )
    other = nn.Sequential(nn.Flatten(), nn.Linear(48, 5))
    with pytest.raises(CheckpointError, match="does not fit the model"):
        training.train(
            other, Noise(), recipe=recipe(), num_steps=2, seed=0, checkpoints=checkpoints
        )


def test_moments_keep_the_layout_of_channels_last_weights(tmp_path: Path) -> None:
    """A resumed run must not pair a weight with a moment stored in another order."""
    spec = recipe()
    expected = network().to(memory_format=torch.channels_last)
    training.train(expected, Noise(), recipe=spec, num_steps=NUM_STEPS, seed=0)
    checkpoints = Checkpoints(tmp_path, "job", interval_s=0)
    for batches in (Dying(5), Noise()):
        model = network().to(memory_format=torch.channels_last)
        try:
            training.train(
                model,
                batches,
                recipe=spec,
                num_steps=NUM_STEPS,
                seed=0,
                checkpoints=checkpoints,
            )
        except KeyboardInterrupt:
            continue
    assert_same(weights(model), weights(expected))


# --- progress -------------------------------------------------------------------------------


def test_progress_lines_are_spread_evenly_and_end_at_the_last_step() -> None:
    lines = list[Line]()
    spec = recipe(warmup_steps=0, schedule="linear")
    done = training.train(
        network(), Noise(), recipe=spec, num_steps=45, seed=0, report=lines.append
    )
    steps = [line["step"] for line in lines]
    assert len(steps) == training.PROGRESS_LINES
    assert steps[-1] == 45
    assert set(np.diff([0, *steps])) <= {2, 3}
    assert set(lines[0]) == {"step", "num_steps", "loss", "lr", "images_per_s"}
    assert lines[0]["loss"] == pytest.approx(done.losses_T[: steps[0]].mean())
    assert lines[5]["loss"] == pytest.approx(done.losses_T[steps[4] : steps[5]].mean())
    assert lines[5]["lr"] == pytest.approx(0.01 * (1 - (steps[5] - 1) / 45))
    assert all(line["images_per_s"] > 0 for line in lines)


def test_a_run_shorter_than_the_lines_reports_each_step() -> None:
    lines = list[Line]()
    training.train(network(), Noise(), recipe=recipe(), num_steps=3, seed=0, report=lines.append)
    assert [line["step"] for line in lines] == [1, 2, 3]


def test_final_loss_is_the_mean_of_the_last_twentieth() -> None:
    done = training.Training(
        losses_T=np.arange(40, dtype=np.float32),
        num_images=0,
        stepping_s=1.0,
        resumed_step=0,
        earlier_wall_s=0.0,
        earlier_core_s=0.0,
        pieces=1,
    )
    assert done.final_loss() == 38.5
    assert done.final_loss(share=0.001) == 39


def test_training_learns() -> None:
    class Fixed(Noise):
        def at(self, step: int, part: Part = WHOLE) -> tuple[torch.Tensor, torch.Tensor]:
            return super().at(0, part)

    spec = recipe(warmup_steps=0, weight_decay=0.0)
    done = training.train(network(), Fixed(), recipe=spec, num_steps=60, seed=0)
    assert done.losses_T[0] > 1
    assert done.final_loss() < 0.1


# --- divergence -----------------------------------------------------------------------------


class Poisoned(Noise):
    """An infinite image at step 5."""

    def at(self, step: int, part: Part = WHOLE) -> tuple[torch.Tensor, torch.Tensor]:
        x_BCHW, labels_B = super().at(step, part)
        return (x_BCHW * math.inf if step == 5 else x_BCHW), labels_B


def test_divergence_names_its_step_and_is_never_checkpointed(
    tmp_path: Path,
) -> None:
    checkpoints = Checkpoints(tmp_path, "job", interval_s=0)
    lines = list[Line]()
    with pytest.raises(Diverged, match=r"nan at step 5 of 12") as raised:
        training.train(
            network(),
            Poisoned(),
            recipe=recipe(),
            num_steps=NUM_STEPS,
            seed=0,
            checkpoints=checkpoints,
            report=lines.append,
        )
    assert "learning rate" in raised.value.hint
    assert all(math.isfinite(line["loss"]) for line in lines)
    found = checkpoints.newest()
    assert found is not None
    assert found[0] == 5
    assert all(bool(torch.isfinite(value).all()) for value in found[1].values())


def test_divergence_is_noticed_within_a_hundred_steps_without_anybody_asking() -> None:
    class Counting(Poisoned):
        last = 0

        def at(self, step: int, part: Part = WHOLE) -> tuple[torch.Tensor, torch.Tensor]:
            self.last = step
            return super().at(step, part)

    batches = Counting()
    with pytest.raises(Diverged):
        training.train(network(), batches, recipe=recipe(), num_steps=300, seed=0)
    assert batches.last < training.MAX_UNREAD_STEPS


# --- randomness -----------------------------------------------------------------------------


def test_dropout_leaves_torchs_generator_as_it_was() -> None:
    torch.manual_seed(123)
    before = torch.random.get_rng_state()
    undisturbed(recipe(dropout=0.5))
    assert torch.equal(before, torch.random.get_rng_state())


def test_dropout_depends_on_the_seed_and_the_step() -> None:
    def losses(seed: int) -> np.ndarray:
        done = training.train(
            network(0.5), Noise(), recipe=recipe(dropout=0.5), num_steps=4, seed=seed
        )
        return done.losses_T

    np.testing.assert_array_equal(losses(1), losses(1))
    assert not np.array_equal(losses(1), losses(2))


# --- mixup and averaged weights ---------------------------------------------------------------


def test_mixup_is_the_loss_of_mixed_images_on_mixed_targets() -> None:
    spec = recipe(mixup=0.2)
    done = training.train(network(), Noise(), recipe=spec, num_steps=1, seed=3)
    share = objectives.mixup_share(0.2, seed=3, step=0)
    assert 0 < share < 1
    x_BCHW, labels_B = Noise().at(0)
    model = network().train()
    logits_BK = model(share * x_BCHW + (1 - share) * x_BCHW.flip(0))
    targets_BK = nn.functional.one_hot(labels_B, 5).float()
    mixed_BK = share * targets_BK + (1 - share) * targets_BK.flip(0)
    expected = nn.functional.cross_entropy(logits_BK, mixed_BK)
    assert done.losses_T[0] == pytest.approx(float(expected.detach()), rel=1e-5)
    plain = training.train(network(), Noise(), recipe=recipe(), num_steps=1, seed=3)
    assert done.losses_T[0] != pytest.approx(float(plain.losses_T[0]), rel=1e-3)


@pytest.mark.parametrize("mixup", [0.0, 0.2])
def test_labels_are_smoothed_as_the_recipe_says(mixup: float) -> None:
    spec = recipe(label_smoothing=0.1, mixup=mixup)
    done = training.train(network(), Noise(), recipe=spec, num_steps=1, seed=3)
    share = objectives.mixup_share(mixup, seed=3, step=0) if mixup else 1.0
    x_BCHW, labels_B = Noise().at(0)
    logits_BK = network().train()(share * x_BCHW + (1 - share) * x_BCHW.flip(0))
    targets_BK = nn.functional.one_hot(labels_B, 5).float()
    mixed_BK = share * targets_BK + (1 - share) * targets_BK.flip(0)
    expected = nn.functional.cross_entropy(logits_BK, 0.9 * mixed_BK + 0.1 / 5)
    assert done.losses_T[0] == pytest.approx(float(expected.detach()), rel=1e-5)


@pytest.mark.parametrize("other", [{"loss": "sigmoid"}, {"objective": "masked-patch"}])
def test_label_smoothing_is_of_the_softmax_over_classes(other: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="label_smoothing belongs to the softmax loss"):
        recipe(label_smoothing=0.1, **other)


def test_mixup_shares_follow_the_beta_distribution() -> None:
    shares = np.array([objectives.mixup_share(0.1, seed=0, step=step) for step in range(2000)])
    # beta(a, a): mean 1/2, variance 1 / (4 (2a + 1)); five standard errors.
    assert abs(shares.mean() - 0.5) < 5 * np.sqrt(1 / 4.8 / 2000)
    assert shares.var() == pytest.approx(1 / 4.8, abs=0.02)
    assert len(set(shares)) > 1900


def test_averaged_weights_are_the_closed_form_over_all_steps() -> None:
    factor, steps = 0.7, 4
    trajectory = []
    for num in range(steps + 1):
        # A constant schedule, so that a shorter run is the beginning of a longer one.
        model = network()
        spec = recipe(schedule="constant", warmup_steps=0)
        training.train(model, Noise(), recipe=spec, num_steps=num, seed=0)
        trajectory.append(weights(model))
    model = network()
    spec = recipe(schedule="constant", warmup_steps=0, polyak=factor)
    training.train(model, Noise(), recipe=spec, num_steps=steps, seed=0)
    for name, parameter in model.named_parameters():
        expected = factor**steps * trajectory[0][name] + sum(
            (1 - factor) * factor ** (steps - step) * trajectory[step][name]
            for step in range(1, steps + 1)
        )
        torch.testing.assert_close(parameter.detach(), expected, rtol=1e-5, atol=1e-7)
        if name == "5.weight":
            assert (parameter - trajectory[steps][name]).abs().max() > 1e-3
