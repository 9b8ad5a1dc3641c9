"""Profiles in the report: tables and figure of timings, apart from all that is deterministic."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import reports
from bench.kinds.profile import ProfileBlock
from bench.plan import plan
from bench.plan.spec import JobGraph, SuiteSpec
from bench.specs import Cost, JobResult, Metric, PlannedJob
from reports.figures import speed as speeds
from reports.printing.markdown import markdown
from reports.study.study import Study
from reports.tables import profile, speed

SUITE = SuiteSpec(
    name="fast",
    title="Speed and memory",
    claim="Smaller images are faster.",
    profile=(
        ProfileBlock(
            systems=("vit-micro", "bit-micro"), image_sizes_px=(12, 24), batch_sizes=(1, 8, 64)
        ),
    ),
)


def made(job: PlannedJob) -> JobResult:
    """Return speeds that fall with pixels; a batch of 64 is too large for the CNN to train on."""
    area = ((job.spec.image_size_px or 0) / 12) ** 2
    found: dict[str, Metric] = {}
    for work, cost in (("inference", 1.0), ("train", 3.0)):
        for batch in (1, 8, 64):
            rates = tuple(1000 * share * batch**0.5 / (area * cost) for share in (0.9, 1.0, 1.2))
            values = {f"{work}_images_per_s/{batch}": (rates[1], rates)}
            values[f"{work}_memory_gib/{batch}"] = (0.001 * batch * area * cost, ())
            for name, (value, samples) in values.items():
                if work == "train" and batch == 64 and job.labels.family == "bit":
                    reason = "a batch of 64 does not fit 0.25 GiB"
                    found[name] = Metric(name=name, value=None, reason=reason)
                else:
                    found[name] = Metric(name=name, value=value, samples=samples, n=len(samples))
        name = f"{work}_largest_batch"
        found[name] = Metric(name=name, value=float(int(240 / (area * cost))))
    cost = Cost(
        device="Test CPU 2.0 GHz", device_kind="cpu", wall_s=2.0, core_s=2.0, examples=1000,
        images_per_s=None, peak_memory_gib=0.5,
    )  # fmt: skip
    return JobResult(job_id=job.job_id, status="done", metrics=found, cost=cost)


@pytest.fixture(scope="module")
def graph() -> JobGraph:
    return plan(SUITE, datasets={}, protocols={})


@pytest.fixture(scope="module")
def study(graph: JobGraph) -> Study:
    return Study(graph, {job.job_id: made(job) for job in graph.jobs}, {})


@pytest.mark.parametrize("module", [speed, profile], ids=lambda module: module.__name__)
def test_tables_of_profiles_look_as_reviewed(
    module: object, study: Study, golden: Callable[[str, str], None]
) -> None:
    table = module.table(study)  # type: ignore[attr-defined]
    golden(f"reports/profiled-{table.name}.md", markdown(table))


def test_speed_is_that_of_the_fastest_batch_with_its_repeats(study: Study) -> None:
    table = speed.table(study)
    assert [row[0].text for row in table.rows] == ["ViT-micro/4"] * 4 + ["BiT-micro"] * 4
    first, cnn = table.rows[0], table.rows[-2]
    assert first[3].value == 64
    assert first[4].value == 8000
    assert [sample.value for sample in first[4].samples] == [7200, 8000, 9600]
    assert first[6].value == 240
    assert cnn[3].value == 8  # the batch of 64 does not fit
    notes = profile.table(study).notes
    assert notes == ("a batch of 64 does not fit 0.25 GiB",)


def test_timings_stand_apart_from_what_is_the_same_in_every_run(
    graph: JobGraph, study: Study, tmp_path: Path
) -> None:
    report = reports.build(graph, study.results, curves={}, out_dir=tmp_path, formats=("md",))
    names = set(report.files)
    assert {"timings/speed.md", "timings/profile.md", "timings/overview.md"} <= names
    assert not any("speed" in name or "profile" in name for name in names if "tables/" in name)
    assert "ViT-micro/4" in report.terminal()
    assert "Largest batch" in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_the_figure_says_speed_and_largest_batch_of_each_system(study: Study) -> None:
    drawing = speeds.figure(study)
    assert drawing is not None
    assert "BiT-micro, inference at 24 px: 2,000 images a second, at most 60 at once" in drawing.alt
    assert "BiT-micro, training at 12 px: 943 images a second, at most 80 at once" in drawing.alt


def test_without_results_there_is_nothing_to_show(graph: JobGraph, tmp_path: Path) -> None:
    empty = Study(graph, {}, {})
    assert profile.profiles(empty) == []
    assert speeds.figure(empty) is None
    report = reports.build(graph, {}, curves={}, out_dir=tmp_path)
    assert "4 not run" in report.status
    assert report.terminal()
