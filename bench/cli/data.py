"""The verbs `vitbench data ...`: look after data sets before a suite needs them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.options import RUNS, Workdir
from bench.cli.printing import new_console, print_facts
from bench.cli.showing import dataset_facts

if TYPE_CHECKING:
    from bench.data.packs.read import Packing
    from bench.specs import DatasetCard

app = typer.Typer(help="Prepare, verify, list and show data sets.", no_args_is_help=True)


class PackingChoice(StrEnum):
    """How images are kept."""

    arrays = "arrays"
    encoded = "encoded"
    streamed = "streamed"


Name = Annotated[str, typer.Argument(help="A data set, by its name in `ls datasets` or the suite.")]
NameOrPath = Annotated[str, typer.Argument(help="A data set by its name, or a path to files.")]
Suite = Annotated[
    str | None, typer.Option("--suite", help="A suite whose own [dataset.NAME] is meant.")
]
PathOption = Annotated[
    Path | None,
    typer.Option(
        "--path", help="Where the files are; by default VITBENCH_DATA/NAME or ./data/NAME."
    ),
]
Reader = Annotated[
    str, typer.Option("--reader", help="The layout of the files, if it is not recognized.")
]
SizePx = Annotated[
    int | None,
    typer.Option(
        "--size-px",
        min=1,
        max=4096,
        help="Squash images to squares of this side, once and for all.",
    ),
]


@app.command()
def prepare(
    name: Name,
    suite: Suite = None,
    path: PathOption = None,
    reader: Reader = "",
    size_px: SizePx = None,
    download: Annotated[
        bool, typer.Option("--download", help="Fetch the files from their owner first.")
    ] = False,
    skip_damaged: Annotated[
        bool, typer.Option("--skip-damaged", help="Leave out, and count, images that fail.")
    ] = False,
    part: Annotated[
        bool, typer.Option("--part", help="The files are a part of the set: for rehearsals alone.")
    ] = False,
    packing: Annotated[
        PackingChoice | None,
        typer.Option(
            "--packing",
            help="Decode once, keep files, or read shards in place; by default, size decides.",
        ),
    ] = None,
    workdir: Workdir = RUNS,
) -> None:
    """Find a data set's files, check them, decode them once, and say what is in them."""
    from bench.cli.counting import counted
    from bench.data import home
    from bench.data.getting.locate import is_generated, locate
    from bench.data.packs import build, examine
    from bench.data.sources import files

    console = new_console(stderr=True)
    with _resumable(name):
        with files.told(counted(f"{name}: hashing files", console)):
            if suite is not None:
                card = _card(name, suite)
            else:
                if download:
                    _tell_terms(name)
                card = locate(
                    name, path=path, reader=reader, size_px=size_px, skip_damaged=skip_damaged,
                    stream=packing is PackingChoice.streamed, fetch=download,
                    part=part,
                )  # fmt: skip
        if card.args.get("stream"):
            home.note(card)
            print_facts({"name": card.name, "streamed from": card.args["path"], **_counts(card)})
            _tell_part(card)
            return
        packed = build.packed(
            card,
            cache_dir=_cache(workdir),
            num_workers=os.cpu_count() or 1,
            packing=_PACKINGS.get(packing),
            on_progress=counted(f"{name}: packing images", console),
        )
        if suite is None and not is_generated(card):
            home.note(card)  # from here on suites find it, whatever is said of it below
        print_facts(examine.examine(packed).model_dump(mode="json"))
        _tell_part(card)


@app.command()
def verify(name: NameOrPath, suite: Suite = None, workdir: Workdir = RUNS) -> None:
    """Decode every source file and check every packed byte; exit 1 when something is wrong."""
    from bench.data.getting import survey
    from bench.data.packs import examine

    num_workers = os.cpu_count() or 1
    if suite is None and _is_path(name):
        found = survey.check_path(Path(name), num_workers=num_workers)
        print_facts(found.model_dump(mode="json", exclude={"problems"}))
        problems = found.problems
    else:
        card = _card(name, suite)
        problems = examine.verify_set(card, cache_dir=_cache(workdir), num_workers=num_workers)
        for note in () if problems else examine.notes_on(card, cache_dir=_cache(workdir)):
            typer.echo(f"note: {note}")
    for problem in problems:
        typer.echo(problem)
    typer.echo(f"{name}: {len(problems)} problems" if problems else f"{name}: sound")
    if problems:
        raise typer.Exit(1)


@app.command("ls")
def list_packed(workdir: Workdir = RUNS) -> None:
    """List the data sets that are packed in the work folder."""
    from bench.data.packs import examine

    there = examine.list_sets(_cache(workdir))
    if not there:
        typer.echo(f"nothing is packed in {workdir}")
    for found in there:
        typer.echo(
            f"{found.name:20} {_size_of(found.sizes_px):>9} {found.num_classes:6,} classes "
            f"{found.num_bytes / 2**20:10,.1f} MiB  {found.folder}"
        )


@app.command()
def show(name: Name, suite: Suite = None, workdir: Workdir = RUNS) -> None:
    """Show everything known about a data set: its card, and what is packed of it."""
    from bench.paths import WorkPaths

    cache = WorkPaths(workdir.resolve()).cache
    print_facts(dataset_facts(_card(name, suite), cache))


_PACKINGS: dict[PackingChoice | None, Packing] = {
    PackingChoice.arrays: "arrays",
    PackingChoice.encoded: "encoded",
}


def _size_of(sizes_px: dict[str, tuple[int, int] | None]) -> str:
    size_px = next(iter(sizes_px.values()), None)
    return f"{size_px[0]} x {size_px[1]}" if size_px else "own sizes"


def _counts(card: DatasetCard) -> dict[str, int]:
    return {f"{split} images": part.num_examples for split, part in card.splits.items()}


def _is_path(name: str) -> bool:
    from bench.data import catalog

    if os.sep in name or name in (".", "..") or name.startswith("~"):
        return True
    return name not in catalog.datasets() and Path(name).exists()


def _cache(workdir: Path) -> Path:
    from bench.paths import WorkPaths

    return WorkPaths(workdir.resolve()).cache.folder


def _card(name: str, suite: str | None) -> DatasetCard:
    from bench.data import catalog
    from bench.plan import suites as suites

    if suite is None:
        return catalog.dataset(name)
    blocks = suites.load(suite).dataset
    if name not in blocks:
        return catalog.dataset(name)
    return catalog.resolve(name, blocks[name], base_dir=suites.locate(suite).parent)


def _tell_terms(name: str) -> None:
    """Say whose data are about to be downloaded, and under which terms."""
    from bench.data import catalog

    card = catalog.published(name)
    typer.echo(f"{card.title}: {card.source}. Terms: {card.licence or 'not stated'}", err=True)


def _tell_part(card: DatasetCard) -> None:
    """Say what a part of a published set is good for."""
    if card.part:
        typer.echo(
            f"{card.name}: {card.part}: a part, for rehearsals alone: `vitbench run SUITE "
            "--limit-steps 2`"
        )


@contextmanager
def _resumable(name: str) -> Iterator[None]:
    """Say how to go on where the command is stopped: by Ctrl-C, or by a signal that ends it."""
    from bench.cli.wiring import end_on_signals, terminate_on

    end_on_signals(terminate_on)
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as stopped:
        typer.echo(
            f"\nvitbench: stopped; what was hashed and packed is kept: run `vitbench data prepare "
            f"{name}` again, with the same options, to go on",
            err=True,
        )
        raise SystemExit(getattr(stopped, "code", 128 + signal.SIGINT)) from stopped
