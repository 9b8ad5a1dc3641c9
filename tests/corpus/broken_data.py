"""Data sets that are broken, each in one way; the name of a function says in which.

Each is given a folder that does not exist, and returns what stands in `[dataset.mine]` for it. The
layouts are those that the contracts of readers write (`tests/contracts/conftest.py`).
"""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import shutil
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
from PIL import Image
from scipy.io import savemat

from tests.contracts.conftest import LAYOUTS

Block = dict[str, Any]
Build = Callable[[Path], Block]

BROKEN: dict[str, Build] = {}
"""Every broken data set, by what is broken."""


def broken(build: Build) -> Build:
    """Add a data set to the corpus under the name of its function, in words."""
    BROKEN[build.__name__.replace("_", " ")] = build
    return build


# --- pictures -------------------------------------------------------------------------------


def picture(seed: int, *, side: int = 12) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8))


def encoded(seed: int, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    picture(seed).save(buffer, kind)
    return buffer.getvalue()


def write(file: Path, content: bytes | str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


def pictures(root: Path, *names: str, num: int = 4, seed: int = 0) -> Path:
    """Write `num` pictures into each folder; none is like another."""
    for place, name in enumerate(names or ("cat", "dog")):
        for k in range(num):
            write(root / name / f"{k}.png", encoded(seed + 100 * place + k))
    return root


def split(root: Path) -> Path:
    """Write train/ and test/ of two classes."""
    return pictures(root, "train/cat", "train/dog", "test/cat", "test/dog")


def folder(root: Path, **keys: Any) -> Block:
    return {"reader": "image_folder", "path": str(root), **keys}


def layout(reader: str, root: Path) -> Block:
    return {"reader": reader, "path": str(LAYOUTS[reader](root))}


def cut(file: Path, share: float = 0.5) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])


# --- folders --------------------------------------------------------------------------------


@broken
def no_folder(root: Path) -> Block:
    return folder(root)


@broken
def an_empty_folder(root: Path) -> Block:
    root.mkdir()
    return folder(root)


@broken
def a_file_for_a_folder(root: Path) -> Block:
    return folder(write(root, encoded(0)))


@broken
def a_zip_for_a_folder(root: Path) -> Block:
    file = root.with_suffix(".zip")
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("cat/0.png", encoded(0))
    return folder(file)


@broken
def a_name_too_long(root: Path) -> Block:
    return folder(root / ("x" * 300))


@broken
def a_user_that_is_not_there(root: Path) -> Block:
    return folder(Path("~nobody-of-this-name/pictures"))


@broken
def pictures_without_classes(root: Path) -> Block:
    return folder(pictures(root, "."))


@broken
def one_class(root: Path) -> Block:
    return folder(pictures(root, "cat"))


@broken
def a_class_without_pictures(root: Path) -> Block:
    (pictures(root) / "emu").mkdir()
    return folder(root)


@broken
def a_class_of_one_picture(root: Path) -> Block:
    write(pictures(root) / "emu" / "0.png", encoded(1000))
    return folder(root)


@broken
def a_class_of_text(root: Path) -> Block:
    write(pictures(root) / "emu" / "notes.txt", "no picture")
    return folder(root)


@broken
def an_empty_train(root: Path) -> Block:
    shutil.rmtree(split(root) / "train")
    (root / "train").mkdir()
    return folder(root)


@broken
def an_empty_test(root: Path) -> Block:
    shutil.rmtree(split(root) / "test")
    (root / "test").mkdir()
    return folder(root)


@broken
def test_alone(root: Path) -> Block:
    return folder(pictures(root, "test/cat", "test/dog"))


@broken
def train_twice(root: Path) -> Block:
    return folder(pictures(root, "train/cat", "train/dog", "Training/cat", "Training/dog"))


@broken
def a_train_of_one_class(root: Path) -> Block:
    return folder(pictures(root, "train/cat", "test/cat"))


@broken
def a_class_missing_from_test(root: Path) -> Block:
    return folder(pictures(root, "train/cat", "train/dog", "test/cat"))


@broken
def a_class_missing_from_train(root: Path) -> Block:
    return folder(pictures(root, "train/cat", "train/dog", "test/cat", "test/emu"))


@broken
def a_class_in_another_case(root: Path) -> Block:
    return folder(pictures(root, "train/cat", "train/dog", "test/Cat", "test/dog"))


@broken
def splits_within_a_class(root: Path) -> Block:
    return folder(pictures(root, "cat/train", "cat/test", "dog/train", "dog/test"))


@broken
def train_misspelled(root: Path) -> Block:
    return folder(pictures(root, "traning/cat", "traning/dog", "test/cat", "test/dog"))


@broken
def test_misspelled(root: Path) -> Block:
    return folder(pictures(root, "train/cat", "train/dog", "tset/cat", "tset/dog"))


@broken
def pictures_a_folder_too_high(root: Path) -> Block:
    return folder(pictures(root, "photos/cat", "photos/dog"))


@broken
def a_wrong_number_of_classes(root: Path) -> Block:
    return folder(pictures(root), num_classes=3)


@broken
def the_name_of_a_published_set(root: Path) -> Block:
    return {**folder(split(root)), "name": "cifar10"}


@broken
def a_part_of_no_published_set(root: Path) -> Block:
    return folder(pictures(root), part=True)


@broken
def a_link_that_leads_nowhere(root: Path) -> Block:
    (pictures(root) / "cat" / "9.png").symlink_to(root / "gone.png")
    return folder(root)


@broken
def a_class_that_links_to_itself(root: Path) -> Block:
    (pictures(root) / "emu").symlink_to(root / "emu")
    return folder(root)


@broken
def a_link_back_to_the_top(root: Path) -> Block:
    (pictures(root) / "emu").symlink_to(root)
    return folder(root)


@broken
def a_folder_called_like_a_picture(root: Path) -> Block:
    (pictures(root) / "cat" / "9.png").mkdir()
    write(root / "emu" / "0.png" / "notes.txt", "no picture")
    return folder(root)


@broken
def a_pipe_called_like_a_picture(root: Path) -> Block:
    os.mkfifo(pictures(root) / "cat" / "9.png")
    return folder(root)


@broken
def a_name_that_is_not_utf8(root: Path) -> Block:
    name = os.fsencode(pictures(root) / "cat") + b"/\xff.png"
    Path(os.fsdecode(name)).write_bytes(encoded(9))
    return folder(root)


@broken
def a_class_name_that_is_not_utf8(root: Path) -> Block:
    name = os.fsdecode(os.fsencode(pictures(root)) + b"/\xff")
    pictures(Path(name), ".", seed=500)
    return folder(root)


@broken
def a_damaged_picture_with_a_line_break(root: Path) -> Block:
    write(pictures(root) / "cat" / "a\nb.png", "no picture")
    return folder(root)


@broken
def a_damaged_picture_with_a_control_character(root: Path) -> Block:
    write(pictures(root) / "cat" / "\x1b[31mred\x07.png", "no picture")
    return folder(root)


@broken
def a_damaged_picture_with_a_change_of_direction(root: Path) -> Block:
    write(pictures(root) / "cat" / "a\u202egnp.b.png", "no picture")
    return folder(root)


@broken
def an_empty_class_with_a_control_character(root: Path) -> Block:
    (pictures(root) / "e\x1b[2Jmu").mkdir()
    return folder(root)


# --- pictures that are none -----------------------------------------------------------------


@broken
def text_called_jpg(root: Path) -> Block:
    write(pictures(root) / "dog" / "9.jpg", "this is not a picture")
    return folder(root)


@broken
def an_empty_file(root: Path) -> Block:
    write(pictures(root) / "dog" / "9.png", b"")
    return folder(root)


@broken
def a_page_called_jpg(root: Path) -> Block:
    write(pictures(root) / "dog" / "9.jpg", "<!DOCTYPE html><title>404 Not Found</title>")
    return folder(root)


@broken
def a_pointer_for_a_picture(root: Path) -> Block:
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 12345\n"
    write(pictures(root) / "dog" / "9.jpg", pointer)
    return folder(root)


@broken
def a_jpeg_cut_short(root: Path) -> Block:
    cut(write(pictures(root) / "dog" / "9.jpg", encoded(9, "JPEG")), 0.9)
    return folder(root)


@broken
def a_png_cut_short(root: Path) -> Block:
    cut(root / "dog" / "1.png") if pictures(root) else None
    return folder(root)


@broken
def a_png_with_a_wrong_checksum(root: Path) -> Block:
    file = pictures(root) / "dog" / "1.png"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 255
    file.write_bytes(content)
    return folder(root)


@broken
def a_bomb(root: Path) -> Block:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(
            ">I", zlib.crc32(kind + content)
        )  # fmt: skip

    head = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"0"))
    write(pictures(root) / "dog" / "9.png", content + chunk(b"IEND", b""))
    return folder(root)


@broken
def one_colour(root: Path) -> Block:
    Image.new("RGB", (12, 12), "red").save(pictures(root) / "dog" / "9.png")
    return folder(root)


@broken
def a_single_pixel(root: Path) -> Block:
    picture(9, side=1).save(pictures(root) / "dog" / "9.png")
    return folder(root)


@broken
def all_pictures_damaged_and_skipped(root: Path) -> Block:
    for file in (pictures(root) / "dog").iterdir():
        file.write_bytes(b"")
    return folder(root, skip_damaged=True)


# --- copies ---------------------------------------------------------------------------------


@broken
def a_copy_within_a_class(root: Path) -> Block:
    shutil.copy(split(root) / "train/cat/0.png", root / "train/cat/9.png")
    return folder(root)


@broken
def a_picture_in_two_classes(root: Path) -> Block:
    shutil.copy(split(root) / "train/cat/0.png", root / "train/dog/9.png")
    return folder(root)


@broken
def test_pictures_in_train(root: Path) -> Block:
    shutil.copy(split(root) / "train/cat/0.png", root / "test/cat/9.png")
    return folder(root)


@broken
def a_test_picture_in_train_under_another_label(root: Path) -> Block:
    shutil.copy(split(root) / "train/cat/0.png", root / "test/dog/9.png")
    return folder(root)


@broken
def a_test_that_links_to_train(root: Path) -> Block:
    shutil.rmtree(split(root) / "test")
    (root / "test").symlink_to(root / "train")
    return folder(root)


@broken
def a_test_picture_saved_in_another_format(root: Path) -> Block:
    Image.open(split(root) / "train/cat/0.png").save(root / "test/cat/9.bmp")
    return folder(root)


# --- lists ----------------------------------------------------------------------------------


def listed(root: Path, text: str | bytes) -> Block:
    """Return a list of the pictures cat/0.png to dog/3.png."""
    pictures(root)
    return {"reader": "csv", "path": str(write(root / "list.csv", text))}


ROWS = "".join(f"{name}/{k}.png,{name}\n" for name in ("cat", "dog") for k in range(4))


@broken
def no_list(root: Path) -> Block:
    return {"reader": "csv", "path": str(root / "list.csv")}


@broken
def a_folder_for_a_list(root: Path) -> Block:
    return {"reader": "csv", "path": str(pictures(root))}


@broken
def an_empty_list(root: Path) -> Block:
    return listed(root, "")


@broken
def a_list_of_no_rows(root: Path) -> Block:
    return listed(root, "path,label\n")


@broken
def a_list_without_a_header(root: Path) -> Block:
    return listed(root, ROWS)


@broken
def a_list_without_labels(root: Path) -> Block:
    return listed(root, "path,class\n" + ROWS)


@broken
def a_list_with_semicolons(root: Path) -> Block:
    return listed(root, "path,label\n".replace(",", ";") + ROWS.replace(",", ";"))


@broken
def a_list_in_utf16(root: Path) -> Block:
    return listed(root, f"path,label\n{ROWS}".encode("utf-16"))


@broken
def a_list_in_latin1(root: Path) -> Block:
    return listed(root, f"path,label\n{ROWS}dog/3.png,H\xfcnd\n".encode("latin-1"))


@broken
def a_list_with_a_nul(root: Path) -> Block:
    return listed(root, f"path,label\n{ROWS}dog/\0.png,dog\n")


@broken
def a_list_with_a_missing_picture(root: Path) -> Block:
    return listed(root, f"path,label\n{ROWS}dog/9.png,dog\n")


@broken
def a_list_with_a_row_twice(root: Path) -> Block:
    return listed(root, f"path,label\n{ROWS}cat/0.png,cat\n")


@broken
def a_list_with_a_picture_under_two_spellings(root: Path) -> Block:
    return listed(root, f"path,label\n{ROWS}./cat/0.png,dog\n")


@broken
def a_list_with_an_empty_label(root: Path) -> Block:
    return listed(root, f"path,label\n{ROWS}cat/0.png,\n")


@broken
def a_list_with_a_column_too_many(root: Path) -> Block:
    return listed(root, f"path,label\n{ROWS.replace('dog/3.png,dog', 'dog/3.png,dog,wet')}")


@broken
def a_list_with_an_unknown_split(root: Path) -> Block:
    return listed(root, "path,label,split\ncat/0.png,cat,train\ndog/0.png,dog,tset\n")


@broken
def a_list_without_train(root: Path) -> Block:
    return listed(root, "path,label,split\ncat/0.png,cat,test\ndog/0.png,dog,test\n")


@broken
def a_list_with_a_test_label_that_train_lacks(root: Path) -> Block:
    rows = "cat/0.png,cat,train\ndog/0.png,dog,train\ndog/1.png,emu,test\n"
    return listed(root, "path,label,split\n" + rows)


@broken
def a_list_that_leads_outside(root: Path) -> Block:
    write(root.parent / "outside.png", encoded(9))
    return listed(root, f"path,label\n{ROWS}../outside.png,cat\n")


@broken
def a_list_with_an_absolute_path(root: Path) -> Block:
    return listed(root, f"path,label\n{ROWS}/etc/passwd,cat\n")


@broken
def a_list_of_one_class(root: Path) -> Block:
    return listed(root, "path,label\ncat/0.png,cat\ncat/1.png,cat\n")


@broken
def a_list_that_names_a_folder(root: Path) -> Block:
    return listed(root, f"path,label\n{ROWS}cat,cat\n")


@broken
def a_list_with_a_cell_that_is_too_long(root: Path) -> Block:
    return listed(root, f'path,label\n{ROWS}"{"x" * 200_000}",cat\n')


# --- arrays ---------------------------------------------------------------------------------


def arrays(root: Path, **arrays: Any) -> Block:
    """Return an .npz of 12 images of 3 classes with some arrays in place of its own."""
    rng = np.random.default_rng(0)
    content = {
        "train_images": rng.integers(0, 256, (12, 6, 6, 3), dtype=np.uint8),
        "train_labels": np.arange(12) % 3,
        "test_images": rng.integers(0, 256, (6, 6, 6, 3), dtype=np.uint8),
        "test_labels": np.arange(6) % 3,
    }
    root.mkdir()
    np.savez(root / "set.npz", **{**content, **arrays})
    return {"reader": "arrays", "path": str(root / "set.npz")}


@broken
def arrays_of_floats(root: Path) -> Block:
    return arrays(root, train_images=np.full((12, 6, 6, 3), np.nan, dtype=np.float32))


@broken
def arrays_with_channels_first(root: Path) -> Block:
    return arrays(root, train_images=np.zeros((12, 3, 6, 6), dtype=np.uint8))


@broken
def arrays_of_objects(root: Path) -> Block:
    return arrays(root, train_images=np.array([{"a": 1}], dtype=object))


@broken
def arrays_with_labels_of_floats(root: Path) -> Block:
    return arrays(root, train_labels=np.array([np.nan] * 12))


@broken
def arrays_with_one_hot_labels(root: Path) -> Block:
    return arrays(root, train_labels=np.eye(12, dtype=np.int64))


@broken
def arrays_with_a_label_below_zero(root: Path) -> Block:
    return arrays(root, train_labels=np.arange(12) % 3 - 1)


@broken
def arrays_with_a_test_label_that_train_lacks(root: Path) -> Block:
    return arrays(root, test_labels=np.arange(6))


@broken
def arrays_with_labels_beyond_int64(root: Path) -> Block:
    return arrays(root, train_labels=np.full(12, 2**64 - 1, dtype=np.uint64))


@broken
def arrays_with_a_gap_in_the_labels(root: Path) -> Block:
    return arrays(root, train_labels=np.arange(12) % 3 * 5)


@broken
def arrays_with_a_label_of_a_billion(root: Path) -> Block:
    return arrays(root, train_labels=np.where(np.arange(12) == 3, 10**9, np.arange(12) % 3))


@broken
def arrays_of_several_lengths(root: Path) -> Block:
    return arrays(root, train_labels=np.arange(11) % 3)


@broken
def arrays_of_no_images(root: Path) -> Block:
    images, labels = np.zeros((0, 6, 6, 3), dtype=np.uint8), np.zeros(0, dtype=np.int64)
    return arrays(root, train_images=images, train_labels=labels)


@broken
def arrays_of_no_pixels(root: Path) -> Block:
    return arrays(root, train_images=np.zeros((12, 0, 6, 3), dtype=np.uint8))


@broken
def arrays_under_other_names(root: Path) -> Block:
    root.mkdir()
    np.savez(root / "set.npz", pictures=np.zeros(3), classes=np.zeros(3))
    return {"reader": "arrays", "path": str(root / "set.npz")}


@broken
def arrays_without_test_labels(root: Path) -> Block:
    block = arrays(root)
    content = dict(np.load(block["path"]))
    del content["test_labels"]
    np.savez(block["path"], **content)
    return block


@broken
def arrays_cut_short(root: Path) -> Block:
    block = arrays(root)
    cut(Path(block["path"]))
    return block


@broken
def a_pickle_for_arrays(root: Path) -> Block:
    return {"reader": "arrays", "path": str(write(root / "set.npz", pickle.dumps([1, 2])))}


@broken
def a_single_array(root: Path) -> Block:
    root.mkdir()
    np.save(root / "set.npy", np.zeros((3, 6, 6)))
    return {"reader": "arrays", "path": str(root / "set.npy")}


@broken
def a_folder_for_arrays(root: Path) -> Block:
    return {"reader": "arrays", "path": str(pictures(root))}


# --- idx ------------------------------------------------------------------------------------


def idx(root: Path) -> tuple[Block, Path, Path]:
    block = layout("idx", root)
    return block, root / "train-images-idx3-ubyte", root / "train-labels-idx1-ubyte"


@broken
def idx_with_a_wrong_magic(root: Path) -> Block:
    block, images, _ = idx(root)
    images.write_bytes(b"\0\0\x0d" + images.read_bytes()[3:])
    return block


@broken
def idx_with_a_wrong_count(root: Path) -> Block:
    block, images, _ = idx(root)
    images.write_bytes(images.read_bytes()[:4] + struct.pack(">I", 99) + images.read_bytes()[8:])
    return block


@broken
def idx_with_labels_of_another_length(root: Path) -> Block:
    block, _, labels = idx(root)
    labels.write_bytes(b"\0\0\x08\x01" + struct.pack(">I", 3) + b"\0\1\2")
    return block


@broken
def idx_with_labels_for_images(root: Path) -> Block:
    block, images, labels = idx(root)
    images.write_bytes(labels.read_bytes())
    return block


@broken
def idx_without_train(root: Path) -> Block:
    block, images, _ = idx(root)
    images.unlink()
    return block


@broken
def idx_without_test_labels(root: Path) -> Block:
    block, *_ = idx(root)
    (root / "t10k-labels-idx1-ubyte").unlink()
    return block


@broken
def idx_packed_and_cut_short(root: Path) -> Block:
    block, images, _ = idx(root)
    write(root / f"{images.name}.gz", gzip.compress(images.read_bytes())[:-20])
    images.unlink()
    return block


@broken
def idx_that_is_text(root: Path) -> Block:
    block, _, labels = idx(root)
    labels.write_text("0 1 2")
    return block


# --- CIFAR, STL-10, SVHN --------------------------------------------------------------------


@broken
def a_cifar_batch_cut_short(root: Path) -> Block:
    block = layout("cifar", root)
    cut(root / "data_batch_3")
    return block


@broken
def a_cifar_batch_missing(root: Path) -> Block:
    block = layout("cifar", root)
    (root / "data_batch_3").unlink()
    return block


@broken
def a_cifar_batch_that_runs_code(root: Path) -> Block:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.system, ("touch ran",))

    block = layout("cifar", root)
    (root / "data_batch_3").write_bytes(pickle.dumps(Evil(), protocol=2))
    return block


@broken
def a_cifar_batch_with_a_label_too_large(root: Path) -> Block:
    block = layout("cifar", root)
    data = {"data": np.zeros((1, 3072), dtype=np.uint8), "labels": [10]}
    (root / "test_batch").write_bytes(pickle.dumps(data, protocol=2))
    return block


@broken
def cifar_without_its_names(root: Path) -> Block:
    block = layout("cifar", root)
    (root / "batches.meta").unlink()
    return block


@broken
def an_stl10_file_cut_short(root: Path) -> Block:
    block = layout("stl10", root)
    cut(root / "train_X.bin")
    return block


@broken
def an_stl10_label_of_zero(root: Path) -> Block:
    block = layout("stl10", root)
    (root / "test_y.bin").write_bytes(b"\0\1")
    return block


@broken
def an_svhn_file_cut_short(root: Path) -> Block:
    block = layout("svhn", root)
    cut(root / "test_32x32.mat")
    return block


@broken
def an_svhn_file_without_labels(root: Path) -> Block:
    block = layout("svhn", root)
    savemat(root / "test_32x32.mat", {"X": np.zeros((32, 32, 3, 2), dtype=np.uint8)})
    return block


@broken
def an_svhn_label_too_large(root: Path) -> Block:
    block = layout("svhn", root)
    images = np.zeros((32, 32, 3, 2), dtype=np.uint8)
    savemat(root / "test_32x32.mat", {"X": images, "y": np.array([[3], [11]])})
    return block


# --- owners' folders ------------------------------------------------------------------------


@broken
def pets_without_a_list(root: Path) -> Block:
    block = layout("oxford-pets", root)
    (root / "annotations" / "test.txt").unlink()
    return block


@broken
def pets_with_a_line_of_two_words(root: Path) -> Block:
    block = layout("oxford-pets", root)
    write(root / "annotations" / "test.txt", "Bombay_2 2\n")
    return block


@broken
def pets_with_a_missing_picture(root: Path) -> Block:
    block = layout("oxford-pets", root)
    next((root / "images").iterdir()).unlink()
    return block


@broken
def flowers_with_a_number_too_large(root: Path) -> Block:
    block = layout("oxford-flowers", root)
    parts = {"trnid": [[3, 2]], "valid": [[6, 5]], "tstid": [[1, 99]]}
    savemat(root / "setid.mat", {key: np.array(value) for key, value in parts.items()})
    return block


@broken
def flowers_with_a_label_of_zero(root: Path) -> Block:
    block = layout("oxford-flowers", root)
    savemat(root / "imagelabels.mat", {"labels": np.array([[2, 1, 3, 3, 1, 0]])})
    return block


@broken
def dtd_with_a_class_that_train_lacks(root: Path) -> Block:
    block = layout("dtd", root)
    write(root / "labels" / "test1.txt", "zigzagged/test.jpg\n")
    return block


@broken
def eurosat_with_an_empty_class(root: Path) -> Block:
    block = layout("eurosat", root)
    (root / "2750" / "Lake").mkdir()
    return block


@broken
def eurosat_with_a_class_of_one(root: Path) -> Block:
    block = layout("eurosat", root)
    write(root / "2750" / "Lake" / "Lake_1.jpg", encoded(3))
    return block


@broken
def imagenet_with_two_classes(root: Path) -> Block:
    return {"reader": "imagenet", "path": str(pictures(root, "train/n01440764", "val/n01440764"))}


@broken
def real_with_a_label_too_large(root: Path) -> Block:
    block = layout("imagenet-real", root)
    write(root / "real.json", "[[1], [2], [1000], [3]]")
    return block


@broken
def real_with_labels_missing(root: Path) -> Block:
    block = layout("imagenet-real", root)
    write(root / "real.json", "[[1], [2]]")
    return block


# --- tables ---------------------------------------------------------------------------------


def table(root: Path, name: str = "train-00000-of-00001.parquet", **columns: Any) -> Block:
    """Return a Parquet file of 8 pictures, some columns replaced, or left out by None."""
    content = {"image": [encoded(k) for k in range(8)], "label": [k % 2 for k in range(8)]}
    merged = {key: value for key, value in {**content, **columns}.items() if value is not None}
    root.mkdir(exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.table(merged), root / name)
    return {"reader": "parquet", "path": str(root)}


@broken
def a_table_cut_short(root: Path) -> Block:
    block = table(root)
    cut(root / "train-00000-of-00001.parquet")
    return block


@broken
def a_table_damaged_in_the_middle(root: Path) -> Block:
    block = table(root)
    file = root / "train-00000-of-00001.parquet"
    content = bytearray(file.read_bytes())
    content[8:400] = bytes(392)
    file.write_bytes(content)
    return block


@broken
def a_table_that_is_text(root: Path) -> Block:
    write(root / "train.parquet", "path,label\n")
    return {"reader": "parquet", "path": str(root)}


@broken
def a_table_without_images(root: Path) -> Block:
    return table(root, image=None)


@broken
def a_table_without_labels(root: Path) -> Block:
    return table(root, label=None)


@broken
def a_table_with_an_image_that_is_null(root: Path) -> Block:
    return table(root, image=[encoded(k) for k in range(7)] + [None])


@broken
def a_table_of_paths(root: Path) -> Block:
    return table(root, image=[f"{k}.png" for k in range(8)])


@broken
def a_table_with_an_image_that_is_text(root: Path) -> Block:
    return table(root, image=[encoded(k) for k in range(7)] + [b"no picture"])


@broken
def a_table_with_a_label_that_is_null(root: Path) -> Block:
    return table(root, label=[0, 1, 0, 1, 0, 1, 0, None])


@broken
def a_table_with_labels_of_floats(root: Path) -> Block:
    return table(root, label=[0.5] * 8)


@broken
def a_table_with_a_label_below_zero(root: Path) -> Block:
    return table(root, label=[0, 1, 0, 1, 0, 1, 0, -1])


@broken
def a_table_with_lists_for_labels(root: Path) -> Block:
    return table(root, label=[[0, 1]] * 8)


@broken
def a_table_of_no_rows(root: Path) -> Block:
    empty = pyarrow.array([], pyarrow.binary())
    return table(root, image=empty, label=pyarrow.array([], pyarrow.int64()))


@broken
def a_table_with_a_part_missing(root: Path) -> Block:
    return table(root, "train-00000-of-00002.parquet")


@broken
def tables_of_test_alone(root: Path) -> Block:
    return table(root, "test-00000-of-00001.parquet")


@broken
def tables_with_a_test_label_that_train_lacks(root: Path) -> Block:
    table(root)
    return table(root, "test.parquet", label=[0, 1, 2, 3, 0, 1, 2, 3])


@broken
def tables_with_the_same_rows_in_test(root: Path) -> Block:
    table(root)
    return table(root, "test.parquet")


@broken
def a_folder_without_tables(root: Path) -> Block:
    return {"reader": "parquet", "path": str(pictures(root))}


@broken
def arrays_for_a_hub_set(root: Path) -> Block:
    return {**arrays(root), "reader": "huggingface"}


@broken
def a_hub_table_cut_short(root: Path) -> Block:
    block = layout("huggingface", root)
    for file in sorted((root / "train").glob("*.arrow")):
        cut(file)
    return block


@broken
def a_hub_set_without_its_state(root: Path) -> Block:
    block = layout("huggingface", root)
    (root / "train" / "state.json").write_text("{")
    return block


@broken
def a_hub_set_that_was_never_saved(root: Path) -> Block:
    return {"reader": "huggingface", "path": str(pictures(root))}


@broken
def a_hub_name_at_a_branch(root: Path) -> Block:
    return {"reader": "huggingface", "path": "owner/name", "revision": "main"}


@broken
def an_export_with_another_file(root: Path) -> Block:
    block = layout("tfds-export", root)
    shutil.copy(root / "test.parquet", root / "val200.parquet")
    return block


@broken
def an_export_without_its_manifest(root: Path) -> Block:
    block = layout("tfds-export", root)
    (root / "manifest.json").unlink()
    return block


@broken
def an_export_of_another_format(root: Path) -> Block:
    block = layout("tfds-export", root)
    manifest = json.loads((root / "manifest.json").read_text())
    (root / "manifest.json").write_text(json.dumps({**manifest, "format": "tfds-export 9"}))
    return block


@broken
def an_export_that_leads_outside(root: Path) -> Block:
    block = layout("tfds-export", root)
    text = (root / "manifest.json").read_text()
    (root / "manifest.json").write_text(text.replace('"test.parquet"', '"../test.parquet"'))
    return block


# --- shards ---------------------------------------------------------------------------------


def shard(file: Path, *members: tuple[str, bytes | None], seed: int = 0) -> Block:
    """Return a shard of 4 sound examples and other members; None makes a device."""
    file.parent.mkdir(parents=True, exist_ok=True)
    own = [
        pair
        for k in range(4)
        for pair in ((f"{k}.png", encoded(seed + k)), (f"{k}.cls", str(k % 2).encode()))
    ]
    with tarfile.open(file, "w") as archive:
        for name, content in (*own, *members):
            member = tarfile.TarInfo(name)
            if content is None:
                member.type = tarfile.CHRTYPE
            else:
                member.size = len(content)
            archive.addfile(member, io.BytesIO(content or b""))
    return {"reader": "shards", "path": str(file.parent)}


@broken
def no_shards(root: Path) -> Block:
    return {"reader": "shards", "path": str(pictures(root))}


@broken
def a_shard_cut_short(root: Path) -> Block:
    block = layout("shards", root)
    cut(root / "train" / "0.tar", 0.7)
    return block


@broken
def shards_without_test(root: Path) -> Block:
    return shard(root / "0.tar")


@broken
def a_shard_with_a_part_missing(root: Path) -> Block:
    shard(root / "test" / "0.tar")
    shard(root / "train" / "x-00000-of-00002.tar")
    return {"reader": "shards", "path": str(root)}


def shards(root: Path, *members: tuple[str, bytes | None]) -> Block:
    shard(root / "test" / "0.tar", seed=50)
    shard(root / "train" / "0.tar", *members)
    return {"reader": "shards", "path": str(root)}


@broken
def a_shard_with_a_device(root: Path) -> Block:
    return shards(root, ("8.png", None), ("8.cls", b"0"))


@broken
def a_shard_without_a_label(root: Path) -> Block:
    return shards(root, ("8.png", encoded(8)))


@broken
def a_shard_with_a_label_in_words(root: Path) -> Block:
    return shards(root, ("8.png", encoded(8)), ("8.cls", b"cat"))


@broken
def a_shard_with_a_damaged_picture(root: Path) -> Block:
    return shards(root, ("8.png", encoded(8)[:40]), ("8.cls", b"0"))


@broken
def a_shard_with_a_class_that_train_lacks(root: Path) -> Block:
    block = shards(root)
    shard(root / "test" / "0.tar", ("8.png", encoded(8)), ("8.cls", b"7"), seed=50)
    return block


@broken
def a_packed_shard(root: Path) -> Block:
    block = shards(root)
    write(root / "train" / "1.tar.gz", gzip.compress(b""))
    return block


@broken
def a_shard_of_nothing(root: Path) -> Block:
    block = shards(root)
    tarfile.open(root / "train" / "1.tar", "w").close()
    return block


# --- VTAB -----------------------------------------------------------------------------------


@broken
def vtab_folders_with_too_few_pictures(root: Path) -> Block:
    names = [f"{part}/{name}" for part in ("train800", "val200", "test") for name in ("cat", "dog")]
    return {"reader": "vtab-folder", "path": str(pictures(root, *names))}


@broken
def dsprites_with_too_few_images(root: Path) -> Block:
    root.mkdir()
    classes = np.zeros((5, 6), dtype=np.int64)
    images = np.zeros((5, 4, 4), dtype=np.uint8)
    np.savez(root / "d.npz", imgs=images, latents_classes=classes)
    return {"reader": "dsprites-loc", "path": str(root / "d.npz")}


@broken
def smallnorb_cut_short(root: Path) -> Block:
    block = layout("smallnorb-azim", root)
    cut(next(root.glob("*training-dat.mat")))
    return block


@broken
def clevr_without_scenes(root: Path) -> Block:
    return {"reader": "clevr-count", "path": str(pictures(root, "images/train", "images/val"))}


@broken
def kitti_without_its_mapping(root: Path) -> Block:
    return {"reader": "kitti-dist", "path": str(pictures(root, "training/image_2"))}


# --- what is odd, and sound -----------------------------------------------------------------

SOUND: dict[str, Build] = {}
"""Sets that nothing is to be said of, by what is odd."""


def odd(build: Build) -> Build:
    SOUND[build.__name__.replace("_", " ")] = build
    return build


@odd
def nothing_odd(root: Path) -> Block:
    return folder(split(root))


@odd
def what_systems_leave_behind(root: Path) -> Block:
    for name in (".DS_Store", "Thumbs.db", "cat/.DS_Store", "cat/._0.png", "cat/desktop.ini"):
        write(pictures(root) / name, b"\0")
    write(root / "__MACOSX" / "cat" / "._0.png", b"\0")
    write(root / ".ipynb_checkpoints" / "0.png", b"\0")
    write(root / "dog" / "@eaDir" / "0.png", b"\0")
    write(root / "dog" / ".thumbnails" / "0.png", b"\0")
    return folder(root)


@odd
def names_of_splits_in_any_case(root: Path) -> Block:
    return folder(pictures(root, "Train/cat", "Train/dog", "TEST/cat", "TEST/dog"))


@odd
def formats_and_modes_of_all_sorts(root: Path) -> Block:
    place = pictures(root) / "cat"
    image = picture(50, side=16)
    image.convert("CMYK").save(place / "cmyk.jpg")
    image.convert("P").save(place / "palette.png")
    image.convert("RGBA").rotate(90).save(place / "alpha.png")
    image.convert("L").rotate(180).save(place / "grey.tif")
    image.convert("1").save(place / "bits.png")
    frames = [picture(seed).convert("P") for seed in (60, 61)]
    frames[0].save(place / "moving.gif", save_all=True, append_images=frames[1:])
    deep = np.random.default_rng(0).integers(0, 65536, (9, 9)).astype(np.uint16)
    Image.fromarray(deep).save(place / "deep.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(70, side=20).save(place / "turned.jpg", exif=exif)
    return folder(root)


@odd
def a_list_with_a_mark_and_line_ends_of_windows(root: Path) -> Block:
    text = f"path,label\n{ROWS}".replace("\n", "\r\n")
    return listed(root, b"\xef\xbb\xbf" + text.encode())


@odd
def a_list_of_names_with_commas(root: Path) -> Block:
    return listed(root, "path,label\n" + ROWS.replace(",dog", ',"dog, wet"'))


@odd
def arrays_of_two_splits(root: Path) -> Block:
    return arrays(root)


@odd
def a_table_of_one_file(root: Path) -> Block:
    return table(root)


@odd
def shards_of_two_splits(root: Path) -> Block:
    return shards(root)


@odd
def folders_of_classes_called_like_splits(root: Path) -> Block:
    return folder(pictures(root, "train", "test", "trains"))


@odd
def a_damaged_picture_that_is_skipped(root: Path) -> Block:
    write(pictures(root) / "dog" / "9.png", b"")
    return folder(root, skip_damaged=True)
