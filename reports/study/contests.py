"""The comparisons that a suite's pairs ask for: the first system against its rivals, by seed.

"Undecided" means that the interval holds zero, "tie" that it also lies inside the margin.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from bench import metrics, stats
from reports.printing.table import Sample
from reports.study.families import reference, word
from reports.study.leading import difference, leader, step_of
from reports.study.samples import Arm, Measure, by_seed
from reports.study.study import Study, bare_name, once


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
    """Step in which the values come."""

    @property
    def ratio(self) -> float | None:
        """Pre-training compute of the first over the rival's; None where it is not known."""
        known = self.first.exaflops and self.second.exaflops
        return self.first.exaflops / self.second.exaflops if known else None

    @property
    def leader(self) -> stats.Leader:
        """Who leads, in the direction in which the metric is better."""
        return leader(self.difference, self.measure.metric)

    @property
    def verdict(self) -> str:
        """The outcome in words."""
        return "missing" if self.difference.mean is None else outcome(self.names, self.leader)


def outcome(names: tuple[str, str], ahead: stats.Leader) -> str:
    """Return who leads, in words; `names` are those of both."""
    words = {"first": f"{names[0]} leads", "second": f"{names[1]} leads", "unknown": "one seed"}
    return words.get(ahead, ahead)


def reference_of(met: Iterable[Contest]) -> tuple[str, str]:
    """Return key and word of what stands first in all comparisons."""
    return reference((contest.slot[0], contest.names[0]) for contest in met)


@once
def contests(study: Study) -> tuple[Contest, ...]:
    """Return every comparison that the suite's pairs ask for, by pair, size and measure.

    Untrained systems are there to be beaten, and compared with nobody.
    """
    found = []
    for index, asked in enumerate(study.graph.suite.pair):
        first, *rivals = _members(study, asked.systems)
        for arm in (arm for arm in first.arms if not arm.is_untrained):
            for measure in _compared(study):
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


def _compared(study: Study) -> list[Measure]:
    """Return the measures of which one direction is better."""
    return [m for m in study.measures if metrics.metric(m.metric).direction != "neither"]


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
    first = study.samples.get((arm, measure), [])
    second = study.samples.get((rival, measure), [])
    step = step_of(measure.metric, first, second)
    found = difference(first, second, measure.metric, confidence=study.confidence)
    a, b = by_seed(first), by_seed(second)
    ids = {(0, s.seed): s.job_ids for s in first} | {(1, s.seed): s.job_ids for s in second}
    samples = tuple(
        Sample(
            seed=seed,
            value=a[seed] - b[seed] if seed in a and seed in b else None,
            job_ids=ids.get((0, seed), ()) + ids.get((1, seed), ()),
            reason="" if seed in a and seed in b else "one of the two has no value",
        )
        for seed in sorted({seed for _, seed in ids if seed is not None})
    )
    missing = "" if found.n else "no seed has a value for both systems"
    return Contest(index, place, slot, arm, rival, names, measure, found, samples, missing, step)


def unconfirmed(met: Sequence[Contest], confidence: float) -> set[Contest]:
    """Return the leads that Holm's correction over all comparisons does not confirm."""
    judged = [contest for contest in met if contest.difference.p_value is not None]
    adjusted = stats.holm([contest.difference.p_value or 0.0 for contest in judged])
    return {
        contest
        for contest, p_value in zip(judged, adjusted, strict=True)
        if contest.leader in ("first", "second") and p_value > 1 - confidence
    }
