"""The verbs `vitbench data ...`: look after data sets before a suite needs them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.options import RUNS, Workdir

if TYPE_CHECKING:
    from bench.specs import DatasetCard

app = typer.Typer(help="Prepare, verify, list and show data sets.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="A data set, by its name in `ls datasets` or the suite.")]
Suite = Annotated[
    str | None, typer.Option("--suite", help="A suite whose own [dataset.NAME] is meant.")
]


@app.command()
def prepare(name: Name, suite: Suite = None, workdir: Workdir = RUNS) -> None:
    """Decode a data set once into packed arrays, and say what is in it."""
    from bench.data import examine

    found = examine.prepare_set(
        _card(name, suite), cache_dir=_cache(workdir), num_workers=os.cpu_count() or 1
    )
    _print(found.model_dump(mode="json"))


@app.command()
def verify(name: Name, suite: Suite = None, workdir: Workdir = RUNS) -> None:
    """Decode every source file and check every packed byte; exit 1 when something is wrong."""
    from bench.data import examine

    problems = examine.verify_set(
        _card(name, suite), cache_dir=_cache(workdir), num_workers=os.cpu_count() or 1
    )
    for problem in problems:
        typer.echo(problem)
    typer.echo(f"{name}: {len(problems)} problems" if problems else f"{name}: sound")
    if problems:
        raise typer.Exit(1)


@app.command("ls")
def list_packed(workdir: Workdir = RUNS) -> None:
    """List the data sets that are packed in the work folder."""
    from bench.data import examine

    for found in examine.list_sets(_cache(workdir)):
        typer.echo(
            f"{found.name:20} {found.image_size_px:4} px {found.num_classes:6,} classes "
            f"{found.num_bytes / 2**20:10,.1f} MiB  {found.folder}"
        )


@app.command()
def show(name: Name, suite: Suite = None, workdir: Workdir = RUNS) -> None:
    """Show everything known of a data set: its card, and what is packed of it."""
    from bench.data import examine

    card = _card(name, suite)
    packed = next(
        (set_ for set_ in examine.list_sets(_cache(workdir)) if set_.digest == card.digest), None
    )
    _print(card.model_dump(mode="json", exclude_defaults=True))
    typer.echo("packed" if packed else "not packed yet")
    if packed:
        _print(packed.model_dump(mode="json"))


def _cache(workdir: Path) -> Path:
    from bench.store import Store

    return Store(workdir).cache


def _card(name: str, suite: str | None) -> DatasetCard:
    from bench import suite as suites
    from bench.data import catalog

    if suite is None:
        return catalog.dataset(name)
    blocks = suites.load(suite).dataset
    if name not in blocks:
        return catalog.dataset(name)
    return catalog.resolve(name, blocks[name], base_dir=suites.locate(suite).parent)


def _print(facts: dict[str, Any], indent: str = "") -> None:
    for key, value in facts.items():
        if isinstance(value, dict):
            typer.echo(f"{indent}{key}")
            _print(value, indent + "  ")
        elif value not in (None, "", [], ()):
            typer.echo(f"{indent}{key.replace('_', ' '):{24 - len(indent)}} {value}")
