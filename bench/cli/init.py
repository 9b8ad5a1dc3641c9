"""The verb `vitbench init`: from pictures to a suite that runs at once."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.options import RUNS, Workdir
from bench.cli.printing import near
from bench.errors import UserError

if TYPE_CHECKING:
    from bench.init.look import Looked

DRAFT = "the draft"
"""Name of a suite that is not written yet."""

NUM_NAMED = 12
"""Classes and damaged files that are named one by one."""


def init(
    pictures: Annotated[
        Path, typer.Argument(help="A folder of pictures, or a file such as a CSV, that lists them.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="The suite file; by default NAME.toml here.")
    ] = None,
    size_px: Annotated[
        int | None, typer.Option("--size-px", help="Side of the pictures: 16, 32 or 64.")
    ] = None,
    minutes: Annotated[
        int,
        typer.Option("--minutes", min=1, help="About how long the suite may take here."),
    ] = 15,
    workdir: Workdir = RUNS,
) -> None:
    """Look at pictures of your own, and write a suite for them that runs at once."""
    from bench.cli.listing import duration
    from bench.files import write_text
    from bench.init import draft, look, sheet
    from bench.paths import WorkPaths

    if size_px is not None and size_px not in look.SIZES_PX:
        raise UserError(
            f"--size-px {size_px}: micro systems see 16, 32 or 64 px",
            hint="For larger pictures change protocols and systems in the suite: docs/suites.md",
        )
    if out is not None:
        _check_new(out)
    looked = look.look(pictures, cache=WorkPaths(workdir.resolve()).cache, size_px=size_px)
    suite = out if out is not None else Path(f"{looked.card.name}.toml")
    _check_new(suite)
    found = list(_found(looked))
    for line in found:
        typer.echo(line)
    folder = suite.resolve().parent
    for most_steps in draft.SHORTER:
        text = draft.draft(looked, folder=folder, found=found, most_steps=most_steps)
        num_jobs, seconds = _work(text, folder, workdir)
        if seconds <= 60 * minutes:
            break
    picture = suite.with_suffix(".png")
    num_shown = sheet.write(looked, picture)
    write_text(suite, text)
    rest = looked.card.num_classes - num_shown
    typer.echo(f"\nsheet    {near(picture)}" + (f" (without {rest:,} classes)" if rest else ""))
    typer.echo(f"suite    {near(suite)}: {num_jobs} jobs, about {duration(seconds)} here")
    if seconds > 60 * minutes:
        typer.echo(f"note     longer than {minutes} min: fewer seeds or systems make it shorter")
    typer.echo(f"next     vitbench run {shlex.quote(str(near(suite)))}{_option(workdir)}")


def _check_new(path: Path) -> None:
    """Raise UserError where a file would be written over."""
    if path.suffix != ".toml":
        raise UserError(f"--out {path}: a suite file ends in .toml")
    if not path.resolve().parent.is_dir():
        raise UserError(f"--out {path}: there is no folder {path.parent}")
    for there in (path, path.with_suffix(".png")):
        if there.exists():
            raise UserError(f"{there} is there already", hint="Remove it, or give another --out")


def _found(looked: Looked) -> Iterator[str]:
    """Yield what lies there, a line each."""
    from bench.init.draft import can_choose

    card = looked.card
    total = sum(part.num_examples for part in card.splits.values())
    yield (
        f"{card.name}: {total:,} pictures in {card.num_classes:,} classes (layout "
        f"{looked.block['reader']})"
    )
    yield f"classes  {_names(card.class_names or [str(k) for k in range(card.num_classes)])}"
    for split, part in card.splits.items():
        counts = looked.per_class[split]
        each = f"{min(counts):,}" + (f" to {max(counts):,}" if max(counts) > min(counts) else "")
        drawn = split == "test" and "drawn" in part.selector
        how = f" ({part.selector})" if drawn else ""
        yield f"{split:8} {part.num_examples:,}: {each} of each class{how}"
    yield f"sizes    {_sizes(looked.sides_px)}; seen as squares of {looked.size_px} px"
    for message in looked.damaged[:NUM_NAMED]:
        yield f"damaged  {message}"
    if looked.damaged[NUM_NAMED:]:
        yield f"damaged  and {len(looked.damaged) - NUM_NAMED:,} more: all are left out"
    for note in looked.notes:
        yield f"note     {note}"
    if not can_choose(looked):
        yield "note     too few pictures to hold some out and fine-tune: k-NN and few-shot alone"
    if not looked.notes and not looked.damaged:
        yield "notes    none: no copies, no picture in two splits, no class without pictures"


def _names(names: tuple[str, ...] | list[str]) -> str:
    shown = ", ".join(names[:NUM_NAMED])
    return shown + (f", ... ({len(names) - NUM_NAMED:,} more)" if names[NUM_NAMED:] else "")


def _sizes(sides_px: tuple[tuple[int, int], ...]) -> str:
    """Return the sizes of pictures in words, width first."""
    distinct = set(sides_px)
    if len(distinct) == 1:
        height, width = next(iter(distinct))
        return f"{width} x {height} px"
    shorter = sorted(min(side) for side in sides_px)
    square = sum(height == width for height, width in sides_px) / len(sides_px)
    return (
        f"shorter side {shorter[0]} to {shorter[-1]} px, median {shorter[len(shorter) // 2]}; "
        f"{square:.0%} square"
    )


def _work(text: str, folder: Path, workdir: Path) -> tuple[int, float]:
    """Return the jobs of a suite that would lie in a folder, and about their seconds here."""
    from bench.cli.wiring import planned
    from bench.paths import WorkPaths
    from bench.plan import suites
    from bench.schedule import Estimates

    cache = WorkPaths(workdir.resolve()).cache
    graph = planned(suites.parse(text, file=DRAFT), base_dir=folder, file=DRAFT, cache=cache)
    estimates = Estimates(graph, {})
    slots = max(1, (os.cpu_count() or 1) // graph.suite.num_threads)
    return len(graph.jobs), sum(estimates.seconds(job) for job in graph.jobs) / slots


def _option(workdir: Path) -> str:
    return "" if workdir == RUNS else f" --workdir {shlex.quote(str(workdir))}"
