"""A wheel carries suites, recipes and published numbers, and works from any folder."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = [pytest.mark.ordinary, pytest.mark.xdist_group("wheel")]

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy of the sources, so that the checkout stays clean."""
    import shutil

    copy = tmp_path_factory.mktemp("sources") / "project"
    kept = ("bench", "baselines", "reports", "suites", "pyproject.toml", "README.md", "LICENSE")
    copy.mkdir()
    for name in kept:
        source = REPOSITORY / name
        ignore = shutil.ignore_patterns("__pycache__")
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=ignore)
        else:
            shutil.copy(source, copy / name)
    out = copy.parent / "dist"
    words = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out)]
    done = subprocess.run([*words, str(copy)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(out.glob("*.whl"))


def test_every_file_of_the_packages_is_in_the_wheel(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    for package in ("bench", "baselines", "reports", "suites"):
        for path in (REPOSITORY / package).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                assert str(path.relative_to(REPOSITORY)) in inside
    assert not any(name.startswith("tests") for name in inside)


def test_an_installed_wheel_plans_from_any_folder(wheel: Path, tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    python = environment / "bin" / "python"
    site = next((environment / "lib").glob("python*")) / "site-packages"
    zipfile.ZipFile(wheel).extractall(site)  # what an installer does with a pure wheel
    # The dependencies of this environment, without the checkout itself.
    here = next(path for path in sys.path if path.endswith("site-packages"))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = subprocess.run(
        [python, "-c", "import sys; sys.argv = ['vitbench', 'plan', 'quickstart']; "
         "import bench.cli; assert 'environment' in bench.cli.__file__; bench.cli.main()"],
        capture_output=True, text=True, check=False, cwd=elsewhere,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(site), here])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "108 jobs, 0 done" in done.stdout
    assert not list(elsewhere.iterdir())
