"""What weakens numbers: each sign by cases that can be worked out by hand, and its absence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import reports
from bench.cli import wiring
from bench.cli.printing import conclude
from bench.specs import JobResult, Metric, PlannedJob
from bench.store import Store
from reports.study.cautions import cautions
from reports.study.study import Study
from tests.reports.conftest import NUM_TEST, Made, with_more_datasets

VIT = "ViT-Micro/4 on Digits, after Fractals, 512 images: "


def changed(made: Made, change: Callable[[PlannedJob, JobResult], JobResult]) -> Made:
    """Return the same with other results of jobs that report something."""
    results = {
        job.job_id: change(job, made.results[job.job_id])
        if job.labels.stage in ("final", "fewshot")
        else made.results[job.job_id]
        for job in made.graph.jobs
    }
    return Made(made.graph, results, made.curves)


def with_metrics(result: JobResult, **values: float) -> JobResult:
    """Return a result with other values of metrics; `__` stands for the slash of a qualifier."""
    metrics = dict(result.metrics)
    for key, value in values.items():
        name = key.replace("__", "/")
        metrics[name] = Metric(name=name, value=value, n=NUM_TEST)
    return result.model_copy(update={"metrics": metrics})


@pytest.fixture(scope="module")
def sound(made: Made) -> Made:
    """The made-up suite with nothing to say of it: rates in the middle of their grid."""
    return changed(
        made, lambda job, result: result.model_copy(update={"values": {"learning_rate": 0.02}})
    )


def of(made: Made, *, size: int = 0) -> list[str]:
    """Return the cautions of a suite, of the arms of one upstream size alone where one is given."""
    graph = made.graph
    if size:
        kept = tuple(job for job in graph.jobs if job.labels.upstream_examples == size)
        graph = graph.model_copy(update={"jobs": kept})
    return [str(each) for each in cautions(Study(graph, made.results, made.curves))]


def is_small_vit(job: PlannedJob) -> bool:
    return (job.labels.family, job.labels.upstream_examples) == ("vit", 512)


def test_sound_results_are_not_doubted(sound: Made) -> None:
    assert of(sound) == []
    assert of(sound.without(*sound.results)) == []


# --- behind what has to be beaten -----------------------------------------------------------


@pytest.mark.parametrize(
    ("num_params", "ahead", "told"),
    [
        (213_000, 0.02, "behind the same system untrained at theirs (Fine-tuned 98.2 %)"),
        (0, 0.02, "behind raw pixels at theirs (Fine-tuned 98.2 %)"),
        (0, -0.4, ""),
    ],
)
def test_who_is_behind_pixels_or_himself_untrained_is_told(
    sound: Made, num_params: int, ahead: float, told: str
) -> None:
    """The smallest upstream size stands for nothing learned; the ViT is best at the largest."""
    study = Study(sound.graph, sound.results, sound.curves)
    largest = max((a for a in study.arms if a.family == "vit"), key=lambda a: a.upstream_examples)
    best = max(study.mean(largest, m) or 0.0 for m in study.accuracies)

    def untrained(job: PlannedJob) -> PlannedJob:
        if not is_small_vit(job):
            return job
        labels = {"upstream": "untrained", "upstream_examples": 0}
        return job.model_copy(
            update={
                "labels": job.labels.model_copy(update=labels),
                "num_params": num_params or 0,
                "pretrain_exaflops": 0.0,
            }
        )

    small = {job.job_id for job in sound.graph.jobs if is_small_vit(job)}
    made = changed(
        sound,
        lambda job, result: (
            with_metrics(result, test_top1=best + ahead)
            if job.job_id in small and job.labels.stage == "final"
            else result
        ),
    )
    jobs = tuple(untrained(job) for job in made.graph.jobs)
    graph = made.graph.model_copy(update={"jobs": jobs})
    found = [
        str(each)
        for each in cautions(Study(graph, made.results, made.curves))
        if "at its best" in each.text and each.subject.startswith("ViT-Micro/4")
    ]
    assert len(found) == bool(told)
    if told:
        assert told.partition(" (")[0] in found[0]
        assert "what it learned is of no use here" in found[0]


# --- fine-tuning behind frozen features -----------------------------------------------------


def frozen_ahead(by: float) -> Callable[[PlannedJob, JobResult], JobResult]:
    def change(job: PlannedJob, result: JobResult) -> JobResult:
        if not is_small_vit(job):
            return result
        if job.labels.stage == "final":
            return with_metrics(result, test_top1=0.55 + (job.spec.seed - 1) / 10)
        return with_metrics(result, fewshot_top1__10=0.55 + by)

    return change


def test_fine_tuning_behind_frozen_features_is_told_with_both_means(sound: Made) -> None:
    (line,) = of(changed(sound, frozen_ahead(0.151)))
    assert line == VIT + (
        "fine-tuning (55.0 %) trails the same features left frozen (10-shot, 70.1 %): the recipe "
        "is too short, or its rates do not fit; comparisons of the fine-tuned compare recipes, not "
        "systems. (Images have 48 px in fine-tuning and 32 px there.)"
    )


@pytest.mark.parametrize(("by", "count"), [(-0.1, 0), (0.0, 0), (0.004, 0), (0.006, 1)])
def test_half_a_point_counts_as_none(sound: Made, by: float, count: int) -> None:
    assert len(of(changed(sound, frozen_ahead(by)))) == count


def test_images_of_one_size_are_not_mentioned(sound: Made) -> None:
    made = changed(sound, frozen_ahead(0.1))
    jobs, renamed = [], {}
    for job in made.graph.jobs:
        if job.labels.stage == "fewshot":
            protocol = job.spec.protocol.model_copy(update={"image_size_px": 48})  # type: ignore[union-attr]
            spec = job.spec.model_copy(update={"protocol": protocol})
            renamed[job.job_id] = spec.job_id
            job = job.model_copy(update={"spec": spec, "job_id": spec.job_id})
        jobs.append(job)
    results = {
        renamed.get(key, key): result.model_copy(update={"job_id": renamed.get(key, key)})
        for key, result in made.results.items()
    }
    graph = made.graph.model_copy(update={"jobs": tuple(jobs)})
    (line,) = of(Made(graph, results, made.curves))
    assert line.endswith("not systems.")


def test_one_line_stands_for_all_upstream_sizes_with_the_worst_of_them(sound: Made) -> None:
    def change(job: PlannedJob, result: JobResult) -> JobResult:
        if job.labels.family != "vit":
            return result
        if job.labels.stage == "final":
            return with_metrics(result, test_top1=0.5)
        behind = {512: 0.1, 2048: 0.3, 8192: 0.2}[job.labels.upstream_examples]
        return with_metrics(result, fewshot_top1__10=0.5 + behind)

    (line,) = of(changed(sound, change))
    assert line.startswith("ViT-Micro/4 on Digits, after Fractals, 2,048 images: ")
    assert "(10-shot, 80.0 %)" in line
    assert line.endswith("The same in 2 more of its settings.")
    (alone,) = of(changed(sound, change), size=512)
    assert alone.startswith("ViT-Micro/4 on Digits: ")  # one upstream size needs no name


# --- the chosen rate ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rate", "words"), [(0.03, "greatest"), (0.01, "least"), (0.02, ""), (None, "")]
)
def test_a_rate_at_an_edge_of_its_grid_says_which_and_what_to_add(
    sound: Made, rate: float | None, words: str
) -> None:
    def change(job: PlannedJob, result: JobResult) -> JobResult:
        if is_small_vit(job) and job.labels.stage == "final":
            return result.model_copy(update={"values": {"learning_rate": rate}})
        return result

    added = {"greatest": "0.09", "least": "0.003"}
    assert of(changed(sound, change)) == (
        [
            f"{VIT}the chosen learning rate is the {words} of those tried (0.01, 0.03), and the "
            f"best may lie beyond: add {added[words]}."
        ]
        if words
        else []
    )


def test_of_one_rate_nothing_is_an_edge(sound: Made) -> None:
    chosen = changed(
        sound, lambda job, result: result.model_copy(update={"values": {"learning_rate": 0.03}})
    )
    assert len(of(chosen)) == 3
    kept = tuple(job for job in chosen.graph.jobs if job.labels.learning_rate != 0.01)
    graph = chosen.graph.model_copy(update={"jobs": kept})
    assert of(Made(graph, chosen.results, chosen.curves)) == []


def test_rates_of_a_search_have_edges_too(sound: Made) -> None:
    def searched(job: PlannedJob) -> PlannedJob:
        if job.spec.kind != "select":
            return job
        spec = job.spec.model_copy(
            update={"kind": "search", "params": {"learning_rates": (0.001, 0.003, 0.01)},
                    "needs": {"checkpoint": next(iter(job.spec.needs.values()))}}
        )  # fmt: skip
        return job.model_copy(update={"spec": spec})  # its id stays, for those that need it

    graph = sound.graph.model_copy(update={"jobs": tuple(map(searched, sound.graph.jobs))})
    chosen = changed(
        sound, lambda job, result: result.model_copy(update={"values": {"learning_rate": 0.001}})
    )
    line = of(Made(graph, chosen.results, chosen.curves))[0]
    assert "the least of those tried (0.001, 0.003, 0.01)" in line
    assert "add 0.0003." in line


# --- the loss at the end --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "at_end", "count"),
    [(0.71, 0.52, 1), (0.71, 0.70, 0), (0.15, 0.12, 1), (0.05, 0.035, 0), (1.0, 0.91, 0),
     (0.5, 0.6, 0)],
)  # fmt: skip
def test_a_loss_that_still_fell_is_told(
    sound: Made, before: float, at_end: float, count: int
) -> None:
    """By a tenth or more, and by more than 0.02 nats."""

    def change(job: PlannedJob, result: JobResult) -> JobResult:
        if not is_small_vit(job) or job.labels.stage != "final":
            return result
        spread = (job.spec.seed - 1) / 100  # over seeds; the means stay
        losses = {"loss_before_end": before + spread, "loss_at_end": at_end - spread}
        return result.model_copy(update={"values": {**result.values, **losses}})

    found = of(changed(sound, change))
    assert len(found) == count
    if (before, at_end) == (0.71, 0.52):
        assert found == [
            VIT + "the training loss was still falling when fine-tuning ended (from 0.710 over the "
            "fourth fifth of the steps to 0.520 over the last): more steps may raise its accuracy."
        ]


# --- chance ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("top1", "count"), [(0.05, 1), (0.1, 1), (0.13, 1), (0.14, 0)])
def test_within_two_standard_errors_of_guessing_is_no_better(
    sound: Made, top1: float, count: int
) -> None:
    """Of ten classes on 360 images: 0.1 + 2 sqrt(0.09 / 360) = 0.1316."""

    def change(job: PlannedJob, result: JobResult) -> JobResult:
        if is_small_vit(job) and job.labels.stage == "fewshot":
            return with_metrics(result, fewshot_top1__1=top1)
        return result

    found = of(changed(sound, change))
    assert len(found) == count
    if top1 == 0.13:
        assert found == [
            VIT + "no better than guessing one of 10 classes (10.0 %): 1-shot 13.0 %, within 2 "
            "standard errors on 360 test images. Nothing was learned that this test can show."
        ]


@pytest.mark.parametrize(("top1", "count"), [(0.55, 1), (0.66, 0)])
def test_where_one_class_is_frequent_it_is_what_has_to_be_beaten(
    sound: Made, top1: float, count: int
) -> None:
    """Six in ten on 360 images: 0.6 + 2 sqrt(0.24 / 360) = 0.652; few-shot knows no frequency."""

    def change(job: PlannedJob, result: JobResult) -> JobResult:
        result = result.model_copy(update={"values": {**result.values, "majority_top1": 0.6}})
        if is_small_vit(job) and job.labels.stage == "final":
            return with_metrics(result, test_top1=top1)
        return with_metrics(result, fewshot_top1__10=0.5) if is_small_vit(job) else result

    suite = sound.graph.suite.model_copy(update={"dataset": {"digits": {"reader": "image_folder"}}})
    graph = sound.graph.model_copy(update={"suite": suite})
    found = of(Made(graph, changed(sound, change).results, sound.curves))
    assert len(found) == count
    if found:
        guess = "no better than guessing the most frequent class of training (60.0 %)"
        assert f"{guess}: Fine-tuned 55.0 %, within 2" in found[0]


# --- where they are shown -------------------------------------------------------------------


@pytest.fixture(scope="module")
def doubtful(made: Made) -> Made:
    """Everything at once, on several data sets: more lines than a terminal shows."""

    def change(job: PlannedJob, result: JobResult) -> JobResult:
        if job.labels.stage == "final":
            losses = {"loss_before_end": 0.8, "loss_at_end": 0.6}
            values = {"learning_rate": 0.03, **losses}
            return with_metrics(result.model_copy(update={"values": values}), test_top1=0.11)
        return with_metrics(result, fewshot_top1__10=0.5)

    return with_more_datasets(changed(made, change), "letters")


def test_all_of_them_read_well(doubtful: Made, golden: Callable[[str, str], None]) -> None:
    found = of(doubtful)
    assert len(found) == 4 * 3 * 2  # signs, systems, data sets
    golden("reports/doubtful-cautions.txt", "".join(f"{line}\n" for line in found))


@pytest.mark.ordinary
def test_terminal_page_and_mlflow_show_them(
    doubtful: Made, sound: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = reports.build(
        doubtful.graph, doubtful.results, curves=doubtful.curves, out_dir=tmp_path / "doubtful"
    )
    assert len(report.cautions) == 24
    assert reports.load(tmp_path / "doubtful", report.key) == report
    conclude(Console(width=1000), report, Store(tmp_path))
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("caution")]
    assert len(printed) == 13
    assert printed[0] == f"caution    {report.cautions[0]}"
    assert printed[-1].rstrip() == "caution    and 12 more on the page"
    page = report.files["index.html"].read_text(encoding="utf-8")
    assert "Read with care" in page
    assert page.count("the training loss was still falling") == 6
    note = wiring._note(doubtful.graph, report)
    assert note.count("\n- ") == 13
    assert len(note) < 5000  # what MLflow takes
    calm: Any = reports.build(
        sound.graph, sound.results, curves=sound.curves, out_dir=tmp_path / "sound"
    )
    assert calm.cautions == ()
    assert "Read with care" not in calm.files["index.html"].read_text(encoding="utf-8")
    assert "care" not in wiring._note(sound.graph, calm)
