"""Pairs: the first system of each minus its rivals, as a ViT minus its BiT ResNet.

Seeds are paired: each difference is taken on the same seed, and its interval is Student's over
those differences. "Undecided" means that the interval holds zero: no difference was shown. Leads
that Holm's correction over all comparisons of the table does not confirm are marked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from bench import metrics
from bench.facts import MARGIN
from reports.cards import TableCard
from reports.printing.cells import Notes, absent_cell, images_cell, number_cell, text_cell
from reports.printing.table import Cell, Column, Table
from reports.study.contests import Contest, contests, reference_of, unconfirmed
from reports.study.families import capital, word
from reports.study.samples import Arm, Measure
from reports.study.study import Study


def table(study: Study) -> Table:
    """Return the pair table of a suite."""
    met = contests(study)
    several = len({contest.pair for contest in met}) > 1
    upstreams = len({contest.first.upstream for contest in met}) > 1
    slots = list(dict.fromkeys(c.slot for c in sorted(met, key=lambda c: c.rival)))
    writer = _CellWriter(met, study.confidence)
    rows: dict[tuple[int, Arm, Measure], dict[tuple[str, str, int], Contest]] = {}
    for contest in met:
        rows.setdefault((contest.pair, contest.first, contest.measure), {})[contest.slot] = contest
    unit = _common(met, _unit)
    made = []
    for (_, first, measure), by_slot in rows.items():
        cells = [text_cell(first.title)] if several else []
        cells += [text_cell(study.dataset_title(first.upstream))] if upstreams else []
        cells.append(images_cell(first.upstream, first.upstream_examples))
        cells.append(text_cell(_measure_name(study, measure, with_unit=not unit)))
        for slot in slots:
            cells += writer.cells(by_slot.get(slot), show_rival=several)
        made.append(tuple(cells))
    return Table(
        name="pairs",
        title=_title(study),
        caption=_caption(study, met),
        columns=tuple(_columns(met, slots, several=several, upstreams=upstreams)),
        rows=tuple(made),
        notes=tuple(writer.notes.texts),
        warning=study.warning,
        group_by=(reference_of(met)[0], "upstream", "upstream_examples"),
    )


def _title(study: Study) -> str:
    matched = {pair.matched_on for pair in study.graph.suite.pair}
    return f"Pairs at matched {matched.pop()}" if len(matched) == 1 and all(matched) else "Pairs"


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


def _measure_name(study: Study, measure: Measure, *, with_unit: bool) -> str:
    """Return a measure's name, with the unit of its differences where the column has none."""
    name, unit = study.measure_name(measure), _unit(measure)
    return f"{name} ({unit})" if with_unit and unit else name


def _columns(
    met: Sequence[Contest], slots: list[tuple[str, str, int]], *, several: bool, upstreams: bool
) -> Iterator[Column]:
    key, first = reference_of(met)
    if several:
        yield Column(key=key, title=capital(first), align="left", header=True)
    if upstreams:
        yield Column(key="upstream", title="Upstream", align="left", header=True)
    yield Column(key="upstream_examples", title="Upstream", unit="images", header=True)
    yield Column(key="measure", title="Measure", align="left", header=True)
    for slot in slots:
        group = _group(met, slot, several=several)
        rival = slot[1] if key != "first" else f"{slot[0]}_{slot[1]}"
        rival += f"_{slot[2]}" if slot[2] > 1 else ""
        if several:
            yield Column(key=f"{rival}_system", title="Rival", align="left", group=group)
        yield Column(
            key=f"{rival}_compute_ratio", title="Compute", unit="ratio", group=group, priority=1
        )
        yield Column(
            key=f"{rival}_difference",
            title="Difference",
            unit=_common(met, _unit),
            base_unit=_common(met, _base_unit),
            group=group,
        )
        yield Column(key=f"{rival}_verdict", title="Verdict", align="left", group=group)


def _group(met: Sequence[Contest], slot: tuple[str, str, int], *, several: bool) -> str:
    """Return the heading of the columns of a rival: both titles, or what several pairs share."""
    own = [contest for contest in met if contest.slot == slot]
    names = {contest.names for contest in own}
    if not several:
        return f"{own[0].first.title} − {own[0].second.title}"
    return " − ".join(names.pop() if len(names) == 1 else (word(slot[0]), word(slot[1])))


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
        ratio = absent_cell()
        if contest.ratio is not None:
            ratio = number_cell(contest.ratio, f"{contest.ratio:.2f}")
        lead = [text_cell(contest.second.title), ratio] if show_rival else [ratio]
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
        f"{what}: {interval}. Compute: {reference_of(met)[1]}'s "
        "pre-training FLOPs over the rival's. Undecided: the interval holds zero, so no difference "
        f"was shown; tie: it lies inside ±{MARGIN * 100:g} points of accuracy too. Bold: the lead "
        "holds after Holm's correction for all comparisons of this table."
    )


TABLE = TableCard(name="pairs", make=table, place=200, section="leading")
