"""What is planned and what is done, as rows: for a person as a table, for a program as JSON."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from bench.cli.printing import fact
from bench.errors import DataError
from bench.paths import CachePaths
from bench.plan.fitting import TOO_LARGE
from bench.plan.notes import notes
from bench.plan.spec import JobGraph
from bench.specs import JobResult, Pair, PlannedJob

if TYPE_CHECKING:
    from rich.console import Console

    from bench.store import Store

Row = Mapping[str, Any]

_USUAL = ("done", "failed", "skipped", "missing")
"""What `status` counts even where it counts none."""


def duration(seconds: float) -> str:
    """Return seconds as a person says them: `48 s`, `3 min 20 s`, `2 h 05 min`, `9 days`."""
    whole = round(seconds)
    if whole >= 100 * 3600:
        return f"{whole / 86_400:,.0f} days"
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def plan_rows(
    graph: JobGraph, done: Mapping[str, JobResult], seconds: Callable[[PlannedJob], float]
) -> list[Row]:
    """Return one row per job: what it is, what it costs and whether it is done."""
    return [
        {
            "job_id": job.job_id,
            "name": job.name,
            "kind": job.spec.kind,
            "stage": job.labels.stage,
            "system": job.labels.system,
            "image_size_px": job.spec.image_size_px,
            "steps": job.num_steps,
            "exaflops": job.exaflops,
            "estimated_s": round(seconds(job), 3),
            "memory_gib": job.resources.memory_gib,
            "pieces": job.resources.pieces,
            "done": job.job_id in done,
            "refused": job.refused,
            "needs": sorted(set(job.spec.needs.values())),
        }
        for job in graph.jobs
    ]


def show_rows(console: Console, rows: Sequence[Row]) -> None:
    """Print rows of equal keys as a table; one under the other where it would cut names."""
    from rich.measure import Measurement
    from rich.table import Table

    if not rows:
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, value in rows[0].items():
        numeric = isinstance(value, int | float)
        justify: Literal["left", "right"] = "right" if numeric else "left"
        table.add_column(name.replace("_", " "), justify=justify, overflow="fold")
    for row in rows:
        table.add_row(*(_cell(value) for value in row.values()))
    # Of a text of many words no column may become narrower than the longest.
    if Measurement.get(console, console.options, table).minimum < console.width:
        console.print(table)
    else:
        _show_one_by_one(console, rows)


def _show_one_by_one(console: Console, rows: Sequence[Row]) -> None:
    """Print rows as paragraphs: the first value, and below it the others with their names."""
    from rich.padding import Padding

    for row in rows:
        (_, first), *others = row.items()
        console.print(_cell(first), style="bold", highlight=False, overflow="fold")
        for name, value in others:
            if value not in (None, "", [], ()):
                words = f"{name.replace('_', ' ')}: {_cell(value)}"
                console.print(Padding(words, (0, 0, 0, 2)), highlight=False, overflow="fold")


def _cell(value: Any) -> str:
    from rich.markup import escape

    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.3g}" if abs(value) < 1e3 else f"{value:,.0f}"
    if isinstance(value, int):
        return f"{value:,}"
    return escape(", ".join(value) if isinstance(value, list | tuple) else str(value))


def show_plan(console: Console, graph: JobGraph, rows: Sequence[Row], *, cache: CachePaths) -> None:
    """Print a plan: jobs by stage and system, what is done, exaFLOPs, time, and the pairs."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["stage"], row["system"]), []).append(row)
    refused = list(dict.fromkeys(row["refused"] for row in rows if row["refused"]))
    table = [
        {
            "stage": stage,
            "system": system,
            "px": _sizes_px(members),
            "jobs": len(members),
            "done": sum(row["done"] for row in members),
            **({"refused": sum(bool(row["refused"]) for row in members)} if refused else {}),
            "exaFLOPs": f"{sum(row['exaflops'] for row in members):.3g}",
            "estimated time": duration(sum(row["estimated_s"] for row in members if _is_left(row))),
            "memory": _memory(members),
            "pieces": str(max(row["pieces"] for row in members)) if _memory(members) else "",
        }
        for (stage, system), members in groups.items()
    ]
    console.print(f"{graph.suite.title}\n{graph.suite.claim}\n", markup=False, highlight=False)
    _show_scale(console, graph)
    show_rows(console, table)
    left_s = sum(row["estimated_s"] for row in rows if _is_left(row))
    slots = max(1, (os.cpu_count() or 1) // graph.suite.num_threads)
    at_once = f"{slots} jobs at a time"
    if graph.suite.gpus or graph.suite.tpus:
        slots, at_once = 1, "one device"
    console.print(
        f"\n{len(rows)} jobs, {sum(row['done'] for row in rows)} done; "
        f"{sum(row['exaflops'] for row in rows):.3g} exaFLOPs{_refused_work(rows)}; about "
        f"{duration(left_s / slots)} left on {at_once}",
        highlight=False,
    )
    for reason in refused:
        number = sum(row["refused"] == reason for row in rows)
        words = f"refused: {number} jobs, since {reason}"
        style = "red" if reason.startswith(TOO_LARGE) else None
        console.print(words, markup=False, highlight=False, soft_wrap=True, style=style)
    for words in notes(graph):
        console.print(f"note: {words}", markup=False, highlight=False, soft_wrap=True)
    for words in (*_enlarged(graph, cache), *_feeding(graph)):
        console.print(f"images: {words}", markup=False, highlight=False, soft_wrap=True)
    for words in _saving(graph):
        console.print(f"checkpoints: {words}", markup=False, highlight=False, soft_wrap=True)
    say_notes(console, graph)
    for pair in graph.suite.pair:
        console.print(f"pair: {_pair_words(graph, pair)}", markup=False, highlight=False)


def say_notes(console: Console, graph: JobGraph) -> None:
    """Print what a reader must know of the weights files that a suite names."""
    for note in dict.fromkeys(job.note for job in graph.jobs if job.note):
        console.print(f"weights: {note}", markup=False, highlight=False, soft_wrap=True)


def _enlarged(graph: JobGraph, cache: CachePaths) -> Iterator[str]:
    """Yield what to say of files that are smaller than what a protocol asks for.

    Published sets that are not packed yet are left to `doctor`: a plan opens none of their files.
    """
    from bench.data.sizes import enlarged

    for name, sizes_px in graph.image_sizes_px().items():
        try:
            own = name in graph.suite.dataset
            card = graph.datasets[name]
            yield from enlarged(card, sizes_px, cache_dir=cache.folder, look=own)
        except DataError as error:
            yield str(error)


def _feeding(graph: JobGraph) -> Iterator[str]:
    """Yield how many cores decode what the hungriest job on a device asks for."""
    from bench import cost

    rates: dict[tuple[str, int], float] = {}
    for job in graph.jobs:
        device, protocol = job.spec.device, job.spec.protocol
        if device != "cpu" and protocol is not None and job.train_examples and job.exaflops:
            flops = job.exaflops * 1e18 / job.train_examples
            key = (job.labels.system, protocol.image_size_px)
            rates[key] = cost.flops_per_s(job.spec) / flops

    def cores(key: tuple[str, int]) -> float:
        return rates[key] / cost.decoded_per_s(key[1])

    if rates:
        system, size_px = hungriest = max(rates, key=cores)
        numbers = [f"{math.ceil(num * cores(hungriest)):,}" for num in (1, 4, 8)]
        yield (
            f"one device takes some {rates[hungriest]:,.0f} a second of {system} at {size_px} px, "
            f"and a core decodes {cost.decoded_per_s(size_px):,.0f} photographs: {numbers[0]} "
            f"cores feed one device, {numbers[1]} four, {numbers[2]} eight"
        )


def _saving(graph: JobGraph) -> Iterator[str]:
    """Yield how large the largest checkpoint is, where anything is trained."""
    from bench import cost

    system, num_bytes = cost.largest_checkpoint(graph.jobs)
    if num_bytes:
        yield f"at most {num_bytes / 2**20:,.1f} MiB each ({system}); a running job keeps two"


def _sizes_px(rows: Sequence[Row]) -> str:
    """Return the sides that pictures are seen at in some rows; empty where none is looked at."""
    sizes = sorted({row["image_size_px"] for row in rows if row["image_size_px"]})
    return ", ".join(map(str, sizes))


def _memory(rows: Sequence[Row]) -> str:
    """Return the most memory that a job of some rows needs on a device."""
    most_gib = max(row["memory_gib"] for row in rows)
    return f"{most_gib:,.1f} GiB" if most_gib else ""


def _refused_work(rows: Sequence[Row]) -> str:
    work = sum(row["exaflops"] for row in rows if row["refused"])
    return f", {work:.3g} of them refused" if work else ""


def _is_left(row: Row) -> bool:
    return not (row["done"] or row["refused"])


def _show_scale(console: Console, graph: JobGraph) -> None:
    """Print at which scale the suite runs, what should come out and what it takes."""
    scale = graph.suite.scale
    if scale is None:
        return
    block = graph.suite.scales.get(scale)
    facts: dict[str, str] = {"scale": scale}
    if block is not None:
        facts |= {"expected": block.expected, "cost": block.cost}
    for name, words in facts.items():
        if words:
            fact(console, name, words)
    console.print()


def _pair_words(graph: JobGraph, pair: Pair) -> str:
    from bench.kinds import stages
    from bench.plan.pairs import amount

    if not pair.matched_on:
        return f"{', '.join(pair.systems)}, not matched"
    amounts = {
        job.labels.system: found
        for job in graph.jobs
        if stages()[job.labels.stage].role == "start" and (found := amount(job, pair))
    }
    first, *others = pair.systems
    ratios = ", ".join(f"{name} {amounts[name] / amounts[first]:.2f}x" for name in others)
    return f"{first} 1.00x, {ratios} of its {pair.matched_on}"


def status_rows(graph: JobGraph, store: Store) -> list[Row]:
    """Return one row per job: done, failed, skipped, running, refused or missing, and how far."""
    outcomes = store.outcomes(job.job_id for job in graph.jobs)
    return [_status_row(job, outcomes.get(job.job_id), store) for job in graph.jobs]


def _status_row(job: PlannedJob, outcome: JobResult | None, store: Store) -> Row:
    holder = None if outcome is not None and outcome.status == "done" else store.holder(job.job_id)
    if holder is not None:
        status, reason = "running", f"by {holder}"
    elif outcome is not None:
        status, reason = outcome.status, outcome.error
    else:
        status, reason = "refused" if job.refused else "missing", job.refused
    curve = store.progress(job.job_id) if status in ("running", "missing") else []
    return {
        "job_id": job.job_id,
        "name": job.name,
        "kind": job.spec.kind,
        "stage": job.labels.stage,
        "system": job.labels.system,
        "seed": job.spec.seed,
        "status": status,
        "reason": reason,
        "steps": job.num_steps,
        "steps_done": job.num_steps if status == "done" else curve[-1]["step"] if curve else 0,
    }


def show_status(console: Console, rows: Sequence[Row]) -> None:
    """Print how many jobs of each stage are done, running, failed and so on, and why."""
    stages: dict[str, list[Row]] = {}
    for row in rows:
        stages.setdefault(row["stage"], []).append(row)
    words = ["done", "running", "failed", "skipped", "refused", "missing"]
    words = [word for word in words if word in _USUAL or any(row["status"] == word for row in rows)]
    show_rows(
        console,
        [
            {
                "stage": stage,
                "jobs": len(members),
                **{word: sum(row["status"] == word for row in members) for word in words},
            }
            for stage, members in stages.items()
        ],
    )
    for row in rows:
        if row["status"] == "running":
            at = f"step {row['steps_done']:,} of {row['steps']:,}, " if row["steps"] else ""
            line = f"running {row['name']}: {at}{row['reason']}"
            console.print(line, markup=False, highlight=False)
        elif row["status"] == "failed":
            console.print(f"failed  {row['name']}: {row['reason']}", markup=False, highlight=False)
