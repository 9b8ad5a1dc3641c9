"""Every system on a data set of the suite's own, beside who looks at no image.

One row a system, untrained ones and raw pixels too, one marker for each way to use it: what a
person asks who has pictures and wants a backbone. Lines stand at the majority class and at chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bench import metrics
from reports.cards import FigureCard
from reports.drawing import style
from reports.printing.drawing import Drawing
from reports.study.classes import has_own_data
from reports.study.floors import CHANCE, floors
from reports.study.samples import Arm, Measure, values
from reports.study.study import Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROW_IN, MAX_PANELS = 0.3, 4
MAX_MEASURES = 4
"""Ways to use a system that a panel has markers for: of few-shot the one of most shots alone."""

_Panel = tuple[str, list[Measure]]


def figure(study: Study) -> Drawing | None:
    """Draw the systems; None where the suite brings no data set, or nothing is measured on it.

    Where the suite asks for the figure by name, other data sets are drawn too.
    """
    asked = "systems" in study.graph.suite.report.figures
    names = dict.fromkeys(measure.dataset for measure in study.measures)
    panels = [
        (name, found)
        for name in (names if asked else study.graph.suite.dataset)
        if (found := _measures(study, name))
        and any(_means(study, arm, found) for arm in study.arms)
    ][:MAX_PANELS]
    if not panels:
        return None
    arms = [a for a in _largest(study) if any(_means(study, a, found) for _, found in panels)]
    with style.styled():
        return style.finish(
            _draw(study, panels, arms),
            name="systems",
            title="Systems beside who guesses",
            caption="Top-1 accuracy on the test split: means over seeds, and small the seeds "
            "themselves; systems at their largest upstream size. Dashed: always the most frequent "
            "class of training; dotted: chance.",
            alt="Dot charts of accuracy, a row for each system, a panel for each data set. "
            + " ".join(_words(study, panel, arms) for panel in panels),
        )


def _largest(study: Study) -> list[Arm]:
    """Return each system and upstream set at its largest size, in the suite's order."""
    found = {(arm.system, arm.upstream, arm.pretraining): arm for arm in study.arms}
    return [arm for arm in study.arms if arm in found.values()]


def _measures(study: Study, dataset: str) -> list[Measure]:
    """Return the accuracies of a data set that are drawn, each kind once."""
    by_kind: dict[str, Measure] = {}
    for measure in study.accuracies:
        if measure.dataset == dataset and not measure.setting:
            by_kind[measure.metric.partition("/")[0]] = measure  # of several shots, the most
    return list(by_kind.values())[:MAX_MEASURES]


def _means(study: Study, arm: Arm, measures: Sequence[Measure]) -> dict[Measure, float]:
    found = {measure: study.mean(arm, measure) for measure in measures}
    return {measure: mean for measure, mean in found.items() if mean is not None}


def _draw(study: Study, panels: Sequence[_Panel], arms: Sequence[Arm]) -> Figure:
    figure, axes = style.panels(len(panels), columns=2, sharey=True)
    figure.set_figwidth(style.TEXT_WIDTH_IN)
    figure.set_figheight((1.1 + ROW_IN * len(arms)) * -(-len(panels) // 2))
    markers = dict.fromkeys(metric for _, found in panels for metric in map(_kind, found))
    looks = {
        kind: style.Look(style.MUTED, marker, ())
        for kind, marker in zip(markers, style.SYSTEM_MARKERS, strict=False)
    }
    for (name, measures), ax in zip(panels, axes, strict=True):
        for title, value in floors(study).get(name, {}).items():
            dashes = (0, (4, 2)) if title != CHANCE else (0, (1, 1.5))
            ax.axvline(100 * value, color=style.MUTED, lw=1, ls=dashes)
        for place, arm in enumerate(arms):
            _row(study, ax, place, arm, measures, looks)
        ax.set(title=style.escape_math(study.dataset_title(name)), xlabel="Top-1 (%)")
        ax.grid(axis="x")
    axes[0].set_yticks(range(len(arms)), [style.escape_math(_name(study, arm)) for arm in arms])
    axes[0].set_ylim(len(arms) - 0.4, -0.6)
    shown = {study.measure_title(m): looks[_kind(m)] for _, found in panels for m in found}
    style.marker_legend(figure, shown)
    return figure


def _row(
    study: Study,
    ax: Axes,
    place: int,
    arm: Arm,
    measures: Sequence[Measure],
    looks: dict[str, style.Look],
) -> None:
    color = style.family_look(arm.family).color
    for measure, mean in _means(study, arm, measures).items():
        look = style.Look(color, looks[_kind(measure)].marker, ())
        seeds = [100 * value for value in values(study.samples[arm, measure])]
        ax.scatter(
            seeds, [place] * len(seeds), color=color, marker=look.marker, s=12, alpha=0.4, lw=0
        )
        style.points(ax, [100 * mean], [place], look)


def _kind(measure: Measure) -> str:
    return measure.metric.partition("/")[0]


def _name(study: Study, arm: Arm) -> str:
    if not arm.is_untrained:
        several = len({a.upstream for a in study.arms if not a.is_untrained}) > 1
        return f"{arm.title}, {study.upstream_title(arm)}" if several else arm.title
    return f"{arm.title}, {arm.upstream}" if arm.num_params else arm.title


def _words(study: Study, panel: _Panel, arms: Sequence[Arm]) -> str:
    name, measures = panel
    parts = []
    for arm in arms:
        means = _means(study, arm, measures)
        words = [
            f"{study.measure_title(m)} {metrics.show(m.metric, v)} %" for m, v in means.items()
        ]
        parts.append(f"{_name(study, arm)}: {', '.join(words) or 'nothing'}")
    guesses = [f"{t} {100 * v:.1f} %" for t, v in floors(study).get(name, {}).items()]
    return f"{study.dataset_title(name)}: {'; '.join([*parts, *guesses])}."


FIGURE = FigureCard(name="systems", draw=figure, comes=has_own_data)
