"""Accuracy by group of VTAB tasks: Figure 2 of arXiv:2010.11929.

VTAB (arXiv:1910.04867) averages over its 19 tasks, and over the tasks of each group: natural,
specialized and structured. A group of which some tasks are missing says how many it has, and
nothing published is shown with it. The paper's bars have no numbers: those drawn here are the means
of its Table 9.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench import metrics, stats
from bench.facts import VTAB_GROUPS, VTAB_TASKS
from reports.cards import FigureCard
from reports.drawing import style
from reports.printing.drawing import Drawing
from reports.study import averages, known
from reports.study.known import Point
from reports.study.samples import Arm, Measure, values
from reports.study.study import Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIZES = {"": VTAB_TASKS, **VTAB_GROUPS}
"""Tasks in each group; the empty name is all of them."""
ROW_IN = 0.19
PUBLISHED_TABLES = ("Figure 2 (derived from Table 9)", "Table 9")


@dataclass(frozen=True)
class Group:
    """One group of tasks, as far as it was measured."""

    name: str
    members: tuple[Measure, ...]
    published: tuple[Point, ...]

    @property
    def title(self) -> str:
        """Printed name with its number of tasks."""
        whole, there = SIZES[self.name], len(self.members)
        count = str(whole) if there == whole else f"{there} of {whole}"
        return f"{self.name.capitalize() or 'VTAB'} ({count})"


def groups(study: Study) -> list[Group]:
    """Return the groups of which some task was measured, all tasks first."""
    tuned = [m for m in study.measures if m.metric == averages.TUNED and not m.setting]
    kinds = {name: card.group for name, card in study.graph.datasets.items() if card.group in SIZES}
    found = []
    for name, size in SIZES.items():
        members = tuple(m for m in tuned if kinds.get(m.dataset) and name in ("", kinds[m.dataset]))
        if members:
            published = _published(study, name) if len(members) == size else ()
            found.append(Group(name, members, published))
    return found


def _published(study: Study, name: str) -> tuple[Point, ...]:
    mean = Measure(averages.TUNED, f"VTAB-1k-{name}" if name else "VTAB-1k", "")
    return tuple(known.points(study, mean, tables=PUBLISHED_TABLES))


def figure(study: Study) -> Drawing | None:
    """Draw the groups' means; None where no VTAB task has a value."""
    found = groups(study)
    arms = [a for a in study.arms if any(_mean(study, a, group) for group in found)]
    if not arms:
        return None
    has_published = any(group.published for group in found)
    with style.styled():
        return style.finish(
            _draw(study, found, arms),
            name="vtab_groups",
            title="VTAB by group of tasks",
            caption="Top-1 accuracy, plain mean over the tasks of a group; filled: measured, mean "
            "over seeds with one standard deviation"
            + ("; hollow: as published (means of Table 9)." if has_published else "."),
            alt="Dot chart of mean accuracy for each group of VTAB tasks, a row for each "
            f"system. {_words(study, found, arms)}",
        )


def _mean(study: Study, arm: Arm, group: Group) -> stats.Summary | None:
    there = averages.mean_of(study.samples, arm, group.members)
    return stats.summary(values(there.values())) if there else None


def _draw(study: Study, found: list[Group], arms: list[Arm]) -> Figure:
    """Draw a row for each system and upstream set, a panel for each group."""
    rows: dict[str, str] = {_name(study, arm): arm.family for arm in arms}
    rows |= {_printed(p): p.family for group in found for p in group.published}
    order = list(rows)
    figure, axes = style.panels(len(found), columns=4, sharey=True)
    figure.set_figwidth(style.TEXT_WIDTH_IN)
    figure.set_figheight(0.85 + ROW_IN * len(order))
    for ax, group in zip(axes, found, strict=True):
        for point in group.published:
            hollow = style.family_look(point.family, is_hollow=True)
            style.points(ax, [100 * point.value], [order.index(_printed(point))], hollow)
        for arm in arms:
            mean, place = _mean(study, arm, group), order.index(_name(study, arm))
            if mean is not None and mean.mean is not None:
                look = style.family_look(arm.family)
                ax.errorbar(
                    100 * mean.mean, place, xerr=100 * (mean.std or 0), color=look.color, lw=1
                )
                style.points(ax, [100 * mean.mean], [place], look)
        ax.set(title=group.title.replace(" (", "\n("), xlabel="Top-1 (%)")
        ax.grid(axis="x")
    axes[0].set_yticks(range(len(order)), [style.escape_math(name) for name in order])
    axes[0].set_ylim(len(order) - 0.4, -0.6)
    entries = {"measured": style.Look(style.MUTED, "o", ())}
    if any(group.published for group in found):
        entries["published"] = style.published(entries["measured"])
    style.marker_legend(figure, entries)
    return figure


def _name(study: Study, arm: Arm) -> str:
    several = len({(a.upstream, a.upstream_examples) for a in study.arms}) > 1
    if not several:
        return arm.title
    if len({a.upstream_examples for a in study.arms}) == len({a.upstream for a in study.arms}):
        return f"{arm.title}, {study.dataset_title(arm.upstream)}"
    return f"{arm.title}, {study.upstream_title(arm)}"


def _printed(point: Point) -> str:
    return f"{point.system}, {point.upstream}"


def _words(study: Study, found: list[Group], arms: list[Arm]) -> str:
    parts = []
    for group in found:
        means = [(arm, _mean(study, arm, group)) for arm in arms]
        words = [
            f"{_name(study, arm)} {metrics.show(averages.TUNED, mean.mean)} %"
            for arm, mean in means
            if mean is not None and mean.mean is not None
        ]
        parts.append(f"{group.title}: {', '.join(words)}.")
    return " ".join(parts)


FIGURE = FigureCard(name="vtab_groups", draw=figure)
