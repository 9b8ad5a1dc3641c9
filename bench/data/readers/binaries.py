"""Array files in their owners' own formats: STL-10's binaries and SVHN's .mat files.

Layouts: cs.stanford.edu/~acoates/stl10 (uint8, images column by column, channel by channel; labels
from 1) and ufldl.stanford.edu/housenumbers (X of shape 32 x 32 x 3 x N; label 10 is the digit 0).
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bench.data.readers.base import FileOptions
from bench.data.readers.common import ArrayReader
from bench.data.sources.arrays import ArraySet, ArraySplit, kept
from bench.data.sources.files import GET_AGAIN, read_mat
from bench.errors import DataError

if TYPE_CHECKING:
    import numpy as np

STL10_SIDE_PX = 96


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
    import numpy as np

    images_file, labels_file = path / f"{split}_X.bin", path / f"{split}_y.bin"
    labels_N = _bytes(labels_file).astype(np.int64) - 1
    pixels = _bytes(images_file)
    per_image = 3 * STL10_SIDE_PX**2
    if len(pixels) != per_image * len(labels_N):
        raise DataError(
            f"{images_file}: {len(pixels):,} bytes for {len(labels_N):,} labels, not "
            f"{per_image:,} each",
            hint=GET_AGAIN,
        )
    side = STL10_SIDE_PX
    images_NHWC = pixels.reshape(-1, 3, side, side).transpose(0, 3, 2, 1)
    return ArraySplit(labels_N, (side, side), images_file.name, partial(kept, images_NHWC))


def _bytes(file: Path) -> np.ndarray:
    """Return a file's bytes, mapped: STL-10's images are larger than one should read at once."""
    import numpy as np

    try:
        if not file.stat().st_size:
            raise DataError(f"{file}: empty", hint=GET_AGAIN)
        return np.memmap(file, dtype=np.uint8, mode="r")
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror})", hint=GET_AGAIN) from error


def read_svhn(path: Path) -> ArraySet:
    """Read train_32x32.mat and test_32x32.mat; the extra images are left out."""
    names = {split: f"{split}_32x32.mat" for split in ("train", "test")}
    splits = {split: _svhn_split(path / name) for split, name in names.items()}
    return ArraySet(tuple(names.values()), splits, tuple("0123456789"))


def _svhn_split(file: Path) -> ArraySplit:
    import numpy as np

    content = read_mat(file, ("X", "y"))
    images_HWCN, labels_N = content["X"], content["y"].reshape(-1).astype(np.int64)
    if images_HWCN.dtype != np.uint8 or images_HWCN.ndim != 4 or images_HWCN.shape[2] != 3:
        raise DataError(
            f"{file}: X is {images_HWCN.dtype} of shape {images_HWCN.shape}, not H x W x 3 x N",
            hint=GET_AGAIN,
        )
    if images_HWCN.shape[3] != len(labels_N):
        raise DataError(
            f"{file}: {len(labels_N):,} labels for {images_HWCN.shape[3]:,} images", hint=GET_AGAIN
        )
    labels_N[labels_N == 10] = 0
    height, width = images_HWCN.shape[:2]
    images_NHWC = images_HWCN.transpose(3, 0, 1, 2)
    return ArraySplit(labels_N, (height, width), file.name, partial(kept, images_NHWC))


READERS = (
    ArrayReader(
        name="stl10",
        options=FileOptions,
        read=read_stl10,
        marks=(("train_X.bin", "train_y.bin"),),
    ),
    ArrayReader(name="svhn", options=FileOptions, read=read_svhn, marks=(("train_32x32.mat",),)),
)
