"""Pairs of any systems: words, columns and sentences come from the cards of the two."""

from __future__ import annotations

from typing import Any

import pytest

from bench.specs import Pair
from reports.study import contests, curves, findings
from reports.study.study import Study
from reports.tables import equal_compute, images, pairs

VIT, BIT, HYBRID = "vit-micro4", "bit-r14-micro", "hybrid-micro"


def study_of(made: Any, *asked: Pair, families: dict[str, str] | None = None) -> Study:
    """Return the made-up study with other pairs, and some systems moved to another family."""
    jobs = made.graph.jobs
    for system, family in (families or {}).items():
        jobs = tuple(
            job.model_copy(update={"labels": job.labels.model_copy(update={"family": family})})
            if job.labels.system == system
            else job
            for job in jobs
        )
    suite = made.graph.suite.model_copy(update={"pair": asked})
    graph = made.graph.model_copy(update={"suite": suite, "jobs": jobs})
    return Study(graph, made.results, {}, made.hits)


def keys(table: Any) -> list[str]:
    return [column.key for column in table.columns]


def test_the_first_of_a_pair_is_the_reference_whatever_its_family(made: Any) -> None:
    study = study_of(made, Pair(systems=(HYBRID, VIT)))
    table = pairs.table(study)
    assert keys(table)[2:] == ["vit_compute_ratio", "vit_difference", "vit_verdict"]
    assert table.columns[2].group == "R8+ViT-Micro − ViT-Micro/4"
    assert {contest.verdict for contest in contests.contests(study)} <= {
        "hybrid leads", "ViT leads", "tie", "undecided",
    }  # fmt: skip
    assert "hybrid's pre-training FLOPs" in table.caption
    shown = equal_compute.table(study)
    assert keys(shown)[3:5] == ["hybrid", "rival"]
    assert "Difference: hybrid minus rival" in shown.caption
    assert "only_hybrid" in keys(images.table(study))
    texts = [finding.text for finding in findings.findings(study)]
    assert any("the hybrid" in text for text in texts)


def test_two_systems_of_one_family_are_named_by_title(made: Any) -> None:
    study = study_of(made, Pair(systems=(VIT, HYBRID)), families={HYBRID: "vit"})
    names = {contest.names for contest in contests.contests(study)}
    assert names == {("ViT-Micro/4", "R8+ViT-Micro")}
    assert "R8+ViT-Micro leads" in {contest.verdict for contest in contests.contests(study)}
    assert "vit_difference" in keys(pairs.table(study))


def test_columns_of_two_rivals_of_one_family_do_not_collide(made: Any) -> None:
    study = study_of(made, Pair(systems=(VIT, BIT, HYBRID)), families={HYBRID: "bit"})
    table = pairs.table(study)
    assert len(set(keys(table))) == len(table.columns)
    assert [key for key in keys(table) if "difference" in key] == [
        "bit_difference", "bit_2_difference",
    ]  # fmt: skip
    names = {contest.names for contest in contests.contests(study)}
    assert names == {("ViT", "R14-Micro"), ("ViT", "R8+ViT-Micro")}


def test_several_pairs_share_columns_by_family(made: Any) -> None:
    study = study_of(made, Pair(systems=(VIT, BIT)), Pair(systems=(HYBRID, BIT, VIT)))
    table = pairs.table(study)
    assert len(set(keys(table))) == len(table.columns)
    assert keys(table)[0] == "first"
    assert [key for key in keys(table) if "difference" in key] == [
        "vit_bit_difference", "hybrid_bit_difference", "hybrid_vit_difference",
    ]  # fmt: skip
    groups = {column.group for column in table.columns if column.group}
    assert groups == {"ViT − BiT", "hybrid − BiT", "hybrid − ViT"}
    assert {row[0].text for row in table.rows} == {"ViT-Micro/4", "R8+ViT-Micro"}


@pytest.mark.parametrize(
    ("match", "title"),
    [("exaflops", "Pairs at matched pre-training compute"), ("none", "Pairs")],
)
def test_the_title_says_what_is_matched(made: Any, match: Any, title: str) -> None:
    assert pairs.table(study_of(made, Pair(systems=(VIT, BIT), match=match))).title == title


def test_without_known_compute_systems_are_compared_without_a_ratio(made: Any) -> None:
    free = tuple(job.model_copy(update={"pretrain_exaflops": 0.0}) for job in made.graph.jobs)
    graph = made.graph.model_copy(update={"jobs": free})
    study = Study(graph, made.results, {}, made.hits)
    met = contests.contests(study)
    assert met
    assert {contest.ratio for contest in met} == {None}
    assert curves.readings(study) == []
    assert all("pre-training compute" not in finding.text for finding in findings.findings(study))
    assert pairs.table(study).rows
