"""What a suite will take: shapes of its jobs, the scheduler's order, and red lines."""

from __future__ import annotations

import pytest

from bench.plan import plan_with_catalogue, suites
from bench.plan.rehearsed import Measured
from bench.plan.shapes import parts
from bench.plan.spec import JobGraph
from bench.rehearse.forecast import Forecast, Place, forecast, makespan_s
from tests.bench.conftest import graph_of, planned

MEMORY_GIB = {"cpu": 16.0, "cuda": 80.0}
PLACE = Place(gpu="h100", memory_gib=MEMORY_GIB, num_cores=2, free_disk_gib=1e6)


def planned_suite(name: str, scale: str | None = None) -> JobGraph:
    return plan_with_catalogue(suites.load(name, scale=scale), {})


@pytest.fixture(scope="module")
def public() -> JobGraph:
    return planned_suite("state-of-the-art", "public")


def told(graph: JobGraph, measured: Measured, place: Place = PLACE) -> Forecast:
    found = parts(graph)
    return forecast(graph, found, {part.shape.key: measured for part in found}, place=place)


def test_a_job_trains_and_evaluates_what_was_planned(public: JobGraph) -> None:
    found = parts(public)
    trained = {part.job.job_id: part.num_images for part in found if part.shape.work == "train"}
    assert trained == {job.job_id: job.train_examples for job in public.jobs if job.train_examples}
    final = next(part for part in found if part.job.labels.stage == "final")
    card = public.datasets[final.job.dataset]
    evaluated = next(
        part.num_images for part in found if part.job is final.job and part.shape.work == "evaluate"
    )
    assert evaluated == card.splits["test"].num_examples


def test_seeds_and_rates_share_a_shape_and_systems_do_not(public: JobGraph) -> None:
    found = parts(public)
    systems = {part.job.labels.system for part in found}
    keys = {part.shape.key for part in found}
    assert len(systems) < len(keys) < len(found) / 2
    on_cpu = parts(public, device="cpu")
    assert {part.shape.device for part in on_cpu} == {"cpu"}


def test_two_slots_take_the_longest_path_first() -> None:
    first, second = planned("a", seed=0), planned("b", seed=1)
    last = planned("c", seed=2, needs=(first,))
    graph = graph_of((first, second, last))
    took = {first.job_id: 3.0, second.job_id: 4.0, last.job_id: 2.0}
    assert makespan_s(graph, lambda job: took[job.job_id], num_slots=2) == 5.0
    assert makespan_s(graph, lambda job: took[job.job_id], num_slots=1) == 9.0


def test_profiles_wait_for_each_other_and_their_searches_are_told() -> None:
    graph = planned_suite("speed", "smoke")
    assert makespan_s(graph, lambda job: 2.0, num_slots=2) == 2.0 * len(graph.jobs)
    assert told(graph, Measured(image_s=1e-6)).num_searches == len(graph.jobs) == 9
    quick = planned_suite("quickstart")
    assert told(quick, Measured(image_s=1e-6)).num_searches == 0


def test_refused_jobs_are_rehearsed_and_not_counted(public: JobGraph) -> None:
    found = told(public, Measured(image_s=1e-3))
    assert sum(found.refused.values()) == sum(bool(job.refused) for job in public.jobs) > 0
    assert found.num_jobs == sum(not job.refused for job in public.jobs)
    assert sum(row.num_jobs for row in found.rows) == len(parts(public))
    images = sum(part.num_images for part in parts(public) if not part.job.refused)
    assert sum(row.hours for row in found.rows) == pytest.approx(images * 1e-3 / 3600)
    assert found.usd == pytest.approx(3 * 24 * found.gpu_days)


@pytest.mark.parametrize(
    ("measured", "place", "words"),
    [
        (Measured(constant_gib=70, image_gib=11, image_s=1), PLACE, "with one image (81.0 GiB)"),
        (Measured(fault="RuntimeError: no"), PLACE, "raises RuntimeError: no"),
        (Measured(image_s=1e-6), PLACE, "cores to decode, and there are 2"),
        (
            Measured(image_s=1),
            Place("h100", MEMORY_GIB, 2, 0.1, needed_disk_gib=9),
            "the disk has 0.1 GiB free, and 9.0 are needed",
        ),
        (
            Measured(image_s=1),
            Place("h100", MEMORY_GIB, 2, 1e6, budget_usd=10),
            "are over the budget of $10",
        ),
    ],
)
def test_a_red_line_says_what_stands_in_the_way(
    public: JobGraph, measured: Measured, place: Place, words: str
) -> None:
    assert any(words in line for line in told(public, measured, place).red_lines)


def test_where_all_is_well_there_is_no_red_line(public: JobGraph) -> None:
    found = told(public, Measured(constant_gib=1, image_gib=0.1, image_s=1))
    assert found.red_lines == ()
    assert found.measured


def test_unmeasured_speeds_are_said_to_be_assumed(public: JobGraph) -> None:
    found = told(public, Measured(constant_gib=1, image_gib=0.01))
    assert not found.measured
    assert found.hours > 0
