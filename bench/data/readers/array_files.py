"""Array files of anybody: MNIST's idx files and NumPy's .npz.

    idx     MNIST's four files, packed (.gz) or not; the format as its owner describes it
            (yann.lecun.com/exdb/mnist)
    arrays  train_images, train_labels, perhaps test_images and test_labels, in one .npz file

Nothing in a file is executed: .npz is read without pickle. Every file is checked before its pixels
are used: sizes against headers, images against labels.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bench.data.readers.base import DrawnOptions
from bench.data.readers.common import ArrayReader
from bench.data.sources.arrays import ArraySet, ArraySplit, kept
from bench.data.sources.files import MAX_FILE_BYTES, read_bytes
from bench.errors import DataError

if TYPE_CHECKING:
    import numpy as np

# --- idx ------------------------------------------------------------------------------------

_IDX_STEMS = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


def read_idx(path: Path) -> ArraySet:
    """Read the four idx files of a folder; those of test may be missing."""
    import numpy as np

    files: list[str] = []
    splits: dict[str, ArraySplit] = {}
    for split, (image_stem, label_stem) in _IDX_STEMS.items():
        image_file, label_file = _idx_file(path, image_stem), _idx_file(path, label_stem)
        if image_file is None or label_file is None:
            one_of_two = image_file or label_file
            if one_of_two is not None:
                lacking = label_stem if label_file is None else image_stem
                raise DataError(
                    f"{one_of_two}: there is no {lacking}[.gz] beside it",
                    hint="Get both files of the split, or remove this one",
                )
            if split == "train":
                raise DataError(
                    f"{path}: no {image_stem}[.gz] and {label_stem}[.gz]",
                    hint="Point path to the folder that holds the idx files",
                )
            continue
        labels_N = _idx(label_file).astype(np.int64)
        images_NHW = _idx(image_file)
        if labels_N.ndim != 1 or images_NHW.ndim != 3:
            raise DataError(f"{image_file}: expected N x H x W images and N labels")
        if len(labels_N) != len(images_NHW):
            raise DataError(
                f"{label_file}: {len(labels_N):,} labels for {len(images_NHW):,} images",
                hint="The two files are not of one set",
            )
        height, width = images_NHW.shape[1:]
        splits[split] = ArraySplit(
            labels_N, (height, width), image_file.name, partial(kept, images_NHW)
        )
        files += [image_file.name, label_file.name]
    return ArraySet(tuple(files), splits)


def _idx_file(folder: Path, stem: str) -> Path | None:
    candidates = (folder / name for name in (stem, f"{stem}.gz", stem.replace("-idx", ".idx")))
    return next((path for path in candidates if path.is_file()), None)


def _idx(path: Path) -> np.ndarray:
    """Return the uint8 array of an idx file."""
    import numpy as np

    content = read_bytes(path)
    if len(content) < 4 or content[:3] != b"\0\0\x08":
        raise DataError(f"{path}: not an idx file of bytes", hint="Get the file again")
    rank = content[3]
    start = 4 + 4 * rank
    if len(content) < start:
        raise DataError(f"{path}: ends within its header", hint="Get the file again")
    shape = struct.unpack(f">{rank}I", content[4:start])
    expected = int(np.prod(shape, dtype=object)) + start
    if expected != len(content):
        raise DataError(
            f"{path}: {len(content):,} bytes, but its header asks for {expected:,}",
            hint="Get the file again",
        )
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)


# --- .npz -----------------------------------------------------------------------------------

_NPZ_KEYS = {
    "train": (("train_images", "train_labels"), ("x_train", "y_train"), ("images", "labels")),
    "test": (("test_images", "test_labels"), ("x_test", "y_test")),
}


NPZ_HINT = "Write it with numpy.savez(path, train_images=..., train_labels=...)"


def read_npz(path: Path) -> ArraySet:
    """Read the arrays of an .npz file, by their usual names."""
    import numpy as np

    if path.is_dir():
        raise DataError(f"{path}: a folder, where an .npz file is needed", hint=NPZ_HINT)
    try:
        opened = np.load(path, allow_pickle=False, mmap_mode="r")
        if not isinstance(opened, np.lib.npyio.NpzFile):
            raise DataError(
                f"{path}: a single array, where images and labels are needed", hint=NPZ_HINT
            )
        with opened as file:
            _check_zip(path, file.zip)
            _check_pairs(path, file.files)
            arrays = {
                split: (file[keys[0]], file[keys[1]], keys)
                for split, choices in _NPZ_KEYS.items()
                for keys in choices
                if keys[0] in file and keys[1] in file
            }
    except DataError:
        raise
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        # NumPy would have it loaded as what may run code.
        cause = "it holds Python objects" if "pickle" in str(error) else error
        raise DataError(
            f"{path}: not an .npz file of plain arrays ({cause})",
            hint=NPZ_HINT,
        ) from error
    if "train" not in arrays:
        raise DataError(
            f"{path}: no train_images and train_labels",
            hint="Name the arrays train_images, train_labels, test_images, test_labels",
        )
    splits = {split: _npz_split(path, *content) for split, content in arrays.items()}
    return ArraySet((path.name,), splits)


def _check_pairs(path: Path, names: Collection[str]) -> None:
    """Refuse images without labels, and labels without images: they would be left out silently."""
    for choices in _NPZ_KEYS.values():
        for keys in choices:
            lacking = [key for key in keys if key not in names]
            if len(lacking) == 1:
                there = next(key for key in keys if key in names)
                raise DataError(f"{path}: {there}, but no {lacking[0]}", hint=NPZ_HINT)


def _check_zip(path: Path, archive: zipfile.ZipFile | None) -> None:
    total = sum(entry.file_size for entry in archive.infolist()) if archive else 0
    if total > 8 * MAX_FILE_BYTES:
        raise DataError(f"{path}: unpacks to {total >> 30} GiB", hint="Use an image folder")


def _npz_split(
    path: Path, images: np.ndarray, labels: np.ndarray, keys: tuple[str, str]
) -> ArraySplit:
    import numpy as np

    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise DataError(f"{path}: {keys[1]} must be whole numbers of shape (N,)")
    if labels.dtype.kind == "u" and len(labels) and labels.max() > np.iinfo(np.int64).max:
        raise DataError(f"{path}: {keys[1]} holds {labels.max():,}, which is no label")
    if images.ndim == 4 and images.shape[-1] == 1:
        images = images[..., 0]
    grey, rgb = images.ndim == 3, images.ndim == 4 and images.shape[-1] == 3
    if images.dtype != np.uint8 or not (grey or rgb):
        raise DataError(
            f"{path}: {keys[0]} is {images.dtype} of shape {images.shape}",
            hint="Images must be uint8 of shape (N, H, W) or (N, H, W, 3)",
        )
    if len(images) != len(labels):
        raise DataError(f"{path}: {len(labels):,} labels for {len(images):,} images")
    height, width = images.shape[1:3]
    return ArraySplit(labels.astype(np.int64), (height, width), keys[0], partial(kept, images))


# --- readers --------------------------------------------------------------------------------

READERS = (
    ArrayReader(
        name="idx",
        options=DrawnOptions,
        read=read_idx,
        marks=(
            ("train-images-idx3-ubyte",),
            ("train-images-idx3-ubyte.gz",),
            ("train-images.idx3-ubyte",),
        ),
    ),
    ArrayReader(name="arrays", options=DrawnOptions, read=read_npz, suffix=".npz"),
)
