"""Figures and tables of the paper's kind, from a made-up suite on the paper's data sets."""

from __future__ import annotations

import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import baselines
import reports
from bench.facts import VTAB_MEMBERS
from bench.kinds.fewshot import FewshotBlock
from bench.kinds.pretrain import PretrainBlock
from bench.plan.spec import JobGraph, SuiteSpec
from bench.specs import (
    Cost,
    DatasetCard,
    DataUse,
    JobResult,
    JobSpec,
    Labels,
    Metric,
    Pair,
    PlannedJob,
    Protocol,
    Recipe,
    ReportBlock,
    Resources,
    SplitCard,
    SystemBlock,
    SystemUse,
)
from reports.figures import compute_tradeoff, makespan, model_shape, vtab_groups
from reports.printing.files import render
from reports.printing.latex import latex
from reports.printing.markdown import markdown
from reports.study import averages, curves, findings
from reports.study.study import Study
from reports.tables import equal_compute, images, ranks, scaling, speed

SEEDS = (0, 1)
UPSTREAMS = {"imagenet-21k": ("ImageNet-21k", 14_000_000), "jft-300m": ("JFT-300M", 303_000_000)}
SYSTEMS = (
    ("vit-b32", "ViT-B/32", "vit", 8.8, 0.900),
    ("vit-l16", "ViT-L/16", "vit", 123.1, 0.930),
    ("bit-r50x1", "ResNet50x1", "bit", 8.2, 0.880),
    ("bit-r152x2", "ResNet152x2", "bit", 91.6, 0.915),
    ("hybrid-r50-vit-b32", "R50x1+ViT-B/32", "hybrid", 16.9, 0.915),
    ("hybrid-r50-vit-l16", "R50x1+ViT-L/16", "hybrid", 131.1, 0.931),
    ("deep", "ViT-B/32, deep", "vit", 17.6, 0.912),
    ("wide", "ViT-B/32, wide", "vit", 35.1, 0.906),
)
DATA = {
    "imagenet-1k": "ImageNet",
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "oxford-pets": "Oxford-IIIT Pets",
    "oxford-flowers102": "Oxford Flowers-102",
}
TASKS = {name: group for group, names in VTAB_MEMBERS.items() for name in names}


def datasets() -> dict[str, DatasetCard]:
    def card(name: str, title: str, size: int, group: str = "") -> DatasetCard:
        splits = {"train": SplitCard(num_examples=size), "test": SplitCard(num_examples=10_000)}
        return DatasetCard(
            name=name, title=title, reader="image_folder", num_classes=10, splits=splits,
            digest=name, group=group,
        )  # fmt: skip

    cards = [card(name, title, size) for name, (title, size) in UPSTREAMS.items()]
    cards += [card(name, title, 50_000) for name, title in DATA.items()]
    cards += [
        card(name, f"VTAB-1k task {i}", 1000, group)
        for i, (name, group) in enumerate(TASKS.items())
    ]
    return {card.name: card for card in cards}


@dataclass
class Maker:
    """Makes jobs and results; time passes as four workers would spend it."""

    jobs: list[PlannedJob]
    results: dict[str, JobResult]
    clocks: list[float]

    def add(self, labels: Labels, px: int, metrics: dict[str, float], **fields: Any) -> str:
        data = labels.downstream or labels.upstream
        exaflops = fields.pop("exaflops")
        spec = JobSpec(
            system=SystemUse(family=labels.family, args={"name": labels.system}, version=1),
            data=DataUse(digest=data, num_classes=10, train_split="train", eval_split="test"),
            protocol=Protocol(
                name=labels.protocol, image_size_px=px, train_transform="crop",
                eval_transform="resize",
            ),
            kind_version=1, **fields,
        )  # fmt: skip
        name = f"{labels.stage} {labels.system} {labels.upstream} {data} seed {spec.seed}"
        self.jobs.append(
            PlannedJob(
                job_id=spec.job_id, spec=spec, name=name, labels=labels, dataset=data,
                resources=Resources(), train_examples=labels.upstream_examples * 7, num_steps=100,
                exaflops=exaflops, pretrain_exaflops=exaflops, num_params=86_000_000,
            )
        )  # fmt: skip
        worker = int(np.argmin(self.clocks))
        wall_s = 3.0 + 5.0 * (labels.stage == "pretrain") + len(labels.system) / 7
        self.clocks[worker] += wall_s
        self.results[spec.job_id] = JobResult(
            job_id=spec.job_id,
            status="done",
            metrics={key: Metric(name=key, value=v, n=10_000) for key, v in metrics.items()},
            cost=Cost(
                device="Test GPU", device_kind="cuda", wall_s=wall_s, core_s=wall_s, examples=1000,
                finished_unix_s=1.7e9 + self.clocks[worker], worker=f"host:{worker}",
                images_per_s=4e5 / (px * exaflops**0.25), peak_memory_gib=px / 64,
            ),
        )  # fmt: skip
        return spec.job_id


def make_study() -> Study:
    random = np.random.default_rng(5)
    cards = datasets()
    maker = Maker([], {}, [0.0] * 4)
    for upstream, (title, size) in UPSTREAMS.items():
        for name, printed, family, gflops, skill in SYSTEMS:
            for seed in SEEDS:
                shared = {
                    "system": name, "title": printed, "family": family, "upstream": upstream,
                    "upstream_examples": size, "protocol": "vit-pretrain",
                }  # fmt: skip
                work = 3 * gflops * 7 * size / 1e9
                recipe = Recipe(
                    epochs=7, batch_size=4096, optimizer="adam", base_lr=1e-3, schedule="linear"
                )
                start = maker.add(
                    Labels(**shared, stage="pretrain"), 224, {"train_loss": 2.0}, kind="pretrain",
                    recipe=recipe, seed=seed, exaflops=work,
                )  # fmt: skip
                better = skill + 0.01 * (title == "JFT-300M")
                rest = {"seed": seed, "needs": {"checkpoint": start}, "exaflops": work}
                transfer(maker, cards, shared, rest, better, random)
    suite = SuiteSpec(
        name="paper", title="The paper's kind of suite", claim="More data helps a ViT more.",
        source="made up", seeds=SEEDS,
        pretrain=(
            PretrainBlock(
                systems=tuple(s[0] for s in SYSTEMS), upstream="jft-300m", recipe="r", protocol="p"
            ),
        ),
        transfer=(
            FewshotBlock(kind="fewshot", datasets=("imagenet-1k",), protocol="p", shots=(5,)),
        ),
        system={
            "deep": SystemBlock(like="vit-b32", args={"depth": 24}),
            "wide": SystemBlock(like="vit-b32", args={"width": 1536}),
        },
        report=ReportBlock(
            tables=("comparison", "equal_compute", "scaling", "cost"),
            figures=tuple(reports.FIGURES),
        ),
    )  # fmt: skip
    graph = JobGraph(suite=suite, jobs=tuple(maker.jobs), datasets=cards)
    progress = [{"step": step, "loss": 7.0 - step / 30, "attempt": 1} for step in range(0, 100, 10)]
    lines = {job.job_id: progress for job in maker.jobs if job.labels.stage == "pretrain"}
    seen = {
        job.job_id: answers(int(job.job_id, 16))
        for job in maker.jobs
        if (job.labels.stage, job.labels.downstream) == ("final", "cifar10")
    }
    return Study(
        graph, maker.results, lines, published=tuple(baselines.published()),
        answers=lambda job_id: seen.get(job_id, {}),
    )  # fmt: skip


def answers(seed: int) -> dict[str, np.ndarray]:
    """Return labels and classes of 400 test images, some taken for the next class."""
    labels_N = np.arange(400) % 10
    wrong_N = np.random.default_rng(seed).random(400) < 0.1
    return {"labels": labels_N, "classes/test_top1": (labels_N + wrong_N) % 10}


def transfer(
    maker: Maker,
    cards: dict[str, DatasetCard],
    shared: dict[str, Any],
    rest: dict[str, Any],
    skill: float,
    random: np.random.Generator,
) -> None:
    tune = Recipe(steps=100, batch_size=512, optimizer="sgd", schedule="cosine")

    def value(card: DatasetCard, share: float) -> float:
        easy = 0.1 * ((1 if card.group else len(card.title)) % 3) / 3 - 0.15 * (
            card.group == "structured"
        )
        return round(min(0.999, skill * share + easy * 0.3 + random.normal(0, 0.001)), 4)

    for card in cards.values():
        if card.name in UPSTREAMS:
            continue
        names = {**shared, "protocol": "vit-finetune", "downstream": card.name}
        maker.add(
            Labels(**names, stage="final"), 384, {"test_top1": value(card, 0.95)},
            kind="finetune", recipe=tune, **rest,
        )  # fmt: skip
        if card.name == "imagenet-1k":
            names["protocol"] = "vit-fewshot"
            maker.add(
                Labels(**names, stage="fewshot"), 224, {"fewshot_top1/5": value(card, 0.6)},
                kind="fewshot", params={"shots": (5,)}, **rest,
            )  # fmt: skip


@pytest.fixture(scope="module")
def study() -> Study:
    return make_study()


def drawn(name: str, study: Study) -> Any:
    return reports.FIGURES[name].draw(study)


def without_results(study: Study) -> Study:
    return Study(study.graph, {}, {}, published=study.published)


# --- figures --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def drawings(study: Study) -> dict[str, Any]:
    return {name: drawn(name, study) for name in reports.FIGURES}


@pytest.mark.xdist_group("figures")  # they share the drawings
@pytest.mark.ordinary
@pytest.mark.parametrize("name", reports.FIGURES)
def test_every_figure_is_drawn_and_reads_as_text(name: str, drawings: dict[str, Any]) -> None:
    found = drawings[name]
    assert found.name == name
    root = ElementTree.fromstring(found.svg)
    assert root.tag.endswith("svg")
    width_pt = float(root.attrib["width"].removesuffix("pt"))
    assert width_pt == pytest.approx(72 * (3.25 if found.is_narrow else 6.75))
    assert found.png.startswith(b"\x89PNG")
    assert len(found.svg) < 200_000
    assert len(found.alt) > 80
    assert "nan" not in found.alt
    assert found.caption.endswith(".")
    for color in ("#24292f", "#59636e"):  # each ink has a dark counterpart
        assert f'[style*="fill: {color}"]{{fill:' in found.svg.decode()


@pytest.mark.xdist_group("figures")  # they share the drawings
@pytest.mark.ordinary
def test_published_points_are_hollow_and_ours_are_filled(drawings: dict[str, Any]) -> None:
    hollow = re.compile(r"fill: #ffffff; stroke: #(0072b2|d55e00|009e73)")
    filled = re.compile(r"fill: #(0072b2|d55e00|009e73); stroke: #ffffff")
    for name in ("vtab_groups", "upstream_size", "compute_tradeoff", "equal_compute"):
        svg = drawings[name].svg.decode()
        assert hollow.search(svg), name
        assert filled.search(svg), name
    for name in ("fewshot_size", "model_shape", "speed", "makespan"):  # print has no numbers
        assert not hollow.search(drawings[name].svg.decode()), name


@pytest.mark.xdist_group("figures")  # they share the drawings
@pytest.mark.ordinary
@pytest.mark.parametrize("name", ["compute_tradeoff", "confusion", "makespan", "vtab_groups"])
def test_the_same_results_draw_the_same_bytes(name: str, drawings: dict[str, Any]) -> None:
    again = drawn(name, make_study())
    assert (again.svg, again.png) == (drawings[name].svg, drawings[name].png)


@pytest.mark.parametrize("name", reports.FIGURES)
def test_nothing_to_show_is_no_figure(name: str, study: Study) -> None:
    assert drawn(name, without_results(study)) is None


def test_vtab_groups_are_plain_means_over_tasks(study: Study) -> None:
    found = vtab_groups.groups(study)
    assert [group.title for group in found] == [
        "VTAB (19)", "Natural (7)", "Specialized (4)", "Structured (8)",
    ]  # fmt: skip
    printed = {point.system: point.value for point in found[1].published}
    assert printed["ViT-H/14"] == pytest.approx(0.8669)
    arm = study.arms[0]
    means = [study.mean(arm, measure) for measure in found[2].members]
    group = averages.mean_of(study.samples, arm, found[2].members)
    assert sum(v.value for v in group.values()) / 2 == pytest.approx(sum(means) / 4)  # type: ignore[arg-type]


def test_a_group_with_missing_tasks_says_so_and_stands_alone(study: Study) -> None:
    kept = tuple(job for job in study.graph.jobs if job.labels.downstream != "vtab-caltech101")
    graph = study.graph.model_copy(update={"jobs": kept})
    found = vtab_groups.groups(Study(graph, study.results, {}, published=study.published))
    assert found[0].title == "VTAB (18 of 19)"
    assert found[1].title == "Natural (6 of 7)"
    assert found[1].published == ()
    assert found[2].published


def test_figure_5_shows_the_average_imagenet_and_each_other_data_set(study: Study) -> None:
    measures = compute_tradeoff._measures(study)
    shown = [measure.dataset for measure in measures]
    assert shown[:2] == ["Average-5", "imagenet-1k"]
    assert shown[2:] == ["cifar10", "cifar100", "oxford-pets", "oxford-flowers102"]
    found = drawn("compute_tradeoff", study)
    assert found is not None
    assert "19 further data sets are in the tables." in found.caption  # the tasks of VTAB
    curve = curves.printed_curve(study, "vit", measures[0])
    assert curve.compute == (55, 196, 783, 1567, 4262)  # B/16 is beaten by L/32
    assert curve.mean[-1] == pytest.approx(0.95822)


def test_figure_8_lines_start_at_the_system_that_is_varied(study: Study) -> None:
    measure = next(m for m in study.measures if m.metric == "fewshot_top1/5")
    found = model_shape.lines(study, measure)
    assert [line.name for line in found] == ["depth", "width"]
    assert [[values for _, values in line.points] for line in found] == [["", "24"], ["", "1536"]]
    assert found[0].points[0][0].system == "vit-b32"


def test_of_many_measures_the_first_few_are_drawn_and_the_rest_is_said(study: Study) -> None:
    shown = averages.headline(study)
    assert len(shown) == averages.MAX_SHOWN
    assert shown[0].dataset == "Average-5"
    assert averages.left_out(study) == " 20 further measures are in the tables."


def test_jobs_lie_on_their_workers_without_overlap(study: Study) -> None:
    found = makespan.schedule(study)
    assert found is not None
    assert len(found.workers) == 4
    assert len(found.bars) == len(study.graph.jobs)
    assert found.busy_share == pytest.approx(1.0, abs=0.02)
    for worker in found.workers:
        own = sorted((bar.start_s, bar.end_s) for bar in found.bars if bar.worker == worker)
        assert all(a[1] <= b[0] + 1e-6 for a, b in pairwise(own))


def test_stretches_without_jobs_are_cut_out(study: Study) -> None:
    half = {job.job_id for job in study.graph.jobs[: len(study.graph.jobs) // 2]}
    month_s = 30 * 86_400.0

    def later(key: str, result: JobResult) -> JobResult:
        cost = result.cost
        if key in half or cost is None or cost.finished_unix_s is None:
            return result
        moved = cost.model_copy(update={"finished_unix_s": cost.finished_unix_s + month_s})
        return result.model_copy(update={"cost": moved})

    results = {key: later(key, result) for key, result in study.results.items()}
    found = makespan.schedule(Study(study.graph, results, {}))
    whole = makespan.schedule(study)
    assert found is not None
    assert whole is not None
    assert len(found.cuts_s) == 1
    assert found.end_s == pytest.approx(whole.end_s, rel=0.02)


# --- tables ---------------------------------------------------------------------------------


def test_print_is_read_at_equal_compute_beside_ours(study: Study) -> None:
    table = equal_compute.table(study)
    names = {row[0].text for row in table.rows}
    assert "ViT family − BiT family, JFT-300M" in names
    assert "ViT family − BiT family, published in Table 6" in names
    printed = [
        row
        for row in table.rows
        if "BiT family, published" in row[0].text and row[1].text.startswith("Average-5")
    ]
    assert [row[2].value for row in printed] == pytest.approx([55, (55 * 3306) ** 0.5, 3306])
    assert printed[-1][7].value == pytest.approx(1 / 4.448, abs=1e-3)
    assert {row[6].text for row in printed} == {"as printed"}
    assert all(not row[5].samples and row[5].n == 1 for row in printed)


def test_work_to_match_has_an_interval_over_seeds(study: Study) -> None:
    rows = [r for r in equal_compute.table(study).rows if r[7].low is not None]
    assert rows
    for row in rows:
        assert row[7].low <= row[7].value * 1.2  # type: ignore[operator]
        assert row[7].low < row[7].high  # type: ignore[operator]


def test_families_are_fitted_over_compute_and_short_series_are_counted(study: Study) -> None:
    table = scaling.table(study)
    assert {row[0].text for row in table.rows} == {
        "ViT family, ImageNet-21k", "ViT family, JFT-300M",
    }  # fmt: skip
    assert "fewer than 4 sizes, without a fit" in table.caption
    for row in table.rows:
        assert row[3].value == 8  # 4 systems, 2 seeds
        assert row[5].low <= row[5].value <= row[5].high or row[5].low == 0  # type: ignore[operator]
        assert row[8].value == pytest.approx(
            (sum(sample.value**2 for sample in row[8].samples) / 8) ** 0.5  # type: ignore[operator]
        )


def test_speed_is_by_system_work_and_size(study: Study) -> None:
    found = speed.groups(study)
    assert {(setup.work, setup.image_size_px) for setup in found} == {
        ("Pre-training", 224), ("Fine-tuning", 384), ("Few-shot", 224),
    }  # fmt: skip
    assert sum(len(group.jobs) for group in found.values()) == len(study.graph.jobs)
    table = speed.table(study)
    assert len(table.rows) == len(SYSTEMS) * 3
    assert {column.key for column in table.columns if column.measured} == {
        "images_per_s", "peak_memory_gib", "device",
    }  # fmt: skip


def test_one_seed_has_ranks_without_ranges(single: Any) -> None:
    table = ranks.table(Study(single.graph, single.results, {}))
    assert "one seed" in table.rows[0][2].text
    assert "tie" not in markdown(table).partition("Places among")[0]


@pytest.mark.parametrize("module", [equal_compute, scaling, ranks, speed], ids=lambda m: m.__name__)
def test_tables_of_the_papers_kind_look_as_reviewed(
    module: Any, study: Study, golden: Callable[[str, str], None]
) -> None:
    table = module.table(study)
    golden(f"reports/paper-{table.name}.md", markdown(table))


@pytest.mark.parametrize("module", [equal_compute, scaling, ranks, speed], ids=lambda m: m.__name__)
def test_tables_without_results_have_no_numbers(module: Any, study: Study) -> None:
    table = module.table(without_results(study))
    assert not any(cell.value for row in table.rows for cell in row[3:])
    for form in ("md", "tex", "csv", "html"):
        assert render(table, form)


@pytest.mark.ordinary
def test_every_table_compiles_as_latex(study: Study, made: Any, tmp_path: Any) -> None:
    program, finder = shutil.which("pdflatex"), shutil.which("kpsewhich")
    if program is None or finder is None:
        pytest.skip("no pdflatex here")
    if subprocess.run([finder, "booktabs.sty"], capture_output=True, check=False).returncode:
        pytest.skip("pdflatex is here without booktabs")
    both = (study, Study(made.graph, made.results, made.curves, made.hits))
    tables = [card.make(each) for each in both for card in reports.TABLES.values()]
    body = "\n".join(latex(table) + r"\clearpage" for table in tables if table.rows)
    source = "\n".join(
        [r"\documentclass{article}", r"\usepackage{booktabs}",
         r"\usepackage[paperwidth=60in,paperheight=60in,margin=1in]{geometry}",
         r"\begin{document}", body, r"\end{document}"]
    )  # fmt: skip
    (tmp_path / "all.tex").write_text(source, encoding="utf-8")
    done = subprocess.run(
        [program, "-interaction=nonstopmode", "-halt-on-error", "all.tex"],
        cwd=tmp_path, capture_output=True, text=True, errors="replace", check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "all.pdf").is_file()


def test_families_are_found_to_differ_in_words(study: Study) -> None:
    found = {finding.subject: finding.text for finding in findings.findings(study)}
    assert len(found) == 4  # two rivals, two upstream sets
    text = found["ViT family − BiT family, JFT-300M, Average-5: Fine-tuned"]
    assert text.startswith("+1.9 [")
    assert "times the compute for the rival's accuracy" in text


def test_images_name_the_data_set_where_there_are_several(study: Study) -> None:
    suite = study.graph.suite.model_copy(
        update={"pair": (Pair(systems=("vit-l16", "bit-r152x2")),)}
    )
    random = np.random.default_rng(0)
    hits = {job.job_id: random.random(50) < 0.9 for job in study.graph.jobs}
    two = {"cifar10", "imagenet-1k"}
    jobs = tuple(
        job for job in study.graph.jobs if not job.labels.downstream or job.labels.downstream in two
    )
    graph = study.graph.model_copy(update={"suite": suite, "jobs": jobs})
    table = images.table(Study(graph, study.results, {}, hits.get))
    assert [column.key for column in table.columns[:3]] == [
        "systems", "dataset", "upstream_examples",
    ]  # fmt: skip
    assert {row[1].text for row in table.rows} == {"ImageNet", "CIFAR-10"}
