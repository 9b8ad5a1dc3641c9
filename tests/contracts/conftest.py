"""Files in every layout that a reader knows, written by the tests with fixed bytes."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
from collections.abc import Callable, Iterable
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from bench.data.cards import imagenet

Make = Callable[[Path], Path]


def ppm(value: int, *, side: int = 4) -> bytes:
    """Return an image file whose bytes no library's version changes; whatever its name ends in."""
    pixels = np.full((side, side, 3), value % 256, dtype=np.uint8)
    pixels[0, 0] = (value // 256 % 256, value % 7 * 30, value % 5 * 50)
    return f"P6 {side} {side} 255\n".encode() + pixels.tobytes()


def write_images(root: Path, names: Iterable[str]) -> Path:
    for value, name in enumerate(names):
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(ppm(value))
    return root


def write_links(root: Path, names: Iterable[str]) -> Path:
    """Write many names of a few images: thousands of files would take seconds."""
    write_images(root / ".images", [str(value) for value in range(10)])
    for value, name in enumerate(names):
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        os.link(root / ".images" / str(value % 10), file)
    return root


def write_text(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def write_mat(file: Path, content: dict[str, Any]) -> None:
    """Write a MATLAB file without the time of writing, which stands in its head."""
    file.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    savemat(buffer, content)
    file.write_bytes(b"MATLAB 5.0 MAT-file".ljust(116) + buffer.getvalue()[116:])


# --- the user's own -------------------------------------------------------------------------


def image_folder(root: Path) -> Path:
    return write_images(root, [f"{name}/{k}.ppm" for name in "ab" for k in range(6)])


def csv(root: Path) -> Path:
    names = [f"x/{k}.ppm" for k in range(12)]
    write_images(root, names)
    rows = [f"{name},{'ab'[k % 2]}" for k, name in enumerate(names)]
    write_text(root / "list.csv", "\n".join(["path,label", *rows]))
    return root / "list.csv"


def pixels(num: int, side: int = 6) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (num, side, side, 3), dtype=np.uint8)


def arrays(root: Path) -> Path:
    root.mkdir(parents=True)
    np.savez(root / "a.npz", images=pixels(20), labels=np.arange(20) % 4)
    return root / "a.npz"


def idx(root: Path) -> Path:
    root.mkdir(parents=True)
    for stem in ("train", "t10k"):
        for kind, array in (
            ("images-idx3", pixels(12)[..., 0]),
            ("labels-idx1", np.arange(12, dtype=np.uint8) % 3),
        ):
            head = b"\0\0\x08" + bytes([array.ndim])
            sizes = struct.pack(f">{array.ndim}I", *array.shape)
            (root / f"{stem}-{kind}-ubyte").write_bytes(head + sizes + array.tobytes())
    return root


def shards(root: Path) -> Path:
    from bench.data.sources.shards import write_shard

    for split, num in (("train", 11), ("test", 4)):
        (root / split).mkdir(parents=True)
        examples = [(ppm(k), ".ppm", k % 5) for k in range(num)]
        write_shard(root / split / "0.tar", examples)
    return root


# --- encoded rows ---------------------------------------------------------------------------


def write_parquet(file: Path, values: range) -> str:
    import pyarrow
    import pyarrow.parquet

    file.parent.mkdir(parents=True, exist_ok=True)
    images, labels = [ppm(value) for value in values], [value % 2 for value in values]
    pyarrow.parquet.write_table(pyarrow.table({"image": images, "label": labels}), file)
    return sha256(file.read_bytes()).hexdigest()


def parquet(root: Path) -> Path:
    write_parquet(root / "train-0.parquet", range(10))
    return root


def huggingface(root: Path) -> Path:
    import datasets

    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])}
    )
    rows = [{"bytes": ppm(value), "path": None} for value in range(8)]
    content = {"image": rows, "label": [value % 2 for value in range(8)]}
    table = datasets.Dataset.from_dict(content, features=features)
    datasets.DatasetDict({"train": table, "test": table}).save_to_disk(str(root))
    return root


def tfds_export(root: Path) -> Path:
    parts = {"train800": range(8), "val200": range(8, 10), "test": range(20, 24)}
    splits = {
        name: {
            "selector": name,
            "files": {f"{name}.parquet": write_parquet(root / f"{name}.parquet", values)},
        }
        for name, values in parts.items()
    }
    manifest = {"format": "tfds-export 1", "dataset": "toy/1.0.0", "label": "label"}
    write_text(
        root / "manifest.json",
        json.dumps({**manifest, "class_names": ["a", "b"], "splits": splits}),
    )
    return root


# --- owners' layouts ------------------------------------------------------------------------


def cifar(root: Path) -> Path:
    root.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in (*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"):
        data = rng.integers(0, 256, (10, 3072), dtype=np.uint8)
        # NumPy 2 names its own modules otherwise than NumPy 1 does: one text for both.
        content = pickle.dumps({"data": data, "labels": list(range(10))}, protocol=2)
        (root / name).write_bytes(
            content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
        )
    names = {"label_names": [f"class {k}" for k in range(10)]}
    (root / "batches.meta").write_bytes(pickle.dumps(names, protocol=2))
    return root


def stl10(root: Path) -> Path:
    root.mkdir(parents=True)
    for split, num in (("train", 3), ("test", 2)):
        (root / f"{split}_X.bin").write_bytes(pixels(num, 96).tobytes())
        (root / f"{split}_y.bin").write_bytes(bytes([10, 1, 2][:num]))
    return root


def svhn(root: Path) -> Path:
    content = {"X": pixels(4, 32).transpose(1, 2, 3, 0), "y": np.array([[10], [1], [9], [2]])}
    for split in ("train", "test"):
        write_mat(root / f"{split}_32x32.mat", content)
    return root


def pets(root: Path) -> Path:
    lists = {"trainval": ("Bombay_1 2", "Abyssinian_1 1"), "test": ("Bombay_2 2", "Abyssinian_2 1")}
    for name, rows in lists.items():
        write_images(root / "images", [f"{row.split()[0]}.jpg" for row in rows])
        write_text(root / "annotations" / f"{name}.txt", "\n".join(f"{row} 1 1" for row in rows))
    return root


def flowers(root: Path) -> Path:
    write_images(root, [f"jpg/image_{number:05d}.jpg" for number in range(1, 7)])
    write_mat(root / "imagelabels.mat", {"labels": np.array([[2, 1, 3, 3, 1, 2]])})
    parts = {"trnid": [[3, 2]], "valid": [[6, 5]], "tstid": [[1, 4]]}
    write_mat(root / "setid.mat", {key: np.array(value) for key, value in parts.items()})
    return root


def dtd(root: Path) -> Path:
    for split in ("train", "val", "test"):
        names = [f"{name}/{split}.jpg" for name in ("woven", "banded")]
        write_images(root / "images", names)
        write_text(root / "labels" / f"{split}1.txt", "\n".join(names))
    return root


def eurosat(root: Path) -> Path:
    names = [f"2750/{name}/{name}_{k}.jpg" for name in ("River", "Forest") for k in range(1, 11)]
    return write_images(root, names)


# --- ImageNet -------------------------------------------------------------------------------


def imagenet_(root: Path) -> Path:
    names = (f"{split}/{wnid}/1.JPEG" for split in ("train", "val") for wnid in imagenet.synsets())
    return write_links(root, names)


def imagenet_real(root: Path) -> Path:
    write_images(root, [f"val/ILSVRC2012_val_{number:08d}.JPEG" for number in range(1, 5)])
    write_text(root / "real.json", json.dumps([[1, 2], [], [7], [9, 3, 999]]))
    return root


def imagenet_v2(root: Path) -> Path:
    return write_links(root, (f"{number}/1.jpeg" for number in range(1000)))


def imagenet_subset(root: Path, name: str) -> Path:
    return write_links(root, (f"{wnid}/1.jpg" for wnid in imagenet.subset_synsets(name)))


def imagenet_sketch(root: Path) -> Path:
    return write_links(root, (f"{wnid}/sketch_0.JPEG" for wnid in imagenet.synsets()))


def imagenet_c(root: Path) -> Path:
    places = (f"fog/{severity}/{wnid}/1.JPEG"
              for severity in range(1, 6) for wnid in imagenet.synsets())  # fmt: skip
    return write_links(root, places)


# --- VTAB -----------------------------------------------------------------------------------


def vtab_folder(root: Path) -> Path:
    sizes = {"train800": 400, "val200": 100, "test": 2}
    classes = ((f"{part}/{name}", num) for part, num in sizes.items() for name in "ab")
    return write_links(root, (f"{folder}/{k}.png" for folder, num in classes for k in range(num)))


def clevr(root: Path) -> Path:
    for split, num in (("train", 2000), ("val", 8)):
        names = [f"CLEVR_{split}_{k:06d}.png" for k in range(num)]
        write_links(root / "images" / split, names)
        scenes = [
            {
                "image_filename": name,
                "objects": [{"pixel_coords": [1, 2, 8.1 + k % 3]}] * (3 + k % 8),
            }
            for k, name in enumerate(names)
        ]
        write_text(root / "scenes" / f"CLEVR_{split}_scenes.json", json.dumps({"scenes": scenes}))
    return root


def kitti(root: Path) -> Path:
    num = 2000
    drives = [f"2011_09_26 2011_09_26_drive_{k // 50:04d}_sync {k:010d}" for k in range(num)]
    write_text(root / "mapping" / "train_mapping.txt", "\n".join(drives))
    write_text(root / "mapping" / "train_rand.txt", ",".join(str(k + 1) for k in range(num)))
    write_links(root / "training" / "image_2", (f"{k:06d}.png" for k in range(num)))
    for k in range(num):
        z = (5.0, 15.0, 40.0)[k % 3]
        box = f"{'Car' if k % 4 else 'Cyclist'} 0 0 0 1 1 2 2 1 1 1 0 0 {z} 0\n"
        write_text(root / "training" / "label_2" / f"{k:06d}.txt", box)
    return root


def dsprites(root: Path) -> Path:
    root.mkdir(parents=True)
    rng, num = np.random.default_rng(0), 2500
    classes = np.stack([rng.integers(0, size, num) for size in (1, 3, 6, 40, 32, 32)], axis=1)
    images = rng.integers(0, 2, (num, 5, 5), dtype=np.uint8)
    np.savez(root / "dsprites.npz", imgs=images, latents_classes=classes)
    return root / "dsprites.npz"


def smallnorb(root: Path) -> Path:
    root.mkdir(parents=True)
    rng = np.random.default_rng(0)
    stems = {
        "smallnorb-5x46789x9x18x6x2x96x96-training": 900,
        "smallnorb-5x01235x9x18x6x2x96x96-testing": 500,
    }
    for stem, num in stems.items():
        columns = [rng.integers(0, size, num) for size in (10, 9, 18, 6)]
        info = (np.stack(columns, axis=1) * (1, 1, 2, 1)).astype("<i4")
        images = rng.integers(0, 256, (num, 2, 4, 4), dtype=np.uint8)
        head = struct.pack("<5i", 0x1E3D4C54, 2, num, 4, 1)
        (root / f"{stem}-info.mat").write_bytes(head + info.tobytes())
        head = struct.pack("<6i", 0x1E3D4C55, 4, num, 2, 4, 4)
        (root / f"{stem}-dat.mat").write_bytes(head + images.tobytes())
    return root


LAYOUTS: dict[str, Make] = {
    "image_folder": image_folder, "csv": csv, "arrays": arrays, "idx": idx, "shards": shards,
    "parquet": parquet, "huggingface": huggingface, "tfds-export": tfds_export,
    "cifar": cifar, "stl10": stl10, "svhn": svhn,
    "oxford-pets": pets, "oxford-flowers": flowers, "dtd": dtd, "eurosat": eurosat,
    "imagenet": imagenet_, "imagenet-real": imagenet_real, "imagenet-v2": imagenet_v2,
    "imagenet-a": partial(imagenet_subset, name="imagenet-a"),
    "imagenet-r": partial(imagenet_subset, name="imagenet-r"),
    "imagenet-sketch": imagenet_sketch, "imagenet-c": imagenet_c,
    "vtab-folder": vtab_folder, "clevr-count": clevr, "clevr-dist": clevr, "kitti-dist": kitti,
    "dsprites-loc": dsprites, "dsprites-ori": dsprites,
    "smallnorb-azim": smallnorb, "smallnorb-elev": smallnorb,
}  # fmt: skip
"""How to write the files of each layout; the folder must not exist."""


@pytest.fixture
def layouts() -> dict[str, Make]:
    return LAYOUTS
