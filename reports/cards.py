"""What a table or a figure says of itself; the registries that find them.

A table is one file in `reports/tables/` with `TABLE = TableCard(...)`, a figure one in
`reports/figures/` with `FIGURE = FigureCard(...)`; other distributions name theirs by the entry
points `vitbench.tables` and `vitbench.figures`. Nobody else keeps a list.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bench.plugins import Registry

if TYPE_CHECKING:
    from reports.printing.drawing import Drawing
    from reports.printing.table import Table
    from reports.study.study import Study

Section = Literal["results", "leading", "following", "cost", "training", "none"]
"""Part of the page: `results` stands first, `leading` before the figures, `following` after them,
`cost` and `training` at the end; `none` where another table shows the same."""


def _anything(study: Study) -> bool:
    return True


def _nothing(study: Study) -> bool:
    return False


@dataclass(frozen=True, kw_only=True)
class TableCard:
    """What is known about a table."""

    name: str
    """Name in suites (`report.tables`) and of its files."""
    make: Callable[[Study], Table]
    """Makes it; the name of the table is that of the card."""
    place: int = 500
    """Where it stands among the tables; lower ones first."""
    needs: Callable[[Study], bool] = _anything
    """Whether a study has what it shows; else it is only made where the suite asks for it."""
    always: bool = False
    """Made for every suite."""
    comes_with: str = ""
    """Table that it comes along with, where it has rows."""
    measured: bool = False
    """Holds timings, which differ between runs: it goes to `timings/`."""
    section: Section = "following"
    """Part of the page that shows it."""


@dataclass(frozen=True, kw_only=True)
class FigureCard:
    """What is known about a figure."""

    name: str
    """Name in suites (`report.figures`) and of its files."""
    draw: Callable[[Study], Drawing | None]
    """Draws it; None where there is nothing to draw. Seaborn and matplotlib are imported inside."""
    measured: bool = False
    """Shows timings, which differ between runs: it goes to `timings/`."""
    comes: Callable[[Study], bool] = _nothing
    """Whether a study shows it unasked; others are drawn where a suite asks for them."""


TABLES: Registry[TableCard] = Registry(
    "vitbench.tables", package="reports.tables", attribute="TABLE", of=TableCard, noun="table"
)
"""Every table by name, those of other distributions included."""
FIGURES: Registry[FigureCard] = Registry(
    "vitbench.figures", package="reports.figures", attribute="FIGURE", of=FigureCard, noun="figure"
)
"""Every figure by name, those of other distributions included."""


def check_name(registry: Registry[Any], name: str) -> None:
    """Raise UnknownName for a table or a figure that does not exist.

    Ours stand in files of their names: a suite that names them is planned without importing them.
    """
    room = f"{registry.noun}s"
    is_ours = name.isidentifier() and (Path(__file__).parent / room / f"{name}.py").is_file()
    if not is_ours:
        registry.named(name, where=f"report.{room}")


def tables_in_order() -> tuple[TableCard, ...]:
    """Return every table in the order in which reports show them."""
    return tuple(sorted(TABLES.values(), key=lambda card: (card.place, card.name)))
