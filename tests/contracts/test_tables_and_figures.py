"""Every table and figure is found by its card; one that is added shows up by itself."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import reports
from bench import plugins
from bench.errors import UnknownName
from reports.cards import FigureCard, TableCard
from reports.study.study import Study
from tests.reports.conftest import Made, make_suite

REPOSITORY = Path(__file__).resolve().parents[2]
REGISTRIES = {"tables": reports.TABLES, "figures": reports.FIGURES}


@pytest.fixture(scope="module")
def made() -> Made:
    return make_suite()


@pytest.mark.parametrize("room", REGISTRIES)
def test_each_stands_in_the_file_of_its_name(room: str) -> None:
    files = {path.stem for path in (REPOSITORY / "reports" / room).glob("[!_]*.py")}
    ours = {name for name in REGISTRIES[room] if REGISTRIES[room].origin(name) == plugins.OURS}
    assert files == ours


def test_what_a_table_comes_with_is_a_table() -> None:
    for card in reports.TABLES.values():
        assert not card.comes_with or card.comes_with in reports.TABLES, card.name


def test_tables_bear_the_names_of_their_cards(made: Made) -> None:
    study = Study(made.graph, made.results, made.curves, made.hits)
    for name, card in reports.TABLES.items():
        table = card.make(study)
        assert table.name in (name, f"paper-{name.replace('_', '-')}")


def test_naming_and_finding_them_imports_nothing_heavy() -> None:
    code = (
        "import sys, reports\n"
        "reports.check_names(['comparison', 'table_2'], ['speed'])\n"
        "assert 'reports.tables.comparison' not in sys.modules\n"
        "assert len(reports.TABLES) > 15 and len(reports.FIGURES) > 8\n"
        "heavy = {'pandas', 'seaborn', 'matplotlib', 'scipy', 'numpy', 'jinja2', 'torch'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


# --- what others add ------------------------------------------------------------------------


class Point:
    """An entry point of a distribution that is not installed."""

    module = "nowhere"

    def __init__(self, name: str, found: object) -> None:
        self.name = name
        self.value = f"{self.module}:{name}"
        self.dist = type("Dist", (), {"name": "theirs", "version": "1"})
        self._found = found

    def load(self) -> object:
        if isinstance(self._found, Exception):
            raise self._found
        return self._found


def example(page: str) -> ModuleType:
    """Return the module that a page of the documents shows whole."""
    text = (REPOSITORY / "docs" / "extending" / page).read_text(encoding="utf-8")
    block = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert block is not None
    module = ModuleType("documented")
    exec(compile(block[1], page, "exec"), module.__dict__)
    return module


def raising(study: Study) -> Any:
    return {}["no such seed"]


def words(study: Study) -> Any:
    return "neither a table nor a figure"


@pytest.fixture
def theirs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The examples of the documents, and a broken one of each, as another distribution's."""
    points = {
        "vitbench.tables": (
            Point("seed_range", example("tables.md").TABLE),
            Point("bad", ImportError("no module named xyz")),
            Point("raising", TableCard(name="raising", make=raising, always=True)),
            Point("words", TableCard(name="words", make=words, always=True)),
        ),
        "vitbench.figures": (
            Point("params_accuracy", example("figures.md").FIGURE),
            Point("raising", FigureCard(name="raising", draw=raising)),
            Point("words", FigureCard(name="words", draw=words)),
        ),
    }
    monkeypatch.setattr(plugins, "entry_points", lambda: points)
    for registry in REGISTRIES.values():
        monkeypatch.delitem(registry.__dict__, "_found", raising=False)
    reports._sources_digest.cache_clear()
    yield
    for registry in REGISTRIES.values():
        registry.__dict__.pop("_found", None)
    reports._sources_digest.cache_clear()


@pytest.mark.ordinary
@pytest.mark.usefixtures("theirs")
def test_what_is_added_shows_up_in_the_report(made: Made, tmp_path: Path) -> None:
    suite = made.graph.suite
    block = suite.report.model_copy(update={"figures": ("raising", "words", "params_accuracy")})
    graph = made.graph.model_copy(update={"suite": suite.model_copy(update={"report": block})})
    report = reports.build(graph, made.results, curves=made.curves, out_dir=tmp_path)
    assert report.failures == (
        "table raising: left out (theirs: 'no such seed')",
        "table words: left out (theirs: str in place of Table)",
        "figure raising: left out (theirs: 'no such seed')",
        "figure words: left out (theirs: str in place of Drawing)",
    )
    table = report.tables["seed_range"]
    assert len(table.rows) == 9 * 4
    first = table.rows[0][3]
    values = [sample.value or 0.0 for sample in first.samples]
    assert first.value == pytest.approx(max(values) - min(values))
    assert {"tables/seed_range.csv", "tables/seed_range.long.csv"} <= set(report.files)
    assert "figures/params_accuracy.svg" in report.files
    page = report.files["index.html"].read_text(encoding="utf-8")
    assert "Range over seeds" in page
    assert "figure raising" in page
    assert "Accuracy over parameters" in page
    assert list(report.tables).index("seed_range") < list(report.tables).index("cost")
    assert reports.load(tmp_path, report.key) == report


@pytest.mark.usefixtures("theirs")
def test_a_broken_one_is_named_and_left_out(made: Made) -> None:
    assert "bad" not in reports.TABLES
    assert "comparison" in reports.TABLES
    with pytest.raises(UnknownName, match="theirs: no module named xyz"):
        reports.check_names(["bad"])


def test_adding_one_makes_another_report(made: Made, request: pytest.FixtureRequest) -> None:
    reports._sources_digest.cache_clear()
    before = reports.key(made.graph, made.results)
    request.getfixturevalue("theirs")
    assert reports.key(made.graph, made.results) != before


def test_a_table_can_open_what_a_job_left(made: Made, tmp_path: Path) -> None:
    from bench.store.folders import Store

    store = Store(tmp_path)
    job_id = made.graph.jobs[0].job_id
    store.folder(job_id).mkdir(parents=True)
    (store.folder(job_id) / "attention.json").write_text("[1]", encoding="utf-8")
    study: Any = Study(made.graph, made.results, {}, open_file=store.file)
    assert study.open_file(job_id, "attention.json").read_text(encoding="utf-8") == "[1]"
    assert study.open_file(job_id, "none.json") is None
