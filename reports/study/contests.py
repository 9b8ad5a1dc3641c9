"""The comparisons that a suite's pairs ask for: a ViT against its rivals, paired by seed.

"Tie" means that the interval holds zero: no difference was shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench import metrics, stats
from reports.printing.table import Sample
from reports.study.leading import leader
from reports.study.samples import Arm, Measure, by_seed, pair, resolution
from reports.study.study import Study, bare_name, once

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
    def leader(self) -> stats.Leader:
        """Who leads: `first` is the ViT."""
        return leader(self.difference, self.measure.metric)

    @property
    def verdict(self) -> str:
        """The outcome in words."""
        if self.difference.mean is None:
            return "missing"
        words = {"first": "ViT leads", "second": f"{WORDS[self.role]} leads", "tie": "tie"}
        return words.get(self.leader, "one seed")


@once
def contests(study: Study) -> tuple[Contest, ...]:
    """Return every comparison that the suite's pairs ask for, by pair, size and measure."""
    found = []
    for index, asked in enumerate(study.graph.suite.pair):
        names = {"bit": asked.bit, "hybrid": asked.hybrid}
        for vit in _arms(study, asked.vit):
            for measure in _compared(study):
                for role in ROLES:
                    rival = _rival(study, names[role], vit)
                    if rival is not None:
                        found.append(_contest(study, index, vit, rival, role, measure))
    return tuple(found)


def _compared(study: Study) -> list[Measure]:
    """Return the measures of which one direction is better."""
    return [m for m in study.measures if metrics.metric(m.metric).direction != "neither"]


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
    first = study.samples.get((vit, measure), [])
    second = study.samples.get((rival, measure), [])
    step = resolution(first, second)
    difference = stats.paired_difference(
        *pair(first, second), confidence=study.confidence, resolution=step
    )
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
    missing = "" if difference.n else "no seed has a value for both systems"
    return Contest(index, vit, rival, role, measure, difference, samples, missing, step)


def unconfirmed(met: Sequence[Contest], confidence: float) -> set[Contest]:
    """Return the leads that Holm's correction over all comparisons does not confirm."""
    judged = [contest for contest in met if contest.difference.p_value is not None]
    adjusted = stats.holm([contest.difference.p_value or 0.0 for contest in judged])
    return {
        contest
        for contest, p_value in zip(judged, adjusted, strict=True)
        if contest.leader in ("first", "second") and p_value > 1 - confidence
    }
