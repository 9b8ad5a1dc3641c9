"""What a result says of where it was made."""

from __future__ import annotations

import pytest
import torch

from bench import environment


@pytest.fixture(autouse=True)
def _gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "device_name", lambda device: "NVIDIA H200")


@pytest.mark.parametrize(
    ("device", "built_with", "stated"),
    [("cuda", "13.0", "13.0"), ("cuda", None, None), ("cpu", "13.0", None)],
)
def test_cuda_is_stated_where_the_device_is_one_of_its(
    monkeypatch: pytest.MonkeyPatch, device: str, built_with: str | None, stated: str | None
) -> None:
    monkeypatch.setattr(torch.version, "cuda", built_with)
    found = environment.describe(device)
    assert found.get("cuda") == stated
    assert (found["device"], found["device_kind"]) == ("NVIDIA H200", device)
    assert found["torch"]
    assert found["vitbench"]
    assert found["timm"]


@pytest.mark.gpu
def test_a_gpu_states_its_name_and_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    found = environment.describe("cuda")
    assert found["device"] == torch.cuda.get_device_name()
    assert found["cuda"] == torch.version.cuda
