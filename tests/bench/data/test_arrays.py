"""Arrays from files: idx, CIFAR's pickles read without unpickling, .npz, and their bad forms."""

from __future__ import annotations

import gzip
import os
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bench.data import catalog
from bench.data.packs import build
from bench.data.readers import READERS, cifar
from bench.data.sources import arrays
from bench.errors import DataError
from bench.specs import DatasetCard


def card_of(path: Path, reader: str, *, name: str = "mine", **fields: object) -> DatasetCard:
    block = {"reader": reader, "path": str(path), **fields}
    return catalog.resolve(name, block, base_dir=Path("/nowhere"))


def read(path: Path, reader: str) -> arrays.ArraySet:
    return arrays.read(READERS[reader].read, path, test_share=0.2, seed=0)


def counts(card: DatasetCard) -> dict[str, int]:
    return {split: part.num_examples for split, part in card.splits.items()}


# --- idx ------------------------------------------------------------------------------------


def idx(array: np.ndarray) -> bytes:
    header = b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(np.uint8).tobytes()


def write_idx(folder: Path, *, num: int = 12, packed: bool = True) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for stem in ("train", "t10k"):
        images, labels = rng.integers(0, 256, (num, 7, 7)), np.arange(num) % 3
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            content = idx(array)
            name = f"{stem}-{kind}-ubyte{'.gz' if packed else ''}"
            (folder / name).write_bytes(gzip.compress(content) if packed else content)
    return folder


def test_real_mnist_has_the_counts_and_labels_of_its_owner(shared_data: Path) -> None:
    path = shared_data / "mnist" / "MNIST" / "raw"
    card = card_of(path, "idx")
    assert counts(card) == {"train": 10_000, "test": 10_000}
    assert card.num_classes == 10
    assert READERS["idx"].open(card).size_px("train") == (28, 28)
    found = read(path, "idx")
    assert found.splits["test"].labels_N[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert found.splits["train"].labels_N[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    # Nearest class mean, as measured on these files by others.
    train, test = found.splits["train"], found.splits["test"]
    x, y = train.images().reshape(-1, 784).astype(float), train.labels_N
    means = np.stack([x[y == k].mean(axis=0) for k in range(10)])
    asked = test.images().reshape(-1, 784).astype(float)
    distance = (means**2).sum(axis=1) - 2 * asked @ means.T
    assert (distance.argmin(axis=1) == test.labels_N).mean() == pytest.approx(0.81, abs=0.005)


def test_idx_packs_to_grey_rgb(tmp_path: Path) -> None:
    write_idx(tmp_path / "set")
    packed = build.packed(card_of(tmp_path / "set", "idx"), cache_dir=tmp_path / "cache")
    split = packed.split("test")
    assert split.images_NHWC.shape == (12, 7, 7, 3)
    source = read(tmp_path / "set", "idx").splits["test"]
    assert np.array_equal(split.images_NHWC[..., 2], source.images())
    assert split.labels_N.tolist() == source.labels_N.tolist()
    larger = card_of(tmp_path / "set", "idx", image_size_px=14)
    again = build.packed(larger, cache_dir=tmp_path / "cache").split("train")
    assert again.images_NHWC.shape == (12, 14, 14, 3)
    assert larger.digest != packed.digest


def test_unpacked_idx_reads_alike(tmp_path: Path) -> None:
    one = read(write_idx(tmp_path / "gz"), "idx").splits["train"]
    two = read(write_idx(tmp_path / "raw", packed=False), "idx").splits["train"]
    assert np.array_equal(one.images(), two.images())


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda f: (f / "train-labels-idx1-ubyte").unlink(), "there is no train-labels-idx1-ubyte"),
        (lambda f: os.truncate(f / "train-images-idx3-ubyte", 100), "100 bytes, but its header"),
        (lambda f: os.truncate(f / "train-images-idx3-ubyte", 6), "ends within its header"),
        (lambda f: (f / "train-images-idx3-ubyte").write_bytes(b"GIF89a"), "not an idx file"),
        (
            lambda f: (f / "train-labels-idx1-ubyte").write_bytes(idx(np.zeros(5))),
            "5 labels for 12 images",
        ),
        (
            lambda f: (f / "t10k-labels-idx1-ubyte").write_bytes(idx(np.full(12, 9))),
            "labels from 9 to 9, but there are 3 classes",
        ),
        (
            lambda f: (f / "train-images-idx3-ubyte").write_bytes(
                b"\0\0\x08\x03" + struct.pack(">3I", 2**32 - 1, 2**32 - 1, 2**32 - 1)
            ),
            "but its header asks for",
        ),
    ],
    ids=["missing", "short", "header", "other", "counts", "labels", "huge"],
)
def test_bad_idx_files(tmp_path: Path, damage: Callable[[Path], object], told: str) -> None:
    folder = write_idx(tmp_path / "set", packed=False)
    damage(folder)
    with pytest.raises(DataError, match=told):
        card_of(folder, "idx")


def test_a_damaged_gzip_file(tmp_path: Path) -> None:
    folder = write_idx(tmp_path / "set")
    file = folder / "train-images-idx3-ubyte.gz"
    whole = file.read_bytes()
    for content in (whole[: len(whole) // 2], b"\0" * 40, whole[:-12] + b"\1" * 12):
        file.write_bytes(content)
        with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz: "):
            card_of(folder, "idx")


# --- CIFAR ----------------------------------------------------------------------------------


def test_real_cifar_batches_have_their_counts_and_label_order(shared_data: Path) -> None:
    path = shared_data / "cifar10" / "cifar-10-batches-py"
    card = card_of(path, "cifar")
    assert counts(card) == {"train": 5085, "test": 1017}
    assert card.class_names[:3] == ("airplane", "automobile", "bird")
    assert card.num_classes == 10
    assert READERS["cifar"].open(card).size_px("test") == (32, 32)
    found = read(path, "cifar")
    assert found.splits["test"].labels_N[:10].tolist() == [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]
    assert found.splits["train"].labels_N[:10].tolist() == [6, 9, 9, 4, 1, 1, 2, 7, 8, 3]
    mean = found.splits["train"].images().mean(axis=(0, 1, 2)) / 255
    assert mean == pytest.approx([0.4936, 0.4846, 0.4483], abs=1e-4)


def test_real_cifar_pixels_are_those_of_plain_unpickling(shared_data: Path) -> None:
    """The one place where a pickle is loaded: a file whose digest the shared data pin."""
    file = shared_data / "cifar10" / "cifar-10-batches-py" / "test_batch"
    with open(file, "rb") as opened:
        batch = pickle.load(opened, encoding="bytes")
    images, labels = cifar.batch(file, "labels")
    assert np.array_equal(images, batch[b"data"].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
    assert labels.tolist() == batch[b"labels"]


def test_a_part_of_cifar_may_not_call_itself_cifar10(shared_data: Path) -> None:
    path = shared_data / "cifar10" / "cifar-10-batches-py"
    with pytest.raises(
        DataError,
        match=r"dataset\.cifar10: .* 5,085 train, 1,017 test, but CIFAR-10 has .* 50,000 train",
    ):
        card_of(path, "cifar", name="cifar10")


class Evil:
    """Writes a canary when a careless reader unpickles it."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, ...]:
        return (os.system, (f"touch {self.canary}",))


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_hostile_pickle_is_refused_and_not_executed(tmp_path: Path, protocol: int) -> None:
    canary = tmp_path / "canary"
    content = pickle.dumps({"labels": [0], "data": Evil(canary)}, protocol=protocol)
    (tmp_path / "batches.meta").write_bytes(content)
    with pytest.raises(DataError, match=r"batches\.meta: not a CIFAR python batch .*asks for"):
        card_of(tmp_path, "cifar")
    assert not canary.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"garbage",
        pickle.dumps([1, 2], protocol=2),
        b"cnumpy\ndtype\n(dVx\nVy\nstb.",  # sets attributes on a stand-in
        b"c_codecs\nencode\n(NdVx\nVy\nsbtb.",
        b"cbuiltins\neval\n(Vopen('x')\ntR.",
    ],
)
def test_garbage_is_no_batch(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "batches.meta").write_bytes(content)
    with pytest.raises(DataError, match=r"batches\.meta: not a CIFAR python batch"):
        card_of(tmp_path, "cifar")


def test_cifar_100_fine_labels(tmp_path: Path) -> None:
    def write(name: str, content: dict[str, object]) -> None:
        (tmp_path / name).write_bytes(pickle.dumps(content, protocol=2))

    rng = np.random.default_rng(0)
    write("meta", {"fine_label_names": [f"c{k}" for k in range(100)]})
    for name in ("train", "test"):
        data = rng.integers(0, 256, (100, 3072), dtype=np.uint8)
        write(name, {"data": data, "fine_labels": list(range(100)), "coarse_labels": [0] * 100})
    card = card_of(tmp_path, "cifar")
    assert (card.num_classes, counts(card)) == (100, {"train": 100, "test": 100})
    write("test", {"data": np.zeros((5, 3072), np.uint8), "fine_labels": [0, 1]})
    with pytest.raises(DataError, match=r"test: 2 labels for images of shape \(5, 3072\)"):
        card_of(tmp_path, "cifar")


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ([0, 2**70], "labels are not whole numbers from 0"),
        ([0, -1], "labels are not whole numbers from 0"),
        (["a", "b"], "labels are not whole numbers from 0"),
        ("ab", "no data and fine_labels"),
        ([0, 1, 0], r"3 labels for images of shape \(2, 3072\)"),
    ],
)
def test_batches_with_impossible_labels(tmp_path: Path, labels: object, told: str) -> None:
    data = np.zeros((2, 3072), np.uint8)
    for name, content in (
        ("meta", {"fine_label_names": 7}),
        ("train", {"data": data, "fine_labels": labels}),
        ("test", {"data": data, "fine_labels": [0, 1]}),
    ):
        (tmp_path / name).write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(DataError, match=told):
        card_of(tmp_path, "cifar")


def test_a_missing_batch_and_another_folder(shared_data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"neither batches\.meta .* nor meta"):
        card_of(tmp_path, "cifar")
    shutil.copy(shared_data / "cifar10" / "cifar-10-batches-py" / "batches.meta", tmp_path)
    with pytest.raises(DataError, match="data_batch_1: missing"):
        card_of(tmp_path, "cifar")


# --- .npz -----------------------------------------------------------------------------------


def npz(path: Path, **content: np.ndarray) -> Path:
    np.savez(path, **content)
    return path


IMAGES = np.random.default_rng(0).integers(0, 256, (20, 6, 6, 3), dtype=np.uint8)
LABELS = np.arange(20) % 4


@pytest.mark.parametrize(
    ("images", "shape"),
    [(IMAGES, (6, 6, 3)), (IMAGES[..., 0], (6, 6, 3)), (IMAGES[..., :1], (6, 6, 3))],
)
def test_arrays_of_a_file_become_splits(
    tmp_path: Path, images: np.ndarray, shape: tuple[int, ...]
) -> None:
    path = npz(
        tmp_path / "a.npz", x_train=images, y_train=LABELS[:, None], x_test=images, y_test=LABELS
    )
    packed = build.packed(card_of(path, "arrays"), cache_dir=tmp_path / "cache")
    split = packed.split("test")
    assert split.images_NHWC.shape == (20, *shape)
    assert split.labels_N.tolist() == LABELS.tolist()


def test_arrays_without_a_test_split_are_split(tmp_path: Path) -> None:
    path = npz(tmp_path / "a.npz", images=IMAGES, labels=LABELS)
    card = card_of(path, "arrays", test_share=0.4)
    assert counts(card) == {"train": 12, "test": 8}
    assert card.digest != card_of(path, "arrays", test_share=0.4, seed=1).digest
    packed = build.packed(card, cache_dir=tmp_path / "cache")
    both = np.concatenate([packed.split(s).images_NHWC for s in ("train", "test")])
    assert np.array_equal(np.sort(both.reshape(20, -1), axis=0), np.sort(IMAGES.reshape(20, -1), 0))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"images": IMAGES}, "images, but no labels"),
        ({"images": IMAGES.astype(np.float32), "labels": LABELS}, "images is float32"),
        ({"images": IMAGES[..., :2], "labels": LABELS}, r"of shape \(20, 6, 6, 2\)"),
        ({"images": IMAGES, "labels": LABELS[:4]}, "4 labels for 20 images"),
        ({"images": IMAGES, "labels": LABELS / 2}, "labels must be whole numbers"),
        ({"images": IMAGES, "labels": LABELS - 1}, "labels from -1 to 2"),
        ({"images": IMAGES, "labels": LABELS * 0}, "holds only one class"),
        ({"images": IMAGES[:0], "labels": LABELS[:0]}, "no images"),
        ({"images": np.array([None] * 20), "labels": LABELS}, "not an .npz file of plain arrays"),
    ],
    ids=[
        "labels missing",
        "float",
        "channels",
        "counts",
        "halves",
        "negative",
        "one class",
        "none",
        "object",
    ],
)
def test_bad_arrays(tmp_path: Path, content: dict[str, np.ndarray], told: str) -> None:
    with pytest.raises(DataError, match=told):
        card_of(npz(tmp_path / "a.npz", **content), "arrays")


@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04broken"])
def test_files_that_are_no_npz(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.npz: not an \.npz file"):
        card_of(tmp_path / "a.npz", "arrays")


def test_a_single_array_and_a_missing_file(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", IMAGES)
    with pytest.raises(DataError, match="a single array"):
        card_of(tmp_path / "a.npy", "arrays")
    with pytest.raises(DataError, match="no such file or folder"):
        card_of(tmp_path / "none.npz", "arrays")
