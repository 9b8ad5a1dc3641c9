"""VTAB tasks read from their owners' files, made here in the same layouts."""

from __future__ import annotations

import gzip
import json
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.data import catalog
from bench.data.packs import build
from bench.data.readers import READERS
from bench.data.sources.arrays import ArraySet
from bench.errors import DataError
from bench.specs import DatasetCard


def card_of(name: str, **fields: object) -> DatasetCard:
    block = fields
    return catalog.resolve(name, block, base_dir=Path("/nowhere"))


# --- dSprites and smallNORB -----------------------------------------------------------------


def read(reader: str, path: Path) -> ArraySet:
    found: ArraySet = READERS[reader].read(path)
    return found


def write_dsprites(path: Path, *, num: int = 2500) -> np.ndarray:
    """Write images that carry their own factors: pixel (0, k) is bit k of the row's number."""
    rng = np.random.default_rng(0)
    sizes = (1, 3, 6, 40, 32, 32)
    classes = np.stack([rng.integers(0, size, num) for size in sizes], axis=1)
    bits = (np.arange(num)[:, None] >> np.arange(12)) & 1
    images = np.zeros((num, 2, 12), dtype=np.uint8)
    images[:, 0] = bits
    np.savez_compressed(path, imgs=images, latents_classes=classes, latents_values=classes * 0.1)
    return classes


def numbers_in(images: np.ndarray) -> np.ndarray:
    assert set(np.unique(images)) <= {0, 255}
    return ((images[:, 0] // 255) << np.arange(12)).sum(axis=1)


@pytest.mark.parametrize(
    ("reader", "column", "size"), [("dsprites-loc", 4, 2), ("dsprites-ori", 3, 2.5)]
)
def test_dsprites_native_file(reader: str, column: int, size: float, tmp_path: Path) -> None:
    classes = write_dsprites(tmp_path / "dsprites.npz")
    found = read(reader, tmp_path / "dsprites.npz")
    assert {split: len(part.labels_N) for split, part in found.splits.items()} == {
        "train": 1000,
        "test": 250,
    }
    rows = {split: numbers_in(part.images()) for split, part in found.splits.items()}
    for split, part in found.splits.items():
        assert np.array_equal(part.labels_N, classes[rows[split], column] // size)
    assert not set(rows["train"]) & set(rows["test"])
    assert len(set(rows["train"])) == 1000
    again = read(reader, tmp_path / "dsprites.npz").splits["train"]
    assert np.array_equal(again.labels_N, found.splits["train"].labels_N)
    card = card_of("mine", reader=reader, path=str(tmp_path / "dsprites.npz"))
    packed = build.packed(card, cache_dir=tmp_path / "cache")
    assert packed.split("train800val200").images_NHWC.shape == (1000, 2, 12, 3)
    assert card.num_classes == 16


def test_damaged_dsprites(tmp_path: Path) -> None:
    file = tmp_path / "dsprites.npz"
    file.write_bytes(b"no zip")
    with pytest.raises(DataError, match=r"not dSprites' \.npz"):
        read("dsprites-loc", file)
    write_dsprites(file, num=900)
    with pytest.raises(DataError, match="720 images for train and 90 for val"):
        read("dsprites-loc", file)
    np.savez(file, imgs=np.zeros((5, 2, 2), np.uint8), latents_classes=np.zeros((4, 6), int))
    with pytest.raises(DataError, match="images with factors of"):
        read("dsprites-loc", file)


STEMS = {
    "train": "smallnorb-5x46789x9x18x6x2x96x96-training",
    "test": "smallnorb-5x01235x9x18x6x2x96x96-testing",
}


def norb(array: np.ndarray) -> bytes:
    """Write the owner's format: at least three sizes stand in the header."""
    magic = {"uint8": 0x1E3D4C55, "int32": 0x1E3D4C54}[str(array.dtype)]
    sizes = [*array.shape, *[1] * (3 - array.ndim)]
    return struct.pack(f"<{2 + len(sizes)}i", magic, array.ndim, *sizes) + array.tobytes()


def write_smallnorb(folder: Path) -> dict[str, np.ndarray]:
    folder.mkdir()
    rng = np.random.default_rng(0)
    info = {}
    for split, num in (("train", 900), ("test", 500)):
        columns = (rng.integers(4, 10, num), rng.integers(0, 9, num), 2 * rng.integers(0, 18, num))
        info[split] = np.stack((*columns, rng.integers(0, 6, num)), axis=1).astype(np.int32)
        pairs = np.zeros((num, 2, 4, 4), dtype=np.uint8)
        pairs[:, 0, 0, 0], pairs[:, 0, 0, 1] = np.arange(num) % 256, np.arange(num) // 256
        pairs[:, 0, 0, 2] = split == "test"
        pairs[:, 1] = 99
        (folder / f"{STEMS[split]}-dat.mat").write_bytes(norb(pairs))
        packed = gzip.compress(norb(info[split]))
        (folder / f"{STEMS[split]}-info.mat.gz").write_bytes(packed)
    return info


@pytest.mark.parametrize(("reader", "num_classes"), [("smallnorb-azim", 18), ("smallnorb-elev", 9)])
def test_smallnorb_native_files(reader: str, num_classes: int, tmp_path: Path) -> None:
    info = write_smallnorb(tmp_path / "norb")
    found = read(reader, tmp_path / "norb")
    rows = {}
    for split, part in found.splits.items():
        images = part.images().astype(int)
        from_test = images[:, 0, 2] == 1
        number = images[:, 0, 0] + 256 * images[:, 0, 1]
        factor = np.array(
            [
                info["test" if test else "train"][n]
                for n, test in zip(number, from_test, strict=True)
            ]
        )
        expected = factor[:, 2] // 2 if reader == "smallnorb-azim" else factor[:, 1]
        assert np.array_equal(part.labels_N, expected)
        rows[split] = (from_test, number)
    # val's 200 come from the first half of the drawn test set, test is the other half.
    assert rows["train"][0].tolist() == [False] * 800 + [True] * 200
    assert len(rows["test"][1]) == 250
    assert not set(rows["train"][1][800:]) & set(rows["test"][1])
    assert found.num_classes == num_classes


def test_damaged_smallnorb(tmp_path: Path) -> None:
    write_smallnorb(tmp_path / "norb")
    file = tmp_path / "norb" / f"{STEMS['test']}-info.mat.gz"
    whole = gzip.decompress(file.read_bytes())
    for content, message in (
        (whole[:-4], "do not fit its header"),
        (b"abc", "not a binary matrix"),
    ):
        file.write_bytes(gzip.compress(content))
        with pytest.raises(DataError, match=message):
            read("smallnorb-elev", tmp_path / "norb")
    file.unlink()
    with pytest.raises(DataError, match=r"no smallnorb-.*-testing-info\.mat\[\.gz\]"):
        read("smallnorb-elev", tmp_path / "norb")


# --- folders --------------------------------------------------------------------------------


def write_clevr(root: Path, *, num_train: int = 2000, num_val: int = 5) -> dict[str, list[int]]:
    rng = np.random.default_rng(0)
    counts = {}
    for split, num in (("train", num_train), ("val", num_val)):
        counts[split] = rng.integers(3, 11, num).tolist()
        scenes = [
            {
                "image_filename": f"CLEVR_{split}_{index:06d}.png",
                "objects": [
                    {"pixel_coords": [10, 20, 8.2 + 0.3 * index % 3 + k]} for k in range(count)
                ],
            }
            for index, count in enumerate(counts[split])
        ]
        file = root / "scenes" / f"CLEVR_{split}_scenes.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"info": {}, "scenes": scenes}))
    return counts


@pytest.mark.parametrize(("reader", "num_classes"), [("clevr-count", 8), ("clevr-dist", 6)])
def test_clevr_native_scenes(reader: str, num_classes: int, tmp_path: Path) -> None:
    counts = write_clevr(tmp_path)
    folder = READERS[reader].scan(tmp_path)
    sizes = {split: len(items) for split, items in folder.splits.items()}
    assert sizes == {"train": 1000, "test": 5}
    assert len(folder.class_names) == num_classes
    for split, source in (("train", "train"), ("test", "val")):
        for path, label in folder.splits[split]:
            index = int(path[-10:-4])
            assert path == f"images/{source}/CLEVR_{source}_{index:06d}.png"
            depth = 8.2 + 0.3 * index % 3
            expected = counts[source][index] - 3 if reader == "clevr-count" else (
                int(np.searchsorted([8.0, 8.5, 9.0, 9.5, 10.0], depth))
            )  # fmt: skip
            assert label == expected
    numbers = [int(path[-10:-4]) for path, _ in folder.splits["train"]]
    assert max(numbers[:800]) < 1800 <= min(numbers[800:])


def test_damaged_clevr(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no scenes/CLEVR_train_scenes\.json"):
        READERS["clevr-count"].scan(tmp_path)
    write_clevr(tmp_path, num_train=500)
    with pytest.raises(DataError, match="450 images for train and 50 for val"):
        READERS["clevr-count"].scan(tmp_path)
    (tmp_path / "scenes" / "CLEVR_train_scenes.json").write_text('{"scenes": [{}]}')
    with pytest.raises(DataError, match="not a list of CLEVR's scenes"):
        READERS["clevr-count"].scan(tmp_path)


def write_kitti(root: Path, *, num: int = 2000, num_drives: int = 40) -> list[str]:
    """Write boxes; image k was frame order[k] of the drives, which lie one after another."""
    (root / "mapping").mkdir(parents=True)
    (root / "training" / "label_2").mkdir(parents=True)
    order = np.random.default_rng(0).permutation(num)
    drives = [f"2011_09_26_drive_{frame * num_drives // num:04d}_sync" for frame in range(num)]
    lines = [f"2011_09_26 {drive} {k:010d}" for k, drive in enumerate(drives)]
    (root / "mapping" / "train_mapping.txt").write_text("\n".join(lines) + "\n")
    (root / "mapping" / "train_rand.txt").write_text(",".join(str(k + 1) for k in order) + "\n")
    near = {0: "Car", 1: "Van", 2: "Truck", 3: "Pedestrian"}
    for image in range(num):
        z = (5.0, 15.0, 40.0)[image % 3]
        boxes = [f"{near[image % 4]} 0 0 0 1 1 2 2 1 1 1 0 0 {z} 0", "DontCare -1 -1 -10 1 1 2 2 " +
                 "-1 -1 -1 -1000 -1000 -1000 -10"]  # fmt: skip
        text = "\n".join(boxes if image % 5 else boxes[1:])
        (root / "training" / "label_2" / f"{image:06d}.txt").write_text(text)
    return [drives[frame] for frame in order]


def test_kitti_native_layout(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no mapping/train_rand\.txt"):
        READERS["kitti-dist"].scan(tmp_path)
    drives = write_kitti(tmp_path)
    folder = READERS["kitti-dist"].scan(tmp_path)
    for items in folder.splits.values():
        for path, label in items:
            image = int(path[-10:-4])
            vehicle = image % 4 != 3 and image % 5 != 0
            assert label == (image % 3 if vehicle else 3)
    images = {
        split: [int(path[-10:-4]) for path, _ in items] for split, items in folder.splits.items()
    }
    assert {split: len(items) for split, items in images.items()} == {"train": 1000, "test": 200}
    by_part = (images["train"][:800], images["train"][800:], images["test"])
    drives_of = [{drives[image] for image in part} for part in by_part]
    assert [len(part) for part in drives_of] == [32, 4, 4]
    assert not drives_of[0] & drives_of[1]
    assert not drives_of[2] & (drives_of[0] | drives_of[1])
    # The draw of tensorflow/datasets: the global generator of NumPy, with seed 123.
    state = np.random.get_state()
    np.random.seed(123)
    expected = set(np.random.choice(sorted(set(drives)), 4, replace=False))
    np.random.set_state(state)
    assert drives_of[2] == expected
    (tmp_path / "training" / "label_2" / f"{images['test'][0]:06d}.txt").write_text("Car 0 0")
    with pytest.raises(DataError, match=r"\d{6}\.txt: not a list of KITTI's boxes"):
        READERS["kitti-dist"].scan(tmp_path)


def test_an_export_in_folders_keeps_the_two_parts(tmp_path: Path) -> None:
    """Class b has no image among the 800: a class list from train alone would shift the others."""
    image = tmp_path / "one.png"
    Image.fromarray(np.zeros((2, 2, 3), dtype=np.uint8)).save(image)
    for part, classes in (("train800", "ac"), ("val200", "abc"), ("test", "abc")):
        num = {"train800": 400, "val200": 66, "test": 2}[part]
        for name in classes:
            extra = 2 if part == "val200" and name == "c" else 0
            (tmp_path / "set" / part / name).mkdir(parents=True)
            for index in range(num + extra):
                os.link(image, tmp_path / "set" / part / name / f"{index:03d}.png")
    card = card_of("mine", reader="vtab-folder", path=str(tmp_path / "set"), image_size_px=2)
    assert (card.num_classes, card.class_names) == (3, ("a", "b", "c"))
    packed = build.packed(card, cache_dir=tmp_path / "cache")
    assert np.bincount(packed.split("train800").labels_N).tolist() == [400, 0, 400]
    assert np.bincount(packed.split("val200").labels_N).tolist() == [66, 66, 68]
    assert len(packed.split("test").labels_N) == 6
    (tmp_path / "set" / "val200" / "b" / "000.png").unlink()
    with pytest.raises(DataError, match=r"val200: 199 images in class folders"):
        READERS["vtab-folder"].scan(tmp_path / "set")
