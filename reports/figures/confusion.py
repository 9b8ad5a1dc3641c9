"""What each class was taken for: a matrix for each system and data set of few classes.

Data sets of more classes have their most frequent mistakes in the table `confusions` alone: a
matrix of a hundred classes shows nothing on a page.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from reports.cards import FigureCard
from reports.drawing import style
from reports.printing.drawing import Drawing
from reports.study.classes import Classes, Told, arm_titles, has_own_data, shown
from reports.study.study import Study
from reports.tables.confusions import in_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_CLASSES = 30
"""Classes of a data set that is drawn."""
MAX_PANELS = 6
MAX_NUMBERED = 12
"""Classes up to which there is room for numbers."""
NUM_IN_WORDS = 3
"""Mistakes of each system that are said in words."""
PANEL_IN, WIDE_PANEL_IN = 3.3, 5.2
"""Height of panels side by side, and of those that fill the page's width."""
LONGEST_NAME = 16

_Panel = tuple[str, Classes, Told]
"""Title, data set and system."""


def figure(study: Study) -> Drawing | None:
    """Draw the matrices; None where no answers were left, or of too many classes alone."""
    found = shown(study, asked="confusion" in study.graph.suite.report.figures)
    panels = [
        panel
        for classes in found
        if len(classes.names) <= MAX_CLASSES
        for panel in _panels(study, classes, several=len(found) > 1)
    ]
    if not panels:
        return None
    with style.styled():
        return style.finish(
            _draw(panels[:MAX_PANELS]),
            name="confusion",
            title="What each class was taken for",
            caption="A row for each class of the test images, a column for what they were taken "
            "for: share of the row in %, mean over seeds, stronger where larger; right answers "
            f"are on the diagonal. Systems at their largest upstream size.{_left(found, panels)}",
            alt=f"Confusion matrices. {' '.join(map(_words, panels[:MAX_PANELS]))}",
        )


def _panels(study: Study, classes: Classes, *, several: bool) -> list[_Panel]:
    titles = arm_titles(study, [told.arm for told in classes.systems])
    data = f"{study.dataset_title(classes.dataset)}: " if several else ""
    return [
        (data + title, classes, told) for title, told in zip(titles, classes.systems, strict=True)
    ]


def _left(found: Sequence[Classes], panels: Sequence[_Panel]) -> str:
    """Say what is not drawn."""
    more = len(panels) - MAX_PANELS
    large = sum(len(classes.names) > MAX_CLASSES for classes in found)
    parts = [
        f"{more} further systems or data sets" if more > 0 else "",
        f"{large} data set{'s' * (large > 1)} of more than {MAX_CLASSES} classes" if large else "",
    ]
    words = " and ".join(filter(None, parts))
    return f" Not drawn: {words}; the table of mistakes has them." if words else ""


def _draw(panels: Sequence[_Panel]) -> Figure:
    most = max(len(classes.names) for _, classes, _ in panels)
    columns = 2 if most <= MAX_CLASSES // 2 else 1
    figure, axes = style.panels(len(panels), columns=columns)
    if most > MAX_NUMBERED:
        figure.set_figwidth(style.TEXT_WIDTH_IN)
    height = PANEL_IN if columns == 2 else WIDE_PANEL_IN
    figure.set_figheight(height * -(-len(panels) // min(columns, len(panels))))
    for place, (panel, ax) in enumerate(zip(panels, axes, strict=True)):
        _matrix(ax, panel)
        if style.is_lowest(place, len(panels), columns=columns):
            ax.set_xlabel("Taken for")
    if most > MAX_NUMBERED:
        levels = (1, 3, 5, len(style.SHADES))
        entries = {
            f"up to {100 * level // len(style.SHADES)} %": style.Look(style.shade(level), "s", ())
            for level in levels
        }
        style.marker_legend(figure, entries)
    return figure


def _matrix(ax: Axes, panel: _Panel) -> None:
    from matplotlib.collections import PolyCollection

    title, classes, told = panel
    num = len(classes.names)
    cells: dict[int, list[tuple[int, int]]] = {}
    for label, num_images in enumerate(classes.num_images):
        for taken_for in range(num if num_images else 0):
            share = told.share(label, taken_for, num_images)
            level = style.shade_level(share)
            if level:
                cells.setdefault(level, []).append((label, taken_for))
            if num <= MAX_NUMBERED and round(100 * share):
                ax.text(
                    taken_for, label, f"{100 * share:.0f}", ha="center", va="center", fontsize=6,
                    color=style.shade_ink(level),
                )  # fmt: skip
    for level, places in sorted(cells.items()):
        squares = [
            [(x - 0.5, y - 0.5), (x + 0.5, y - 0.5), (x + 0.5, y + 0.5), (x - 0.5, y + 0.5)]
            for y, x in places
        ]
        ax.add_collection(
            PolyCollection(
                squares, facecolors=style.shade(level), edgecolors=style.PAPER, linewidths=0.4
            )
        )
    names = [style.escape_math(_short(name)) for name in classes.names]
    size = 7 if num <= MAX_NUMBERED else 5.5
    ax.set_xticks(range(num), names, rotation=90, fontsize=size)
    ax.set_yticks(range(num), names, fontsize=size)
    ax.set(
        title=style.escape_math(title), ylabel="Class", aspect="equal",
        xlim=(-0.5, num - 0.5), ylim=(num - 0.5, -0.5),
    )  # fmt: skip
    ax.grid(visible=False)


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"


def _words(panel: _Panel) -> str:
    """Return the most frequent mistakes of a system as a sentence."""
    title, classes, told = panel
    parts = [
        f"{classes.names[mistake.label]} taken for {classes.names[mistake.taken_for]} "
        f"({in_words(mistake.mean, classes.num_images[mistake.label])})"
        for mistake in told.mistakes()[:NUM_IN_WORDS]
    ]
    return f"{title}: {'; '.join(parts) or 'no mistakes'}."


FIGURE = FigureCard(name="confusion", draw=figure, comes=has_own_data)
