"""Files that appear whole or not at all: full disks, kills, many writers, what is left behind."""

from __future__ import annotations

import errno
import hashlib
import json
import multiprocessing
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from bench import files

FORK = multiprocessing.get_context("fork")


def left(folder: Path) -> list[Path]:
    """Return the temporaries in a folder and below it."""
    return sorted(folder.rglob("*.tmp"))


# --- writing --------------------------------------------------------------------------------


def test_a_file_is_written_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    files.write_text(path, "één")
    assert path.read_bytes() == "één".encode()
    files.write_bytes(path, b"two", sync=False)
    assert path.read_bytes() == b"two"
    with files.replacing(path) as temporary:
        assert temporary.parent == path.parent
        temporary.write_bytes(b"three")
        assert path.read_bytes() == b"two"
    assert path.read_bytes() == b"three"
    assert list(path.parent.iterdir()) == [path]


def test_names_may_be_as_long_as_the_file_system_allows(tmp_path: Path) -> None:
    path = tmp_path / ("é" * 127)
    files.write_text(path, "x")
    assert path.read_text() == "x"


def test_others_may_read_what_they_could_read_of_a_plain_file(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("x")
    files.write_text(tmp_path / "whole", "x")
    assert (tmp_path / "whole").stat().st_mode == (tmp_path / "plain").stat().st_mode


def interrupt(block: AbstractContextManager[Path]) -> None:
    with block as temporary:
        (temporary / "a" if temporary.is_dir() else temporary).write_text("half")
        raise KeyboardInterrupt


def test_a_write_that_fails_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    files.write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        files.write_text(path, "\ud800")
    with pytest.raises(KeyboardInterrupt):
        interrupt(files.replacing(path))
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@contextmanager
def largest_file(num_bytes: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    files.write_bytes(path, b"old")
    with largest_file(100_000), pytest.raises(OSError, match="large") as caught:
        files.write_bytes(path, bytes(1_000_000))
    assert caught.value.errno == errno.EFBIG
    assert path.read_bytes() == b"old"
    assert not left(tmp_path)


@pytest.mark.parametrize("sync", [True, False])
def test_what_must_last_is_synced_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sync: bool
) -> None:
    calls: list[str] = []

    def spy(name: str) -> Callable[..., None]:
        real = getattr(os, name)

        def call(*args: object) -> None:
            calls.append(name)
            real(*args)

        return call

    for name in ("fsync", "replace"):
        monkeypatch.setattr(os, name, spy(name))
    files.write_text(tmp_path / "a", "x", sync=sync)
    assert calls == (["fsync", "replace", "fsync"] if sync else ["replace"])


# --- many writers ---------------------------------------------------------------------------

BLOCK = 200_000


def write_often(path: Path, letter: int, rounds: int = 40) -> None:
    for _ in range(rounds):
        files.write_bytes(path, bytes([letter]) * BLOCK, sync=False)


def is_whole(content: bytes) -> bool:
    return len(content) == BLOCK and len(set(content)) == 1


def test_threads_and_processes_write_one_file_without_meeting(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    write_often(path, 0, rounds=1)
    processes = [FORK.Process(target=write_often, args=(path, letter)) for letter in (1, 2)]
    for process in processes:
        process.start()
    seen = []
    with ThreadPoolExecutor(4) as pool:
        done = [pool.submit(write_often, path, letter) for letter in (3, 4, 5, 6)]
        while not all(future.done() for future in done):
            seen.append(is_whole(path.read_bytes()))
        for future in done:
            future.result()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert seen
    assert all(seen)
    assert is_whole(path.read_bytes())
    assert list(tmp_path.iterdir()) == [path]


# --- kills ----------------------------------------------------------------------------------


def write_half(path: Path) -> None:
    with files.replacing(path) as temporary:
        temporary.write_bytes(b"half")
        (path.parent / "writing").touch()
        time.sleep(60)


def fill_half(folder: Path) -> None:
    with files.scratch_folder(folder) as scratch:
        (scratch / "sub").mkdir()
        (scratch / "sub" / "part").write_bytes(b"half")
        (folder / "writing").touch()
        time.sleep(60)


@pytest.mark.parametrize("work", [write_half, fill_half])
def test_what_a_killed_process_left_is_cleared_and_a_living_ones_stays(
    tmp_path: Path, work: Callable[[Path], None]
) -> None:
    path = tmp_path / "a.json"
    files.write_text(path, "old")
    process = FORK.Process(target=work, args=(path if work is write_half else tmp_path,))
    process.start()
    try:
        while not (tmp_path / "writing").exists():
            time.sleep(0.01)
        files.clear_stale(tmp_path)
        assert len(left(tmp_path)) == 1
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert path.read_text() == "old"
        assert len(left(tmp_path)) == 1
        files.clear_stale(tmp_path)
        assert not left(tmp_path)
        assert path.read_text() == "old"
    finally:
        process.kill()
        process.join()


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_clearing_goes_below_where_it_is_asked_to(tmp_path: Path) -> None:
    name = f".vitbench.{files.machine()}.{dead_pid()}.0123456789ab.tmp"
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / name).touch()
    files.clear_stale(tmp_path)
    assert left(tmp_path)
    files.clear_stale(tmp_path, recursive=True)
    assert not left(tmp_path)
    files.clear_stale(tmp_path / "nowhere")


def test_another_machines_temporaries_stay_for_a_day(tmp_path: Path) -> None:
    now_s = time.time()
    young, old, folder = (
        tmp_path / f".vitbench.far.away.org-1.{dead_pid()}.{index:012x}.tmp" for index in range(3)
    )
    for path in (young, old, folder / "busy"):
        path.parent.mkdir(exist_ok=True)
        path.touch()
    for path, age_s in ((young, 3600), (old, 90_000), (folder, 90_000)):
        os.utime(path, (now_s - age_s, now_s - age_s))
    files.clear_stale(tmp_path)
    assert left(tmp_path) == sorted([young, folder])


@pytest.mark.parametrize(
    "name", [".a.json.1.tmp", "notes.tmp", ".vitbench.tmp", ".vitbench.h.x.0123456789ab.tmp"]
)
def test_files_of_others_are_never_cleared(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.touch()
    os.utime(path, (0, 0))
    files.clear_stale(tmp_path)
    assert path.exists()


def test_the_machine_is_the_host() -> None:
    assert files.machine().startswith(socket.gethostname())


# --- folders --------------------------------------------------------------------------------


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    folder = tmp_path / "fresh"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "a").write_text("new")
    return folder


@pytest.mark.parametrize("there", [False, True])
def test_a_folder_is_swapped(tmp_path: Path, fresh: Path, there: bool) -> None:
    path = tmp_path / "set"
    if there:
        path.mkdir()
        (path / "b").write_text("old")
    files.replace_folder(fresh, path)
    assert [p.relative_to(path).as_posix() for p in sorted(path.rglob("*"))] == ["sub", "sub/a"]
    assert sorted(tmp_path.iterdir()) == [path]


def test_a_swap_that_fails_puts_the_old_folder_back(
    tmp_path: Path, fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "set"
    path.mkdir()
    (path / "b").write_text("old")
    real = os.rename

    def failing(source: Path, target: Path) -> None:
        if source == fresh:
            raise OSError(errno.EIO, "no")
        real(source, target)

    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises(OSError, match="no"):
        files.replace_folder(fresh, path)
    assert (path / "b").read_text() == "old"
    assert (fresh / "sub" / "a").read_text() == "new"
    assert not left(tmp_path)


def swap_and_hang(fresh: Path, path: Path) -> None:
    real = os.rename

    def hanging(source: Path, target: Path) -> None:
        if source == fresh:
            (path.parent / "writing").touch()
            time.sleep(60)
        real(source, target)

    os.rename = hanging  # type: ignore[assignment]  # in this process alone
    files.replace_folder(fresh, path)


def test_a_process_killed_in_a_swap_leaves_no_part_of_a_folder(tmp_path: Path, fresh: Path) -> None:
    path = tmp_path / "set"
    path.mkdir()
    process = FORK.Process(target=swap_and_hang, args=(fresh, path))
    process.start()
    while not (tmp_path / "writing").exists():
        time.sleep(0.01)
    process.kill()
    process.join()
    assert not path.exists()
    files.clear_stale(tmp_path)
    assert not left(tmp_path)
    files.replace_folder(fresh, path)
    assert (path / "sub" / "a").read_text() == "new"


def test_a_scratch_folder_goes_with_its_block(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        interrupt(files.scratch_folder(tmp_path / "new"))
    assert list((tmp_path / "new").iterdir()) == []


# --- reading --------------------------------------------------------------------------------


def test_a_file_is_hashed(tmp_path: Path) -> None:
    content = os.urandom(3_000_000)
    (tmp_path / "a").write_bytes(content)
    assert files.file_sha256(tmp_path / "a") == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("content", [None, b"", b"{", b"\xff\xfe\x00"])
def test_json_that_is_missing_or_damaged_is_none(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    assert files.read_json(path) is None
    path.write_text(json.dumps({"a": [1]}))
    assert files.read_json(path) == {"a": [1]}


def test_names_of_threads_differ() -> None:
    names: set[Path] = set()

    def draw() -> None:
        names.update(files.temporary_name(Path()) for _ in range(100))

    threads = [threading.Thread(target=draw) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(names) == 400
