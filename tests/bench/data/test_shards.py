"""Shards: each example once an epoch however split, resumed anywhere, memory flat, hostile tars."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bench.data import catalog, decode
from bench.data.packs import build
from bench.data.parts import Part
from bench.data.sources.shards import ShardSet, open_shards, write_shard
from bench.data.sources.stream import Order, ShardBatches
from bench.errors import DataError

REPOSITORY = Path(__file__).resolve().parents[3]


def png(value: int, side: int = 4) -> bytes:
    buffer = io.BytesIO()
    pixels = np.full((side, side, 3), value % 256, np.uint8)
    pixels[0, 0] = (value // 65536, value // 256 % 256, value % 256)
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=0)
    return buffer.getvalue()


def write_set(folder: Path, counts: list[int], *, num_classes: int = 5) -> Path:
    """Write shards whose k-th example shows the number k and has label k mod classes."""
    folder.mkdir(parents=True, exist_ok=True)
    number = 0
    for index, count in enumerate(counts):
        examples = [(png(k), ".png", k % num_classes) for k in range(number, number + count)]
        write_shard(folder / f"shard-{index:03d}.tar", examples)
        number += count
    return folder


def numbers(images_BHWC: np.ndarray) -> list[int]:
    corner = images_BHWC[:, 0, 0].astype(int)
    return (corner[:, 0] * 65536 + corner[:, 1] * 256 + corner[:, 2]).tolist()


# --- order ----------------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(
    counts=st.lists(st.integers(1, 9), min_size=1, max_size=9),
    window=st.integers(1, 5),
    seed=st.integers(0, 9),
    batch=st.integers(1, 30),
)
def test_each_example_once_an_epoch(counts: list[int], window: int, seed: int, batch: int) -> None:
    order = Order(tuple(counts), seed, window)
    total = sum(counts)
    stream = order.places(0, 2 * total)
    everything = sorted((shard, row) for shard, num in enumerate(counts) for row in range(num))
    for epoch in (stream[:total], stream[total:]):
        assert sorted(map(tuple, epoch.tolist())) == everything
    steps = [order.places(start, batch) for start in range(0, 2 * total, batch)]
    assert np.array_equal(np.concatenate(steps)[: 2 * total], stream)


def test_the_order_mixes_shards_and_changes_with_epoch_and_seed() -> None:
    order = Order((50,) * 8, seed=0, window_shards=4)
    first, second = order.places(0, 400), order.places(400, 400)
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, Order((50,) * 8, seed=1, window_shards=4).places(0, 400))
    assert len(set(first[:64, 0].tolist())) == 4  # a batch mixes the shards of its window
    assert len(set(first[:200, 0].tolist())) == 4  # and no more than these are open
    assert (np.diff(first[:50, 1]) == 1).mean() < 0.2  # rows are not in file order


# --- batches --------------------------------------------------------------------------------


def test_batches_show_the_images_of_their_labels_and_resume_anywhere(tmp_path: Path) -> None:
    shards = open_shards(write_set(tmp_path / "set", [13, 7, 20]), index_dir=tmp_path / "index")
    batches = ShardBatches(shards, batch_size=8, seed=0, squared_px=4, window_shards=2)
    forward = [batches.at(step) for step in range(5)]
    seen = [number for images, _ in forward for number in numbers(images)]
    assert sorted(seen) == list(range(40))
    for images, labels in forward:
        assert [number % 5 for number in numbers(images)] == labels.tolist()
    again = ShardBatches(
        open_shards(tmp_path / "set", index_dir=tmp_path / "index"),
        batch_size=8, seed=0, squared_px=4, window_shards=2,
    )  # fmt: skip
    for step in (4, 1):
        for found, expected in zip(again.at(step), forward[step], strict=True):
            assert np.array_equal(found, expected)


def test_parts_of_a_batch_are_the_batch(tmp_path: Path) -> None:
    shards = open_shards(write_set(tmp_path / "set", [9, 11, 4]), index_dir=tmp_path / "index")
    batches = ShardBatches(shards, batch_size=6, seed=3, squared_px=4)
    for step in range(8):
        images, labels_B = batches.at(step)
        for rank in range(2):
            rows = Part(rank=rank, world=2).rows(6)
            part, labels_b = batches.at(step, rows)
            assert np.array_equal(part, images[rows])
            assert np.array_equal(labels_b, labels_B[rows])


STREAM = """
import resource, sys
from pathlib import Path
import numpy as np
from bench.data.parts import Part
from bench.data.sources.shards import open_shards
from bench.data.sources.stream import ShardBatches
folder, index = Path(sys.argv[1]), Path(sys.argv[2])
worker, start = int(sys.argv[3]), int(sys.argv[4])
batches = ShardBatches(open_shards(folder, index_dir=index), batch_size=500, seed=1, squared_px=4,
                       window_shards=8)
part = Part(rank=worker, world=2)
peaks = []
for step in range(start, 200):
    images, labels = batches.at(step, part.rows(500))
    corner = images[:, 0, 0].astype(int)
    print(step, *(corner[:, 0] * 65536 + corner[:, 1] * 256 + corner[:, 2]))
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
print("grown_kib", peaks[-1] - peaks[len(peaks) // 4])
"""


@pytest.mark.slow
def test_a_hundred_thousand_images_through_two_workers(tmp_path: Path) -> None:
    """Each exactly once, resumed in the middle with the same bits, at flat memory."""
    folder, index = write_set(tmp_path / "set", [2000] * 50), tmp_path / "index"

    def stream(worker: int, start: int) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-c", STREAM, str(folder), str(index), str(worker), str(start)],
            capture_output=True, text=True, check=True, cwd=REPOSITORY,
        )  # fmt: skip
        return done.stdout.splitlines()

    workers = [stream(worker, 0) for worker in range(2)]
    seen = [int(word) for lines in workers for line in lines[:-1] for word in line.split()[1:]]
    assert len(seen) == 100_000
    assert sorted(seen) == list(range(100_000))
    for lines in workers:
        assert int(lines[-1].split()[1]) < 8 * 1024  # KiB, over three quarters of an epoch
    assert stream(1, 130)[:-1] == workers[1][130:-1]


# --- index ----------------------------------------------------------------------------------


def test_indices_are_reused_and_rebuilt_when_damaged(tmp_path: Path) -> None:
    folder, index = write_set(tmp_path / "set", [5, 3]), tmp_path / "index"
    first = open_shards(folder, index_dir=index)
    assert first.labels().tolist() == [0, 1, 2, 3, 4, 0, 1, 2]
    stamps = {path: path.stat().st_mtime_ns for path in index.iterdir()}
    assert len(stamps) == 2
    open_shards(folder, index_dir=index)
    assert {path: path.stat().st_mtime_ns for path in index.iterdir()} == stamps
    next(iter(stamps)).write_bytes(b"damaged")
    assert open_shards(folder, index_dir=index).num_examples == 8


def test_the_same_examples_give_the_same_shard(tmp_path: Path) -> None:
    examples = [(png(1), ".png", 0), (png(2), ".png", 1)]
    assert write_shard(tmp_path / "a.tar", examples) == write_shard(tmp_path / "b.tar", examples)


def test_shards_pack_like_any_other_set(tmp_path: Path) -> None:
    write_set(tmp_path / "set" / "train", [6, 5])
    write_set(tmp_path / "set" / "val", [4])
    block = {"reader": "shards", "path": "set", "image_size_px": 4}
    card = catalog.resolve("mine", block, base_dir=tmp_path)
    assert {name: split.num_examples for name, split in card.splits.items()} == {
        "train": 11, "test": 4,
    }  # fmt: skip
    assert card.num_classes == 5
    packed = build.packed(card, cache_dir=tmp_path / "cache", num_workers=2)
    assert numbers(packed.split("train").images_NHWC) == list(range(11))
    assert packed.split("train").labels_N.tolist() == [k % 5 for k in range(11)]


# --- bad input ------------------------------------------------------------------------------


def tar_of(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def opened(folder: Path) -> ShardSet:
    return open_shards(folder, index_dir=folder.parent / "index")


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ({"a.png": png(1)}, r"example a has no label \(\.cls\)"),
        ({"a.cls": b"1"}, "example a has no image"),
        ({"a.png": png(1), "a.cls": b"cat"}, r"a\.cls holds no label"),
        ({"a.png": png(1), "a.cls": b"-1"}, r"a\.cls holds no label"),
        ({"a.png": png(1), "a.cls": b"9" * 40}, r"a\.cls holds no label"),
        ({"notes.md": b"x"}, "example notes has no image"),
        ({}, "no examples"),
    ],
)
def test_shards_that_lack_something(tmp_path: Path, members: dict[str, bytes], told: str) -> None:
    (tmp_path / "set").mkdir()
    tar_of(tmp_path / "set" / "s.tar", members)
    with pytest.raises(DataError, match=rf"s\.tar: {told}"):
        opened(tmp_path / "set")


def test_links_and_paths_outside_are_never_followed(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    with tarfile.open(tmp_path / "set" / "s.tar", "w") as archive:
        link = tarfile.TarInfo("a.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        for name, content in (("../../b.png", png(7)), ("../../b.cls", b"1")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    shards = opened(tmp_path / "set")
    assert shards.num_examples == 1
    image = decode.squashed_of(shards.content(0, 0), size_px=(4, 4), name="a")
    assert numbers(image[None]) == [7]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index", "set"]


def test_damaged_compressed_and_missing_shards(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set", [4])
    shard = folder / "shard-000.tar"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:700])
    with pytest.raises(DataError, match=r"shard-000\.tar: (damaged shard|example)"):
        opened(folder)
    shard.write_bytes(b"\0" * 100)
    with pytest.raises(DataError, match=r"shard-000\.tar: "):
        opened(folder)
    shard.rename(folder / "shard-000.tar.gz")
    with pytest.raises(DataError, match=r"compressed, so examples cannot be read"):
        opened(folder)
    (folder / "shard-000.tar.gz").unlink()
    with pytest.raises(DataError, match=r"no \.tar shards"):
        opened(folder)
    with pytest.raises(DataError, match="no such folder"):
        opened(tmp_path / "none")


def test_a_shard_cut_between_two_examples_and_a_missing_part_are_told(tmp_path: Path) -> None:
    """Of each, what is there reads like a whole set."""
    folder = write_set(tmp_path / "set", [4])
    shard = folder / "shard-000.tar"
    with tarfile.open(shard) as archive:
        third = archive.getmembers()[4].offset
    whole = shard.read_bytes()
    shard.write_bytes(whole[:third])
    with pytest.raises(DataError, match=r"shard-000\.tar: damaged shard \(it is cut short"):
        opened(folder)
    shard.unlink()
    (folder / "train-00000-of-00003.tar").write_bytes(whole)
    with pytest.raises(DataError, match=r"train-00001-of-00003\.tar: missing \(and 1 more\)"):
        opened(folder)
    for number in (1, 2):
        (folder / f"train-{number:05d}-of-00003.tar").write_bytes(whole)
    assert opened(folder).num_examples == 12
    (folder / "train-00000-of-00001.tar").write_bytes(whole)
    with pytest.raises(DataError, match=r"train-\*\.tar: parts of 00001 and of 00003 are mixed"):
        opened(folder)


def test_a_shard_that_shrinks_and_an_image_that_is_none(tmp_path: Path) -> None:
    shards = opened(write_set(tmp_path / "set", [4]))
    os.truncate(shards.shards[0].path, 600)
    with pytest.raises(DataError, match=r"shard-000\.tar, byte \d+: "):
        shards.content(0, 3)
    (tmp_path / "two").mkdir()
    tar_of(tmp_path / "two" / "s.tar", {"a.png": b"no image", "a.cls": b"0"})
    two = opened(tmp_path / "two")
    with pytest.raises(DataError, match=r"s\.tar, byte 512: not an image"):
        ShardBatches(two, batch_size=1, seed=0, squared_px=4).at(0)
    with pytest.raises(DataError, match=r"s\.tar, byte 512: not an image"):
        ShardBatches(two, batch_size=1, seed=0, squared_px=None).at(0)
