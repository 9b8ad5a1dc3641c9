"""The machine a result came from: devices, versions, git state. Secrets are never recorded.

None of it is part of a job's identity; tables that mix results of several say so.
"""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

_CONTAINER = Path("/sys/fs/cgroup/memory.max")
_PACKAGES = ("vitbench", "torch", "timm", "numpy", "ray", "mlflow")


def describe(device: str) -> dict[str, str]:
    """Return what a reader needs to judge a number; `device` is `cpu`, `cuda` or `tpu`."""
    return {
        "device": device_name(device),
        "device_kind": device,
        **_cuda(device),
        **_process_facts(),
    }


@functools.cache
def machine(device: str) -> str:
    """Return what a measured speed belongs to: processor and cores, or the model of a GPU.

    Nothing heavy is imported: it is asked when a suite is planned.
    """
    if device == "cpu":
        return f"{_cpu_name()}, {os.cpu_count() or 1} cores"
    if device == "tpu":
        return os.environ.get("TPU_ACCELERATOR_TYPE", "TPU")
    for file in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        for line in file.read_text(encoding="utf-8").splitlines():
            if line.startswith("Model:"):
                return line.partition(":")[2].strip()
    return "GPU"


@functools.cache
def device_memory_gib(device: str) -> float | None:
    """Return the memory of a device of this machine, the smallest of several; None: it has none.

    Of a CPU it is that of the machine, or of the container. Nothing heavy is imported.
    """
    if device == "cpu":
        limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30]
        with contextlib.suppress(OSError, ValueError):  # no such group, or "max"
            limits.append(int(_CONTAINER.read_text(encoding="ascii")) / 2**30)
        return min(limits)
    if device != "cuda":
        return None
    try:
        words = ("nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits")
        asked = subprocess.run(words, capture_output=True, text=True, check=True, timeout=10)
        return min(float(line) for line in asked.stdout.split()) / 1024
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


@functools.cache
def device_name(device: str) -> str:
    """Return the model name of the device, as its vendor prints it."""
    if device == "cuda":
        import torch

        return torch.cuda.get_device_name()
    if device == "tpu":
        return os.environ.get("TPU_ACCELERATOR_TYPE", "TPU")
    return _cpu_name()


@functools.cache
def _process_facts() -> dict[str, str]:
    facts = {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cores": str(os.cpu_count() or 1),
        "git": git_state(),
    }
    for package in _PACKAGES:
        try:
            facts[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return facts


def _cuda(device: str) -> dict[str, str]:
    """Return the version of CUDA that torch was built with, where the device is one of its."""
    if device != "cuda":
        return {}
    import torch

    return {"cuda": torch.version.cuda} if torch.version.cuda else {}


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


@functools.cache
def git_state() -> str:
    """Return the commit of the project's checkout, with `+` when it has changes, or ``."""
    folder = Path(__file__).resolve().parent
    try:
        commit = _git(folder, "rev-parse", "--short=12", "HEAD")
        return f"{commit}+" if _git(folder, "status", "--porcelain", "--", ".") else commit
    except (OSError, subprocess.SubprocessError):
        return ""


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *words], capture_output=True, text=True, check=True, timeout=10
    )
    return done.stdout.strip()
