"""Pairs at matched pre-training compute: ViT minus its BiT ResNet, and ViT minus its hybrid.

Seeds are paired: each difference is taken on the same seed, and its interval is Student's over
those differences. "Tie" means that the interval holds zero: no difference was shown. Leads that
Holm's correction over all comparisons of the table does not confirm are marked.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench import metrics, stats
from reports.printing.render import Cell, Column, Sample, Table
from reports.study.scores import Arm, Measure, Study, bare_name, by_seed, pair, resolution
from reports.tables.cells import Notes, absent_cell, number_cell, text_cell

WORDS = {"vit": "ViT", "bit": "BiT", "hybrid": "hybrid"}
"""Families as verdicts name them."""
ROLES = ("bit", "hybrid")
"""Whom a pair sets against its ViT."""


@dataclass(frozen=True)
class Contest:
    """One comparison: a ViT against its rival, on one measure, at one upstream size."""

    pair: int
    """Number of the pair in the suite."""
    vit: Arm
    rival: Arm
    role: str
    measure: Measure
    difference: stats.Difference
    samples: tuple[Sample, ...]
    missing: str
    """Why there is nothing to compare; empty where there is."""
    resolution: float
    """Step in which the accuracies come."""

    @property
    def ratio(self) -> float:
        """Pre-training compute of the ViT over the rival's."""
        return self.vit.exaflops / self.rival.exaflops

    @property
    def verdict(self) -> str:
        """The outcome in words."""
        if self.difference.mean is None:
            return "missing"
        leader = {"first": "ViT leads", "second": f"{WORDS[self.role]} leads", "tie": "tie"}
        return leader.get(self.difference.leader, "one seed")


@functools.lru_cache(maxsize=2)
def contests(study: Study) -> tuple[Contest, ...]:
    """Return every comparison that the suite's pairs ask for, by pair, size and measure."""
    found = []
    for index, asked in enumerate(study.graph.suite.pair):
        names = {"bit": asked.bit, "hybrid": asked.hybrid}
        for vit in _arms(study, asked.vit):
            for measure in study.measures:
                for role in ROLES:
                    rival = _rival(study, names[role], vit)
                    if rival is not None:
                        found.append(_contest(study, index, vit, rival, role, measure))
    return tuple(found)


def _arms(study: Study, name: str) -> list[Arm]:
    """Return the arms of a system, however the suite spells it."""
    return study.arms_by_name.get(bare_name(name), [])


def _rival(study: Study, name: str | None, vit: Arm) -> Arm | None:
    """Return the rival on the same upstream data; of several lengths the nearest in compute."""
    rivals = [
        arm
        for arm in _arms(study, name or "")
        if (arm.upstream, arm.upstream_examples) == (vit.upstream, vit.upstream_examples)
    ]
    return min(rivals, key=lambda arm: abs(arm.exaflops - vit.exaflops), default=None)


def _contest(
    study: Study, index: int, vit: Arm, rival: Arm, role: str, measure: Measure
) -> Contest:
    first = study.scores.get((vit, measure), [])
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
    return Contest(index, vit, rival, role, measure, difference, samples, missing, step)


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
        cells.append(text_cell(_measure_name(study, measure)))
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


def _measure_name(study: Study, measure: Measure) -> str:
    name = study.measure_title(measure)
    several = len({other.dataset for other in study.measures}) > 1
    return f"{study.dataset_title(measure.dataset)}: {name}" if several else name


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
            unit="points",
            base_unit="fraction",
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
        f"Difference in top-1 accuracy, in percentage points: {interval}. Compute: ViT's "
        "pre-training FLOPs over the rival's. Tie: the interval holds zero, so no difference was "
        "shown. Bold: the lead holds after Holm's correction for all comparisons of this table."
    )
