"""The machine and what is installed on it, against what a suite asks for.

Each check takes what it judges, so that it can be tried on any machine; `measure` finds it here.
"""

from __future__ import annotations

import math
import os
import platform
import re
import socket
from collections.abc import Collection, Mapping
from importlib import metadata
from pathlib import Path

from bench.doctor.check import Check, ok, problem, warning
from bench.plan.fitting import TOO_LARGE
from bench.specs import Record

GIB = 2**30

PYTHON_FLOOR = (3, 11)

_TESTED = "the lowest version that this project supports"

FLOORS = {
    "torch": ("2.10", "older ones can run code from a weights file (CVE-2025-32434, -2026-24747)"),
    "ray": ("2.54", "older ones obey requests from any web page (CVE-2026-27482)"),
    "mlflow": ("3.11", "older ones let others write files and run jobs (CVE-2026-0545, -2651)"),
    "datasets": ("4.0", "older ones run code that comes with a data set"),
    "timm": ("1.0.20", _TESTED),
    "numpy": ("2.0", _TESTED),
    "pillow": ("11", _TESTED),
    "safetensors": ("0.5", _TESTED),
}
"""Lowest version of each library that is trusted here, and why."""


class Machine(Record):
    """What was found of a machine."""

    num_cores: int
    """Cores, as Ray counts them."""
    available_gib: float | None
    """Memory that is free or can be freed, where the system tells."""
    num_gpus: int
    """CUDA devices that torch can use."""
    num_tpus: int
    """TPU chips."""
    gpu_driver: bool = False
    """Whether an NVIDIA driver is loaded, usable or not."""


def measure(*, look_for_gpus: bool) -> Machine:
    """Return what is here; torch is imported only where devices are asked for."""
    num_gpus = 0
    if look_for_gpus:
        import torch

        num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return Machine(
        num_cores=os.cpu_count() or 1,
        available_gib=_available_gib(),
        num_gpus=num_gpus,
        num_tpus=len([*Path("/dev").glob("accel[0-9]*"), *Path("/dev/vfio").glob("[0-9]*")]),
        gpu_driver=Path("/proc/driver/nvidia/version").exists(),
    )


def _available_gib() -> float | None:
    try:
        text = Path("/proc/meminfo").read_text(encoding="utf-8")
    except OSError:
        return None
    found = re.search(r"^MemAvailable:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) * 1024 / GIB if found else None


def cores(machine: Machine, *, num_threads: int) -> Check:
    """Compare the cores with the threads of one job, which would wait forever for more."""
    if num_threads > machine.num_cores:
        return problem(
            "cores",
            f"each job asks for {num_threads} threads; there are {machine.num_cores} cores",
            f'Lower it: --set num_threads={machine.num_cores}, or use "vitbench run --address"',
        )
    jobs = machine.num_cores // num_threads
    return ok("cores", f"{machine.num_cores} cores, {jobs} jobs of {num_threads} threads at a time")


def memory(machine: Machine, *, needed_gib: float, job: str, pieces: int = 1) -> Check:
    """Compare free memory with the largest job (a closed form); on a device it was fitted."""
    if machine.available_gib is None:
        return warning("memory", "this system does not report how much memory is free")
    cut = f", with batches in {pieces} pieces" if pieces > 1 else ""
    if machine.available_gib == math.inf:
        return ok("memory", f"{job} needs about {needed_gib:.2f} GiB of its device{cut}")
    needed = f"{job} needs about {needed_gib:.2f}{cut}"
    words = f"{machine.available_gib:.1f} GiB available; {needed}"
    if needed_gib > machine.available_gib:
        return problem(
            "memory", words, "Close other programs, lower batch_size, or use a larger machine"
        )
    return ok("memory", words)


def too_large(refused: Collection[str]) -> list[Check]:
    """Return a problem for each refusal for want of memory: what was found, and its cure."""
    found = (reason.rpartition(": ") for reason in sorted(refused) if reason.startswith(TOO_LARGE))
    return [problem("memory", cause, cure.capitalize()) for cause, _, cure in found]


def devices(machine: Machine, *, gpus: float, tpus: int) -> list[Check]:
    """Compare the devices with those that the workers of a job ask for together."""
    checks = []
    if gpus > machine.num_gpus:
        driver = "a driver is loaded, but this torch cannot use it" if machine.gpu_driver else ""
        checks.append(
            problem(
                "devices",
                f"each training job asks for {gpus:g} GPUs; torch finds {machine.num_gpus}"
                + (f" ({driver})" if driver else ""),
                "Install the CUDA build of torch that fits the driver"
                if machine.gpu_driver
                else "Use a machine with a GPU, an --address with one, or --set gpus=0",
            )
        )
    if tpus > machine.num_tpus:
        checks.append(
            problem(
                "devices",
                f"each training job asks for {tpus} TPU chips; there are {machine.num_tpus}",
                "Use a machine with TPUs, an --address with them, or --set tpus=0",
            )
        )
    there = f"{machine.num_gpus} GPUs, {machine.num_tpus} TPU chips"
    asked = f"{gpus:g} and {tpus} asked for by each training job"
    if tpus:
        asked += " (TPUs: untested on hardware)"
    return checks or [ok("devices", f"{there}; {asked}" if gpus or tpus else "CPU only, as asked")]


def disk(folder: Path, *, needed_bytes: int, free_bytes: int) -> Check:
    """Compare free space with what a suite will take."""
    words = f"{free_bytes / GIB:.1f} GiB free at {folder}, about {needed_bytes / GIB:.2f} needed"
    if needed_bytes > free_bytes:
        missing = (needed_bytes - free_bytes) / GIB
        return problem(
            "disk", words, f"Free {missing:.2f} GiB, or choose another folder with --workdir"
        )
    if needed_bytes > 0.8 * free_bytes:
        return warning("disk", words, "Free some space: others write there too")
    return ok("disk", words)


def versions(installed: Mapping[str, str], *, python: tuple[int, ...]) -> list[Check]:
    """Compare Python and libraries with the lowest versions that are trusted."""
    checks = []
    shown = ".".join(map(str, python[:2]))
    if python[:2] < PYTHON_FLOOR:
        checks.append(problem("python", f"Python {shown}", "Install Python 3.11 or later"))
    for name, (floor, reason) in FLOORS.items():
        version = installed.get(name, "")
        if not version:
            checks.append(problem("versions", f"{name} is not installed", f"pip install {name}"))
        elif _numbers(version) < _numbers(floor):
            checks.append(
                problem(
                    "versions",
                    f"{name} {version} is older than {floor}: {reason}",
                    f'pip install "{name}>={floor}", or sync with requirements.lock',
                )
            )
    found = ", ".join(f"{name} {installed[name]}" for name in ("torch", "ray", "mlflow", "timm"))
    return checks or [ok("versions", f"Python {shown}, {found}")]


def installed() -> dict[str, str]:
    """Return the versions of the libraries that have a floor, those that are installed."""
    found = {}
    for name in FLOORS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def python_version() -> tuple[int, ...]:
    """Return the version of the running Python."""
    return tuple(map(int, platform.python_version_tuple()[:2]))


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version.partition("+")[0])[:3]))


def port(number: int) -> Check:
    """Tell whether the port of `vitbench ui` is free; nothing else needs a fixed one."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", number))
        except OSError as error:
            return warning(
                "ports",
                f"port {number} of this machine is taken ({error.strerror})",
                f"Show results with: vitbench ui --port {number + 1}",
            )
    return ok("ports", f"port {number} is free for `vitbench ui`")
