"""Packing: once, whole or absent, verified on opening, rebuilt when damaged, safe in company."""

from __future__ import annotations

import errno
import hashlib
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

import numpy as np
import pytest
import torch
from filelock import FileLock
from PIL import Image

from bench.data import catalog, decode
from bench.data.cards.generated import formula_card
from bench.data.packs import build, examine, read, write
from bench.data.packs.drawn import Drawn
from bench.data.packs.read import Packed
from bench.data.splits import drawn_rows
from bench.errors import DataError
from bench.paths import CachePaths
from bench.specs import DatasetCard, SplitCard

Make = Callable[..., Path]
REPOSITORY = Path(__file__).resolve().parents[3]
SMALL = formula_card("small", num_classes=3, images_per_class=20, image_size_px=8)


def folder_card(path: Path, **fields: object) -> DatasetCard:
    block = {"reader": "image_folder", "path": str(path), "image_size_px": 8, **fields}
    return catalog.resolve("mine", block, base_dir=Path("/nowhere"))


def test_digits_are_the_known_images(tmp_path: Path) -> None:
    """Against scikit-learn itself, and by a digest that pins the split."""
    packed = build.packed(catalog.dataset("digits"), cache_dir=tmp_path)
    train, test = packed.split("train"), packed.split("test")
    assert (train.images_NHWC.shape, test.images_NHWC.shape) == ((1297, 8, 8, 3), (500, 8, 8, 3))
    assert np.bincount(test.labels_N).tolist() == [50, 51, 49, 51, 50, 51, 50, 50, 48, 50]
    from sklearn.datasets import load_digits

    bunch = load_digits()
    grey = np.concatenate([train.images_NHWC, test.images_NHWC])[..., 1].reshape(1797, -1)
    rows = np.concatenate([grey, np.r_[train.labels_N, test.labels_N][:, None]], axis=1)
    source = np.c_[np.round(bunch.data * (255 / 16)), bunch.target]
    assert np.array_equal(np.unique(rows, axis=0), np.unique(source, axis=0))
    assert grey.max() == 255
    assert packed.content_digest[:16] == "4ee0e0c9cfcab263"


def test_a_packed_set_is_found_again_and_shared(tmp_path: Path) -> None:
    first = build.packed(SMALL, cache_dir=tmp_path)
    stamp = (first.folder / "manifest.json").stat().st_mtime_ns
    again = build.packed(SMALL, cache_dir=tmp_path)
    assert again == first
    assert (again.folder / "manifest.json").stat().st_mtime_ns == stamp
    assert first.digest == SMALL.digest
    assert build.verify(first.folder) == []
    assert sorted(path.name for path in first.folder.iterdir()) == [
        "manifest.json", "train.images.npy", "train.labels.npy", "train.looks.npy",
    ]  # fmt: skip


def test_splits_are_mapped_and_writing_to_them_changes_no_file(tmp_path: Path) -> None:
    packed = build.packed(SMALL, cache_dir=tmp_path)
    split = packed.split("train")
    assert split.labels_N.tolist() == [0] * 20 + [1] * 20 + [2] * 20
    torch.from_numpy(split.images_NHWC[:4]).zero_()
    assert build.verify(packed.folder) == []
    with pytest.raises(DataError, match='small: no split "test"'):
        packed.split("test")


@pytest.mark.ordinary
def test_formula_images_do_not_depend_on_the_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.data.readers.generated.PARALLEL_FROM_IMAGES", 1)
    alone = build.packed(SMALL, cache_dir=tmp_path / "one")
    many = build.packed(SMALL, cache_dir=tmp_path / "two", num_workers=2)
    assert alone.content_digest == many.content_digest


# --- damage ---------------------------------------------------------------------------------


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


DAMAGES: dict[str, Callable[[Packed], object]] = {
    "bit": lambda packed: flip_a_bit(packed.folder / "train.images.npy"),
    "label": lambda packed: flip_a_bit(packed.folder / "train.labels.npy"),
    "truncated": lambda packed: os.truncate(packed.folder / "train.images.npy", 200),
    "empty": lambda packed: os.truncate(packed.folder / "train.images.npy", 0),
    "missing": lambda packed: (packed.folder / "train.labels.npy").unlink(),
    "no manifest": lambda packed: (packed.folder / "manifest.json").unlink(),
    "bad manifest": lambda packed: (packed.folder / "manifest.json").write_text("{"),
    "old format": lambda packed: (packed.folder / "manifest.json").write_text(
        json.dumps({**packed.manifest, "format": 0})
    ),
    "other digest": lambda packed: (packed.folder / "manifest.json").write_text(
        json.dumps({**packed.manifest, "digest": "0" * 16})
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_set_is_noticed_and_built_again(tmp_path: Path, damage: str) -> None:
    packed = build.packed(SMALL, cache_dir=tmp_path)
    DAMAGES[damage](packed)
    assert build.verify(packed.folder) != []
    again = build.packed(SMALL, cache_dir=tmp_path)
    assert again.content_digest == packed.content_digest
    assert build.verify(again.folder) == []


def test_damage_in_the_middle_of_a_large_set_is_found_by_verify(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read, "BLOCK_BYTES", 1024)
    monkeypatch.setattr(read, "FULL_CHECK_BYTES", 2048)
    packed = build.packed(SMALL, cache_dir=tmp_path)
    images = packed.folder / "train.images.npy"
    content = bytearray(images.read_bytes())
    content[5000] ^= 1
    images.write_bytes(content)
    assert read.open_packed(packed.folder) is not None  # the cheap check sees the ends alone
    assert build.verify(packed.folder) == [f"{images}: block 4 has changed"]


def test_readers_of_a_damaged_set_keep_their_pages(tmp_path: Path) -> None:
    packed = build.packed(SMALL, cache_dir=tmp_path)
    split = packed.split("train")
    before = split.images_NHWC.copy()
    (packed.folder / "manifest.json").unlink()
    build.packed(SMALL, cache_dir=tmp_path)
    assert np.array_equal(split.images_NHWC, before)


# --- interruption and company ---------------------------------------------------------------

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


class Stopped(Exception):
    """Takes the place of a signal between two chunks."""


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


# --- encoded packing --------------------------------------------------------------------------


def test_both_packings_give_the_same_pixels(tmp_path: Path, make_images: Make) -> None:
    card = folder_card(
        make_images(tmp_path / "set", {"a": 6, "b": 6}, suffix=".jpg"), image_size_px=16
    )
    arrays = build.packed(card, cache_dir=tmp_path / "arrays")
    encoded = build.packed(card, cache_dir=tmp_path / "encoded", packing="encoded")
    assert (arrays.packing, encoded.packing) == ("arrays", "encoded")
    assert arrays.digest == encoded.digest
    for name in ("train", "test"):
        one, other = arrays.split(name), encoded.split(name)
        assert np.array_equal(one.labels_N, other.labels_N)
        assert one.images_NHWC.shape == other.images_NHWC.shape
        rows = np.array([1, 0, 1])
        assert np.array_equal(one.images(rows), other.images(rows))
        assert np.array_equal(one.images(slice(None)), other.images(slice(None)))
        assert np.array_equal(np.stack(list(other.images_NHWC)), one.images_NHWC)
        assert np.array_equal(other.images_NHWC[-1], one.images_NHWC[-1])
    assert build.verify(encoded.folder) == []
    content = (tmp_path / "set" / "a" / "000.jpg").read_bytes()
    files = [encoded.folder / f"{name}.encoded.bin" for name in ("train", "test")]
    assert any(content in file.read_bytes() for file in files)


@pytest.mark.parametrize("packing", ["arrays", "encoded"])
def test_drawn_images_are_those_of_their_rows(
    tmp_path: Path, make_images: Make, packing: read.Packing
) -> None:
    card = folder_card(make_images(tmp_path / "set", {"a": 9, "b": 9}), image_size_px=16)
    packed = build.packed(card, cache_dir=tmp_path / "cache", packing=packing)
    whole, few = packed.split("train"), Drawn(packed, {"train"}, 4).split("train")
    rows = drawn_rows(whole.labels_N, 4)
    assert len(rows) == len(few.labels_N) == few.images_NHWC.shape[0]
    assert few.images_NHWC.shape == (4, 16, 16, 3)
    np.testing.assert_array_equal(few.labels_N, whole.labels_N[rows])
    np.testing.assert_array_equal(few.images(slice(1, 3)), whole.images(rows[1:3]))
    np.testing.assert_array_equal(few.images(np.array([2, 0])), whole.images(rows[[2, 0]]))
    np.testing.assert_array_equal(np.stack(list(few.images_NHWC)), whole.images(rows))
    other = Drawn(packed, {"test"}, 4).split("train")
    np.testing.assert_array_equal(other.images(slice(None)), whole.images(slice(None)))


def test_sets_too_large_to_decode_are_kept_encoded(
    tmp_path: Path, make_images: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "MAX_ARRAY_BYTES", 1000)
    card = folder_card(make_images(tmp_path / "set", {"a": 4, "b": 4}))
    packed = build.packed(card, cache_dir=tmp_path / "cache")
    assert packed.packing == "encoded"
    assert build.packed(card, cache_dir=tmp_path / "cache") == packed
    # What has no files stays arrays.
    assert build.packed(SMALL, cache_dir=tmp_path / "cache").packing == "arrays"
    other = build.packed(card, cache_dir=tmp_path / "cache", packing="arrays")
    assert other.packing == "arrays"


def test_a_set_without_files_cannot_be_kept_encoded(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"small: the formula reader has no encoded images"):
        build.packed(SMALL, cache_dir=tmp_path, packing="encoded")


def test_damaged_images_are_counted_when_they_are_packed_encoded(
    tmp_path: Path, make_images: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of them is named; a build that was stopped after it was seen names it too."""
    monkeypatch.setattr(write, "CHUNK_BYTES", 2000)
    make_images(tmp_path / "set", {"a": 20, "b": 20})
    for name in ("a/001.png", "a/002.png"):
        file = tmp_path / "set" / name
        file.write_bytes(file.read_bytes()[:60])
    card = folder_card(tmp_path / "set", test_share=0.1)

    def stop(done: int, total: int) -> None:
        if done > 10:
            raise Stopped

    with pytest.raises(Stopped):
        build.packed(card, cache_dir=tmp_path / "c", packing="encoded", on_progress=stop)
    message = r"a/001\.png: damaged image .*\(and 1 more of train\)\. .*skip_damaged = true"
    with pytest.raises(DataError, match=message):
        build.packed(card, cache_dir=tmp_path / "c", packing="encoded")


def test_images_are_decoded_once_for_packing_and_examination(
    tmp_path: Path, make_images: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[str] = []
    original = decode.original

    def counted(content: bytes, *, name: str) -> np.ndarray:
        decoded.append(name)
        return original(content, name=name)

    monkeypatch.setattr(decode, "original", counted)
    card = folder_card(
        make_images(tmp_path / "set", {"a": 20, "b": 20}, side=140), image_size_px=None
    )
    found = examine.examine(build.packed(card, cache_dir=tmp_path / "c", num_workers=2))
    assert (found.packing, found.problems) == ("encoded", ())
    assert examine.notes_on(card, cache_dir=tmp_path / "c") == ()
    assert sorted(decoded) == sorted(set(decoded))
    assert len(decoded) == 40


def test_looks_are_those_of_the_images_as_they_are_read(tmp_path: Path, make_images: Make) -> None:
    folder = make_images(tmp_path / "set", {"a": 6, "b": 6})
    Image.new("RGB", (9, 7), (3, 2, 1)).save(folder / "a" / "002.png")
    for index, size_px in enumerate((None, 8)):
        card = folder_card(folder, image_size_px=size_px)
        for packing in ("arrays", "encoded") if size_px else ("encoded",):
            cache = tmp_path / f"{index}-{packing}"
            packed = build.packed(card, cache_dir=cache, packing=packing)  # type: ignore[arg-type]
            for split in ("train", "test"):
                images = list(packed.split(split).images_NHWC)
                looks_N = packed.looks(split)
                hashes = [hashlib.sha256(image.tobytes()).digest() for image in images]
                assert looks_N["sha256"].tolist() == hashes
                flat = [bool((image == image[0, 0]).all()) for image in images]
                assert looks_N["is_flat"].tolist() == flat


def test_a_mapped_array_takes_its_room_before_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page of a mapped file that finds no room on disk ends the process without a word."""

    def full(descriptor: int, start: int, size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(DataError, match=r"cannot be packed into .* \(No space left on device\)"):
        build.packed(SMALL, cache_dir=tmp_path)


# --- bad input ------------------------------------------------------------------------------


def test_a_corrupt_image_is_named_and_nothing_is_left(tmp_path: Path, make_images: Make) -> None:
    make_images(tmp_path / "set", {"a": 4, "b": 4})
    file = tmp_path / "set" / "b" / "002.png"
    file.write_bytes(file.read_bytes()[:60])
    with pytest.raises(DataError, match=r"b/002\.png: damaged image .*Replace the file"):
        build.packed(folder_card(tmp_path / "set"), cache_dir=tmp_path / "cache")
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] in ([], [".lock"])


def test_files_removed_since_the_plan(tmp_path: Path, make_images: Make) -> None:
    make_images(tmp_path / "set", {"a": 4, "b": 4})
    card = folder_card(tmp_path / "set")
    (tmp_path / "set" / "a" / "000.png").unlink()
    with pytest.raises(DataError, match=r"mine: (train|test) has \d images, \d expected"):
        build.packed(card, cache_dir=tmp_path / "cache")
    shutil.rmtree(tmp_path / "set")
    with pytest.raises(DataError, match="no such folder"):
        build.packed(card, cache_dir=tmp_path / "cache")


def test_a_file_changed_since_the_plan(tmp_path: Path, make_images: Make) -> None:
    make_images(tmp_path / "set", {"a": 4, "b": 4})
    card = folder_card(tmp_path / "set")
    content = (tmp_path / "set" / "b" / "000.png").read_bytes()
    (tmp_path / "set" / "a" / "000.png").write_bytes(content)
    with pytest.raises(DataError, match=r"mine: files under .* changed while they were read"):
        build.packed(card, cache_dir=tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]


def test_no_room_is_told_before_anything_is_written(tmp_path: Path) -> None:
    huge = formula_card("huge", num_classes=10**6, images_per_class=10**4, image_size_px=1024)
    with pytest.raises(DataError, match=r"huge: packing needs [\d.]+ GiB, .* GiB free\. Free some"):
        build.packed(huge, cache_dir=tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_a_cache_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="file/cache: cannot be created"):
        build.packed(SMALL, cache_dir=tmp_path / "file" / "cache")


def test_a_card_without_located_data_says_how_to_get_it(tmp_path: Path) -> None:
    card = SMALL.model_copy(update={"digest": "", "how_to_get": "Ask its owner"})
    told = r"small: the data are not located\. Ask its owner, then `vitbench data prepare small "
    with pytest.raises(DataError, match=told):
        build.packed(card, cache_dir=tmp_path)


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ([0, 1, 3], r"label 3 of image 2 is not in 0 to 2 \(1 such labels\)"),
        ([0, -100, -1], r"label -100 of image 1 is not in 0 to 2 \(2 such labels\)"),
        ([1, 1, 1], "every image has label 1"),
    ],
)
def test_labels_out_of_range_and_alike(labels: list[int], told: str) -> None:
    with pytest.raises(DataError, match=rf"set, train: {told}"):
        write.check_labels(np.array(labels), num_classes=3, where="set, train")


def test_a_split_of_other_size_than_the_card_says(tmp_path: Path) -> None:
    card = SMALL.model_copy(update={"splits": {"train": SplitCard(num_examples=59)}})
    with pytest.raises(DataError, match="small: train has 60 images, 59 expected"):
        build.packed(card, cache_dir=tmp_path)
