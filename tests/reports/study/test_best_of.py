"""Alternative setups: the better on validation is reported, whatever test says."""

from __future__ import annotations

from bench.cli.wiring import graph_of
from bench.plan.spec import JobGraph
from bench.specs import JobResult, Metric
from reports.study.best_of import beaten

ALTERNATIVES = ("micro-finetune", "bit-micro-finetune")


def _graph() -> JobGraph:
    return graph_of("optimizer", ["seeds=[0, 1]"], None, None, scale="smoke")


def _results(graph: JobGraph, val: dict[str, float]) -> dict[str, JobResult]:
    """Return results of the selections; `val` gives the accuracy of each recipe's candidates."""
    recipes = {
        job.spec.needs["select"]: job.labels.recipe
        for job in graph.jobs
        if job.labels.stage == "final"
    }
    return {
        job_id: JobResult(
            job_id=job_id,
            status="done",
            metrics={"val_top1": Metric(name="val_top1", value=val[recipe], n=100)},
        )
        for job_id, recipe in recipes.items()
        if recipe in val
    }


def test_the_worse_setup_on_validation_is_not_reported() -> None:
    graph = _graph()
    finals = [job for job in graph.jobs if job.labels.stage == "final"]
    assert {job.labels.recipe for job in finals} == set(ALTERNATIVES)
    for better, worse in (ALTERNATIVES, ALTERNATIVES[::-1]):
        lost = beaten(graph, _results(graph, {better: 0.9, worse: 0.8}))
        assert lost == {job.job_id for job in finals if job.labels.recipe == worse}


def test_nothing_is_left_out_until_every_setup_was_chosen() -> None:
    graph = _graph()
    assert beaten(graph, {}) == set()
    assert beaten(graph, _results(graph, {ALTERNATIVES[0]: 0.9})) == set()


def test_of_equals_the_first_of_the_suite_wins() -> None:
    graph = _graph()
    lost = beaten(graph, _results(graph, dict.fromkeys(ALTERNATIVES, 0.9)))
    recipes = {job.labels.recipe for job in graph.jobs if job.job_id in lost}
    assert recipes == {ALTERNATIVES[1]}
