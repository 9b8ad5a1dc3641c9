"""Two curves of accuracy over pre-training compute, read at the same compute.

A curve is one system over its upstream sizes, or a whole family: then the systems on its upper
envelope, those that no other of the family beats with as little compute. Who is on the envelope is
decided by means over seeds, so that no seed picks its own luckiest systems. Curves are straight
between points over the logarithm of compute, and never read beyond them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from bench import stats
from reports.printing.table import Sample
from reports.study import averages, families, known
from reports.study.contests import contests
from reports.study.leading import margin_of
from reports.study.samples import Arm, Measure, by_seed, resolution
from reports.study.study import Study, bare_name, once

NUM_LEVELS = 3
PUBLISHED_TABLES = ("Table 6", "Table 6 (derived)")
"""Where the paper prints accuracy and compute of the same systems."""


@dataclass(frozen=True)
class Curve:
    """Accuracy of a system or a family over compute, for each seed that has every point."""

    title: str
    compute: tuple[float, ...]
    """Pre-training exaFLOPs of the points."""
    values: dict[int, tuple[float, ...]]
    """Accuracies at the points, by seed."""
    job_ids: dict[int, tuple[str, ...]]
    """Jobs behind them, by seed."""
    step: float = 0.0
    """Coarsest step in which the accuracies come."""

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean over seeds at each point."""
        return tuple(
            sum(column) / len(column) for column in zip(*self.values.values(), strict=True)
        )

    def at(self, exaflops: float, seed: int | None = None) -> float | None:
        """Return the accuracy at some compute: of a seed, or of the mean."""
        values = self.mean if seed is None else self.values[seed]
        return stats.interpolate_log(self.compute, values, exaflops)

    def reaching(self, target: float, seed: int | None = None) -> float | None:
        """Return the least compute at which the curve reaches an accuracy."""
        values = self.mean if seed is None else self.values[seed]
        return stats.first_reaching_log(self.compute, values, target)


class Match(NamedTuple):
    """Two curves to read together."""

    first: Curve
    second: Curve
    families: tuple[str, str]
    """Families of both."""
    names: tuple[str, str]
    """Both as verdicts name them."""
    measure: Measure
    origin: Literal["systems", "families", "print"]
    """Whose curves these are."""
    where: str = ""
    """Upstream data where a suite has several, or where it was printed."""

    @property
    def title(self) -> str:
        """The two curves in words."""
        return ", ".join(filter(None, (f"{self.first.title} − {self.second.title}", self.where)))


@dataclass(frozen=True)
class Reading:
    """Two curves read at one compute."""

    match: Match
    exaflops: float
    difference: stats.Difference
    """First minus second."""
    samples: tuple[Sample, ...]
    work_to_match: float | None
    """Compute that the first needs for the second's accuracy here, over this compute; None where
    its curve lies wholly above or below that accuracy."""
    work_interval: stats.Interval | None
    """Interval of that ratio, over seeds; None where a seed has none, or for fewer than two."""
    always_above: bool
    """The first's smallest measured compute already gives more than that accuracy."""


@once
def matches(study: Study) -> tuple[Match, ...]:
    """Return all curves to read together: the suite's pairs, its families, the paper's."""
    return (*_pairs(study), *_families(study), *_printed(study))


def reference_of(met: Iterable[Match]) -> tuple[str, str]:
    """Return key and word of what stands first in all comparisons."""
    return families.reference((match.families[0], match.names[0]) for match in met)


def readings(study: Study) -> list[Reading]:
    """Return every reading: by pair, rival, measure and compute."""
    return [
        read(match, exaflops, confidence=study.confidence)
        for match in matches(study)
        for exaflops in levels(match)
    ]


def levels(match: Match) -> list[float]:
    """Return the ends and the (geometric) middle of the compute that both curves span."""
    span = common_span(match.first, match.second)
    if span is None:
        return []
    low, high = span
    return [low * (high / low) ** (i / (NUM_LEVELS - 1)) for i in range(NUM_LEVELS)]


def common_span(first: Curve, second: Curve) -> tuple[float, float] | None:
    """Return the compute that both curves span; None where there is none."""
    if min(len(first.compute), len(second.compute)) < 2 or not first.values or not second.values:
        return None
    low = max(first.compute[0], second.compute[0])
    high = min(first.compute[-1], second.compute[-1])
    return (low, high) if low < high else None


def read(match: Match, exaflops: float, *, confidence: float) -> Reading:
    """Read two curves at one compute, paired by seed."""
    first, second = match.first, match.second
    pairs = []
    for seed in sorted(first.values.keys() & second.values.keys()):
        a, b = first.at(exaflops, seed), second.at(exaflops, seed)
        if a is not None and b is not None:
            pairs.append((seed, a, b))
    goal = second.at(exaflops)
    needed = None if goal is None else first.reaching(goal)
    return Reading(
        match=match,
        exaflops=exaflops,
        difference=stats.paired_difference(
            [a for _, a, _ in pairs],
            [b for _, _, b in pairs],
            confidence=confidence,
            resolution=max(first.step, second.step),
            margin=margin_of(match.measure.metric),
        ),
        samples=tuple(
            Sample(seed=seed, value=a - b, job_ids=(*first.job_ids[seed], *second.job_ids[seed]))
            for seed, a, b in pairs
        ),
        work_to_match=None if needed is None else needed / exaflops,
        work_interval=_work_interval(first, pairs, exaflops, confidence),
        always_above=needed is None and goal is not None and first.mean[0] > goal,
    )


def _work_interval(
    first: Curve, pairs: Sequence[tuple[int, float, float]], exaflops: float, confidence: float
) -> stats.Interval | None:
    """Return Student's interval of the ratio's logarithm over seeds, as ratios."""
    logs = []
    for seed, _, goal in pairs:
        needed = first.reaching(goal, seed)
        if needed is None:
            return None
        logs.append(math.log(needed / exaflops))
    found = stats.t_interval(logs, confidence=confidence)
    if found is None:
        return None
    return stats.Interval(math.exp(found.low), math.exp(found.high), confidence)


def _where(study: Study, upstream: str) -> str:
    several = len({arm.upstream for arm in study.arms}) > 1
    return study.dataset_title(upstream) if several else ""


def _compared(study: Study) -> list[Measure]:
    """Return what families are compared by: the average first, then what figures show."""
    mean = averages.average(study)
    return list(dict.fromkeys([*([mean.measure] if mean else []), *averages.headline(study)]))


def _pairs(study: Study) -> Iterator[Match]:
    asked = dict.fromkeys(
        (
            (c.pair, c.rival, c.first.upstream, c.measure),
            (c.first.system, c.second.system, c.slot[:2], c.names),
        )
        for c in contests(study)
        if c.measure in study.accuracies
    )
    order = {measure: place for place, measure in enumerate(study.accuracies)}
    for (_, _, upstream, measure), (system, rival, both, names) in sorted(
        asked, key=lambda key: (*key[0][:3], order[key[0][3]])
    ):
        first = system_curve(study, system, upstream, measure)
        second = system_curve(study, rival, upstream, measure)
        where = _where(study, upstream)
        yield Match(first, second, both, names, measure, "systems", where)


def _families(study: Study) -> Iterator[Match]:
    """Yield the first family's envelope against each other's, where one has several systems."""
    first, *others = families.in_order(arm.family for arm in study.arms) or [""]
    for upstream in study.upstreams:
        for other in others:
            systems = {a.title for a in study.arms if a.family in (first, other)}
            if len(systems) < 3:
                continue  # one system each: the pairs say it
            for measure in _compared(study):
                yield _family_match(
                    (first, other),
                    family_curve(study, first, upstream, measure),
                    family_curve(study, other, upstream, measure),
                    measure,
                    "families",
                    _where(study, upstream),
                )


def _family_match(
    both: tuple[str, str],
    first: Curve,
    second: Curve,
    measure: Measure,
    origin: Literal["families", "print"],
    where: str,
) -> Match:
    names = (families.word(both[0]), families.word(both[1]))
    return Match(first, second, both, names, measure, origin, where)


def _printed(study: Study) -> Iterator[Match]:
    for measure in _compared(study):
        if measure.metric != averages.TUNED or measure.setting:
            continue
        if not any(averages.values(study, arm, measure) for arm in study.arms):
            continue  # nothing of ours to compare it with
        there = printed_families(study, measure)
        curves = [printed_curve(study, name, measure) for name in there]
        where = f"published in {PUBLISHED_TABLES[0]}"
        for name, second in zip(there[1:], curves[1:], strict=True):
            yield _family_match((there[0], name), curves[0], second, measure, "print", where)


def printed_families(study: Study, measure: Measure) -> list[str]:
    """Return the families with published points, in order."""
    met = known.points(study, measure, tables=PUBLISHED_TABLES)
    return families.in_order(point.family for point in met if point.exaflops is not None)


def system_curve(study: Study, system: str, upstream: str, measure: Measure) -> Curve:
    """Return the curve of one system over its upstream sizes."""
    named = study.arms_by_name[bare_name(system)]
    arms = [arm for arm in named if arm.upstream == upstream and arm.exaflops > 0]
    return _curve(study, arms[0].title if arms else system, arms, measure)


def family_curve(study: Study, family: str, upstream: str, measure: Measure) -> Curve:
    """Return the upper envelope of a family, flat from its best system to its largest compute."""
    arms = [
        arm
        for arm in study.arms
        if (arm.family, arm.upstream) == (family, upstream)
        and arm.exaflops > 0
        and averages.values(study, arm, measure)
    ]
    means = [averages.summary(study, arm, measure).mean or 0.0 for arm in arms]
    front = stats.upper_envelope([arm.exaflops for arm in arms], means)
    curve = _curve(study, f"{families.word(family)} family", [arms[i] for i in front], measure)
    return _flat_to(curve, max((arm.exaflops for arm in arms), default=0.0))


def printed_curve(study: Study, family: str, measure: Measure) -> Curve:
    """Return the upper envelope of a family's published points."""
    met = known.points(study, measure, tables=PUBLISHED_TABLES)
    there = [(p.exaflops, p.value) for p in met if p.family == family and p.exaflops is not None]
    front = stats.upper_envelope([x for x, _ in there], [y for _, y in there])
    values = {0: tuple(there[i][1] for i in front)} if front else {}
    curve = Curve(
        f"{families.word(family)} family", tuple(there[i][0] for i in front), values, {0: ()}
    )
    return _flat_to(curve, max((x for x, _ in there), default=0.0))


def _curve(study: Study, title: str, arms: Iterable[Arm], measure: Measure) -> Curve:
    arms = sorted(arms, key=lambda arm: arm.exaflops)
    points = [averages.values(study, arm, measure) for arm in arms]
    numbers = [by_seed(point.values()) for point in points]
    seeds = sorted(set.intersection(*(set(point) for point in numbers))) if numbers else []
    return Curve(
        title=title,
        compute=tuple(arm.exaflops for arm in arms),
        values={seed: tuple(point[seed] for point in numbers) for seed in seeds},
        job_ids={seed: sum((point[seed].job_ids for point in points), ()) for seed in seeds},
        step=resolution(*(point.values() for point in points)),
    )


def _flat_to(curve: Curve, exaflops: float) -> Curve:
    """Return the curve led on to a compute that brought nothing more."""
    if not curve.compute or exaflops <= curve.compute[-1]:
        return curve
    values = {seed: (*row, row[-1]) for seed, row in curve.values.items()}
    return Curve(curve.title, (*curve.compute, exaflops), values, curve.job_ids, curve.step)
