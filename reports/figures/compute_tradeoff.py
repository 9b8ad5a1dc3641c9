"""The compute trade-off of families: Figure 5 of arXiv:2010.11929, both panels.

First the average over data sets (the paper's Average-5 where all five were measured), then each
data set, ImageNet before others; of many data sets the tasks of a benchmark (VTAB) are left to
their mean. Every point is a system at one upstream size; the line of a
family is its upper envelope. What the paper printed (Table 6) is shown too, hollow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench import metrics
from reports.cards import FigureCard
from reports.drawing import style
from reports.printing.drawing import Drawing
from reports.printing.units import common_exponent, power_unit
from reports.study import averages, known
from reports.study.curves import (
    PUBLISHED_TABLES,
    Curve,
    family_curve,
    printed_curve,
    printed_families,
)
from reports.study.families import in_order, word
from reports.study.samples import Measure
from reports.study.study import Study, bare_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def figure(study: Study) -> Drawing | None:
    """Draw the trade-off; None where nothing was fine-tuned."""
    measures = _measures(study)
    if not measures:
        return None
    with style.styled():
        return style.finish(
            _draw(study, measures),
            name="compute_tradeoff",
            title="Performance against pre-training compute",
            caption="Fine-tuned top-1 accuracy over pre-training work (log scale). Each marker is "
            "a system at one upstream size, mean over seeds; the line of a family is its upper "
            f"envelope, flat where more compute brought nothing.{_panels(study, measures)}"
            f"{_hollow(study, measures)}",
            alt="Scatter charts of accuracy over pre-training compute, a colour for each family. "
            + " ".join(_words(study, measure) for measure in measures),
        )


def _hollow(study: Study, measures: list[Measure]) -> str:
    has_published = any(known.points(study, m, tables=PUBLISHED_TABLES) for m in measures)
    return " Hollow with thin lines: as published in Table 6." if has_published else ""


def _measures(study: Study) -> list[Measure]:
    there = _tuned(study)
    there.sort(key=lambda m: bare_name(study.dataset_title(m.dataset)) != "imagenet")
    mean = averages.average(study)
    first = [mean.measure] if mean and there else []
    if len(first) + len(there) > averages.MAX_SHOWN:
        there = [m for m in there if not averages.is_task(study, m)] or there[:1]
    return [*first, *there][: averages.MAX_SHOWN]


def _tuned(study: Study) -> list[Measure]:
    tuned = [m for m in study.measures if m.metric == averages.TUNED and not m.setting]
    return [m for m in tuned if any(averages.values(study, arm, m) for arm in study.arms)]


def _panels(study: Study, measures: list[Measure]) -> str:
    """Say what the panels are, and what has none."""
    there = _tuned(study)
    own = [measure for measure in measures if measure in there]
    if len(there) < 2:
        return ""
    left = averages.said_of(len(there) - len(own), "data set")
    mean = "the mean over data sets and for " if len(own) < len(measures) else ""
    return f" A panel for {mean}{'some of them' if left else 'each data set'}.{left}"


def _draw(study: Study, measures: list[Measure]) -> Figure:
    work = [arm.exaflops for arm in study.arms if arm.exaflops > 0]
    exponent = common_exponent(work)
    figure, axes = style.panels(len(measures))
    shown: dict[str, style.Look] = {}
    for place, (measure, ax) in enumerate(zip(measures, axes, strict=True)):
        measured = {arm.family for arm in study.arms}
        for family in in_order({*measured, *printed_families(study, measure)}):
            shown |= _family(study, ax, family, measure)
        style.log_axis(ax, (), unit=10.0**exponent)
        ax.set_title(style.escape_math(study.measure_name(measure)))
        ax.set_ylabel("Top-1 (%)")
        if style.is_lowest(place, len(measures)):
            ax.set_xlabel(f"Pre-training compute ({power_unit(exponent, 'exaFLOPs')})")
    style.legend(figure, shown, sorted(shown, key=lambda title: shown[title].is_hollow))
    return figure


def _family(study: Study, ax: Axes, family: str, measure: Measure) -> dict[str, style.Look]:
    """Draw one family, measured and published; return the legend's entries."""
    shown = {}
    measured, hollow = style.family_look(family), style.family_look(family, is_hollow=True)
    printed = known.points(study, measure, tables=PUBLISHED_TABLES)
    theirs = [p for p in printed if p.family == family and p.exaflops is not None]
    if theirs:
        curve = printed_curve(study, family, measure)
        style.line(ax, curve.compute, [100 * y for y in curve.mean], hollow)
        x_N = [p.exaflops for p in theirs if p.exaflops is not None]
        style.points(ax, x_N, [100 * p.value for p in theirs], hollow)
        shown[f"{word(family)}, published"] = hollow
    ours = _points(study, family, measure)
    if ours:
        for upstream in study.upstreams:
            curve = family_curve(study, family, upstream, measure)
            if curve.values:
                style.line(ax, curve.compute, [100 * y for y in curve.mean], measured)
        style.points(ax, [x for x, _ in ours], [y for _, y in ours], measured)
        shown[word(family)] = measured
    return shown


def _points(study: Study, family: str, measure: Measure) -> list[tuple[float, float]]:
    """Return (exaFLOPs, mean in per cent) of every arm of a family."""
    found = []
    for arm in study.arms:
        mean = averages.summary(study, arm, measure).mean if arm.family == family else None
        if mean is not None and arm.exaflops > 0:
            found.append((arm.exaflops, 100 * mean))
    return found


def _words(study: Study, measure: Measure) -> str:
    parts = []
    for family in in_order(arm.family for arm in study.arms):
        for upstream in study.upstreams:
            curve = family_curve(study, family, upstream, measure)
            parts += [f"{word(family)} {_ends(curve)}"] if curve.values else []
    return f"{study.measure_name(measure)}: {'; '.join(parts)}."


def _ends(curve: Curve) -> str:
    ends = [
        f"{metrics.show('test_top1', value)} % at {metrics.number(work)} exaFLOPs"
        for work, value in ((curve.compute[0], curve.mean[0]), (curve.compute[-1], curve.mean[-1]))
    ]
    return " to ".join(dict.fromkeys(ends))


FIGURE = FigureCard(name="compute_tradeoff", draw=figure)
