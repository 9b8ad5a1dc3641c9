"""Pairs: the first system of each minus its rivals, as a ViT minus its BiT ResNet.

Seeds are paired: each difference is taken on the same seed, and its interval is Student's over
those differences. "Tie" means that the interval holds zero: no difference was shown. Leads that
Holm's correction over all comparisons of the table does not confirm are marked.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from bench import metrics, stats
from reports.printing.render import Cell, Column, Sample, Table
from reports.study.families import capital, reference, word
from reports.study.scores import Arm, Measure, Study, bare_name, by_seed, pair, resolution
from reports.tables.cells import Notes, absent_cell, number_cell, text_cell


@dataclass(frozen=True)
class Contest:
    """One comparison: a pair's first system against a rival, on one measure and upstream size."""

    pair: int
    """Number of the pair in the suite."""
    rival: int
    """Place of the rival in the pair."""
    slot: tuple[str, str, int]
    """Families of both, and the rival's number among the pair's rivals of its family."""
    first: Arm
    second: Arm
    names: tuple[str, str]
    """Both as verdicts name them: by family, or by title where the pair has two of a family."""
    measure: Measure
    difference: stats.Difference
    samples: tuple[Sample, ...]
    missing: str
    """Why there is nothing to compare; empty where there is."""
    resolution: float
    """Step in which the accuracies come."""

    @property
    def ratio(self) -> float | None:
        """Pre-training compute of the first over the rival's; None where it is not known."""
        known = self.first.exaflops and self.second.exaflops
        return self.first.exaflops / self.second.exaflops if known else None

    @property
    def verdict(self) -> str:
        """The outcome in words."""
        if self.difference.mean is None:
            return "missing"
        return outcome(self.names, self.difference)


def outcome(names: tuple[str, str], difference: stats.Difference) -> str:
    """Return who leads, in words; `names` are those of both."""
    words = {"first": f"{names[0]} leads", "second": f"{names[1]} leads", "tie": "tie"}
    return words.get(difference.leader, "one seed")


@functools.lru_cache(maxsize=2)
def contests(study: Study) -> tuple[Contest, ...]:
    """Return every comparison that the suite's pairs ask for, by pair, size and measure."""
    found = []
    for index, asked in enumerate(study.graph.suite.pair):
        first, *rivals = _members(study, asked.systems)
        for arm in first.arms:
            for measure in study.measures:
                for place, rival in enumerate(rivals, 1):
                    second = _nearest(rival.arms, arm)
                    if second is not None:
                        slot = (arm.family, second.family, rival.number)
                        names = (first.word, rival.word)
                        found.append(
                            _contest(study, index, place, slot, arm, second, names, measure)
                        )
    return tuple(found)


class _Member(NamedTuple):
    """A system of a pair."""

    arms: list[Arm]
    word: str
    """Its family's word, or its title where another of the pair is of the same family."""
    number: int
    """Place among the pair's rivals of its family, from 1 on; 1 for the pair's first."""


def _members(study: Study, systems: Sequence[str]) -> list[_Member]:
    arms = [_arms(study, name) for name in systems]
    families = [met[0].family if met else "" for met in arms]
    found = []
    for place, (name, met, family) in enumerate(zip(systems, arms, families, strict=True)):
        title = met[0].title if met else name
        alone = families.count(family) == 1
        number = families[1 : place + 1].count(family) if place else 1
        found.append(_Member(met, word(family) if alone else title, number))
    return found


def _arms(study: Study, name: str) -> list[Arm]:
    """Return the arms of a system, however the suite spells it."""
    return study.arms_by_name.get(bare_name(name), [])


def _nearest(rivals: Sequence[Arm], first: Arm) -> Arm | None:
    """Return the rival on the same upstream data; of several lengths the nearest in compute."""
    there = [
        arm
        for arm in rivals
        if (arm.upstream, arm.upstream_examples) == (first.upstream, first.upstream_examples)
    ]
    return min(there, key=lambda arm: abs(arm.exaflops - first.exaflops), default=None)


def _contest(
    study: Study,
    index: int,
    place: int,
    slot: tuple[str, str, int],
    arm: Arm,
    rival: Arm,
    names: tuple[str, str],
    measure: Measure,
) -> Contest:
    first = study.scores.get((arm, measure), [])
    second = study.scores.get((rival, measure), [])
    step = resolution(first, second)
    difference = stats.paired_difference(
        *pair(first, second), confidence=study.confidence, resolution=step
    )
    a, b = by_seed(first), by_seed(second)
    ids = {(0, s.seed): s.job_id for s in first} | {(1, s.seed): s.job_id for s in second}
    samples = tuple(
        Sample(
            seed=seed,
            value=a[seed] - b[seed] if seed in a and seed in b else None,
            job_ids=tuple(ids[key] for key in ((0, seed), (1, seed)) if key in ids),
            reason="" if seed in a and seed in b else "one of the two has no value",
        )
        for seed in sorted({seed for _, seed in ids})
    )
    missing = "" if difference.n else "no seed has a value for both systems"
    return Contest(
        index, place, slot, arm, rival, names, measure, difference, samples, missing, step
    )


def unconfirmed(met: Sequence[Contest], confidence: float) -> set[Contest]:
    """Return the leads that Holm's correction over all comparisons does not confirm."""
    judged = [contest for contest in met if contest.difference.p_value is not None]
    adjusted = stats.holm([contest.difference.p_value or 0.0 for contest in judged])
    return {
        contest
        for contest, p_value in zip(judged, adjusted, strict=True)
        if contest.difference.leader in ("first", "second") and p_value > 1 - confidence
    }


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
    made = []
    for (_, first, measure), by_slot in rows.items():
        cells = [text_cell(first.title)] if several else []
        cells += [text_cell(study.dataset_title(first.upstream))] if upstreams else []
        cells.append(number_cell(first.upstream_examples, f"{first.upstream_examples:,}"))
        cells.append(text_cell(_measure_name(study, measure)))
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


def reference_of(met: Iterable[Contest]) -> tuple[str, str]:
    """Return key and word of what stands first in all comparisons."""
    return reference((contest.slot[0], contest.names[0]) for contest in met)


def _title(study: Study) -> str:
    matched = {pair.matched_on for pair in study.graph.suite.pair}
    return f"Pairs at matched {matched.pop()}" if len(matched) == 1 and all(matched) else "Pairs"


def _measure_name(study: Study, measure: Measure) -> str:
    name = study.measure_title(measure)
    several = len({other.dataset for other in study.measures}) > 1
    return f"{study.dataset_title(measure.dataset)}: {name}" if several else name


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
            unit="points",
            base_unit="fraction",
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
            strong=contest.difference.leader in ("first", "second") and not doubtful,
        )


def _caption(study: Study, met: Sequence[Contest]) -> str:
    n = max((contest.difference.n for contest in met), default=0)
    interval = (
        f"mean difference [{study.confidence:.0%} interval], paired by seed, n = {n}"
        if n > 1
        else "difference of one seed, without an interval"
    )
    return (
        f"Difference in top-1 accuracy, in percentage points: {interval}. Compute: "
        f"{reference_of(met)[1]}'s pre-training FLOPs over the rival's. Tie: the interval holds "
        "zero, so no difference was shown. Bold: the lead holds after Holm's correction for all "
        "comparisons of this table."
    )
