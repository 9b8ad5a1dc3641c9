"""Panels of accuracy over something: a panel for each measure, a line for each system."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from reports.drawing import style
from reports.study import averages
from reports.study.known import Point
from reports.study.samples import Arm, Measure, values
from reports.study.study import Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from reports.drawing.style import Look

MEASURED, PUBLISHED = "measured", "published"
_Series = dict[str, list[tuple[float, float]]]
"""System -> (x, y), y in per cent."""


def draw(
    study: Study,
    *,
    measures: Sequence[Measure],
    x_of: Callable[[Arm], float | None],
    x_label: str,
    ticks: Sequence[float] = (),
    unit: float = 1.0,
    known: Callable[[Measure], Sequence[tuple[float, Point]]] = lambda measure: (),
) -> Figure | None:
    """Draw accuracy over `x_of(arm)` (log axis), with what was published (x, point).

    x is labelled in multiples of `unit`. Lines join the means over seeds; small points are the
    seeds. None where there is no measured value.
    """
    measured = {measure: _measured(study, measure, x_of) for measure in measures}
    shown = [measure for measure in measures if measured[measure]]
    if not shown:
        return None
    printed = {measure: list(known(measure)) for measure in shown}
    systems = [(arm.title, arm.family) for arm in study.arms]
    systems += [(p.system, p.family) for met in printed.values() for _, p in met]
    look = style.looks(systems)
    figure, axes = style.panels(len(shown))
    for place, (measure, ax) in enumerate(zip(shown, axes, strict=True)):
        _printed_lines(ax, printed[measure], look)
        _measured_lines(ax, measured[measure], look)
        style.log_axis(ax, ticks, unit=unit)
        ax.set(
            title=style.escape_math(study.measure_name(measure)),
            xlabel=x_label if style.is_lowest(place, len(shown)) else "",
            ylabel="Top-1 (%)",
        )
    there = {title for series in measured.values() for title in series}
    published = {point.system for met in printed.values() for _, point in met}
    named = {title: style.published(look[title]) for title in look if title in published}
    entries = {title: look[title] for title in look if title in there}
    entries |= {f"{title}, {PUBLISHED}": found for title, found in named.items()}
    style.legend(figure, entries, list(entries))
    return figure


def _measured(
    study: Study, measure: Measure, x_of: Callable[[Arm], float | None]
) -> dict[str, list[tuple[float, list[float]]]]:
    """Return system -> (x, values of the seeds), by rising x."""
    found: dict[str, list[tuple[float, list[float]]]] = {}
    for arm in study.arms:
        x = x_of(arm)
        there = values(averages.values(study, arm, measure).values())
        if x is not None and x > 0 and there:
            found.setdefault(arm.title, []).append((x, there))
    return {title: sorted(series) for title, series in found.items()}


def _measured_lines(
    ax: Axes, series: dict[str, list[tuple[float, list[float]]]], look: dict[str, Look]
) -> None:
    import seaborn as sns

    for title, met in series.items():
        seeds = [(x, 100 * value) for x, group in met for value in group]
        sns.scatterplot(
            x=[x for x, _ in seeds], y=[y for _, y in seeds], color=look[title].color,
            marker=look[title].marker, s=16, alpha=0.55, linewidth=0, legend=False, ax=ax,
        )  # fmt: skip
        x_N = [x for x, _ in met]
        mean_N = [100 * sum(group) / len(group) for _, group in met]
        style.line(ax, x_N, mean_N, look[title])
        style.points(ax, x_N, mean_N, look[title])


def _printed_lines(ax: Axes, met: Sequence[tuple[float, Point]], look: dict[str, Look]) -> None:
    series: _Series = {}
    for x, point in met:
        series.setdefault(point.system, []).append((x, 100 * point.value))
    for title, points in series.items():
        hollow = style.published(look[title])
        x_N, y_N = zip(*sorted(points), strict=True)
        style.line(ax, x_N, y_N, hollow)
        style.points(ax, x_N, y_N, hollow)
