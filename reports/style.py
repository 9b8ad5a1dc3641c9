"""How figures look, and how they are written: one style, the same bytes for the same data.

Colours are Okabe and Ito's, safe for colour-blind readers, one for each family; systems of one
family differ by line and marker too, so that no figure needs colour. SVG files carry a dark
variant that a page in dark mode picks by itself; PNG files are light.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench import metrics
from reports import escape
from reports.results import Arm, Measure, Study, values

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMN_WIDTH_IN = 3.4
TEXT_WIDTH_IN = 7.0
PNG_DPI = 180

INK, MUTED, GRID, PAPER = "#24292f", "#59636e", "#d8dee4", "#ffffff"
_DARK = {INK: "#e6edf3", MUTED: "#9198a1", GRID: "#30363d", PAPER: "#0d1117"}
_FAMILY_COLORS = {
    "vit": "#0072b2",
    "bit": "#d55e00",
    "hybrid": "#009e73",
    "noisy-student": "#cc79a7",
}
_DARK_SERIES = {"#0072b2": "#4aa8e0", "#d55e00": "#f0883e", "#009e73": "#2fc197"}
_OTHER_COLOR = "#8c6d1f"
_FAMILY_MARKERS = {"vit": "o", "bit": "s", "hybrid": "^", "noisy-student": "D"}
_DASHES = ((), (4, 1.5), (1, 1.2), (5, 1.5, 1, 1.5))


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A finished figure."""

    name: str
    """File name without ending."""
    title: str
    """Heading."""
    caption: str
    """What is shown."""
    alt: str
    """What the figure says, for who cannot see it."""
    svg: bytes
    """Vector form."""
    png: bytes
    """Pixel form."""


@dataclass(frozen=True)
class Look:
    """How one system is drawn everywhere."""

    color: str
    marker: str
    dashes: tuple[float, ...]


def looks(arms: Sequence[Arm]) -> dict[str, Look]:
    """Return the look of each system (by title): colour and marker by family, dashes within it."""
    found: dict[str, Look] = {}
    count: dict[str, int] = {}
    for arm in arms:
        if arm.title not in found:
            place = count.setdefault(arm.family, 0)
            count[arm.family] += 1
            found[arm.title] = Look(
                color=_FAMILY_COLORS.get(arm.family, _OTHER_COLOR),
                marker=_FAMILY_MARKERS.get(arm.family, "v"),
                dashes=_DASHES[place % len(_DASHES)],
            )
    return found


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
    files = {}
    for form, metadata in (("svg", {"Date": None, "Creator": None}), ("png", {"Software": None})):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=form, metadata=metadata, dpi=PNG_DPI)
        files[form] = buffer.getvalue()
    svg = _with_dark_variant(_rounded(files["svg"].decode()), title=title)
    return Drawing(
        name=name, title=title, caption=caption, alt=alt, svg=svg.encode(), png=files["png"]
    )


def _rounded(svg: str) -> str:
    """Round coordinates to a thousandth of a point: no eye sees the rest, and files are smaller."""
    return re.sub(r"(\d\.\d{3})\d+", r"\1", svg)


def _with_dark_variant(svg: str, *, title: str) -> str:
    """Add a title, and colours for dark pages, to an SVG of matplotlib's."""
    rules = "".join(
        f'[style*="{kind}: {light}"]{{{kind}:{dark}!important}}'
        for light, dark in (_DARK | _DARK_SERIES).items()
        for kind in ("fill", "stroke")
    )
    style = f"<style>@media (prefers-color-scheme:dark){{{rules}}}</style>"
    head, start, rest = svg.partition("<svg ")
    attributes, close, body = rest.partition(">")
    # The sizes in points are fixed; the view box lets pages scale it.
    name = escape.plain(title).replace("&", "&amp;").replace("<", "&lt;")
    return f"{head}{start}{attributes}{close}\n <title>{name}</title>\n {style}{body}"


def accuracy_panels(
    study: Study,
    *,
    x_of: Callable[[Arm], float],
    x_label: str,
    ticks: Sequence[float] = (),
    unit: float = 1.0,
) -> Figure | None:
    """Draw accuracy over `x_of(arm)` (log axis): a panel for each measure, a line for each system.

    x is labelled in multiples of `unit`. Lines join the means over seeds; small points are the
    seeds. None where there are no values.
    """
    import pandas as pd
    import seaborn as sns
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    points = [
        {"x": x_of(arm), "y": value * 100, "title": arm.title, "measure": measure}
        for (arm, measure), group in study.scores.items()
        for value in values(group)
    ]
    if not points:
        return None
    data = pd.DataFrame(points)
    measures = [m for m in study.measures if m in set(data["measure"])]
    look = looks(study.arms)
    order = [title for title in look if title in set(data["title"])]
    columns = 1 if len(measures) == 1 else 2
    lines = -(-len(measures) // columns)
    width = COLUMN_WIDTH_IN if columns == 1 else TEXT_WIDTH_IN
    layout = ConstrainedLayoutEngine(h_pad=0.08, w_pad=0.06)
    figure = Figure(figsize=(width, 2.35 * lines + 0.35), layout=layout)
    axes = figure.subplots(lines, columns, squeeze=False).flat
    for measure, ax in zip(measures, axes, strict=False):
        part = data[data["measure"] == measure]
        shown = [title for title in order if title in set(part["title"])]
        colors = {title: look[title].color for title in shown}
        sns.scatterplot(
            part, x="x", y="y", hue="title", hue_order=shown, palette=colors, style="title",
            markers={title: look[title].marker for title in shown}, style_order=shown,
            s=16, alpha=0.55, linewidth=0, legend=False, ax=ax,
        )  # fmt: skip
        sns.lineplot(
            part, x="x", y="y", hue="title", hue_order=shown, palette=colors, style="title",
            markers={title: look[title].marker for title in shown}, style_order=shown,
            dashes={title: look[title].dashes for title in shown}, estimator="mean", errorbar=None,
            linewidth=1.7, markersize=6, markeredgewidth=0.8, markeredgecolor=PAPER, legend=False,
            ax=ax,
        )  # fmt: skip
        log_axis(ax, ticks, unit=unit)
        is_bottom = measures.index(measure) >= len(measures) - columns
        ax.set(
            title=escape_math(panel_title(study, measure)),
            xlabel=x_label if is_bottom else "",
            ylabel="Top-1 (%)",
        )
    for ax in list(axes):
        ax.set_visible(False)
    legend(figure, look, order)
    return figure


def panel_title(study: Study, measure: Measure) -> str:
    """Return a panel's heading; the data set's name where there are several."""
    several = len({other.dataset for other in study.measures}) > 1
    name = study.measure_title(measure)
    return f"{study.dataset_title(measure.dataset)}: {name}" if several else name


def escape_math(text: str) -> str:
    """Return text that matplotlib does not read as mathematics."""
    return escape.plain(text, limit=80).replace("$", r"\$")


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
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / unit:,.6g}"))
    ax.xaxis.set_minor_locator(NullLocator())


def legend(figure: Figure, look: dict[str, Look], order: Sequence[str]) -> None:
    """Name the systems above all panels."""
    from matplotlib.lines import Line2D

    handles = []
    for title in order:
        line = Line2D(
            [], [], color=look[title].color, marker=look[title].marker, markersize=6,
            markeredgecolor=PAPER, linewidth=1.7, label=escape_math(title),
        )  # fmt: skip
        line.set_dashes(look[title].dashes or (None, None))
        handles.append(line)
    figure.legend(
        handles=handles, loc="outside upper left", ncols=min(4, len(handles)), frameon=False,
        handlelength=2.6, borderaxespad=0.2,
    )  # fmt: skip


def means_in_words(study: Study, measure: Measure, x_words: Callable[[Arm], str]) -> str:
    """Return the plotted means of one measure as a sentence for each system."""
    parts: dict[str, list[str]] = {}
    for arm in study.arms:
        mean = study.mean(arm, measure)
        if mean is not None:
            text = f"{metrics.show(measure.metric, mean)} % at {x_words(arm)}"
            parts.setdefault(arm.title, []).append(text)
    return " ".join(f"{title}: {', '.join(words)}." for title, words in parts.items())
