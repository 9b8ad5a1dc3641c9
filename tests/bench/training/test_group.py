"""Several workers train as one: losses, weights, checkpoints; replicas, shards; real processes."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import multiprocessing

from bench.errors import Diverged
from bench.training import loop as training
from bench.training.checkpoint import Checkpoints
from bench.training.group import Group, working_in
from tests.bench.training import test_pieces as alone
from tests.processes import CLEAN

NUM_STEPS = alone.NUM_STEPS

pytestmark = [pytest.mark.ordinary, pytest.mark.xdist_group("processes")]


def in_group(world: int, folder: Path, work: Callable[..., None], *args: Any) -> None:
    """Run `work(group, *args)` in so many processes; what they leave lies in the folder."""
    folder.mkdir(parents=True)
    multiprocessing.start_processes(
        _worker, (world, folder, work, args), nprocs=world, start_method=CLEAN.get_start_method()
    )


def _worker(rank: int, world: int, folder: Path, work: Callable[..., None], args: Any) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder / 'meeting'}",
        rank=rank,
        world_size=world,
        timeout=datetime.timedelta(seconds=60),
    )
    work(rank, world, folder, *args)
    torch.distributed.destroy_process_group()


def train(
    rank: int,
    world: int,
    folder: Path,
    fields: dict[str, Any],
    system: str,
    pieces: int,
    sharded: bool,
    fatal: int,
) -> None:
    spec = alone.recipe(**fields)
    model = alone.network(spec, system)
    batches = alone.batches()
    at = batches.at

    def dying(step: int, part: Any) -> Any:
        if step == fatal:
            raise KeyboardInterrupt
        return at(step, part)

    batches.at = dying  # type: ignore[method-assign]
    checkpoints = Checkpoints(folder.parent / "checkpoints", "job", interval_s=0)
    with working_in(Group(rank, world, sharded=sharded)):
        try:
            done = training.train(
                model,
                batches,
                recipe=spec,
                num_steps=NUM_STEPS,
                seed=3,
                pieces=pieces,
                checkpoints=checkpoints if fatal != NO_STEP else None,
            )
        except KeyboardInterrupt:
            return
    np.save(folder / f"losses-{rank}.npy", done.losses_T)
    save_file(dict(model.state_dict()), folder / f"weights-{rank}.safetensors")
    (folder / f"done-{rank}.json").write_text(json.dumps([done.resumed_step, done.num_images]))


NO_STEP = -1


def compare(folder: Path, world: int, fields: dict[str, Any], system: str = "vit-micro") -> None:
    """Hold what workers left against one worker: to 1e-5, and to each other bit by bit."""
    whole, model = alone.trained(alone.recipe(**fields), system=system)
    first = load_file(folder / "weights-0.safetensors")
    for rank in range(world):
        losses_T = np.load(folder / f"losses-{rank}.npy")
        np.testing.assert_allclose(losses_T, whole.losses_T, rtol=1e-5)
        weights = load_file(folder / f"weights-{rank}.safetensors")
        for name, value in model.state_dict().items():
            assert torch.equal(weights[name], first[name])
            if "optimizer" not in fields:  # Adam makes steps of rounding, where gradients vanish
                torch.testing.assert_close(weights[name], value, rtol=1e-3, atol=1e-5)
        assert json.loads((folder / f"done-{rank}.json").read_text())[1] == NUM_STEPS * 12


EVERYTHING = {"mixup": 0.3, "polyak": 0.9, "optimizer": "adam", "base_lr": 1e-3}


@pytest.mark.parametrize(
    ("fields", "system", "pieces", "sharded"),
    [
        ({}, "bit-micro", 1, False),
        ({**EVERYTHING, "dropout": 0.1}, "vit-micro", 3, False),
        ({"objective": "masked-patch"}, "vit-micro", 1, False),
        ({}, "hybrid-micro", 1, True),
        ({**EVERYTHING, "dropout": 0.1}, "vit-micro", 3, True),
    ],
    ids=["replicas", "replicas-pieces", "masked-patch", "shards", "shards-pieces"],
)
def test_two_workers_are_one(
    tmp_path: Path, fields: dict[str, Any], system: str, pieces: int, sharded: bool
) -> None:
    in_group(2, tmp_path / "group", train, fields, system, pieces, sharded, NO_STEP)
    compare(tmp_path / "group", 2, fields, system)


@pytest.mark.parametrize(("before", "after"), [((2, True), (1, False)), ((2, False), (3, True))])
def test_any_number_of_workers_goes_on(
    tmp_path: Path, before: tuple[int, bool], after: tuple[int, bool]
) -> None:
    for name, (world, sharded), fatal in (("before", before, 7), ("after", after, NUM_STEPS)):
        in_group(world, tmp_path / name, train, EVERYTHING, "vit-micro", 1, sharded, fatal)
    for rank in range(after[0]):
        assert json.loads((tmp_path / "after" / f"done-{rank}.json").read_text())[0] == 7
    compare(tmp_path / "after", after[0], EVERYTHING)


def poisoned(rank: int, world: int, folder: Path) -> None:
    spec = alone.recipe()
    batches = alone.batches()
    at = batches.at

    def at_7(step: int, part: Any) -> Any:
        x_BCHW, labels_B = at(step, part)
        return (x_BCHW * float("nan") if rank == 1 and step == 7 else x_BCHW), labels_B

    batches.at = at_7  # type: ignore[method-assign]
    with working_in(Group(rank, world)):
        try:
            training.train(
                alone.network(spec, "vit-micro"), batches, recipe=spec, num_steps=NUM_STEPS, seed=3
            )
        except Diverged as error:
            (folder / f"said-{rank}").write_text(error.message)


def test_one_workers_nan_is_everyones(tmp_path: Path) -> None:
    in_group(2, tmp_path / "group", poisoned)
    for rank in range(2):
        said = (tmp_path / "group" / f"said-{rank}").read_text()
        assert said == f"the loss became nan at step 7 of {NUM_STEPS}"
