"""Accuracy by class, most frequent mistakes, and their figure: counts that are known by hand."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reports
from bench.data.readers import block
from bench.specs import ReportBlock
from reports.figures import confusion
from reports.printing.files import render
from reports.printing.markdown import markdown
from reports.study.study import Study
from reports.tables import confusions, per_class
from tests.reports.conftest import Made, with_more_datasets

ASKED = ReportBlock(tables=("per_class", "confusions"), figures=("confusion",))
LABELS = [0] * 4 + [1] * 4 + [2] * 2
RIGHT = np.array(LABELS)
NAMES = ("cat", "dog", "<b>\\$x$ | fox")
Answers = Callable[[str], Mapping[str, np.ndarray]]


def asking(
    made: Made, answers: Answers, *, classes: int = 3, names: tuple[str, ...] = NAMES,
    report: ReportBlock = ASKED, own: bool = False,
) -> Study:  # fmt: skip
    """Return a study of a suite that asks for what is tested, or has the data set of its own."""
    graph = made.graph
    update: dict[str, Any] = {"report": report}
    if own:
        update["dataset"] = {"digits": block({"reader": "arrays", "path": "pictures"})}
    cards = {
        name: card.model_copy(update={"num_classes": classes, "class_names": names})
        for name, card in graph.datasets.items()
    }
    suite = graph.suite.model_copy(update=update)
    graph = graph.model_copy(update={"suite": suite, "datasets": cards})
    return Study(graph, made.results, made.curves, made.hits, answers=answers)


def said(made: Made, **classes: list[int] | np.ndarray) -> Answers:
    """Return answers of fine-tuning jobs by family, and seed where it is named: `vit`, `vit1`."""
    jobs = {job.job_id: job for job in made.graph.jobs}

    def answers(job_id: str) -> dict[str, np.ndarray]:
        job = jobs[job_id]
        family, seed = job.labels.family, job.spec.seed
        found = classes.get(f"{family}{seed}", classes.get(family))
        if found is None or job.labels.stage != "final":
            return {}
        arrays = {"labels": RIGHT, "classes/test_top1": np.asarray(found)}
        return {name: array.astype(np.int16) for name, array in arrays.items()}

    return answers


VIT = [0, 0, 0, 1, 1, 1, 0, 0, 2, 2]  # a cat taken for a dog; two dogs for cats
BIT = [0, 0, 0, 0, 1, 1, 1, 1, 0, 0]  # both foxes taken for cats


def texts(table: Any) -> list[list[str]]:
    return [[cell.text for cell in row] for row in table.rows]


def test_each_class_has_a_row_and_the_hardest_is_first(made: Any) -> None:
    study = asking(made, said(made, vit=VIT, bit=BIT))
    table = per_class.table(study)
    assert [column.title for column in table.columns] == [
        "Class", "Test", "ViT-Micro/4", "R14-Micro",
    ]  # fmt: skip
    assert texts(table) == [
        [NAMES[2], "2", "100.0 ± 0.0", "0.0 ± 0.0"],  # 50 % on average
        ["dog", "4", "50.0 ± 0.0", "100.0 ± 0.0"],  # 75 %
        ["cat", "4", "75.0 ± 0.0", "100.0 ± 0.0"],
    ]
    samples = table.rows[0][2].samples
    assert {sample.seed for sample in samples} == {0, 1, 2}
    assert all(len(sample.job_ids) == 1 and sample.n == 2 for sample in samples)
    assert "8,192" not in table.caption
    for sample in samples:  # systems stand by their largest upstream size
        job = next(job for job in made.graph.jobs if job.job_id == sample.job_ids[0])
        assert job.labels.upstream_examples == 8192


def test_values_are_means_over_seeds(made: Any) -> None:
    study = asking(made, said(made, vit0=LABELS, vit1=VIT, vit2=VIT))
    (row,) = (row for row in per_class.table(study).rows if row[0].text == "dog")
    assert row[2].value == pytest.approx((1 + 0.5 + 0.5) / 3)
    assert row[2].std == pytest.approx(np.std([1, 0.5, 0.5], ddof=1))
    assert texts(confusions.table(study)) == [
        ["ViT-Micro/4", "dog", "cat", "1.3 of 4", "33.3"],
        ["ViT-Micro/4", "cat", "dog", "0.7 of 4", "16.7"],
    ]


def test_seeds_that_left_no_answers_are_left_out_and_counted(made: Any) -> None:
    study = asking(made, said(made, vit0=VIT, vit1=VIT, bit=BIT))
    table = per_class.table(study)
    (row,) = (row for row in table.rows if row[0].text == "dog")
    assert (row[2].n, row[3].n) == (2, 3)
    assert row[2].marks
    assert table.notes == ("n = 2",)


def test_the_most_frequent_mistakes_come_first(made: Any) -> None:
    table = confusions.table(asking(made, said(made, vit=VIT, bit=BIT)))
    assert texts(table) == [
        ["ViT-Micro/4", "dog", "cat", "2 of 4", "50.0"],
        ["ViT-Micro/4", "cat", "dog", "1 of 4", "25.0"],
        ["R14-Micro", NAMES[2], "cat", "2 of 2", "100.0"],
    ]
    assert [sample.value for sample in table.rows[0][3].samples] == [2, 2, 2]


def test_few_shot_seeds_are_means_over_draws(made: Any) -> None:
    jobs = tuple(job for job in made.graph.jobs if job.spec.kind not in ("finetune", "select"))
    few = Made(made.graph.model_copy(update={"jobs": jobs}), made.results, made.curves)

    def answers(job_id: str) -> dict[str, np.ndarray]:
        return {"labels": RIGHT, "classes/fewshot_top1/5": np.array([LABELS, VIT])}

    study = asking(few, answers)
    (row,) = (row for row in per_class.table(study).rows if row[0].text == "dog")
    assert [cell.value for cell in row[2:]] == [0.75] * 3
    assert "(5-shot)" in per_class.table(study).caption
    assert texts(confusions.table(study))[0] == ["ViT-Micro/4", "dog", "cat", "1 of 4", "25.0"]


def test_of_many_classes_the_hardest_are_shown(made: Any) -> None:
    labels_N = np.arange(240) % 120
    classes_N = np.where((labels_N >= 90) & (np.arange(240) < 120), 0, labels_N)

    def answers(job_id: str) -> dict[str, np.ndarray]:
        return {"labels": labels_N, "classes/test_top1": classes_N}

    study = asking(made, answers, classes=120, names=())
    table = per_class.table(study)
    assert [row[0].text for row in table.rows] == [f"class {k}" for k in range(90, 110)]
    assert "Digits has 120 classes, of which the 20 hardest are shown." in table.caption
    assert confusion.figure(study) is None
    assert len(confusions.table(study).rows) == 3 * confusions.MAX_MISTAKES


@pytest.mark.parametrize(
    "broken",
    [
        {},  # as older versions left it
        {"labels": RIGHT},
        {"labels": RIGHT, "classes/test_top1": RIGHT[:-1]},
        {"labels": RIGHT, "classes/test_top1": RIGHT + 1},  # a class that is not there
        {"labels": RIGHT - 1, "classes/test_top1": RIGHT},
        {"labels": RIGHT.astype(float), "classes/test_top1": RIGHT},
        {"labels": RIGHT[:0], "classes/test_top1": RIGHT[:0]},
    ],
)
def test_without_answers_there_is_nothing_and_no_error(
    made: Any, broken: dict[str, np.ndarray]
) -> None:
    study = asking(made, lambda job_id: broken)
    assert per_class.table(study).rows == ()
    assert confusions.table(study).rows == ()
    assert confusion.figure(study) is None
    for table in (per_class.table(study), confusions.table(study)):
        assert all(render(table, form) for form in reports.FORMATS)


def test_several_data_sets_are_named(made: Any) -> None:
    more = with_more_datasets(made, "letters")
    study = asking(more, said(more, vit=VIT, bit=BIT))
    table = per_class.table(study)
    assert [column.key for column in table.columns[:2]] == ["dataset", "class"]
    assert [row[0].text for row in table.rows] == ["Digits"] * 3 + ["Letters"] * 3
    assert {row[0].text for row in confusions.table(study).rows} == {"Digits", "Letters"}
    drawing = confusion.figure(study)
    assert drawing is not None
    assert "Letters: R14-Micro: " in drawing.alt


def test_the_figure_says_its_largest_mistakes_in_words(made: Any) -> None:
    study = asking(made, said(made, vit=VIT, bit=BIT, hybrid=LABELS))
    drawing = confusion.figure(study)
    assert drawing is not None
    assert drawing.alt == (
        "Confusion matrices. ViT-Micro/4: dog taken for cat (2 of 4); cat taken for dog (1 of 4). "
        f"R14-Micro: {NAMES[2]} taken for cat (2 of 2). R8+ViT-Micro: no mistakes."
    )
    assert ElementTree.fromstring(drawing.svg).tag.endswith("svg")
    svg = drawing.svg.decode()
    from reports.drawing import style

    half, whole = style.shade(style.shade_level(0.5)), style.shade(style.shade_level(1.0))
    for shade in (half, whole):
        assert f"fill: {shade};" in svg
        assert f'[style*="fill: {shade}"]{{fill:{style.SHADES[shade]}' in svg


@pytest.mark.ordinary
@pytest.mark.parametrize("own", [True, False])
def test_they_come_by_themselves_with_data_of_the_users_own(
    made: Any, tmp_path: Path, own: bool
) -> None:
    answers = said(made, vit=VIT, bit=BIT)
    study = asking(made, answers, report=ReportBlock(), own=own)
    report = reports.build(
        study.graph, study.results, curves=made.curves, answers=answers, out_dir=tmp_path
    )
    assert ("per_class" in report.tables) == own
    assert ("confusions" in report.tables) == own
    assert ("figures/confusion.svg" in report.files) == own
    page = report.files["index.html"].read_text(encoding="utf-8")
    assert ("Accuracy by class" in page) == own
    assert "<b>\\" not in page


def test_they_look_as_reviewed(made: Any, golden: Callable[[str, str], None]) -> None:
    study = asking(made, said(made, vit0=LABELS, vit1=VIT, vit2=VIT, bit=BIT))
    for table in (per_class.table(study), confusions.table(study)):
        for form in ("md", "csv"):
            for suffix, text in render(table, form).items():
                golden(f"reports/classes-{table.name}{suffix}", text)
    assert markdown(per_class.table(study))
