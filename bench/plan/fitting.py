"""How a job fits the memory of its device: in how many pieces, with how many images scored at once.

The forecast is the closed form of `bench/memory.py`, times what was learned on this device before
(`learned.py`). A batch is cut into the fewest pieces that fit, as evenly as possible: states and
result are those of the whole batch, but for rounding. What does not fit with a single image is
refused, and so is a batch that cannot be cut, because its images are normalized together.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import baselines
from bench import cost
from bench.data import parts
from bench.environment import device_memory_gib, machine
from bench.memory import Memory, of_job
from bench.plan.spec import SuiteSpec
from bench.specs import EVALUATION_BATCH, DeviceKind, JobSpec, Recipe, Resources, SystemUse

RESERVE = 0.1
"""Share of a device that is left to libraries, and to holes between pieces of memory."""
PROCESS_GIB = 0.8
"""Memory of a process on a CPU besides the work itself: Python, torch, timm, Ray."""
ELSEWHERE_GIB: Mapping[DeviceKind, float] = {
    "cuda": cost.GPUS[cost.ASSUMED_GPU].memory_gib,
    "tpu": 16.0,
}
"""Memory of a device where the machine that plans has none, and the suite does not say."""

TOO_LARGE = "too large for the device:"
"""How a refusal for want of memory begins."""

Factors = Mapping[str, float]
"""Measured peak over forecast, by `factor_key`."""


@dataclass(frozen=True)
class Place:
    """The devices that jobs are planned for."""

    memory_gib: Mapping[DeviceKind, float]
    """Memory of one device that one job may use, by kind of device; of an unknown kind anything
    fits."""
    factors: Factors = field(default_factory=dict)
    """What was learned there."""


@dataclass(frozen=True)
class Fit:
    """How a job is done within the memory there is."""

    pieces: int = 1
    """Pieces of each worker's share of a batch, one after another."""
    sharded: bool = False
    """Whether each worker keeps a shard of the states: where a replica of them does not fit."""
    evaluation_batch: int = EVALUATION_BATCH
    """Images scored at once."""
    memory_gib: float = 0.0
    """Forecast for one device; 0 where nothing is known of the job."""
    too_large: str = ""
    """Why it cannot be done even with a single image; empty: it can."""


def here(suite: SuiteSpec, factors: Factors | None = None) -> Place:
    """Return this machine's devices, or those that the suite names, as its jobs share them."""
    at_once = max(1, (os.cpu_count() or 1) // (suite.num_threads + suite.decoders))
    memory_gib: dict[DeviceKind, float] = {}
    if (host_gib := device_memory_gib("cpu")) is not None:
        memory_gib["cpu"] = host_gib / at_once
    device: DeviceKind = "tpu" if suite.tpus else "cuda" if suite.gpus else "cpu"
    if device != "cpu":
        found_gib = device_memory_gib(device) or ELSEWHERE_GIB[device]
        share = min(1.0, suite.gpus) if device == "cuda" else 1.0
        memory_gib[device] = share * (suite.device_memory_gib or found_gib)
    elif suite.device_memory_gib is not None:
        memory_gib["cpu"] = suite.device_memory_gib
    return Place(memory_gib, factors or {})


def fit(spec: JobSpec, place: Place, *, workers: int = 1) -> Fit:
    """Return the fewest pieces and the largest evaluation batch that fit a device."""
    trained, scored = of_job(spec)
    if scored is None or spec.device not in place.memory_gib:
        return Fit()
    factor = place.factors.get(factor_key(spec), 1.0)
    there_gib = place.memory_gib[spec.device]
    limit_gib = there_gib * (1 - RESERVE) / factor - _process_gib(spec)
    batch = min(EVALUATION_BATCH, scored.most_images(limit_gib))
    pieces, least, sharded = 1, scored.gib(1), False
    if trained is not None:
        pieces, least = _fewest_pieces(spec, trained, limit_gib, workers=workers)
        if not pieces and workers > 1:
            sharded, trained = True, trained.sharded(workers)
            pieces, least = _fewest_pieces(spec, trained, limit_gib, workers=workers)
    if not pieces or not batch:
        needed_gib = factor * (least + _process_gib(spec)) / (1 - RESERVE)
        return Fit(
            too_large=f"at {spec.image_size_px} px needs {needed_gib:,.1f} GiB for the least that "
            f"can be computed at once, and there are {there_gib:,.1f}: choose a smaller input or "
            "system, or a device with more memory (device_memory_gib says how much)"
        )
    held_gib = max(scored.gib(batch), _trained_gib(spec, trained, pieces, workers))
    return Fit(pieces, sharded, batch, factor * (held_gib + _process_gib(spec)))


def expected_gib(spec: JobSpec, resources: Resources) -> float:
    """Return the closed form of a job as it was planned, nothing learned; 0 where there is none."""
    trained, scored = of_job(spec)
    if scored is None:
        return 0.0
    if trained is not None:
        trained = replace(trained, saved_gib=0.0)  # many jobs end before their first checkpoint
    if trained is not None and resources.sharded:
        trained = trained.sharded(resources.workers)
    trained_gib = _trained_gib(spec, trained, resources.pieces, resources.workers)
    return max(scored.gib(resources.evaluation_batch), trained_gib) + _process_gib(spec)


def most_pieces(system: SystemUse, recipe: Recipe, *, workers: int = 1) -> int:
    """Return the most pieces in which a worker's share of a batch stays what it is."""
    if baselines.family_of(system).has_batch_statistics(baselines.sizes(system)):
        return 1
    return parts.most_pieces(recipe.batch_size, world=workers, keeps_pairs=recipe.mixup > 0)


def factor_key(spec: JobSpec) -> str:
    """Return what a factor belongs to: device, family, kind of work and arithmetic."""
    work = "inference" if spec.recipe is None else "training"
    precision = spec.recipe.precision if spec.recipe else "float32"
    return " | ".join((machine(spec.device), spec.system.family, work, precision))


def _fewest_pieces(
    spec: JobSpec, trained: Memory, limit_gib: float, *, workers: int
) -> tuple[int, float]:
    """Return the fewest pieces that fit (0: none do), and the memory of the smallest ones."""
    assert spec.recipe is not None
    batch_size = spec.recipe.batch_size
    most = most_pieces(spec.system, spec.recipe, workers=workers)
    fewest = parts.fewest_pieces(
        batch_size, num_images=trained.most_images(limit_gib), world=workers, most=most
    )
    return fewest or 0, trained.gib(parts.largest_part(batch_size, most * workers))


def _trained_gib(spec: JobSpec, trained: Memory | None, pieces: int, workers: int) -> float:
    if trained is None or spec.recipe is None:
        return 0.0
    return trained.gib(parts.largest_part(spec.recipe.batch_size, pieces * workers))


def _process_gib(spec: JobSpec) -> float:
    return PROCESS_GIB if spec.device == "cpu" else 0.0
