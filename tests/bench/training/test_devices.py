from __future__ import annotations

import importlib.util
import os

import pytest
import torch

from bench.errors import JobError
from bench.training import devices


def test_a_cpu_is_always_there() -> None:
    assert devices.device("cpu") == torch.device("cpu")
    devices.synchronize("cpu")
    devices.release("cpu")


@pytest.mark.parametrize(
    ("kind", "words"), [("cuda", "planned for a GPU"), ("tpu", "torch_tpu is not installed")]
)
def test_a_missing_accelerator_is_one_clear_error(kind: str, words: str) -> None:
    if torch.cuda.is_available() or importlib.util.find_spec("torch_tpu"):
        pytest.skip("this machine has an accelerator")
    with pytest.raises(JobError, match=words):
        devices.device(kind)
    devices.release(kind)  # as a job does that failed: nothing to give back


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="Linux alone")
def test_the_peak_of_a_process_starts_anew() -> None:
    large = torch.ones(256 * 2**20 // 4)
    del large
    high = devices.peak_gib("cpu")
    assert devices.restart_peak("cpu")
    assert devices.peak_gib("cpu") < high - 0.1
    assert devices.process_gib("VmRSS") <= devices.peak_gib("cpu")
