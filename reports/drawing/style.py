"""How figures look, and how they are written: one style, the same bytes for the same data.

Colours follow Okabe and Ito's, safe for colour-blind readers, darkened where they were pale (each
has a contrast of 3 to paper), one for each family; systems of one family differ by line and marker
too, so that no figure needs colour. What was measured is filled, what was published is hollow.
Figures are as wide as a column of a printed page or as its text, with letters readable there. SVG
files carry a dark variant that a page in dark mode picks by itself; PNG files are light.
"""

from __future__ import annotations

import functools
import io
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import baselines
from reports.printing import escape
from reports.printing.drawing import Drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMN_WIDTH_IN = 3.25
TEXT_WIDTH_IN = 6.75
PANEL_HEIGHT_IN = 2.2
LEGEND_LINE_IN = 0.18
PNG_DPI = 180

INK, MUTED, GRID, PAPER = "#24292f", "#59636e", "#d8dee4", "#ffffff"
_DARK_INKS = {INK: "#e6edf3", MUTED: "#9198a1", GRID: "#30363d", PAPER: "#0d1117"}
_OTHER_COLOR, _OTHER_DARK = "#8c6d1f", "#c9a34a"
_OTHER_MARKERS = ("v", "d")
SPARE_COLORS = ("#7b5ea7", "#b87a00", "#3a8fc4")
"""Colours of families whose cards name none, in turn."""
_SPARE_MARKERS = ("p", "8", "H")
SYSTEM_COLORS = ("#0072b2", "#d55e00", "#009e73", "#c0609a", "#b87a00", "#3a8fc4")
"""Colours of systems, or of other things, that no family tells apart."""
SYSTEM_MARKERS = ("o", "s", "^", "D", "v", "P")
_DASHES: tuple[tuple[float, ...], ...] = (
    (), (4, 1.5), (1, 1.2), (5, 1.5, 1, 1.5), (8, 2), (3, 1, 1, 1, 1, 1),
)  # fmt: skip


def _mixed(one: str, other: str, share: float) -> str:
    """Return a colour between two, as hex."""
    parts = ((int(one[i : i + 2], 16), int(other[i : i + 2], 16)) for i in (1, 3, 5))
    return "#" + "".join(f"{round(a + share * (b - a)):02x}" for a, b in parts)


_STRONGEST, _STRONGEST_DARK = "#004a75", "#79c0ff"
_STRENGTHS = (0.14, 0.26, 0.36, 0.46, 0.76, 0.84, 0.92, 1.0)
SHADES = {
    _mixed(PAPER, _STRONGEST, share): _mixed(_DARK_INKS[PAPER], _STRONGEST_DARK, share)
    for share in _STRENGTHS
}
"""Shades of a share, the weakest first, each with its own on dark pages. Ink can be read on the
first half, paper on the second."""


def shade_level(share: float) -> int:
    """Return the place of a share's shade, from 1 on; 0 for what is too little to be shown."""
    return 0 if share < 0.005 else min(len(SHADES), math.ceil(round(share * len(SHADES), 9)))


def shade(level: int) -> str:
    """Return a shade by its place, from 1 on."""
    return [*SHADES][level - 1]


def shade_ink(level: int) -> str:
    """Return the colour of letters on a shade."""
    return INK if level <= len(SHADES) // 2 else PAPER


@dataclass(frozen=True)
class Look:
    """How one system is drawn everywhere."""

    color: str
    marker: str
    dashes: tuple[float, ...]
    is_hollow: bool = False
    """Published, not measured."""


def family_look(family: str, *, place: int = 0, is_hollow: bool = False) -> Look:
    """Return the look of a family's system: its colour, and a line and marker by `place` in it."""
    color, markers = _family_looks().get(family, (_OTHER_COLOR, _OTHER_MARKERS))
    return Look(
        color=color,
        marker=markers[place % len(markers)],
        dashes=_DASHES[place % len(_DASHES)],
        is_hollow=is_hollow,
    )


@functools.cache
def _family_looks() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Return colour and markers of each family: those of its card, or spare ones."""
    found = {}
    spare = 0
    for family in baselines.families():
        turn = spare % len(SPARE_COLORS)
        markers = family.markers or (*_SPARE_MARKERS[turn:], *_SPARE_MARKERS[:turn])
        found[family.name] = (family.colour or SPARE_COLORS[turn], markers)
        spare += not family.colour
    return found


@functools.cache
def dark_colors() -> dict[str, str]:
    """Return colours on a dark page, by those on a light one; colours not named stay."""
    ours = {family.colour: family.dark_colour for family in baselines.families()}
    return {
        **_DARK_INKS,
        **{light: dark for light, dark in ours.items() if light and dark},
        _OTHER_COLOR: _OTHER_DARK,
    }


def published(look: Look) -> Look:
    """Return the look of the same system as published: hollow, with thin lines."""
    return replace(look, is_hollow=True)


def looks(systems: Iterable[tuple[str, str]]) -> dict[str, Look]:
    """Return the look of each system (title, family): colour by family, line and marker in it.

    Three or more systems of one family, with no other family, have colours of their own.
    """
    families = dict(systems)
    if len(set(families.values())) == 1 and len(families) > 2:
        return {title: _own_look(place) for place, title in enumerate(families)}
    found: dict[str, Look] = {}
    count: dict[str, int] = {}
    for title, family in families.items():
        found[title] = family_look(family, place=count.get(family, 0))
        count[family] = count.get(family, 0) + 1
    return found


def _own_look(place: int) -> Look:
    turn, place_in_turn = divmod(place, len(SYSTEM_COLORS))
    return Look(
        color=SYSTEM_COLORS[place_in_turn],
        marker=SYSTEM_MARKERS[place_in_turn],
        dashes=_DASHES[(place_in_turn + turn) % len(_DASHES)],
    )


@contextmanager
def styled() -> Iterator[None]:
    """Set the look of figures made inside, and nothing outside."""
    import matplotlib as mpl
    import seaborn as sns

    rc = {
        **sns.axes_style("whitegrid"),
        "font.family": "DejaVu Sans",
        "font.size": 8.5,
        "axes.titlesize": 9,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.labelsize": 8.5,
        "xtick.labelsize": 8,
        "ytick.labelsize": 8,
        "legend.fontsize": 8.5,
        "axes.edgecolor": MUTED,
        "axes.labelcolor": INK,
        "axes.linewidth": 0.7,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid.axis": "y",
        "grid.color": GRID,
        "grid.linewidth": 0.7,
        "text.color": INK,
        "xtick.color": MUTED,
        "ytick.color": MUTED,
        "figure.facecolor": PAPER,
        "axes.facecolor": PAPER,
        "savefig.facecolor": PAPER,
        "svg.fonttype": "path",
        "svg.hashsalt": "vitbench",
        "path.simplify": False,
    }
    with mpl.rc_context(rc):
        yield


def finish(figure: Figure, *, name: str, title: str, caption: str, alt: str) -> Drawing:
    """Write a figure to SVG and PNG, without dates or versions in the files."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # the layout stands: both files need not find it again
    is_narrow = figure.get_figwidth() <= COLUMN_WIDTH_IN
    files = {}
    for form, metadata in (("svg", {"Date": None, "Creator": None}), ("png", {"Software": None})):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=form, metadata=metadata, dpi=PNG_DPI)
        files[form] = buffer.getvalue()
    svg = _with_dark_variant(_compact(files["svg"].decode()), title=title)
    return Drawing(
        name=name, title=title, caption=caption, alt=alt, svg=svg.encode(), png=files["png"],
        is_narrow=is_narrow,
    )  # fmt: skip


def _compact(svg: str) -> str:
    """Return the drawing without comments, metadata and indents, in thousandths of a point.

    No eye sees the rest, and a page with all figures is smaller.
    """
    svg = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"(\d\.\d{3})\d+", r"\1", svg)
    return re.sub(r"\s*\n\s*", "\n", svg)


def _with_dark_variant(svg: str, *, title: str) -> str:
    """Add a title, and colours for dark pages, to an SVG of matplotlib's."""
    shades = {light: dark for light, dark in SHADES.items() if light in svg}
    rules = "".join(
        f'[style*="{kind}: {light}"]{{{kind}:{dark}!important}}'
        for light, dark in {**dark_colors(), **shades}.items()
        for kind in ("fill", "stroke")
    )
    style = f"<style>@media (prefers-color-scheme:dark){{{rules}}}</style>"
    head, start, rest = svg.partition("<svg ")
    attributes, close, body = rest.partition(">")
    # The sizes in points are fixed; the view box lets pages scale it.
    name = escape.plain(title).replace("&", "&amp;").replace("<", "&lt;")
    return f"{head}{start}{attributes}{close}\n <title>{name}</title>\n {style}{body}"


def panels(num: int, *, columns: int = 2, sharey: bool = False) -> tuple[Figure, list[Axes]]:
    """Return a figure of `num` panels, side by side up to `columns`, and its axes."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    columns = min(num, columns)
    lines = -(-num // columns)
    width = COLUMN_WIDTH_IN if columns == 1 else TEXT_WIDTH_IN
    layout = ConstrainedLayoutEngine(h_pad=0.05, w_pad=0.05)
    figure = Figure(figsize=(width, PANEL_HEIGHT_IN * lines), layout=layout)
    axes = list(figure.subplots(lines, columns, squeeze=False, sharey=sharey).flat)
    for ax in axes[num:]:
        ax.set_visible(False)
    return figure, axes[:num]


def is_lowest(place: int, num: int, *, columns: int = 2) -> bool:
    """Tell whether no other panel stands below the one in a place."""
    return place >= num - min(num, columns)


def line(ax: Axes, x: Sequence[float], y: Sequence[float], look: Look) -> None:
    """Draw a line through points, thin where it was published."""
    (drawn,) = ax.plot(x, y, color=look.color, linewidth=0.9 if look.is_hollow else 1.7)
    drawn.set_dashes(look.dashes or (None, None))


def points(
    ax: Axes, x: Sequence[float], y: Sequence[float], look: Look, *, size: float = 6.0
) -> None:
    """Draw markers: filled where measured, hollow where published."""
    ax.plot(x, y, linestyle="none", **_marker(look, size))


def _marker(look: Look, size: float) -> dict[str, Any]:
    return {
        "color": look.color,
        "marker": look.marker,
        "markersize": size - 0.6 if look.is_hollow else size,
        "markerfacecolor": PAPER if look.is_hollow else look.color,
        "markeredgecolor": look.color if look.is_hollow else PAPER,
        "markeredgewidth": 1.1 if look.is_hollow else 0.8,
    }


def escape_math(text: str) -> str:
    """Return text that matplotlib does not read as mathematics."""
    return escape.plain(text, limit=80).replace("$", r"\$")


def short(number: float) -> str:
    """Return a number for an axis: `16,384`, `14M`."""
    return f"{number / 1e6:,.6g}M" if number >= 1e6 else f"{number:,.6g}"


def log_axis(ax: Axes, ticks: Sequence[float], *, unit: float = 1.0) -> None:
    """Make x logarithmic, labelled in multiples of `unit`: at `ticks`, or at 1, 2, 5, 10, ..."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

    ax.set_xscale("log")
    low, high = ax.get_xlim()
    if high / low < 3:
        low, high = low / 1.7, high * 1.7
        ax.set_xlim(low, high)
    steps = (1.0, 2.0, 5.0) if high / low < 100 else (1.0,)
    ax.xaxis.set_major_locator(FixedLocator(list(ticks)) if ticks else LogLocator(subs=steps))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value / unit)))
    ax.xaxis.set_minor_locator(NullLocator())


def plain_log_labels(ax: Axes) -> None:
    """Label a logarithmic y axis with plain numbers at 1, 2, 5, 10, ..."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    low, high = ax.get_ylim()
    if high / low < 3:
        ax.set_ylim(low / 1.5, high * 1.5)
    ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    ax.yaxis.set_minor_locator(NullLocator())


def legend(figure: Figure, look: Mapping[str, Look], order: Sequence[str]) -> None:
    """Name what is drawn above all panels, in as many columns as there is room for."""
    from matplotlib.lines import Line2D

    handles = []
    for title in order:
        shown = Line2D(
            [], [], linewidth=0.9 if look[title].is_hollow else 1.7, label=escape_math(title),
            **_marker(look[title], 6.0),
        )  # fmt: skip
        shown.set_dashes(look[title].dashes or (None, None))
        handles.append(shown)
    _legend(figure, handles, [*order])


def marker_legend(figure: Figure, entries: Mapping[str, Look]) -> None:
    """Name markers without lines above all panels."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], linestyle="none", label=escape_math(title), **_marker(look, 6.0))
        for title, look in entries.items()
    ]
    _legend(figure, handles, [*entries])


def _legend(figure: Figure, handles: list[Any], labels: Sequence[str]) -> None:
    if not handles:
        return
    needed_in = 0.55 + 0.07 * max(len(label) for label in labels)
    columns = max(1, min(4, len(handles), int(figure.get_figwidth() / needed_in)))
    lines = -(-len(handles) // columns)
    figure.set_figheight(figure.get_figheight() + LEGEND_LINE_IN * lines)
    figure.legend(
        handles=handles, loc="outside upper left", ncols=columns, frameon=False,
        handlelength=2.6, borderaxespad=0.2, columnspacing=1.2,
    )  # fmt: skip
