"""Before an hour is spent: is everything there that a suite needs, and is it what it seems?

    check.py      one check: topic, status, what was found, what to do
    machine.py    cores, memory, devices, disk, versions, ports
    folder.py     the work folder, what the last run left, MLflow's database
    datasets.py   the data sets: there, whole, in the right order, test images apart
    weights.py    the public weights
    before.py     what `run` refuses before it writes anything

Nothing is changed, downloaded or packed. Checks of parts that the suite does not use are left out.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from pathlib import Path

from bench.doctor import datasets, folder, machine, weights
from bench.doctor.check import Check, Status, reported
from bench.errors import BenchError
from bench.paths import CachePaths, WorkPaths
from bench.plan.spec import JobGraph, SuiteSpec
from bench.specs import DatasetCard

__all__ = ["Check", "Status", "examine"]

UI_PORT = 5000
"""Port of `vitbench ui` unless another is given."""


def examine(
    suite: str | None,
    *,
    workdir: Path,
    settings: Sequence[str] = (),
    scale: str | None = None,
) -> list[Check]:
    """Check the machine, the work folder and, with a suite, everything that it needs.

    Raises UserError for a suite that cannot be read at all.
    """
    workdir = workdir.resolve()
    if suite is None:
        return [*_machine(None, None), *_folder(workdir, needed_bytes=0)]
    from bench.plan import suites as suites

    spec = suites.load(suite, settings=settings, scale=scale)
    cards, checks = datasets.cards(spec, base_dir=suites.locate(suite).parent)
    graph, refused = _planned(
        spec, cards, file=suites.shown(suites.locate(suite)), cache=WorkPaths(workdir).cache
    )
    cache = WorkPaths(workdir).cache.folder
    named = [*datasets.upstream_of(spec), *datasets.downstream_of(spec)]
    for name in dict.fromkeys(named):
        if name in cards:
            checks += datasets.one_set(cards[name], cache_dir=cache)
    checks += datasets.shared_images(
        datasets.upstream_of(spec), datasets.downstream_of(spec), cards, cache_dir=cache
    )
    if graph is not None:
        for name, sizes_px in graph.image_sizes_px().items():
            card = graph.datasets[name]
            checks += datasets.enlarged_images(card, sizes_px, cache_dir=cache)
    return [
        *_machine(spec, graph),
        *_folder(workdir, needed_bytes=_needed_bytes(graph, WorkPaths(workdir).cache)),
        *checks,
        *weights.all_weights(spec, WorkPaths(workdir).cache),
        *refused,
    ]


def _planned(
    spec: SuiteSpec, cards: dict[str, DatasetCard], *, file: str, cache: CachePaths
) -> tuple[JobGraph | None, list[Check]]:
    """Return the plan; None, and why, where it fails. Missing data have been reported already."""
    from bench.plan import plan_with_catalogue

    try:
        graph = plan_with_catalogue(spec, cards, file=file, cache=cache)
    except BenchError as error:
        unread = set(spec.dataset) - set(cards)
        return None, [] if any(f'"{name}"' in error.message for name in unread) else [
            reported("suite", error)
        ]
    return graph, []


def _machine(spec: SuiteSpec | None, graph: JobGraph | None) -> list[Check]:
    found = machine.measure(look_for_gpus=spec is not None and spec.gpus > 0)
    checks = machine.versions(machine.installed(), python=machine.python_version())
    if spec is not None:
        checks.append(machine.cores(found, num_threads=spec.num_threads))
        checks += machine.devices(
            found, gpus=spec.workers * spec.gpus, tpus=spec.workers * spec.tpus
        )
        checks += _memory(found, spec, graph)
    return [*checks, machine.port(UI_PORT)]


def _memory(found: machine.Machine, spec: SuiteSpec, graph: JobGraph | None) -> list[Check]:
    """Return what the largest job needs, and what no device here has room for."""
    jobs = [] if graph is None else [job for job in graph.jobs if not job.refused]
    largest = max(jobs, key=lambda job: job.resources.memory_gib, default=None)
    checks = [] if graph is None else machine.too_large({job.refused for job in graph.jobs})
    if largest is not None and largest.resources.memory_gib:
        needed_gib, pieces = largest.resources.memory_gib, largest.resources.pieces
        on_device = spec.gpus or spec.tpus
        seen = found.model_copy(update={"available_gib": math.inf}) if on_device else found
        checks.append(machine.memory(seen, needed_gib=needed_gib, job=largest.name, pieces=pieces))
    return checks


def _needed_bytes(graph: JobGraph | None, cache: CachePaths) -> int:
    from bench.plan import disk

    return 0 if graph is None else disk.needed(graph, cache).num_bytes


def _folder(workdir: Path, *, needed_bytes: int) -> list[Check]:
    place = folder.nearest(workdir)
    return [
        folder.writable(workdir),
        folder.file_system(workdir, folder.mounts()),
        machine.disk(place, needed_bytes=needed_bytes, free_bytes=shutil.disk_usage(place).free),
        *folder.leftovers(workdir),
        folder.database(workdir),
    ]
