"""Packing that is killed, stopped or done by several at once: whole in the end, and done once."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from bench.data.packs import build, read, write
from bench.data.packs.read import Packed
from bench.errors import DataError
from bench.paths import CachePaths
from bench.specs import DatasetCard
from tests.bench.data.packing import SMALL, Stopped, folder_card

Make = Callable[..., Path]
REPOSITORY = Path(__file__).resolve().parents[3]

PACK = """
import sys, time
from pathlib import Path
from typing import Any
from bench.data.cards.generated import formula_card
from bench.data.packs import build
from bench.data.sources import fractals
card = formula_card("small", num_classes=3, images_per_class=20, image_size_px=8)
slow = fractals.images
def images(**kwargs):
    print("drawing", flush=True)
    time.sleep(float(sys.argv[2]))
    return slow(**kwargs)
fractals.images = images
print("packed", build.packed(card, cache_dir=Path(sys.argv[1])).content_digest, flush=True)
"""


def start_packing(cache: Path, *, pause_s: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PACK, str(cache), str(pause_s)],
        stdout=subprocess.PIPE, text=True, cwd=REPOSITORY,
    )  # fmt: skip


@pytest.mark.ordinary
def test_a_killed_packing_leaves_nothing_half_written(tmp_path: Path) -> None:
    process = start_packing(tmp_path, pause_s=60)
    assert process.stdout is not None
    assert process.stdout.readline() == "drawing\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert [path.name.split("-")[0] for path in tmp_path.iterdir() if path.is_dir()] == [
        f"{SMALL.digest}.partial"
    ]
    packed = build.packed(SMALL, cache_dir=tmp_path)
    assert build.verify(packed.folder) == []
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == [SMALL.digest]


@pytest.mark.ordinary
def test_two_at_once_build_once(tmp_path: Path) -> None:
    processes = [start_packing(tmp_path, pause_s=0.2) for _ in range(2)]
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert all(process.returncode == 0 for process in processes)
    assert sum(output.count("drawing") for output in outputs) == 3  # once for each class
    assert len({output.split("packed ")[1] for output in outputs}) == 1


def test_threads_build_once_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[str] = []
    original = build._build

    def slow(card: DatasetCard, *words: Any, **options: Any) -> None:
        built.append(card.name)
        time.sleep(0.05)
        original(card, *words, **options)

    monkeypatch.setattr(build, "_build", slow)
    threads = [
        threading.Thread(target=build.packed, args=(SMALL,), kwargs={"cache_dir": tmp_path})
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert built == ["small"]


@pytest.mark.parametrize("kept", ["arrays", "encoded"])
def test_an_interrupted_packing_goes_on_where_it_stopped(
    tmp_path: Path, make_images: Make, monkeypatch: pytest.MonkeyPatch, kept: read.Packing
) -> None:
    """Each image is decoded once over both builds, and the result is that of one build."""
    monkeypatch.setattr(write, "CHUNK_BYTES", 5 * 8 * 8 * 3 if kept == "arrays" else 2000)
    card = folder_card(make_images(tmp_path / "set", {"a": 20, "b": 20}), test_share=0.1)
    whole = build.packed(card, cache_dir=tmp_path / "whole", packing=kept)
    told: list[int] = []

    def stop(done: int, total: int) -> None:
        told.append(done)
        assert total == 40
        if len(told) == 3:
            raise Stopped

    with pytest.raises(Stopped):
        build.packed(card, cache_dir=tmp_path / "cache", packing=kept, on_progress=stop)
    assert told == sorted(told)
    assert 0 < told[-1] < 40
    again: list[int] = []
    resumed = build.packed(
        card,
        cache_dir=tmp_path / "cache",
        packing=kept,
        on_progress=lambda done, total: again.append(done),
    )
    assert min(again) > told[-1]
    assert again[-1] == 40
    assert resumed.content_digest == whole.content_digest
    assert not list((tmp_path / "cache").glob("*.partial"))


def pack_and_die(card: DatasetCard, cache_dir: Path) -> None:
    """Pack images as they are; end at once when some were written that no note counts yet."""
    write_text, notes = write.write_text, []

    def dying(file: Path, text: str, *, sync: bool = True) -> None:
        notes.append(file)
        if len(notes) == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        write_text(file, text, sync=sync)

    write.write_text = dying  # type: ignore[assignment]  # in this process alone
    write.CHUNK_BYTES = 2000
    build.packed(card, cache_dir=cache_dir, packing="encoded")


def test_a_packing_killed_before_it_notes_what_it_wrote_goes_on(
    tmp_path: Path, make_images: Make
) -> None:
    card = folder_card(make_images(tmp_path / "set", {"a": 20, "b": 20}), test_share=0.1)
    whole = build.packed(card, cache_dir=tmp_path / "whole", packing="encoded")
    process = multiprocessing.get_context("fork").Process(
        target=pack_and_die, args=(card, tmp_path / "cache")
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    resumed = build.packed(card, cache_dir=tmp_path / "cache", packing="encoded")
    assert resumed.content_digest == whole.content_digest
    assert resumed.manifest["files"] == whole.manifest["files"]
    assert not list((tmp_path / "cache").rglob("*.tmp"))
    assert not list((tmp_path / "cache").rglob("*.rows"))


@pytest.mark.parametrize("changed", [False, True])
def test_wrong_data_end_a_packing_that_another_began_only_where_they_changed(
    tmp_path: Path, make_images: Make, monkeypatch: pytest.MonkeyPatch, changed: bool
) -> None:
    """What was read of files that change is of no use; of others it is kept."""
    monkeypatch.setattr(write, "CHUNK_BYTES", 5 * 8 * 8 * 3)
    card = folder_card(make_images(tmp_path / "set", {"a": 20, "b": 20}), test_share=0.1)

    def stop(done: int, total: int) -> None:
        if done > 20:
            raise Stopped

    with pytest.raises(Stopped):
        build.packed(card, cache_dir=tmp_path / "cache", on_progress=stop)
    (partial,) = (tmp_path / "cache").glob("*.partial")
    file = tmp_path / "set" / "b" / "019.png"
    content = file.read_bytes()

    def unreadable(done: int, total: int) -> None:
        if changed:
            file.write_bytes(content[:60])
        raise DataError("b/019.png: cannot be read")

    with pytest.raises(DataError, match="cannot be read"):
        build.packed(card, cache_dir=tmp_path / "cache", on_progress=unreadable)
    assert partial.exists() is not changed
    file.write_bytes(content)
    again: list[int] = []
    build.packed(
        card, cache_dir=tmp_path / "cache", on_progress=lambda done, total: again.append(done)
    )
    assert (min(again) <= 20) is changed


def test_a_folder_removed_while_its_lock_is_waited_for_is_made_again(tmp_path: Path) -> None:
    cache = tmp_path / "runs" / "data"
    cache.mkdir(parents=True)
    lock = FileLock(CachePaths(cache).lock(SMALL.digest))
    found: list[Packed] = []
    with lock:
        waiting = threading.Thread(
            target=lambda: found.append(build.packed(SMALL, cache_dir=cache))
        )
        waiting.start()
        time.sleep(0.1)
        shutil.rmtree(tmp_path / "runs")
    waiting.join()
    assert build.verify(found[0].folder) == []


def test_notes_that_do_not_fit_begin_anew(tmp_path: Path) -> None:
    partial = tmp_path / f"{SMALL.digest}.partial"
    partial.mkdir()
    (partial / "progress.json").write_text('{"format": 0}')
    (partial / "train.images.npy").write_bytes(b"left behind")
    assert build.verify(build.packed(SMALL, cache_dir=tmp_path).folder) == []


def test_a_build_with_notes_but_without_its_file_begins_anew(tmp_path: Path) -> None:
    partial = tmp_path / f"{SMALL.digest}.partial"
    partial.mkdir()
    notes = {"format": read.FORMAT, "packing": "arrays", "done": {"train": 40}, "blocks": {}}
    (partial / "progress.json").write_text(json.dumps(notes))
    packed = build.packed(SMALL, cache_dir=tmp_path)
    alone = build.packed(SMALL, cache_dir=tmp_path / "other")
    assert packed.content_digest == alone.content_digest
