"""What a job costs: the time of every device that it held, or of its share of one."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from bench import jobs, preemption
from bench.errors import OutOfMemory, Preempted
from bench.jobs import _work, _workers
from bench.specs import Resources
from bench.training import scoring


@pytest.mark.parametrize(
    ("kind", "resources", "held"),
    [
        ("cuda", {"gpus": 1}, 1.0),
        ("cuda", {"gpus": 0.25}, 0.25),
        ("cuda", {"gpus": 1, "workers": 8, "cpus": 4}, 8.0),
        ("tpu", {"tpus": 4, "workers": 2}, 8.0),
    ],
)
def test_a_device_is_paid_for_as_long_as_it_is_held(
    toy: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    resources: dict[str, float],
    held: float,
) -> None:
    for name in ("reset_peak_memory_stats", "max_memory_allocated"):
        monkeypatch.setattr(torch.cuda, name, lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a device")
    monkeypatch.setattr(_work, "device", lambda context: torch.device("cpu"))
    spec = toy.spec("pretrain", recipe=toy.pretraining, device=kind)
    context = toy.context(spec, tmp_path, resources=Resources.model_validate(resources))
    cost = _work.Meter(context).result(metrics={}).cost
    assert cost is not None
    assert cost.core_s == held * cost.wall_s > 0


def test_a_job_scores_as_many_images_at_once_as_was_planned(toy: Any, tmp_path: Path) -> None:
    spec = toy.spec("pretrain", recipe=toy.pretraining)
    context = toy.context(spec, tmp_path, resources=Resources(evaluation_batch=7))
    with jobs.conditions(context):
        assert scoring._num_at_once == 7
    assert scoring._num_at_once == 256


@pytest.mark.parametrize(
    ("kind", "fields", "tried"),
    [("pretrain", {}, [1, 2, 4]), ("pretrain", {"mixup": 0.2}, [1, 2]), ("probe", None, [1])],
    ids=["one image each at last", "pairs stay together", "nothing is trained in pieces"],
)
def test_a_group_out_of_memory_begins_again_in_as_many_pieces_as_there_are(
    toy: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    fields: dict[str, float] | None,
    tried: list[int],
) -> None:
    pieces: list[int] = []

    def full(context: jobs.JobContext) -> None:
        pieces.append(context.resources.pieces)
        raise OutOfMemory("the host ran out of memory")

    monkeypatch.setattr(_workers, "_in_group", full)
    monkeypatch.setattr(_workers, "ray_here", lambda num_cpus: nullcontext())
    recipe = None if fields is None else toy.pretraining.model_copy(update=fields)
    context = toy.context(toy.spec(kind, recipe=recipe), tmp_path, resources=Resources(workers=2))
    with pytest.raises(OutOfMemory):
        _workers.run(context)
    assert pieces == tried


def test_a_group_that_was_told_to_end_does_not_begin_again(
    toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[int] = []

    def dies(context: jobs.JobContext) -> None:
        begun.append(1)
        raise _workers._WorkersDied("the notice reached the workers too")

    monkeypatch.setattr(_workers, "_in_group", dies)
    monkeypatch.setattr(_workers, "ray_here", lambda num_cpus: nullcontext())
    notice = tmp_path / "notice"
    notice.touch()
    context = toy.context(toy.spec("pretrain", recipe=toy.pretraining), tmp_path)
    with preemption.taken_from(notice), pytest.raises(Preempted):
        _workers.run(context)
    assert begun == [1]
