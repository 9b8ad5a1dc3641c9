"""Pairs at matched pre-training compute: ViT minus its BiT ResNet, and ViT minus its hybrid.

Seeds are paired: each difference is taken on the same seed, and its interval is Student's over
those differences. "Tie" means that the interval holds zero: no difference was shown. Leads that
Holm's correction over all comparisons of the table does not confirm are marked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from bench import metrics
from reports.cards import TableCard
from reports.printing.cells import Notes, absent_cell, number_cell, text_cell
from reports.printing.table import Cell, Column, Table
from reports.study.contests import ROLES, WORDS, Contest, contests, unconfirmed
from reports.study.samples import Arm, Measure
from reports.study.study import Study


def table(study: Study) -> Table:
    """Return the pair table of a suite."""
    met = contests(study)
    several = len({contest.pair for contest in met}) > 1
    upstreams = len({contest.vit.upstream for contest in met}) > 1
    roles = [role for role in ROLES if any(contest.role == role for contest in met)]
    writer = _CellWriter(met, study.confidence)
    rows: dict[tuple[int, Arm, Measure], dict[str, Contest]] = {}
    for contest in met:
        rows.setdefault((contest.pair, contest.vit, contest.measure), {})[contest.role] = contest
    made = []
    for (_, vit, measure), by_role in rows.items():
        cells = [text_cell(vit.title)] if several else []
        cells += [text_cell(study.dataset_title(vit.upstream))] if upstreams else []
        cells.append(number_cell(vit.upstream_examples, f"{vit.upstream_examples:,}"))
        cells.append(text_cell(_measure_name(study, measure, met)))
        for role in roles:
            cells += writer.cells(by_role.get(role), show_rival=several)
        made.append(tuple(cells))
    return Table(
        name="pairs",
        title="Pairs at matched pre-training compute",
        caption=_caption(study, met),
        columns=tuple(_columns(met, roles, several=several, upstreams=upstreams)),
        rows=tuple(made),
        notes=tuple(writer.notes.texts),
        warning=study.warning,
        group_by=("vit", "upstream", "upstream_examples"),
    )


def _unit(measure: Measure) -> str:
    """Return the unit of a measure's differences."""
    unit = metrics.metric(measure.metric).unit
    return "points" if unit == "%" else unit


def _base_unit(measure: Measure) -> str:
    return metrics.metric(measure.metric).base_unit


def _common(met: Sequence[Contest], unit: Callable[[Measure], str]) -> str:
    """Return the unit that all differences have; empty where they have several."""
    found = {unit(contest.measure) for contest in met}
    return found.pop() if len(found) == 1 else ""


def _measure_name(study: Study, measure: Measure, met: Sequence[Contest]) -> str:
    """Return a measure's name, with the unit of its differences where they have several."""
    name, unit = study.measure_name(measure), _unit(measure)
    return name if _common(met, _unit) or not unit else f"{name} ({unit})"


def _columns(
    met: Sequence[Contest], roles: list[str], *, several: bool, upstreams: bool
) -> Iterator[Column]:
    if several:
        yield Column(key="vit", title="ViT", align="left", header=True)
    if upstreams:
        yield Column(key="upstream", title="Upstream", align="left", header=True)
    yield Column(key="upstream_examples", title="Upstream", unit="images", header=True)
    yield Column(key="measure", title="Measure", align="left", header=True)
    for role in roles:
        first = next(contest for contest in met if contest.role == role)
        names = (WORDS["vit"], WORDS[role]) if several else (first.vit.title, first.rival.title)
        group = " − ".join(names)
        if several:
            yield Column(key=f"{role}_system", title="Rival", align="left", group=group)
        yield Column(
            key=f"{role}_compute_ratio", title="Compute", unit="ratio", group=group, priority=1
        )
        yield Column(
            key=f"{role}_difference",
            title="Difference",
            unit=_common(met, _unit),
            base_unit=_common(met, _base_unit),
            group=group,
        )
        yield Column(key=f"{role}_verdict", title="Verdict", align="left", group=group)


class _CellWriter:
    """Writes the cells of one comparison, and collects the table's notes."""

    def __init__(self, met: Sequence[Contest], confidence: float) -> None:
        self.notes = Notes()
        self.unconfirmed = unconfirmed(met, confidence)
        self.num_judged = sum(contest.difference.p_value is not None for contest in met)
        self.num_seeds = max((contest.difference.n for contest in met), default=0)

    def cells(self, contest: Contest | None, *, show_rival: bool) -> list[Cell]:
        if contest is None:
            return [absent_cell()] * (4 if show_rival else 3)
        ratio = number_cell(contest.ratio, f"{contest.ratio:.2f}")
        lead = [text_cell(contest.rival.title), ratio] if show_rival else [ratio]
        return [*lead, self._difference(contest), self._verdict(contest)]

    def _difference(self, contest: Contest) -> Cell:
        found, metric = contest.difference, contest.measure.metric
        if found.mean is None:
            mark = self.notes.mark(contest.missing)
            return Cell(text="–", status="absent", marks=(mark,), samples=contest.samples)
        text, low, high = metrics.show_difference(metric, found.mean), None, None
        if found.interval is not None:
            low, high = found.interval.low, found.interval.high
            ends = [metrics.show_difference(metric, end) for end in (low, high)]
            text = f"{text} [{ends[0]}, {ends[1]}]"
        partial = self.num_seeds > found.n
        return Cell(
            text=text,
            value=found.mean,
            std=found.std,
            low=low,
            high=high,
            n=found.n,
            marks=(self.notes.mark(f"n = {found.n}: seeds that both have"),) if partial else (),
            samples=contest.samples,
        )

    def _verdict(self, contest: Contest) -> Cell:
        if contest.difference.mean is None:
            return Cell(text=contest.verdict, status="absent")
        doubtful = contest in self.unconfirmed
        doubt = (
            f"shown by itself, but not after Holm's correction for the {self.num_judged} "
            "comparisons of this table"
        )
        return Cell(
            text=contest.verdict,
            marks=(self.notes.mark(doubt),) if doubtful else (),
            strong=contest.leader in ("first", "second") and not doubtful,
        )


def _caption(study: Study, met: Sequence[Contest]) -> str:
    n = max((contest.difference.n for contest in met), default=0)
    interval = (
        f"mean difference [{study.confidence:.0%} interval], paired by seed, n = {n}"
        if n > 1
        else "difference of one seed, without an interval"
    )
    what = "Difference in top-1 accuracy, in percentage points"
    if any(contest.measure not in study.accuracies for contest in met):
        what = "Difference in the unit of each measure; the lower error or loss leads"
    return (
        f"{what}: {interval}. Compute: ViT's "
        "pre-training FLOPs over the rival's. Tie: the interval holds zero, so no difference was "
        "shown. Bold: the lead holds after Holm's correction for all comparisons of this table."
    )


TABLE = TableCard(name="pairs", make=table, place=200, section="leading")
