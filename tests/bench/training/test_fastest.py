from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import baselines
from bench import models
from bench.models.kernels import Kernels
from bench.paths import CachePaths
from bench.training import fastest


def encoder(system: str) -> nn.Module:
    generator = torch.Generator().manual_seed(1)
    return models.build(system, num_classes=3, image_size_px=16, generator=generator).encoder


def work(system: str = "vit-micro", **changes: Any) -> fastest.Work:
    return fastest.Work(
        **{
            "system": baselines.use(baselines.system(system)).model_dump(mode="json"),
            "image_size_px": 16,
            "batch_size": 4,
            "precision": "bfloat16",
            "device": "cpu",
            "image_flops": 1e7,
            "num_images": 1e9,
            **changes,
        }
    )


def choose(folder: Path, found: nn.Module, of: fastest.Work) -> Kernels:
    return fastest.choose(found, of, record=folder / "job", cache=CachePaths(folder / "cache"))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Times of steps by the kernels that are not plain, in place of measured ones."""
    times_s: dict[str, float] = {}

    def time_s(trial: Any) -> float:
        words = str(trial.kernels)
        return next((times_s[words] for word in times_s if word == words), 1.0)

    monkeypatch.setattr("bench.training.fastest._Trial.time_s", time_s)
    return times_s


def test_a_short_job_measures_nothing_and_leaves_no_trace(tmp_path: Path) -> None:
    found = encoder("vit-micro")
    short = work(num_images=fastest.SHORT_FLOPS["cpu"] / 3e7 * 0.99)
    assert choose(tmp_path, found, short) == Kernels()
    assert not list(tmp_path.iterdir())
    assert str(Kernels()) == "plain"


def test_the_fastest_kernels_are_put_together(tmp_path: Path, clock: dict[str, float]) -> None:
    together = "attention fused, linear onednn"
    clock |= {"attention fused": 0.9, "linear onednn": 0.1, together: 0.89, "gelu exact": 0.1}
    found = encoder("vit-micro")
    chosen = choose(tmp_path, found, work(precision="float32"))
    assert chosen == Kernels(attention="fused")  # the other gains less than 2 % beside it
    clock[together] = 0.7
    found = encoder("vit-micro")
    chosen = choose(tmp_path / "other", found, work(precision="float32"))
    assert str(chosen) == together
    assert {type(module).__name__ for module in found.modules()} >= {"GELU", "OneDnnLinear"}
    assert all(getattr(module, "fused_attn", True) for module in found.modules())


def test_a_machine_chooses_once_for_the_same_work(tmp_path: Path, clock: dict[str, float]) -> None:
    clock["gelu exact"] = 0.5
    first = choose(tmp_path / "a", encoder("vit-micro"), work())
    clock["gelu exact"] = 2.0
    cache = CachePaths(tmp_path / "a" / "cache")
    again = fastest.choose(
        encoder("vit-micro"), work(num_images=2e9), record=tmp_path / "b", cache=cache
    )
    assert again == first == Kernels(gelu="exact")
    other = work(batch_size=8)
    assert other.key != work().key == work(num_images=2e9).key
    assert choose(tmp_path / "a2", encoder("vit-micro"), other) == Kernels()


def test_a_resumed_job_keeps_its_choice(tmp_path: Path, clock: dict[str, float]) -> None:
    clock["gelu exact"] = 0.5
    first = choose(tmp_path, encoder("vit-micro"), work())
    for path in (tmp_path / "cache").iterdir():
        path.unlink()  # as on another machine
    clock["gelu exact"] = 2.0
    assert choose(tmp_path, encoder("vit-micro"), work()) == first
    assert fastest.recorded(tmp_path / "job") == first


def test_the_earlier_of_two_processes_is_right(tmp_path: Path) -> None:
    cache = CachePaths(tmp_path)
    first, second = Kernels(gelu="exact"), Kernels(linear="onednn")
    assert fastest._remember(cache, work(), first) == first
    assert fastest._remember(cache, work(), second) == first
    assert len(json.loads(cache.kernels.read_text())) == 1


def test_a_damaged_memory_is_measured_again(tmp_path: Path, clock: dict[str, float]) -> None:
    cache = CachePaths(tmp_path / "cache")
    cache.folder.mkdir()
    cache.kernels.write_text("{")
    assert choose(tmp_path, encoder("vit-micro"), work()) == Kernels()
    assert len(json.loads(cache.kernels.read_text())) == 1


def test_what_gives_other_numbers_is_not_taken(
    monkeypatch: pytest.MonkeyPatch, clock: dict[str, float]
) -> None:
    clock["gelu exact"] = 0.1
    monkeypatch.setattr("bench.models.kernels.ExactGelu.forward", lambda layer, x: x.relu())
    assert fastest.measured(encoder("vit-micro"), work()) == Kernels()


@pytest.mark.parametrize("system", ["vit-micro", "bit-micro", "hybrid-micro"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_all_kernels_agree_with_the_plain_path(system: str, precision: Any) -> None:
    found, of = encoder(system), work(system, precision=precision)
    plain = fastest._Trial(found, Kernels(), of)
    changes = list(fastest.alternatives(found, of))
    together = dict(itertools.chain.from_iterable(change.items() for change in changes))
    for change in (*changes, together):
        trial = fastest._Trial(found, Kernels.model_validate(change), of)
        assert fastest.agree(plain, trial, tolerance=fastest.TOLERANCES[precision]), change


def test_measuring_changes_neither_model_nor_draws() -> None:
    found = encoder("vit-micro")
    before = {name: value.clone() for name, value in found.state_dict().items()}
    state = torch.get_rng_state()
    fastest.measured(found, work())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in found.state_dict().items())
    assert not any(type(module).__name__ == "ExactGelu" for module in found.modules())
    assert all(parameter.grad is None for parameter in found.parameters())


def test_only_long_jobs_on_a_gpu_are_compiled() -> None:
    found = encoder("vit-micro")
    long = fastest.COMPILED_FACTOR * fastest.SHORT_FLOPS["cuda"] / 3e7

    def compiles(**changes: Any) -> bool:
        return {"compiled": "yes"} in list(fastest.alternatives(found, work(**changes)))

    assert compiles(device="cuda", num_images=long)
    assert not compiles(device="cuda", num_images=long / 2)
    assert not compiles(num_images=1e15)
    assert not list(fastest.alternatives(found, work(device="tpu")))
