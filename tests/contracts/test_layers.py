"""The import law: a room knows only the rooms to its left, and light rooms stay light."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]

LAYERS = [
    {"bench.errors", "bench.facts"},
    {
        "bench.specs",
        "bench.stats",
        "bench.plugins",
        "bench.files",
        "bench.paths",
        "bench.preemption",
    },
    {"bench.kinds", "bench.digests"},
    {"bench.metrics", "baselines"},
    {"bench.cost", "bench.memory", "bench.environment", "bench.data", "bench.models"},
    {"bench.plan", "bench.training"},
    {"bench.jobs"},
    {"bench.store"},
    {"bench.schedule", "bench.tracking"},
    {"bench.rehearse", "reports"},
    {"bench.doctor", "bench.init"},
    {"bench.cli"},
]
REPORTS_DO_NOT_KNOW = {
    "bench.data", "bench.models", "bench.training", "bench.jobs", "bench.store", "bench.schedule",
    "bench.tracking", "bench.rehearse",
}  # fmt: skip
"""Whoever has the records can make the tables: without data, models or a scheduler."""


def room(module: str) -> str:
    """Return the room of a module: `bench.data.loader` -> `bench.data`."""
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] == "bench" else parts[0]


def rank(name: str) -> int:
    for index, layer in enumerate(LAYERS):
        if name in layer:
            return index
    raise AssertionError(f"{name} has no place in the import law")


def sources() -> list[tuple[str, Path]]:
    found = []
    for top in ("bench", "baselines", "reports"):
        for path in sorted((REPOSITORY / top).rglob("*.py")):
            parts = path.relative_to(REPOSITORY).with_suffix("").parts
            module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            if module != "bench":
                found.append((module, path))
    return found


def imports(path: Path) -> set[str]:
    """Return every module of ours that a file imports, inside functions too, types aside.

    Of `from bench.data import loader` that is `bench.data.loader`; the package itself only where
    a name of its own is taken.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        node
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if node in typing_only:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if is_module(inner) else node.module)
    ours = {name for name in found if name.split(".")[0] in ("bench", "baselines", "reports")}
    return {name for name in ours if is_module(name)}


def is_module(name: str) -> bool:
    path = REPOSITORY.joinpath(*name.split("."))
    if name == "bench":
        return False
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


@pytest.mark.parametrize(("module", "path"), sources(), ids=lambda value: str(value))
def test_a_room_knows_only_rooms_to_its_left(module: str, path: Path) -> None:
    own = room(module)
    for imported in {room(name) for name in imports(path)} - {own}:
        assert rank(imported) < rank(own), f"{module} imports {imported}"
        if own == "reports":
            assert imported not in REPORTS_DO_NOT_KNOW, f"{module} imports {imported}"


def graph() -> dict[str, set[str]]:
    """Return what each file imports, by module."""
    return {module: imports(path) - {module} for module, path in sources()}


def test_there_is_no_circle_of_files() -> None:
    """Inside a room neither: not even through an import in a function."""
    graphlib.TopologicalSorter(graph()).prepare()  # raises CycleError with the circle


def summary() -> str:
    """Return the shape of the law in one line."""
    found = graph()
    most = max(found, key=lambda module: len(found[module]))
    return (
        f"import law: {len(LAYERS)} levels, {len(found)} files, no circle; largest fan-out "
        f"{len(found[most])} ({most})"
    )


def test_the_law_can_be_summarized() -> None:
    assert summary().startswith(f"import law: {len(LAYERS)} levels")


HEAVY = ("torch", "timm", "ray", "mlflow", "pandas", "seaborn")


def modules_after(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print('modules:', *sys.modules, sep='\\n')"],
        capture_output=True, text=True, check=False, cwd=REPOSITORY,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rpartition("modules:\n")[2].split())


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["--version"],
        ["plan", "quickstart"],
        ["plan", "quickstart", "--set", "seeds=[]"],
        ["ls", "systems"],
        ["ls", "datasets"],
        ["status", "quickstart"],
    ],
    ids=" ".join,
)
def test_light_verbs_import_nothing_heavy(words: list[str], tmp_path: Path) -> None:
    code = (
        "import sys\n"
        f"sys.argv = ['vitbench', *{words!r}]\n"
        f"import os; os.environ['VITBENCH_WORKDIR'] = {str(tmp_path / 'runs')!r}\n"
        "from bench.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass"
    )
    loaded = modules_after(code)
    assert "bench.cli.app" in loaded
    assert not loaded & set(HEAVY)
    assert not (tmp_path / "runs").exists()


def test_contributing_states_the_law() -> None:
    text = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
    law = text[text.index("    errors facts <") :].partition("\n\n")[0]
    stated = [set(layer.split()) for layer in law.split("<")]
    assert stated == [{name.removeprefix("bench.") for name in layer} for layer in LAYERS]


if __name__ == "__main__":
    test_there_is_no_circle_of_files()
    print(summary())
