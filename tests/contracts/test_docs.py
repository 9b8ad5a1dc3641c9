"""What the documents name is there, and what is there is named in the documents."""

from __future__ import annotations

import ast
import os
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup

import reports
from baselines.protocols import PROTOCOLS
from bench import specs
from bench.cli.app import app
from bench.data import catalog
from bench.kinds import KINDS
from bench.plan import plan
from bench.plan import suites as suite
from bench.plan.spec import SuiteSpec

REPOSITORY = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(
    [*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md")], key=lambda path: path.name
)
TEXTS = {path.name: path.read_text(encoding="utf-8") for path in DOCUMENTS}

LINK = re.compile(r"\]\(([^)\s]+)\)")
ROOM = re.compile(r"(?<![\w/.:-])(?:bench|baselines|reports|suites|tests|docs)/[\w./*-]*+(?!<)")
MODULE = re.compile(r"(?<![\w/.*-])[\w/]+\.py\b")
COMMAND = re.compile(r"\bvitbench ([^`\n]+)")
OF_THE_WORK_FOLDER = ("reports/quickstart", "reports/data-size-smoke", "reports/paper")
OF_OTHERS = ("validate.py", "input_pipeline.py")


@pytest.fixture(scope="module")
def group() -> TyperGroup:
    command = typer.main.get_command(app)
    assert isinstance(command, TyperGroup)
    return command


def named() -> Iterator[tuple[str, str]]:
    """Yield each path of the project that a document names."""
    for document, text in TEXTS.items():
        for found in ROOM.finditer(text):
            template = text[found.end() : found.end() + 1] == "<"  # tests/.../test_<kind>.py
            if not template and not found[0].startswith(OF_THE_WORK_FOLDER):
                yield document, found[0].rstrip(".")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in LINK.findall(document.read_text(encoding="utf-8")):
        path, _, place = target.partition("#")
        if "://" in target:
            continue
        file = document.parent / path if path else document
        assert file.exists(), f"{document.name}: {target}"
        if place:
            headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = {re.sub(r"[^\w -]", "", line).lower().replace(" ", "-") for line in headings}
            assert place in anchors, f"{document.name}: {target}"


def test_paths_that_documents_name_are_there() -> None:
    found = list(named())
    assert len(found) > 30
    lost = [pair for pair in found if not any(REPOSITORY.glob(pair[1].rstrip("/")))]
    assert not lost


def test_modules_that_documents_name_are_there() -> None:
    known = {
        path.relative_to(REPOSITORY).as_posix()
        for room in ("bench", "baselines", "reports", "suites", "tests")
        for path in (REPOSITORY / room).rglob("*.py")
    }
    for document, text in TEXTS.items():
        for name in set(MODULE.findall(text)) - set(OF_OTHERS):
            assert any(f"/{path}".endswith(f"/{name}") for path in known), f"{document}: {name}"


# --- the command ----------------------------------------------------------------------------


def commands() -> Iterator[tuple[str, list[str]]]:
    """Yield the words after `vitbench` wherever a document writes them."""
    for document, text in TEXTS.items():
        for line in COMMAND.findall(text.replace("\\\n", " ")):
            words = line.partition("#")[0]
            try:
                yield document, shlex.split(words)
            except ValueError:  # a sentence with an apostrophe
                yield document, words.split()


def test_every_verb_is_documented(group: TyperGroup) -> None:
    written = {tuple(words[:2]) for _, words in commands()} | {
        (words[0],) for _, words in commands() if words
    }
    for verb, command in group.commands.items():
        assert (verb,) in written, f"no document names `vitbench {verb}`"
        for part in getattr(command, "commands", {}):
            assert any(pair[0] == verb and part in pair[-1].split("|") for pair in written), (
                f"no document names `vitbench {verb} {part}`"
            )


def test_commands_in_documents_exist(group: TyperGroup) -> None:
    checked = 0
    for document, words in commands():
        if not words or words[0] not in group.commands:
            continue
        command = group.commands[words[0]]
        if isinstance(command, TyperGroup):
            command = command.commands.get("".join(words[1:2]).split("|")[0], command)
        options = {name for parameter in command.params for name in parameter.opts}
        for word in words[1:]:
            if word.startswith("--"):
                assert word.partition("=")[0].rstrip(".,;:)") in options, f"{document}: {words}"
                checked += 1
    assert checked > 20


# --- suites ---------------------------------------------------------------------------------

RECORDS = (
    SuiteSpec, specs.ScaleBlock, specs.SystemBlock, specs.Pair, specs.ReportBlock,
    specs.Recipe, *(card.block for card in KINDS.values() if card.block),
)  # fmt: skip


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_every_field_of_a_suite_is_documented(record: type[specs.Record]) -> None:
    text = TEXTS["suites.md"] + TEXTS["data.md"]
    for field in record.model_fields:
        assert re.search(rf"(?<![\w]){field}(?![\w])", text), f"{record.__name__}.{field}"


def test_suites_and_protocols_are_documented() -> None:
    for name in (*suite.names(), *PROTOCOLS):
        assert f"`{name}`" in TEXTS["suites.md"], name


def planned(name: str, scale: specs.Scale | None) -> str:
    """Return the line of a suite at one scale."""
    graph = plan(suite.load(name, scale=scale), datasets=catalog.datasets(), protocols=PROTOCOLS)
    refused = sum(job.exaflops for job in graph.jobs if job.refused)
    work = sum(job.exaflops for job in graph.jobs)
    shown = f"{work:,.0f}" if work >= 1000 else f"{work:.3g}"
    share = f"{refused / work:.0%}".replace("%", " %") if refused else ""
    return f"| `{name}` | {scale or ''} | {len(graph.jobs):,} | {shown} | {share} |"


def test_the_work_of_each_suite_is_told() -> None:
    """Renewed by VITBENCH_REGENERATE=1, as golden files are."""
    head = "| Suite | Scale | Jobs | exaFLOPs | refused |\n|---|---|---:|---:|---:|\n"
    text = TEXTS["suites.md"]
    before, _, rest = text.partition(head)
    written, _, after = rest.partition("\n\n")
    lines = [
        planned(name, scale)
        for name in suite.names()
        for scale in suite.scales(suite.load(name)) or (None,)
    ]
    if os.environ.get("VITBENCH_REGENERATE"):
        path = REPOSITORY / "docs" / "suites.md"
        path.write_text(before + head + "\n".join(lines) + "\n\n" + after, encoding="utf-8")
    else:
        assert written.splitlines() == lines


def test_tables_and_figures_are_documented() -> None:
    for name in (*reports.TABLES, *reports.FIGURES):
        if not name.startswith("table_"):
            assert f"`{name}`" in TEXTS["reports.md"], name


def test_the_suite_in_the_documents_plans(tmp_path: Path) -> None:
    block = re.search(r"```toml\n(name.*?)```", TEXTS["suites.md"], re.DOTALL)
    assert block is not None
    assert tomllib.loads(block[1])
    path = tmp_path / "mine.toml"
    path.write_text(block[1], encoding="utf-8")
    graph = plan(suite.load(str(path)), datasets=catalog.datasets(), protocols=PROTOCOLS)
    assert len(graph.jobs) == 12  # two systems, three seeds: pre-training and few-shot


IDENTITY = {
    "kind": "kind", "kind_version": "version", "system": "system", "data": "data",
    "protocol": "protocol", "recipe": "recipe", "params": "arguments of the kind", "seed": "seed",
    "num_threads": "number of CPU threads", "device": "kind of device",
    "needs": "the ids of the jobs that it starts from",
}  # fmt: skip
"""Fields of a job's identity, as the documents call them."""


def test_what_identifies_a_job_is_documented_and_nothing_is_promised_beyond_it() -> None:
    assert set(IDENTITY) == set(specs.JobSpec.model_fields)
    section = TEXTS["suites.md"].split("## What makes a job another job")[1].split("\n## ")[0]
    said = " ".join(section.split())
    for field, words in IDENTITY.items():
        assert words in said, field
    for part in ("content", "version of the card", "split", "subset", "squares", "images scored"):
        assert part in said
    assert len(specs.DataUse.model_fields) == 9
    for package in ("Python", "torch", "timm"):
        assert package in said.split("Not part of it")[1]


HINT = re.compile(r"\bvitbench ((?:data )?[a-z]+(?: [^`\n]*)?)")


def hinted() -> Iterator[tuple[str, str]]:
    """Yield each text of the source that names a command, with its file; values are left out."""
    for room in ("bench", "reports", "baselines"):
        for file in sorted((REPOSITORY / room).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    parts = (p.value if isinstance(p, ast.Constant) else "X" for p in node.values)
                    yield file.name, "".join(map(str, parts))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield file.name, node.value


def test_commands_that_the_tool_suggests_exist(group: TyperGroup) -> None:
    """A sentence may go on after a command; what begins with -- is an option of it."""
    checked = set()
    for file, text in hinted():
        for found in HINT.findall(text):
            words = found.split()
            command = group.commands.get(words[0])
            if command is None:
                assert not any(word.startswith("--") for word in words), f"{file}: {found}"
                continue
            if isinstance(command, TyperGroup):
                command = command.commands.get(words[1], command)
            options = {name for parameter in command.params for name in parameter.opts}
            for word in words[1:]:
                if word.startswith("--"):
                    option = word.partition("=")[0].strip("`'\".,;:)")
                    assert option in {*options, "--help"}, f"{file}: {found}"
            checked.add(words[0])
    assert len(checked) > 6
