"""The verb `vitbench rehearse`: what a suite will take, before it runs."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.options import RUNS, AsJson, LimitSteps, Scale, Seeds, Settings, Suite, Workdir
from bench.cli.printing import new_console, print_json
from bench.cli.progress import PLAIN_EVERY_S
from bench.cli.wiring import graph_of
from bench.errors import UnknownName, UserError
from bench.paths import WorkPaths

if TYPE_CHECKING:
    from rich.console import Console

    from bench.plan.shapes import Part
    from bench.plan.spec import JobGraph
    from bench.rehearse.forecast import Forecast, Place, Row


class On(StrEnum):
    """Devices to rehearse on."""

    cpu = "cpu"
    cuda = "cuda"


def rehearse(
    suite: Suite,
    workdir: Workdir = RUNS,
    scale: Scale = None,
    settings: Settings = None,
    seeds: Seeds = None,
    limit_steps: LimitSteps = None,
    on: Annotated[
        On | None, typer.Option("--on", help="Device; one that is not here is pretended.")
    ] = None,
    gpu: Annotated[
        str | None,
        typer.Option("--gpu", help="GPU whose memory, price and speed are assumed (a100)."),
    ] = None,
    budget: Annotated[
        float | None, typer.Option("--budget", help="US dollars that may be spent.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run two steps of every shape of work; say what the suite will take; exit 1 for a red line."""
    started_s = time.perf_counter()
    from bench.cost import GPUS
    from bench.plan import shapes
    from bench.rehearse.forecast import forecast

    if gpu is not None and gpu not in GPUS:
        raise UnknownName("GPU", gpu, GPUS)
    if budget is not None and not budget >= 0:
        raise UserError(f"--budget {budget}: dollars are not below zero")
    graph = graph_of(suite, settings, seeds, limit_steps, scale=scale)
    parts = shapes.parts(graph, device=on.value if on else None)

    from bench import environment
    from bench.plan import rehearsed
    from bench.rehearse import decoding
    from bench.rehearse.work import rehearse as do

    console, told_s = new_console(), time.perf_counter()
    distinct = {part.shape.key: part.shape for part in parts}
    measured = {}
    with tempfile.TemporaryDirectory(prefix="vitbench-") as folder:
        for index, (key, shape) in enumerate(distinct.items(), start=1):
            if console.is_terminal and not as_json:
                console.print(f"{index}/{len(distinct)} {shape.words}", end="\r", highlight=False)
            elif time.perf_counter() - told_s >= PLAIN_EVERY_S:  # a log, or a program
                told_s = time.perf_counter()
                typer.echo(f"rehearsing {index}/{len(distinct)}: {shape.words}", err=True)
            measured[key] = do(shape, folder=Path(folder))
            if index == 1:  # libraries are imported by now, as in a new worker
                start_s = time.perf_counter() - started_s
    paths = WorkPaths(workdir.resolve()).cache
    for device in sorted({shape.device for shape in distinct.values()}):
        ours = {key: one for key, one in measured.items() if distinct[key].device == device}
        rehearsed.add(paths, environment.machine(device), ours)
    found = forecast(
        graph,
        parts,
        measured,
        place=_place(
            graph, parts, workdir, gpu=gpu, budget=budget, start_s=start_s if measured else 0.0
        ),
        decoded_per_s=partial(decoding.decoded_per_s, one_s=decoding.decode_s()),
    )
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        _show(console, found)
    if found.red_lines:
        raise typer.Exit(1)


def _place(
    graph: JobGraph,
    parts: Sequence[Part],
    workdir: Path,
    *,
    gpu: str | None,
    budget: float | None,
    start_s: float,
) -> Place:
    from bench.cost import ASSUMED_GPU, GPUS
    from bench.plan import disk, fitting
    from bench.rehearse.forecast import Place, num_slots

    suite = graph.suite
    memory_gib = dict(fitting.here(suite).memory_gib)
    if gpu is not None or "cuda" not in memory_gib:
        memory_gib["cuda"] = GPUS[gpu or ASSUMED_GPU].memory_gib
    num_cores = len(os.sched_getaffinity(0))
    num_running = num_slots(graph, parts, num_cores=num_cores)
    cache = WorkPaths(workdir.resolve()).cache
    there = next(folder for folder in (workdir.resolve(), *workdir.resolve().parents)
                 if folder.is_dir())  # fmt: skip
    return Place(
        gpu=gpu or ASSUMED_GPU,
        memory_gib=memory_gib,
        num_cores=num_cores,
        free_disk_gib=shutil.disk_usage(there).free / 2**30,
        needed_disk_gib=disk.needed(graph, cache, num_running=num_running).num_bytes / 2**30,
        saved_gib_per_s=_saved_gib_per_s(there),
        start_s=start_s,
        budget_usd=budget,
    )


def _saved_gib_per_s(folder: Path) -> float:
    """Return how fast checkpoints are written to a folder; a full disk is a red line anyway."""
    from bench.errors import CheckpointError
    from bench.rehearse import saving

    try:
        return saving.saved_gib_per_s(folder)
    except (OSError, CheckpointError):
        return math.inf


def _checkpoint(row: Row) -> str:
    """Return the size of a row's checkpoints, and how long one is written behind the training."""
    if not row.checkpoint_gib:
        return "-"
    if row.checkpoint_gib < 0.1:
        return f"{1024 * row.checkpoint_gib:.1f} MiB, {row.checkpoint_s:.1f} s"
    return f"{row.checkpoint_gib:.1f} GiB, {row.checkpoint_s:.1f} s"


def _show(console: Console, found: Forecast) -> None:
    from bench.cli.listing import duration, show_rows

    show_rows(
        console,
        [
            {
                "system": row.system,
                "work": row.work,
                "px": row.image_size_px,
                "batch": row.batch_size,
                "arithmetic": row.precision,
                "jobs": row.num_jobs,
                "pieces": "-" if row.pieces is None else str(row.pieces),
                "GiB": f"{row.memory_gib:.1f}",
                "images/s": f"{row.images_per_s:,.0f}" + ("" if row.measured else " assumed"),
                "decoding cores": f"{row.decoding_cores:.1f}" if found.gpu_days else "-",
                "checkpoint": _checkpoint(row),
                "time": duration(3600 * row.hours),
            }
            for row in found.rows
        ],
    )
    words = [f"{found.num_jobs} jobs take about {duration(3600 * found.hours)}"]
    if found.gpu_days:
        words.append(f"{found.gpu_days:,.1f} days of one {found.gpu}, ${found.usd:,.0f}")
    words += [f"{found.disk_gib:,.1f} GiB of disk", f"{found.memory_gib:,.1f} GiB of memory"]
    console.print(f"\n{found.suite}: {'; '.join(words)}", markup=False, highlight=False)
    if not found.measured:
        console.print("assumed: two fifths of the peak that the vendor prints", highlight=False)
    if found.num_searches:
        number = found.num_searches
        console.print(
            f"{number} profiles look for the largest batch: that comes on top", highlight=False
        )
    for reason, num in found.refused.items():
        console.print(f"refused, not counted: {num} jobs ({reason})", markup=False, highlight=False)
    for line in found.red_lines:
        console.print(f"red line: {line}", markup=False, highlight=False, style="bold red")
