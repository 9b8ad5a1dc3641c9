"""Who holds a file: one process at a time, until it releases it, dies or falls silent."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from bench.doctor import folder
from bench.errors import UserError
from bench.store import holds
from bench.store.holds import Holder, Watch

FORK = multiprocessing.get_context("fork")
FAR = "far.away.org-1"


def take_one_of(folder: Path, start: Event, num_files: int) -> None:
    start.wait()
    for index in range(num_files):
        if holds.take(folder / str(index)) is not None:
            (folder / f"{index}.{os.getpid()}").touch()
    time.sleep(60)


def test_of_many_that_reach_for_a_file_one_gets_it(tmp_path: Path) -> None:
    start = FORK.Event()
    many = [FORK.Process(target=take_one_of, args=(tmp_path, start, 40)) for _ in range(4)]
    for process in many:
        process.start()
    start.set()
    while len(list(tmp_path.glob("*.*"))) < 40:
        time.sleep(0.01)
    time.sleep(0.2)
    for index in range(40):
        (taken,) = tmp_path.glob(f"{index}.*")
        found = holds.holder(tmp_path / str(index))
        assert found is not None
        assert found.pid == int(taken.suffix[1:])
    for process in many:
        process.kill()
        process.join()
    assert {holds.holder(tmp_path / str(index)) for index in range(40)} == {None}
    assert not list(tmp_path.glob(".*"))


def test_a_released_file_is_nobodys_and_is_never_taken_again(tmp_path: Path) -> None:
    hold = holds.take(tmp_path / "new" / "a")
    assert hold is not None
    found = holds.holder(tmp_path / "new" / "a")
    assert isinstance(found, Holder)
    assert found.is_here
    assert str(found).startswith(f"{found.host}, process {os.getpid()}, since 20")
    hold.release()
    assert holds.holder(tmp_path / "new" / "a") is None
    assert holds.take(tmp_path / "new" / "a") is None


@pytest.mark.parametrize("content", ["", "{", "{}\n", '{"machine": "m"}\n', "[]\n"])
def test_a_file_cut_short_is_nobodys(tmp_path: Path, content: str) -> None:
    (tmp_path / "a").write_text(content)
    assert holds.holder(tmp_path / "a") is None


# --- another machine ------------------------------------------------------------------------


def hold_far_away(path: Path, beat_s: float) -> None:
    holds.machine = lambda: FAR
    holds.BEAT_S = beat_s
    assert holds.take(path) is not None
    (path.parent / "held").touch()
    time.sleep(60)


@pytest.fixture
def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], int]:
    """Hold the file `a` in a real process that says it runs on another machine."""
    monkeypatch.setattr(holds, "SILENT_S", 0.5)

    def start(beat_s: float) -> int:
        process = FORK.Process(target=hold_far_away, args=(tmp_path / "a", beat_s), daemon=True)
        process.start()
        while not (tmp_path / "held").exists():
            time.sleep(0.01)
        assert process.pid is not None
        return process.pid

    return start


def watched(path: Path, seconds: float) -> Holder | None:
    """Look at a file for some time, as a driver does, until nobody holds it."""
    watch, end_s = Watch(), time.monotonic() + seconds
    found = watch.holder(path)
    while found is not None and time.monotonic() < end_s:
        time.sleep(0.02)
        found = watch.holder(path)
    return found


def test_a_holder_far_away_is_believed_while_it_gives_signs_of_life(
    tmp_path: Path, far: Callable[[float], int]
) -> None:
    pid = far(0.05)
    found = watched(tmp_path / "a", 1.5)
    assert found is not None
    assert (found.machine, found.pid) == (FAR, pid)
    os.kill(pid, signal.SIGSTOP)
    assert watched(tmp_path / "a", 20) is None
    os.kill(pid, signal.SIGCONT)
    time.sleep(0.2)
    assert holds.holder(tmp_path / "a") is None  # given up for good
    assert "saw no touch for" in (tmp_path / "a").read_text().splitlines()[1]
    os.kill(pid, signal.SIGKILL)


def test_a_clock_that_is_wrong_changes_nothing(tmp_path: Path, far: Callable[[float], int]) -> None:
    far(60)
    os.utime(tmp_path / "a", (0, time.time() - 3600))
    assert holds.holder(tmp_path / "a") is not None
    os.utime(tmp_path / "a", (0, time.time() + 3600))
    assert watched(tmp_path / "a", 0.2) is not None
    assert watched(tmp_path / "a", 20) is None
    (tmp_path / "a").write_text((tmp_path / "a").read_text().splitlines()[0] + "\n")
    os.utime(tmp_path / "a", (0, time.time() - 90_000))
    assert holds.holder(tmp_path / "a") is None  # a day is long enough for anybody's clock


def test_a_file_system_without_hard_links_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(source: object, target: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    with pytest.raises(UserError, match=r"its file system makes no hard links.*--workdir"):
        holds.take(tmp_path / "jobs" / "a")
    assert not list((tmp_path / "jobs").iterdir())
    check = folder.writable(tmp_path)
    assert check.status == "problem"
    assert "makes no hard links" in check.found
