"""The suites that come with the project: each plans at each of its scales, as its golden file."""

from __future__ import annotations

import json
import os
import re
from functools import cache
from pathlib import Path

import pytest

import baselines
from bench import environment
from bench.data import catalog
from bench.plan import plan
from bench.plan import suites as suites
from bench.plan.spec import JobGraph
from bench.schedule import Estimates

GOLDEN = Path(__file__).parents[1] / "golden"
PAPER = tuple(name for name in suites.names() if name != "quickstart")
SCALES = ("smoke", "public", "full")
SMOKE_EXAFLOPS = 3e-6
"""Work that two laptop cores do in about a minute and a half."""


@cache
def planned(name: str, scale: str) -> JobGraph:
    return plan(
        suites.load(name, scale=scale),
        datasets=catalog.datasets(),
        protocols=catalog.protocols(),
    )


def test_there_is_a_suite_for_each_table_and_question() -> None:
    assert set(PAPER) >= {
        "state-of-the-art", "data-size", "fewshot-size", "scaling", "optimizer",
        "position-embeddings", "head", "model-shape", "vtab", "self-supervised", "speed",
    }  # fmt: skip


@pytest.mark.parametrize("name", PAPER)
def test_a_suite_says_what_it_tests_and_what_it_takes(name: str) -> None:
    text = suites.locate(name).read_text(encoding="utf-8")
    spec = suites.load(name)
    assert text.startswith("# ")
    assert all(f"\n# {scale:8}" in text for scale in SCALES)
    assert spec.scale == "smoke"
    assert suites.scales(spec) == SCALES
    assert "arXiv:2010.11929" in spec.source
    for scale in SCALES:
        block = spec.scales[scale]  # type: ignore[index]
        assert block.expected
        assert block.cost
    assert spec.claim.endswith(".")


COST = re.compile(
    r"(?P<jobs>[\d,]+) jobs, (?P<exaflops>[\d,.e-]+) exaFLOPs"
    r"(, (?P<refused>[\d,.]+|all)( of them)? refused)?"
    r"(;.* about (?P<time>[\d,]+) (?P<unit>hours|days) of one A100)?"
)
"""What a suite's cost says of the plan."""


def _number(text: str) -> float:
    return float(text.replace(",", ""))


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", PAPER)
def test_a_suite_costs_what_it_says(name: str, scale: str) -> None:
    graph = planned(name, scale)
    cost = graph.suite.scales[scale].cost  # type: ignore[index]
    found = COST.match(cost)
    assert found, cost
    total = sum(job.exaflops for job in graph.jobs)
    refused = sum(job.exaflops for job in graph.jobs if job.refused)
    assert _number(found["jobs"]) == pytest.approx(len(graph.jobs), rel=0.05)
    assert _number(found["exaflops"]) == pytest.approx(total, rel=0.05)
    if found["refused"] == "all":
        assert all(job.refused for job in graph.jobs)
    else:
        assert _number(found["refused"] or "0") == pytest.approx(refused, rel=0.05)
    if found["time"]:
        estimates = Estimates(graph, {})
        seconds = sum(estimates.seconds(job) for job in graph.jobs if not job.refused)
        time = seconds / {"hours": 3600, "days": 86_400}[found["unit"]]
        assert _number(found["time"]) == pytest.approx(time, rel=0.05, abs=0.5)  # whole units
    else:
        assert scale != "public" or "not measured" in cost


def test_the_quickstart_costs_what_its_head_says() -> None:
    text = suites.locate("quickstart").read_text(encoding="utf-8").replace("\n# ", " ")
    (found,) = re.findall(r"\(([\d,]+) jobs, ([\d.e-]+) exaFLOPs\)", text)
    graph = plan(
        suites.load("quickstart"), datasets=catalog.datasets(), protocols=catalog.protocols()
    )
    assert _number(found[0]) == len(graph.jobs)
    assert _number(found[1]) == pytest.approx(sum(job.exaflops for job in graph.jobs), rel=0.05)


@pytest.mark.parametrize("name", PAPER)
def test_a_suite_pre_trains_with_the_recipes_behind_the_published_numbers(name: str) -> None:
    """Table 3 of the paper is assigned to systems by `published.csv`; suites do not differ."""
    assigned: dict[tuple[str, str], set[str]] = {}
    for row in baselines.published():
        if row.pretraining_id and not row.system_args:
            place = (row.system_id, row.upstream_id)
            assigned.setdefault(place, set()).add(row.pretraining_id)
    for job in planned(name, "full").jobs:
        place = (job.labels.system, job.labels.upstream)
        if job.spec.kind == "pretrain" and place in assigned:
            assert job.labels.recipe in assigned[place], job.name


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", PAPER)
def test_a_suite_plans_at_each_scale(name: str, scale: str) -> None:
    graph = planned(name, scale)
    seen: set[str] = set()
    for job in graph.jobs:
        assert set(job.spec.needs.values()) <= seen
        assert job.job_id == job.spec.job_id
        assert job.dataset in graph.datasets or job.spec.data is None
        seen.add(job.job_id)
    assert len(seen) == len(graph.jobs) == len({job.name for job in graph.jobs})
    reported = [job for job in graph.jobs if job.labels.downstream or name == "speed"]
    assert {job.labels.stage for job in reported} & {"final", "fewshot", "profile"}


@pytest.mark.parametrize("name", suites.names())
def test_smoke_jobs_keep_their_identities(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Renew with VITBENCH_REGENERATE=1, and read the difference: these numbers are other ones."""
    monkeypatch.setattr(environment, "machine", lambda device: "a processor, 2 cores")
    if name == "quickstart":  # a golden file of its own, in test_suite.py
        return
    graph = planned.__wrapped__(name, "smoke")  # not one that was planned for this machine
    found = {job.name: job.job_id for job in graph.jobs}
    path = GOLDEN / f"plan_{name}_smoke.json"
    if os.environ.get("VITBENCH_REGENERATE"):
        path.write_text(json.dumps(found, indent=0) + "\n", encoding="utf-8")
    assert found == json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", PAPER)
def test_smoke_is_small_and_needs_nothing(name: str) -> None:
    graph = planned(name, "smoke")
    assert not any(job.refused for job in graph.jobs)
    assert all(card.digest for card in graph.datasets.values())
    assert sum(job.exaflops for job in graph.jobs) < SMOKE_EXAFLOPS
    assert {job.resources.gpus for job in graph.jobs} == {0}


@pytest.mark.parametrize("name", PAPER)
def test_jft_is_refused_at_the_full_scale_and_only_jft(name: str) -> None:
    graph = planned(name, "full")
    for job in graph.jobs:
        assert bool(job.refused) == (job.labels.upstream == "jft-300m"), job.name
    assert any(job.refused for job in graph.jobs) == (name != "speed")  # it needs no data


@pytest.mark.parametrize("name", PAPER)
def test_the_public_scale_has_something_to_do(name: str) -> None:
    graph = planned(name, "public")
    assert any(not job.refused for job in graph.jobs)
    for job in graph.jobs:
        if job.refused:
            assert job.labels.upstream == "jft-300m"


def test_suites_share_their_pre_training() -> None:
    """The same system, recipe, data and seed is one job wherever it stands."""
    users: dict[str, set[str]] = {}
    for name in suites.names():
        spec = suites.load(name)
        graph = plan(spec, datasets=catalog.datasets(), protocols=catalog.protocols())
        for job in graph.jobs:
            if job.name == "pretrain vit-micro fractals/16384 seed 0":
                users.setdefault(job.job_id, set()).add(name)
    assert len(users) == 1
    assert len(next(iter(users.values()))) >= 8


def test_table_6_has_its_eighteen_rows_and_their_compute() -> None:
    graph = planned("scaling", "full")
    rows = [job for job in graph.jobs if job.labels.stage == "pretrain"]
    assert len(rows) == 18
    work = {(job.labels.title, round(job.train_examples / 303e6)): job.exaflops for job in rows}
    assert work["ViT-B/16", 7] == pytest.approx(224, rel=0.01)
    assert work["ViT-L/16", 14] == pytest.approx(1567, rel=0.01)
    assert work["ViT-H/14", 14] == pytest.approx(4262, rel=0.01)
    assert work["ResNet152x2", 7] == pytest.approx(563, rel=0.05)


def test_table_8_has_its_eight_variants() -> None:
    titles = {job.labels.title for job in planned("position-embeddings", "full").jobs}
    assert titles == {
        "ViT-B/16, No Pos. Emb., default/stem",
        "ViT-B/16, 1-D Pos. Emb., default/stem",
        "ViT-B/16, 1-D Pos. Emb., every layer",
        "ViT-B/16, 1-D Pos. Emb., every layer-shared",
        "ViT-B/16, 2-D Pos. Emb., default/stem",
        "ViT-B/16, 2-D Pos. Emb., every layer",
        "ViT-B/16, 2-D Pos. Emb., every layer-shared",
        "ViT-B/16, Rel. Pos. Emb., default/stem",
    }


def test_vtab_has_its_nineteen_tasks_with_one_rate() -> None:
    graph = planned("vtab", "public")
    finals = [job for job in graph.jobs if job.labels.stage == "final"]
    assert len({job.labels.downstream for job in finals}) == 19
    assert {job.spec.recipe.base_lr for job in finals if job.spec.recipe} == {0.01}
    assert {job.num_steps for job in finals} == {2500}
    assert {job.spec.data.train_split for job in finals} == {"train800val200"}
    assert {job.spec.protocol.image_size_px for job in finals} == {384}
