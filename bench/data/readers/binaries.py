"""Array files in their owners' own formats: STL-10's binaries and SVHN's .mat files.

Layouts: cs.stanford.edu/~acoates/stl10 (uint8, images column by column, channel by channel; labels
from 1) and ufldl.stanford.edu/housenumbers (X of shape 32 x 32 x 3 x N; label 10 is the digit 0).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from bench.data.readers.arrays import ArraySet, ArraySplit
from bench.errors import DataError

STL10_SIDE_PX = 96
_GET_AGAIN = "Get the file again from its owner"


def read_stl10(path: Path) -> ArraySet:
    """Read train_X.bin, train_y.bin, test_X.bin, test_y.bin; the unlabelled images are left out."""
    splits = {split: _stl10_split(path, split) for split in ("train", "test")}
    files = [f"{split}_{kind}.bin" for split in splits for kind in ("X", "y")]
    names_file = path / "class_names.txt"
    names: tuple[str, ...] = ()
    if names_file.is_file():
        names = tuple(names_file.read_text(encoding="utf-8").split())
        files.append(names_file.name)
    return ArraySet(tuple(files), splits, names)


def _stl10_split(path: Path, split: str) -> ArraySplit:
    images_file, labels_file = path / f"{split}_X.bin", path / f"{split}_y.bin"
    labels_N = _bytes(labels_file).astype(np.int64) - 1
    pixels = _bytes(images_file)
    per_image = 3 * STL10_SIDE_PX**2
    if len(pixels) != per_image * len(labels_N):
        raise DataError(
            f"{images_file}: {len(pixels):,} bytes for {len(labels_N):,} labels, not "
            f"{per_image:,} each",
            hint=_GET_AGAIN,
        )
    side = STL10_SIDE_PX
    images_NHWC = pixels.reshape(-1, 3, side, side).transpose(0, 3, 2, 1)
    return ArraySplit(labels_N, (side, side), images_file.name, partial(_same, images_NHWC))


def _bytes(file: Path) -> np.ndarray:
    """Return a file's bytes, mapped: STL-10's images are larger than one should read at once."""
    try:
        if not file.stat().st_size:
            raise DataError(f"{file}: empty", hint=_GET_AGAIN)
        return np.memmap(file, dtype=np.uint8, mode="r")
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror})", hint=_GET_AGAIN) from error


def read_svhn(path: Path) -> ArraySet:
    """Read train_32x32.mat and test_32x32.mat; the extra images are left out."""
    names = {split: f"{split}_32x32.mat" for split in ("train", "test")}
    splits = {split: _svhn_split(path / name) for split, name in names.items()}
    return ArraySet(tuple(names.values()), splits, tuple("0123456789"))


def _svhn_split(file: Path) -> ArraySplit:
    content = read_mat(file, ("X", "y"))
    images_HWCN, labels_N = content["X"], content["y"].reshape(-1).astype(np.int64)
    if images_HWCN.dtype != np.uint8 or images_HWCN.ndim != 4 or images_HWCN.shape[2] != 3:
        raise DataError(
            f"{file}: X is {images_HWCN.dtype} of shape {images_HWCN.shape}, not H x W x 3 x N",
            hint=_GET_AGAIN,
        )
    if images_HWCN.shape[3] != len(labels_N):
        raise DataError(
            f"{file}: {len(labels_N):,} labels for {images_HWCN.shape[3]:,} images", hint=_GET_AGAIN
        )
    labels_N[labels_N == 10] = 0
    height, width = images_HWCN.shape[:2]
    images_NHWC = images_HWCN.transpose(3, 0, 1, 2)
    return ArraySplit(labels_N, (height, width), file.name, partial(_same, images_NHWC))


def read_mat(file: Path, keys: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Return the named arrays of a MATLAB file; raises DataError. Nothing in it is executed."""
    if not file.is_file():
        raise DataError(f"{file}: no such file", hint="Get all files of the set into one folder")
    from scipy.io import loadmat

    try:
        content = loadmat(file, variable_names=list(keys))
    except Exception as error:  # scipy raises anything on damaged files
        raise DataError(
            f"{file}: not a MATLAB file ({type(error).__name__}: {error})", hint=_GET_AGAIN
        ) from error
    missing = [key for key in keys if not isinstance(content.get(key), np.ndarray)]
    if missing:
        raise DataError(f"{file}: no array {missing[0]}", hint=_GET_AGAIN)
    return {key: content[key] for key in keys}


def _same(images: np.ndarray) -> np.ndarray:
    return images


READERS: dict[str, Callable[[Path], ArraySet]] = {"stl10": read_stl10, "svhn": read_svhn}
"""Readers by name."""
