"""What a killed driver leaves is swept by the next one, and nothing else is."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.schedule.ray_files import RayFiles, left_in

HOLDS = """
import sys
from pathlib import Path
from bench.schedule.ray_files import RayFiles
files = RayFiles(Path(sys.argv[1]))
print(files.path, flush=True)
sys.stdin.read()
"""
OPENS = """
import sys
file = open(sys.argv[1], "w")
print("open", flush=True)
sys.stdin.read()
"""

Start = Callable[..., tuple["subprocess.Popen[str]", str]]


@pytest.fixture
def start() -> Iterator[Start]:
    started: list[subprocess.Popen[str]] = []

    def call(code: str, *words: object) -> tuple[subprocess.Popen[str], str]:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        process = subprocess.Popen([sys.executable, "-c", code, *map(str, words)], **pipes)  # type: ignore[call-overload]
        started.append(process)
        return process, process.stdout.readline().strip()

    yield call
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A short path: sockets lie within it."""
    import shutil
    import tempfile

    place = Path(tempfile.mkdtemp(prefix="v"))
    yield place
    shutil.rmtree(place)


def test_what_a_killed_driver_left_is_swept_by_the_next(start: Start, home: Path) -> None:
    driver, folder = start(HOLDS, home)
    orphan, _ = start(OPENS, Path(folder) / "agent.log")
    assert list(left_in(Path(folder))) == [orphan.pid] or driver.pid in left_in(Path(folder))
    driver.kill()
    driver.wait()
    files = RayFiles(home)
    assert orphan.wait(10) == -9
    assert not Path(folder).exists()
    assert files.path is not None
    files.remove()
    assert [path.name for path in home.iterdir() if path.is_dir()] == []


def test_a_living_driver_and_its_processes_are_left_alone(start: Start, home: Path) -> None:
    driver, folder = start(HOLDS, home)
    agent, _ = start(OPENS, Path(folder) / "agent.log")
    bystander, _ = start(OPENS, home / "other.log")
    RayFiles(home).remove()
    assert [process.poll() for process in (driver, agent, bystander)] == [None] * 3
    assert Path(folder).is_dir()


def test_what_is_not_the_users_own_is_not_used(tmp_path: Path, home: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (home / "link").symlink_to(tmp_path / "elsewhere")
    assert RayFiles(home / "link").path is None
    (home / "file").write_text("")
    assert RayFiles(home / "file").path is None
    assert RayFiles(home / ("x" * 90)).path is None  # too long for a socket
    assert os.listdir(tmp_path / "elsewhere") == []
