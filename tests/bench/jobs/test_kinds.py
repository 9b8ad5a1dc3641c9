"""What holds for a job of any kind: versions, memory, threads and devices."""

from __future__ import annotations

import importlib.util
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.errors import JobError, OutOfMemory, UnknownName
from bench.jobs import JobContext, pretrain
from bench.specs import JobResult

Perform = Callable[..., tuple[JobResult, Path]]


def test_an_unknown_kind_is_told_with_the_nearest(toy: Any, perform: Perform) -> None:
    with pytest.raises(UnknownName, match=r'"fintune".*Did you mean "finetune"'):
        perform(toy.spec("fintune"))


def test_a_plan_of_another_version_is_refused(toy: Any, perform: Perform) -> None:
    with pytest.raises(JobError, match="planned for version 99"):
        perform(toy.spec("pretrain", recipe=toy.pretraining, kind_version=99))


def test_a_data_set_that_changed_after_planning_is_refused(toy: Any, perform: Perform) -> None:
    changed = toy.card.model_copy(update={"digest": "f" * 16})
    with pytest.raises(JobError, match="toy has changed"):
        perform(toy.spec("pretrain", recipe=toy.pretraining), dataset=changed)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"),
    ],
    ids=["host", "cuda", "allocator", "cublas"],
)
def test_exhausted_memory_has_one_name(
    toy: Any, perform: Perform, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(context: JobContext) -> None:
        raise error

    monkeypatch.setattr(pretrain, "run", fail)
    with pytest.raises(OutOfMemory, match="ran out of memory") as raised:
        perform(toy.spec("pretrain", recipe=toy.pretraining))
    assert raised.value.__cause__ is error


def test_other_errors_pass_through_and_threads_are_put_back(
    toy: Any, perform: Perform, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def fail(context: JobContext) -> None:
        seen.append(torch.get_num_threads())
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(pretrain, "run", fail)
    before = torch.get_num_threads()
    with pytest.raises(RuntimeError, match="shapes differ"):
        perform(toy.spec("pretrain", recipe=toy.pretraining, num_threads=before + 1))
    assert seen == [before + 1]
    assert torch.get_num_threads() == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_told(toy: Any, perform: Perform) -> None:
    with pytest.raises(JobError, match="planned for a GPU"):
        perform(toy.spec("pretrain", recipe=toy.pretraining, device="cuda"))


def test_a_missing_tpu_library_is_told(toy: Any, perform: Perform) -> None:
    if importlib.util.find_spec("torch_tpu"):
        pytest.skip("torch_tpu is installed")
    with pytest.raises(JobError, match="torch_tpu is not installed"):
        perform(toy.spec("pretrain", recipe=toy.pretraining, device="tpu"))


def test_a_result_says_when_and_by_whom_it_was_made(toy: Any, perform: Perform) -> None:
    before_s = time.time()
    cost = perform(toy.spec("pretrain", recipe=toy.pretraining))[0].cost
    assert cost is not None
    assert cost.finished_unix_s is not None
    assert before_s <= cost.finished_unix_s <= time.time()
    assert cost.worker == f"{socket.gethostname()}:{os.getpid()}"
