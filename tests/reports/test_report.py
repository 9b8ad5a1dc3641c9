"""A whole report: files, page, no work on no change, same bytes for the same results."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import reports
from bench.errors import UnknownName

REPOSITORY = Path(__file__).resolve().parents[2]


def without_figures(made: Any) -> Any:
    block = made.graph.suite.report.model_copy(update={"figures": ()})
    suite = made.graph.suite.model_copy(update={"report": block})
    return type(made)(made.graph.model_copy(update={"suite": suite}), made.results, made.curves)


SHOWN = (
    "upstream_size", "fewshot_size", "pretrain_compute", "compute_tradeoff", "equal_compute",
    "learning_curves", "speed", "makespan", "systems",
)  # fmt: skip
"""Figures that the made-up suite has data for."""


def with_all_figures(made: Any) -> Any:
    block = made.graph.suite.report.model_copy(update={"figures": tuple(reports.FIGURES)})
    suite = made.graph.suite.model_copy(update={"report": block})
    return type(made)(made.graph.model_copy(update={"suite": suite}), made.results, made.curves)


def build(made: Any, out_dir: Path, **options: Any) -> reports.Report:
    return reports.build(made.graph, made.results, curves=made.curves, out_dir=out_dir, **options)


def test_what_is_written_is_loaded_again(made: Any, tmp_path: Path) -> None:
    made = without_figures(made)
    written = build(made, tmp_path)
    key = reports.key(made.graph, made.results)
    assert reports.load(tmp_path, key) == written
    on_disk = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert on_disk == {*written.files, "report.json"}
    assert "tables/comparison.long.csv" in on_disk
    assert "timings/cost.md" in on_disk
    assert not [name for name in on_disk if name.startswith("tables/cost")]


def test_another_input_is_another_report(made: Any, broken: Any, tmp_path: Path) -> None:
    build(without_figures(made), tmp_path)
    keys = {
        reports.key(made.graph, made.results),
        reports.key(made.graph, broken.results),
        reports.key(made.graph, made.results, formats=["md"]),
        reports.key(without_figures(made).graph, made.results),
    }
    assert len(keys) == 4
    assert reports.load(tmp_path, reports.key(made.graph, broken.results)) is None


@pytest.mark.parametrize(
    "damage", ["no index", "half an index", "no table", "short table", "no data"]
)
def test_a_damaged_report_is_made_again(made: Any, tmp_path: Path, damage: str) -> None:
    made = without_figures(made)
    key = build(made, tmp_path).key
    index, table = tmp_path / "report.json", tmp_path / "tables/comparison.md"
    if damage == "no index":
        index.unlink()
    elif damage == "half an index":
        index.write_text(index.read_text()[:1000])
    elif damage == "no table":
        table.unlink()
    elif damage == "no data":
        (tmp_path / "data/comparison.json").unlink()
    else:
        table.write_text("")
    assert reports.load(tmp_path, key) is None


def test_files_of_an_older_report_go_and_others_stay(made: Any, tmp_path: Path) -> None:
    made = without_figures(made)
    build(made, tmp_path)
    (tmp_path / "tables/mine.md").write_text("mine")
    build(made, tmp_path, formats=["md"])
    assert {p.name for p in (tmp_path / "tables").iterdir()} == {
        "comparison.md", "ranks.md", "pairs.md", "equal_compute.md", "training.md", "mine.md",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("names", "hint"),
    [
        ({"tables": ["comparisn"]}, "comparison"),
        ({"figures": ["learning_curve"]}, "learning_curves"),
        ({"formats": ["markdown"]}, "md"),
    ],
)
def test_unknown_names_are_refused(names: dict[str, list[str]], hint: str) -> None:
    with pytest.raises(UnknownName, match=hint):
        reports.check_names(**names)


def test_loading_imports_nothing_heavy(made: Any, tmp_path: Path) -> None:
    made = without_figures(made)
    key = build(made, tmp_path).key
    code = (
        "import sys, pathlib, reports\n"
        f"report = reports.load(pathlib.Path({str(tmp_path)!r}), {key!r})\n"
        "assert '2,048' in report.terminal()\n"
        "heavy = {'pandas', 'seaborn', 'matplotlib', 'scipy', 'numpy', 'jinja2', 'torch'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.ordinary
def test_nothing_run_yet_makes_a_report_of_absences(made: Any, tmp_path: Path) -> None:
    empty = type(made)(made.graph, {}, {})
    report = build(empty, tmp_path)
    assert report.status == "0 done, 108 not run of 108 jobs"
    assert "not run" in (tmp_path / "tables/comparison.md").read_text()
    assert not list(tmp_path.glob("figures/*"))


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def parsed(path: Path) -> list[tuple[str, dict[str, str | None]]]:
    page = _Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page.tags


@pytest.fixture(scope="module")
def whole(made: Any, tmp_path_factory: pytest.TempPathFactory) -> reports.Report:
    return build(with_all_figures(made), tmp_path_factory.mktemp("whole"))


@pytest.mark.ordinary
def test_the_page_needs_nothing_from_elsewhere(whole: reports.Report) -> None:
    tags = parsed(whole.files["index.html"])
    policy = next(a["content"] for t, a in tags if a.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    for tag, attributes in tags:
        assert tag not in ("link", "iframe", "object", "embed", "base", "form")
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href"):
            address = attributes.get(name)
            assert address is None or address.startswith(("data:image/svg+xml;base64,", "#"))
    assert "@import" not in whole.files["index.html"].read_text()
    assert "url(" not in whole.files["index.html"].read_text()


@pytest.mark.ordinary
def test_the_page_can_be_read_without_sight(whole: reports.Report) -> None:
    tags = parsed(whole.files["index.html"])
    images = [a for t, a in tags if t == "img"]
    assert len(images) == len(SHOWN)
    assert all(len(a["alt"] or "") > 80 for a in images)
    num_tables = len(whole.tables)  # with the trace, without the comparison: the overview holds it
    assert sum(t == "table" for t, _ in tags) == num_tables
    assert sum(t == "caption" for t, _ in tags) == num_tables
    assert all("scope" in a for t, a in tags if t == "th")
    anchors = {a["href"][1:] for t, a in tags if t == "a" and a.get("href")}  # type: ignore[index]
    assert anchors <= {a.get("id") for _, a in tags}
    ids = [a["id"] for _, a in tags if "id" in a]
    assert len(ids) == len(set(ids))


@pytest.mark.ordinary
def test_the_same_results_give_the_same_bytes(
    made: Any, whole: reports.Report, tmp_path: Path
) -> None:
    slower = {
        key: result.model_copy(
            update={"cost": result.cost.model_copy(update={"wall_s": 9e5}), "attempt": 2}
        )
        for key, result in reversed(made.results.items())
    }
    graph = with_all_figures(made).graph
    again = reports.build(graph, slower, curves=made.curves, out_dir=tmp_path)
    stable = [name for name in whole.files if name.startswith(("tables/", "figures/"))]
    assert len(stable) == 5 * 5 + 7 * 2
    for name in stable:
        assert again.files[name].read_bytes() == whole.files[name].read_bytes(), name
    assert (
        again.files["timings/cost.csv"].read_bytes() != whole.files["timings/cost.csv"].read_bytes()
    )


@pytest.mark.ordinary
def test_figures_hold_no_dates_and_a_dark_variant(whole: reports.Report) -> None:
    drawn = {path.stem: path for name, path in whole.files.items() if path.suffix == ".svg"}
    assert set(drawn) == set(SHOWN)
    for path in drawn.values():
        svg = path.read_text()
        assert "<title>" in svg
        assert "prefers-color-scheme:dark" in svg
        assert "dc:date" not in svg
        assert len(svg) < 150_000
        png = path.with_suffix(".png").read_bytes()
        assert png.startswith(b"\x89PNG")
        assert b"tEXt" not in png


@pytest.mark.ordinary
def test_a_name_cannot_break_the_page(made: Any, tmp_path: Path) -> None:
    nasty = '<script>alert("x")</script>'
    suite = made.graph.suite.model_copy(update={"claim": nasty, "title": nasty})
    cards = {
        name: card.model_copy(update={"title": f"{nasty}$x^{{2}}$"})
        for name, card in made.graph.datasets.items()
    }
    jobs = tuple(
        job.model_copy(
            update={"labels": job.labels.model_copy(update={"title": job.labels.title + nasty})}
        )
        for job in made.graph.jobs
    )
    graph = made.graph.model_copy(update={"suite": suite, "datasets": cards, "jobs": jobs})
    broken = type(made)(graph, made.results, made.curves).failing(
        made.job("pretrain vit-micro4 512 seed 0"), nasty
    )
    report = build(broken, tmp_path)
    text = report.files["index.html"].read_text()
    assert text.count("<script") == 1  # the page's own
    assert "alert(&#34;x&#34;)" in text
    for path in report.files.values():
        assert path.suffix != ".svg" or "<script" not in path.read_text()


def test_the_index_can_be_read_by_others(made: Any, tmp_path: Path) -> None:
    build(without_figures(made), tmp_path)
    table = json.loads((tmp_path / "data/comparison.json").read_text())
    row = table["rows"][0]
    assert re.fullmatch(r"\d\d\.\d ± \d\.\d", row[4]["text"])
    assert len(row[4]["samples"][0]["job_ids"][0]) == 16


@pytest.mark.ordinary
def test_the_script_is_the_one_that_the_policy_allows(whole: reports.Report) -> None:
    text = whole.files["index.html"].read_text(encoding="utf-8")
    script = text.partition("<script>")[2].partition("</script>")[0]
    assert "aria-sort" in script
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text


def test_hits_give_the_table_of_images(made: Any, tmp_path: Path) -> None:
    made = without_figures(made)
    report = build(made, tmp_path, hits=made.hits)
    assert len(report.tables["images"].rows) == 6
    again = build(made, tmp_path / "again", hits=made.hits)
    assert again.tables["images"] == report.tables["images"]
    assert "images" not in build(made, tmp_path / "without").tables


def test_equal_compute_reads_both_curves_at_one_compute(made: Any, tmp_path: Path) -> None:
    table = build(without_figures(made), tmp_path).tables["equal_compute"]
    assert len(table.rows) == 2 * 4 * 3
    assert not table.notes
    work = [row[2].value for row in table.rows[:3]]
    assert work[1] == pytest.approx((work[0] * work[2]) ** 0.5)
    for row in table.rows:
        assert row[5].value == pytest.approx(row[3].value - row[4].value)
        assert row[5].n == 3
        assert row[5].low < row[5].value < row[5].high


def test_a_seed_without_all_its_points_is_left_out_of_curves(broken: Any, tmp_path: Path) -> None:
    table = build(without_figures(broken), tmp_path).tables["equal_compute"]
    assert {row[5].n for row in table.rows} == {1, 2}  # seed 1 for the ViT, seed 2 for BiT few-shot
    assert "n = 2: seeds with every point of both curves" in table.notes
