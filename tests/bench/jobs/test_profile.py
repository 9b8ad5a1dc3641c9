"""Speed and memory of a system: every metric there, honest about what does not fit."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bench import environment, jobs, metrics
from bench.errors import JobError, OutOfMemory
from bench.jobs import profile
from bench.jobs._peak import Peak
from bench.specs import JobResult, JobSpec
from bench.training.memory import is_exhausted
from tests.bench.jobs.conftest import Toy

MIB = 2**-10


def spec(**params: Any) -> JobSpec:
    params = {"batch_sizes": (2, 4), "precision": "float32", "steps": 2, "repeats": 3, **params}
    return Toy.spec("profile", params=params)


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., JobResult]:
    def do(**params: Any) -> JobResult:
        return jobs.run(Toy.context(spec(**params), tmp_path))

    return do


def test_inference_and_training_are_timed_at_each_batch_size(
    run: Callable[..., JobResult],
) -> None:
    result = run()
    assert set(result.metrics) == {
        f"{work}_{what}"
        for work in ("inference", "train")
        for what in (
            "images_per_s/2", "images_per_s/4", "memory_gib/2", "memory_gib/4", "largest_batch",
        )
    }  # fmt: skip
    for name, metric in result.metrics.items():
        assert metrics.metric(name).title
        if "images_per_s" in name:
            assert len(metric.samples) == metric.n == 3
            assert metric.value == sorted(metric.samples)[1] > 0
    # Each timing: a trial (two steps of training), a warm-up and the repeats; one image to begin.
    assert result.cost is not None
    assert result.cost.examples == (2 + 4) * (1 + 1 + 6) + (2 + 4) * (2 + 1 + 6)


def test_without_a_limit_a_cpu_has_no_largest_batch(run: Callable[..., JobResult]) -> None:
    found = run().metrics["train_largest_batch"]
    assert found.value is None
    assert found.reason == "memory_gib is not set"


@pytest.fixture
def linear_peaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory of 2 MiB and 1 MiB an image, thrice that in training, in place of the process's."""
    original = profile._Profile._try

    def try_(self: Any, work: profile.Work, batch: int) -> float:
        if batch <= 4:
            original(self, work, batch)
        return (2 + batch * (1 if work == "inference" else 3)) * MIB

    monkeypatch.setattr(profile._Profile, "_try", try_)


def test_the_largest_batch_is_what_fits_the_limit(
    run: Callable[..., JobResult], linear_peaks: None
) -> None:
    result = run(memory_gib=12 * MIB, batch_sizes=(1, 4))
    assert result.metrics["inference_largest_batch"].value == 10
    assert result.metrics["train_largest_batch"].value == 3
    assert result.metrics["inference_memory_gib/4"].value == 6 * MIB
    absent = result.metrics["train_images_per_s/4"]
    assert absent.value is None
    assert absent.reason == "a batch of 4 does not fit 0.0117188 GiB"


@pytest.mark.parametrize("there", [0, 1, 2, 3, 7, 16, 17, 100, 1000, 1024, 12345])
def test_the_search_finds_the_largest_batch_to_one_part_in_sixteen(there: int) -> None:
    tried: list[int] = []

    def fits(batch: int) -> bool:
        tried.append(batch)
        return batch <= there

    found = profile.largest(fits, at_most=1 << 17)
    assert found <= there <= found + found // profile.RESOLUTION
    assert max(tried) <= max(1, 2 * there)
    assert len(tried) == len(set(tried)) <= 24


def test_the_search_ends_at_the_cap() -> None:
    assert profile.largest(lambda batch: True, at_most=64) == 64


def test_exhausted_memory_is_a_batch_that_does_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = profile._Profile._train

    def train(self: Any, x_BCHW: torch.Tensor, steps: int) -> float:
        if len(x_BCHW) > 3:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: 4 bytes")
        return original(self, x_BCHW, steps)

    monkeypatch.setattr(profile._Profile, "_train", train)
    result = jobs.run(Toy.context(spec(), tmp_path))
    assert result.metrics["train_images_per_s/2"].value
    assert "does not fit the device's memory" in result.metrics["train_images_per_s/4"].reason
    monkeypatch.setattr(profile._Profile, "_warm_up", lambda self, context: [].index(1))
    with pytest.raises(ValueError, match="not in list"):  # other errors are not taken for it
        jobs.run(Toy.context(spec(repeats=1), tmp_path))


def test_a_limit_beyond_the_machine_is_refused(run: Callable[..., JobResult]) -> None:
    with pytest.raises(JobError, match="memory_gib = 1e\\+06 is more than half of this machine's"):
        run(memory_gib=1e6)


def test_speeds_of_another_machine_are_not_measured_here(run: Callable[..., JobResult]) -> None:
    with pytest.raises(JobError, match=r"speeds of 8 x TPU were planned, and this is \S.*machine"):
        run(machine="8 x TPU")
    assert run(machine=environment.machine("cpu")).metrics["train_images_per_s/2"].value


def test_half_precision_is_measured_too(run: Callable[..., JobResult]) -> None:
    result = run(precision="bfloat16", batch_sizes=(2,))
    assert result.values["precision"] == "bfloat16"
    assert result.metrics["train_images_per_s/2"].value


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="Linux alone")
def test_the_peak_of_a_process_counts_what_was_freed_again() -> None:
    peak = Peak(torch.device("cpu"))
    assert peak.is_measured
    large = torch.ones(64 * 2**20 // 4)
    assert 0.05 < peak.gib() < 0.2
    del large
    assert peak.gib() > 0.05
    peak.restart()
    assert peak.gib() < 0.05


def test_words_for_exhausted_memory() -> None:
    assert is_exhausted(MemoryError())
    assert is_exhausted(RuntimeError("CUDA out of memory."))
    assert not is_exhausted(RuntimeError("shapes differ"))
    assert issubclass(OutOfMemory, JobError)
