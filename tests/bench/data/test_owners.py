"""Published sets in their owners' own layouts, written by the tests: labels, splits, bad forms."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from bench.data import catalog
from bench.data.packs import build
from bench.data.packs.read import Packed
from bench.data.readers import binaries, owners
from bench.data.sources import arrays
from bench.errors import DataError
from bench.specs import DatasetCard


def card_of(path: Path, reader: str, **fields: object) -> DatasetCard:
    block = {"reader": reader, "path": str(path), "image_size_px": 8, **fields}
    return catalog.resolve("mine", block, base_dir=Path("/nowhere"))


def write_image(file: Path, value: int) -> None:
    """Write an image of one grey value, so that a test can tell which file it was."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((10, 12, 3), value, np.uint8)).save(file, quality=100)


def values(packed: Packed, split: str) -> list[int]:
    return [round(float(image.mean())) for image in packed.split(split).images_NHWC]


# --- Pets -----------------------------------------------------------------------------------


def write_pets(root: Path) -> Path:
    lists = {
        "trainval": [("Bombay_10", 2), ("Abyssinian_1", 1), ("american_bulldog_3", 3)],
        "test": [("american_bulldog_7", 3), ("Abyssinian_22", 1)],
    }
    for number, (name, rows) in enumerate(lists.items()):
        lines = ["#Image CLASS-ID SPECIES BREED ID"]
        for row, (stem, label) in enumerate(rows):
            write_image(root / "images" / f"{stem}.jpg", 40 * number + 10 * row + 10)
            lines.append(f"{stem} {label} 1 1")
        (root / "annotations").mkdir(exist_ok=True)
        (root / "annotations" / f"{name}.txt").write_text("\n".join(lines))
    return root


def test_pets_have_the_owners_splits_and_labels(tmp_path: Path) -> None:
    card = card_of(write_pets(tmp_path / "set"), "oxford-pets")
    assert card.class_names == ("Abyssinian", "Bombay", "american_bulldog")
    packed = build.packed(card, cache_dir=tmp_path / "cache")
    assert packed.split("train").labels_N.tolist() == [1, 0, 2]
    assert packed.split("test").labels_N.tolist() == [2, 0]
    assert values(packed, "train") == [10, 20, 30]
    assert values(packed, "test") == [50, 60]


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda root: (root / "images" / "Bombay_10.jpg").unlink(), "1 of 5 images are missing"),
        (lambda root: (root / "annotations/test.txt").unlink(), r"test\.txt: cannot be read"),
        (
            lambda root: (root / "annotations/test.txt").write_text("Bombay_10 2 1 1"),
            r"images/Bombay_10\.jpg is in train and in test",
        ),
        (
            lambda root: (root / "annotations/test.txt").write_text("../x 2 1 1"),
            r"\.\./x is not inside the folder",
        ),
        (
            lambda root: (root / "annotations/test.txt").write_text("Bombay_10 0 1"),
            r"test\.txt, line 1: not NAME CLASS",
        ),
        (
            lambda root: (root / "annotations/test.txt").write_text("Bombay_9 7 1 1"),
            "class numbers have gaps",
        ),
        (lambda root: (root / "annotations/test.txt").write_text("#"), "no images in test"),
    ],
)
def test_bad_pets(tmp_path: Path, spoil: Callable[[Path], object], told: str) -> None:
    root = write_pets(tmp_path)
    spoil(root)
    with pytest.raises(DataError, match=told):
        card_of(root, "oxford-pets")


# --- Flowers --------------------------------------------------------------------------------


def write_flowers(root: Path, *, test: tuple[int, ...] = (1, 4)) -> Path:
    root.mkdir(parents=True)
    for number in range(1, 7):
        write_image(root / "jpg" / f"image_{number:05d}.jpg", 10 * number)
    savemat(root / "imagelabels.mat", {"labels": np.array([[2, 1, 3, 3, 1, 2]])})
    parts = {"trnid": [[3, 2]], "valid": [[6, 5]], "tstid": [list(test)]}
    savemat(root / "setid.mat", {key: np.array(value) for key, value in parts.items()})
    return root


def test_flowers_train_on_trnid_and_valid(tmp_path: Path) -> None:
    card = card_of(write_flowers(tmp_path / "set"), "oxford-flowers")
    packed = build.packed(card, cache_dir=tmp_path / "cache")
    assert packed.split("train").labels_N.tolist() == [2, 0, 1, 0]
    assert values(packed, "train") == [30, 20, 60, 50]
    assert packed.split("test").labels_N.tolist() == [1, 2]
    assert values(packed, "test") == [10, 40]


def test_bad_flowers(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"set: jpg/image_00003\.jpg is in train and in test"):
        card_of(write_flowers(tmp_path / "set", test=(3, 4)), "oxford-flowers")
    with pytest.raises(DataError, match=r"setid\.mat: image 7, but imagelabels\.mat has 6"):
        card_of(write_flowers(tmp_path / "more", test=(7,)), "oxford-flowers")
    root = write_flowers(tmp_path / "third")
    (root / "imagelabels.mat").write_bytes(b"MATLAB 5.0" * 30)
    with pytest.raises(
        DataError, match=r"imagelabels\.mat: not a MATLAB file .*Get the file again"
    ):
        card_of(root, "oxford-flowers")
    savemat(root / "imagelabels.mat", {"other": np.zeros(3)})
    with pytest.raises(DataError, match=r"imagelabels\.mat: no array labels"):
        card_of(root, "oxford-flowers")


# --- DTD and EuroSAT ------------------------------------------------------------------------


def test_dtd_has_the_first_of_ten_splits(tmp_path: Path) -> None:
    root, value = tmp_path / "set", 0
    for split in ("train", "val", "test"):
        lines = []
        for name in ("woven", "banded"):
            value += 10
            write_image(root / "images" / name / f"{split}.jpg", value)
            lines.append(f"{name}/{split}.jpg")
        (root / "labels").mkdir(exist_ok=True)
        (root / "labels" / f"{split}1.txt").write_text("\n".join(lines))
    card = card_of(root, "dtd")
    assert card.class_names == ("banded", "woven")
    packed = build.packed(card, cache_dir=tmp_path / "cache")
    assert [values(packed, split) for split in ("train", "val", "test")] == [[10, 20], [30, 40], [50, 60]]  # fmt: skip  # noqa: E501
    assert packed.split("test").labels_N.tolist() == [1, 0]
    (root / "labels" / "test1.txt").write_text("dotted/test.jpg")
    with pytest.raises(DataError, match=r"dotted/test\.jpg is not CLASS/NAME of a class of train"):
        card_of(root, "dtd")


def test_eurosats_last_fifth_by_number_is_test(tmp_path: Path) -> None:
    for name in ("River", "Forest"):
        for number in range(1, 11):
            write_image(tmp_path / "set" / "2750" / name / f"{name}_{number}.jpg", 10 * number)
    folder = owners.scan_eurosat(tmp_path / "set")
    assert folder.class_names == ("Forest", "River")
    assert [path for path, _ in folder.splits["test"]] == [
        f"2750/{name}/{name}_{number}.jpg" for name in ("Forest", "River") for number in (9, 10)
    ]
    assert len(folder.splits["train"]) == 16


# --- STL-10 ---------------------------------------------------------------------------------


def write_stl10(root: Path) -> np.ndarray:
    """Write the binaries: images column by column, channel by channel; labels from 1."""
    root.mkdir(parents=True)
    images_NHWC = np.random.default_rng(0).integers(0, 256, (5, 96, 96, 3), dtype=np.uint8)
    for split, rows in (("train", slice(0, 3)), ("test", slice(3, 5))):
        (root / f"{split}_X.bin").write_bytes(images_NHWC[rows].transpose(0, 3, 2, 1).tobytes())
    (root / "train_y.bin").write_bytes(bytes([10, 1, 2]))
    (root / "test_y.bin").write_bytes(bytes([2, 10]))
    (root / "class_names.txt").write_text("\n".join("abcdefghij"))
    return images_NHWC


def test_stl10s_binaries(tmp_path: Path) -> None:
    images_NHWC = write_stl10(tmp_path / "set")
    card = card_of(tmp_path / "set", "stl10", image_size_px=None)
    assert card.class_names == tuple("abcdefghij")
    assert card.squared_px is None
    packed = build.packed(card, cache_dir=tmp_path / "cache")
    assert np.array_equal(packed.split("train").images_NHWC, images_NHWC[:3])
    assert packed.split("train").labels_N.tolist() == [9, 0, 1]
    assert np.array_equal(packed.split("test").images_NHWC, images_NHWC[3:])


def test_bad_stl10(tmp_path: Path) -> None:
    write_stl10(tmp_path / "set")
    file = tmp_path / "set" / "test_X.bin"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"test_X\.bin: 55,295 bytes for 2 labels, not 27,648 each"):
        card_of(tmp_path / "set", "stl10")
    file.write_bytes(b"")
    with pytest.raises(DataError, match=r"test_X\.bin: empty"):
        card_of(tmp_path / "set", "stl10")
    file.unlink()
    with pytest.raises(DataError, match=r"test_X\.bin: cannot be read"):
        card_of(tmp_path / "set", "stl10")


# --- SVHN -----------------------------------------------------------------------------------


def test_svhns_ten_is_the_digit_zero(tmp_path: Path) -> None:
    images_NHWC = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    (tmp_path / "set").mkdir()
    for split in ("train", "test"):
        content = {"X": images_NHWC.transpose(1, 2, 3, 0), "y": np.array([[10], [1], [9], [2]])}
        savemat(tmp_path / "set" / f"{split}_32x32.mat", content)
    card = card_of(tmp_path / "set", "svhn", image_size_px=32)
    packed = build.packed(card, cache_dir=tmp_path / "cache")
    assert packed.split("test").labels_N.tolist() == [0, 1, 9, 2]
    assert np.array_equal(packed.split("test").images_NHWC, images_NHWC)
    savemat(tmp_path / "set" / "test_32x32.mat", {"X": images_NHWC, "y": np.ones((4, 1))})
    with pytest.raises(DataError, match=r"test_32x32\.mat: X is uint8 of shape \(4, 32, 32, 3\)"):
        binaries.read_svhn(tmp_path / "set")
    content["y"] = np.ones((5, 1))
    savemat(tmp_path / "set" / "test_32x32.mat", content)
    with pytest.raises(DataError, match=r"test_32x32\.mat: 5 labels for 4 images"):
        binaries.read_svhn(tmp_path / "set")
    shutil.rmtree(tmp_path / "set")
    with pytest.raises(DataError, match="no such file or folder"):
        arrays.read(binaries.read_svhn, tmp_path / "set", test_share=0.2, seed=0)
