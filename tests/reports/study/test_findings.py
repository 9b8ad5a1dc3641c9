"""What a report says first, and how systems are told apart, where no pair is named."""

from __future__ import annotations

from typing import Any

from reports.drawing import style
from reports.study import findings
from reports.study.study import Study


def test_without_pairs_the_first_and_the_last_system_of_each_size_are_named(made: Any) -> None:
    suite = made.graph.suite.model_copy(update={"pair": ()})
    jobs = tuple(job for job in made.graph.jobs if job.labels.family != "hybrid")
    # The families at equal compute would speak for themselves: one family is left to rank.
    own = tuple(job for job in jobs if job.labels.family == "vit")
    both = tuple(
        job.model_copy(update={"labels": job.labels.model_copy(update={"family": "vit"})})
        for job in jobs
    )
    study = Study(made.graph.model_copy(update={"suite": suite, "jobs": both}), made.results, {})
    found = findings.findings(study)
    assert len(found) == len(study.arms_by_size)
    for finding, arms in zip(found, study.arms_by_size.values(), strict=True):
        means = sorted((study.mean(arm, study.measures[0]) or 0.0, arm.title) for arm in arms)
        low, high = means[0], means[-1]
        assert finding.text.startswith(
            f"From {100 * low[0]:.1f} % ({low[1]}) to {100 * high[0]:.1f} % ({high[1]}), 2 systems"
        )
    alone = Study(made.graph.model_copy(update={"suite": suite, "jobs": own}), made.results, {})
    assert findings.findings(alone) == []  # nothing to compare a single system with


def test_systems_of_one_family_have_their_own_colours_and_never_the_same_look() -> None:
    one = style.looks((f"ViT {i}", "vit") for i in range(12))
    assert len(set(one.values())) == 12
    assert len({look.color for look in one.values()}) == len(style.SYSTEM_COLORS)
    several = style.looks([("A", "vit"), ("B", "vit"), ("C", "vit"), ("D", "bit")])
    assert several["A"].color == several["C"].color != several["D"].color
