"""The kernels of a job: chosen where it is long, recorded, and kept when it resumes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.paths import CachePaths, JobPaths
from bench.specs import JobResult
from bench.training.fastest import recorded

Perform = Callable[..., tuple[JobResult, Path]]


@pytest.fixture
def long_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any job is worth a choice, and whatever is not plain is faster."""
    monkeypatch.setattr("bench.training.fastest.SHORT_FLOPS", {"cpu": 1.0})
    monkeypatch.setattr("bench.training.fastest._GAIN", 1e9)


def half(recipe: Any, **changes: Any) -> Any:
    return recipe.model_copy(update={"precision": "bfloat16", **changes})


def test_a_short_job_computes_as_it_always_did(toy: Any, perform: Perform) -> None:
    result, folder = perform(toy.spec("pretrain", recipe=half(toy.pretraining)))
    assert "kernels" not in result.environment
    assert not JobPaths(folder).kernels.exists()


def test_a_long_job_says_its_kernels_and_repeats_its_bits(
    toy: Any, perform: Perform, long_jobs: None
) -> None:
    spec = toy.spec("pretrain", recipe=half(toy.pretraining))
    result, folder = perform(spec)
    assert result.environment["kernels"].startswith("attention fused, gelu exact")
    assert str(recorded(JobPaths(folder).kernels)) == result.environment["kernels"]
    again, _ = perform(spec, folder="again")
    assert again.files == result.files


def test_a_resumed_job_takes_the_recorded_kernels(
    toy: Any, perform: Perform, long_jobs: None, tmp_path: Path
) -> None:
    spec = toy.spec("pretrain", recipe=half(toy.pretraining))
    folder = toy.context(spec, tmp_path / "jobs").folder
    JobPaths(folder).kernels.write_text('{"gelu": "exact"}')
    result, _ = perform(spec)
    assert result.environment["kernels"] == "gelu exact"
    assert not CachePaths(tmp_path / "cache").kernels.exists()


def test_tuning_and_masked_patches_choose_too(
    toy: Any, perform: Perform, pretrained: tuple[JobResult, Path], long_jobs: None
) -> None:
    spec = toy.finetune(pretrained, 0.05, eval_split="test", recipe=half(toy.finetuning))
    tuned, _ = perform(spec, {"checkpoint": pretrained})
    assert "gelu exact" in tuned.environment["kernels"]
    masked = half(toy.pretraining, objective="masked-patch")
    result, _ = perform(toy.spec("pretrain", recipe=masked))
    assert "gelu exact" in result.environment["kernels"]
