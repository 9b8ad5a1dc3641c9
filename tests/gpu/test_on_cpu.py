"""The checks of a device, on the one that is always there and on the smallest systems."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bench.specs import Precision
from tests.gpu import checks
from tests.gpu.conftest import table

SMALL = {"image_size_px": 16, "device": "cpu"}


@pytest.mark.parametrize("system", ["vit-micro", "bit-micro", "hybrid-micro"])
def test_a_cpu_agrees_with_itself(system: str) -> None:
    seen = checks.parity(system, precision="float32", **SMALL)
    assert seen.passed
    assert seen.measured == "0 std"
    assert checks.parity(system, precision="bfloat16", **SMALL).measured != "0 std"


def test_a_wrong_device_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights that are off by a thousandth are more than float32 allows."""
    moved = torch.nn.Module.to

    def spoilt(model: torch.nn.Module, device: str) -> torch.nn.Module:
        for parameter in model.parameters():
            parameter.data *= 1.001
        return moved(model, device)

    monkeypatch.setattr(torch.nn.Module, "to", spoilt)
    assert not checks.parity("vit-micro", precision="float32", **SMALL).passed


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_resumed_run_has_the_same_bits(precision: Precision, tmp_path: Path) -> None:
    seen = checks.resumption("vit-micro", precision=precision, folder=tmp_path, **SMALL)
    assert seen.passed, seen.measured
    assert len([*(tmp_path / "checkpoints").glob("*.json")]) == 2


@pytest.mark.parametrize("system", ["vit-micro", "bit-micro"])
def test_batches_in_pieces_give_the_same_losses(system: str) -> None:
    seen = checks.accumulation(system, **SMALL)
    assert seen.passed, seen.measured


def test_memory_and_feed_are_measured() -> None:
    seen = checks.memory("vit-micro", precision="float32", batch_size=4, **SMALL)
    assert "GiB, forecast 0.0" in seen.measured
    noise = checks._noise(8, 16)
    seen = checks.feed("vit-micro", noise, precision="float32", batch_size=4, steps=2, **SMALL)
    assert "images/s given" in seen.measured


def test_the_table_says_what_was_judged() -> None:
    lines = table(
        [
            checks.Seen("parity", "0.1", "at most 1", True),
            checks.Seen("memory", "9 GiB", "within 25%", False),
            checks.Seen("feed", "10 images/s", "", True),
        ]
    )
    assert [line.split()[-1] for line in lines[1:]] == ["passed", "FAILED", "told"]


@pytest.mark.ordinary
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_one_line_says_so() -> None:
    command = [sys.executable, "-m", "tests.gpu"]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (finished.returncode, finished.stdout) == (2, "")
    assert finished.stderr == (
        "gpu-check: torch finds no CUDA device here, so nothing was checked\n"
    )
