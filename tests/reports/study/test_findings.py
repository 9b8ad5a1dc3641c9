"""What a report says first, and how systems are told apart, where no pair is named."""

from __future__ import annotations

from typing import Any

from reports.drawing import style
from reports.study import averages, findings
from reports.study.contests import contests
from reports.study.study import Study
from tests.reports.conftest import Made, with_more_datasets


def study_of(made: Made) -> Study:
    return Study(made.graph, made.results, made.curves, made.hits)


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


def test_each_data_set_has_findings_of_its_own(made: Any) -> None:
    found = findings.findings(study_of(with_more_datasets(made, "letters")))
    pairs = [f"ViT-Micro/4 − {rival}, fine-tuned on" for rival in ("R14-Micro", "R8+ViT-Micro")]
    assert [finding.subject for finding in found if "fine-tuned on" in finding.subject] == [
        f"{pair} {name}" for pair in pairs for name in ("Digits", "Letters")
    ]
    assert found[0].text == found[1].text  # the same results


def test_of_many_data_sets_the_first_is_told_and_the_others_are_summed_up(made: Any) -> None:
    names = [f"set-{place}" for place in range(findings.MAX_DATASETS)]
    study = study_of(with_more_datasets(made, *names))
    found = [str(f) for f in findings.findings(study) if "family" not in f.subject]
    assert len(found) == 4  # two rivals: the first data set, and the others
    assert "fine-tuned on Digits" in found[0]
    assert found[1] == (
        "ViT-Micro/4 − R14-Micro, 6 other data sets: At 8,192 upstream images undecided on 6. "
        "(The first accuracy of each, not corrected for their number; the pairs have each.)"
    )


def test_outcomes_are_counted_in_words(made: Any, single: Any) -> None:
    met = contests(study_of(made))
    words = {findings._word(contest) for contest in met}
    assert "undecided" in words
    assert "the ViT leads" in words
    alone = {findings._word(contest) for contest in contests(study_of(single))}
    assert alone <= {f"the {n} is ahead at one seed" for n in ("ViT", "BiT", "hybrid")} | {
        "equal at one seed"
    }
    empty = study_of(made.without(*made.results))
    assert {findings._word(contest) for contest in contests(empty)} == {"no results"}


def test_without_pairs_the_mean_stands_for_many_data_sets(made: Any) -> None:
    suite = made.graph.suite.model_copy(update={"pair": ()})
    alone = Made(made.graph.model_copy(update={"suite": suite}), made.results, made.curves)
    names = [f"set-{place}" for place in range(findings.MAX_DATASETS)]
    few = list(findings._ends(study_of(with_more_datasets(alone, "letters"))))
    assert [finding.subject for finding in few] == (
        ["Digits: Fine-tuned"] * 3 + ["Letters: Fine-tuned"] * 3
    )
    many = list(findings._ends(study_of(with_more_datasets(alone, *names))))
    assert [finding.subject for finding in many] == ["Average-7: Fine-tuned"] * 3
    assert many[0].text.endswith("; the comparison has each data set.)")


def test_few_shot_of_five_images_stands_for_a_data_set(made: Any) -> None:
    jobs = tuple(job for job in made.graph.jobs if job.spec.kind not in ("finetune", "select"))
    graph = made.graph.model_copy(update={"jobs": jobs})
    study = study_of(with_more_datasets(Made(graph, made.results, made.curves), "letters"))
    assert [(m.dataset, m.metric) for m in averages.leading(study)] == [
        ("digits", "fewshot_top1/5"), ("letters", "fewshot_top1/5"),
    ]  # fmt: skip


def test_systems_of_one_family_have_their_own_colours_and_never_the_same_look() -> None:
    one = style.looks((f"ViT {i}", "vit") for i in range(12))
    assert len(set(one.values())) == 12
    assert len({look.color for look in one.values()}) == len(style.SYSTEM_COLORS)
    several = style.looks([("A", "vit"), ("B", "vit"), ("C", "vit"), ("D", "bit")])
    assert several["A"].color == several["C"].color != several["D"].color
