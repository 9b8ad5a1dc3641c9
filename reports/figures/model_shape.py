"""Which dimension of a model to scale: Figure 8 of arXiv:2010.11929.

A suite varies one system by blocks `[system.NAME]` with `like` and some arguments changed. Systems
that change the same arguments of the same system are one line, which starts at that system where
the suite has it too. The paper prints no numbers, so nothing published is shown with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench import metrics
from reports.cards import FigureCard
from reports.drawing import style
from reports.printing.drawing import Drawing
from reports.printing.units import common_exponent, power_unit
from reports.study import averages
from reports.study.samples import Arm, Measure
from reports.study.study import Study, bare_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAMES = {
    "depth": "depth",
    "width": "width",
    "mlp_dim": "MLP width",
    "patch_px": "patch size",
    "num_heads": "heads",
}
"""Printed names of arguments."""


@dataclass(frozen=True)
class Line:
    """Systems that change the same arguments of one system."""

    name: str
    points: tuple[tuple[Arm, str], ...]
    """(arm, values of the arguments), by rising compute; the unchanged system says nothing."""


def figure(study: Study) -> Drawing | None:
    """Draw accuracy over compute, a line for what is scaled; None where nothing is varied."""
    measures = _measures(study)
    drawn = {m: found for m in measures[: averages.MAX_SHOWN] if (found := lines(study, m))}
    if not drawn:
        return None
    titles = ", ".join(map(study.measure_name, drawn))
    words = (
        f"{study.measure_name(measure)}: {_words(study, measure, line)}"
        if len(drawn) > 1
        else _words(study, measure, line)
        for measure, found in drawn.items()
        for line in found
    )
    with style.styled():
        return style.finish(
            _draw(study, drawn),
            name="model_shape",
            title="Scaling different dimensions of a model",
            caption=f"{titles} (top-1, mean over seeds) over pre-training work (log scale). Each "
            "line changes one set of arguments of the same system; numbers are their values."
            f"{averages.said_of(len(measures) - len(drawn), 'data set')}",
            alt=f"Line chart of {titles} over pre-training compute, a line for each dimension that "
            f"is scaled. {' '.join(words)}",
        )


def _measures(study: Study) -> list[Measure]:
    """Return the 5-shot accuracy of each data set that has one, as in the paper.

    Where none has, the accuracy that stands for each data set.
    """
    fewshot: dict[str, Measure] = {}
    for measure in study.accuracies:
        if measure.metric == "fewshot_top1/5":
            fewshot.setdefault(measure.dataset, measure)
    return list(fewshot.values() or averages.leading(study))


def lines(study: Study, measure: Measure) -> list[Line]:
    """Return the lines with two points or more; arms of one upstream set and size only."""
    sizes = list(study.arms_by_size.values())
    arms = [a for a in (sizes[-1] if sizes else []) if study.mean(a, measure) is not None]
    by_name = {bare_name(arm.system): arm for arm in arms if arm.exaflops > 0}
    groups: dict[tuple[str, tuple[str, ...]], list[tuple[Arm, str]]] = {}
    for name, block in study.graph.suite.system.items():
        arm = by_name.get(bare_name(name))
        if arm is not None and block.like and block.args:
            values = ", ".join(str(block.args[key]) for key in sorted(block.args))
            groups.setdefault((block.like, tuple(sorted(block.args))), []).append((arm, values))
    found = []
    for (like, keys), points in groups.items():
        base = by_name.get(bare_name(like))
        whole = [*([(base, "")] if base else []), *points]
        whole.sort(key=lambda point: point[0].exaflops)
        if len(whole) > 1:
            found.append(Line(" + ".join(NAMES.get(key, key) for key in keys), tuple(whole)))
    return found


def _draw(study: Study, drawn: Mapping[Measure, list[Line]]) -> Figure:
    work = [arm.exaflops for found in drawn.values() for line in found for arm, _ in line.points]
    exponent = common_exponent(work)
    looks = {
        name: style.Look(
            style.SYSTEM_COLORS[place % len(style.SYSTEM_COLORS)],
            style.SYSTEM_MARKERS[place % len(style.SYSTEM_MARKERS)],
            (),
        )
        for place, name in enumerate(
            dict.fromkeys(line.name for found in drawn.values() for line in found)
        )
    }
    figure, axes = style.panels(len(drawn))
    for place, (measure, ax) in enumerate(zip(drawn, axes, strict=True)):
        for line in drawn[measure]:
            _line(study, ax, measure, line, looks[line.name])
        style.log_axis(ax, (), unit=10.0**exponent)
        ax.margins(y=0.12)
        ax.set_title(style.escape_math(study.measure_name(measure)))
        ax.set_ylabel("Top-1 (%)")
        if style.is_lowest(place, len(drawn)):
            ax.set_xlabel(f"Pre-training compute ({power_unit(exponent, 'exaFLOPs')})")
    style.legend(figure, looks, list(looks))
    return figure


def _line(study: Study, ax: Axes, measure: Measure, line: Line, look: style.Look) -> None:
    x_N = [arm.exaflops for arm, _ in line.points]
    y_N = [100 * (study.mean(arm, measure) or 0.0) for arm, _ in line.points]
    style.line(ax, x_N, y_N, look)
    style.points(ax, x_N, y_N, look)
    for x, y, (_, values) in zip(x_N, y_N, line.points, strict=True):
        ax.annotate(
            style.escape_math(values), (x, y), xytext=(0, 5), textcoords="offset points",
            ha="center", fontsize=7, color=style.INK,
        )  # fmt: skip


def _words(study: Study, measure: Measure, line: Line) -> str:
    ends = [
        f"{metrics.show(measure.metric, study.mean(arm, measure) or 0.0)} % at "
        f"{metrics.number(arm.exaflops)} exaFLOPs"
        for arm in (line.points[0][0], line.points[-1][0])
    ]
    return f"{line.name.capitalize()}: {' to '.join(ends)}."


FIGURE = FigureCard(name="model_shape", draw=figure)
