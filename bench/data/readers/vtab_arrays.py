"""VTAB tasks from their owners' array files: dSprites and smallNORB.

The benchmark takes the first 800 and 200 examples in the file order of TensorFlow Datasets, which
only an export from there has. Here the order is drawn once with seed 0, under the same rule: as
many images, from the same parts, but not the same ones. The selector says so.
"""

from __future__ import annotations

import gzip
import struct
import zipfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.data.cards.vtab import DRAWN
from bench.data.readers.base import FileOptions
from bench.data.readers.common import ArrayReader
from bench.data.sources.arrays import ArraySet, ArraySplit
from bench.data.sources.files import read_bytes
from bench.errors import DataError

if TYPE_CHECKING:
    import numpy as np

    Rule = Callable[[np.ndarray], np.ndarray]

# --- dSprites -------------------------------------------------------------------------------


def read_dsprites(path: Path, *, column: int, rule: str) -> ArraySet:
    """Read dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz: 80 % train, 10 % val, 10 % test.

    `column` of latents_classes is the factor: 3 orientation, 4 x position. Pixels are 0 or 1 in
    the file, 0 or 255 here.
    """
    import numpy as np

    from bench.data.sources import vtab_labels
    from bench.data.splits import drawn_vtab_rows

    labels: Rule = getattr(vtab_labels, rule)
    classes_NF, shape = _dsprites_header(path)
    order_N = np.random.default_rng(0).permutation(len(classes_NF))
    first, second = 80 * len(order_N) // 100, 90 * len(order_N) // 100
    train, val = drawn_vtab_rows(first, second - first, seed=0, where=path)
    rows = {
        "train": np.concatenate((order_N[:first][train], order_N[first:second][val])),
        "test": order_N[second:],
    }
    splits = {
        name: ArraySplit(
            labels(classes_NF[part, column]),
            shape,
            f"{len(part):,} of {len(order_N):,} {DRAWN}",
            partial(_dsprites_images, path, part),
        )
        for name, part in rows.items()
    }
    return ArraySet((path.name,), splits, tuple(map(str, range(vtab_labels.DSPRITES_CLASSES))))


def _dsprites_header(path: Path) -> tuple[np.ndarray, tuple[int, int]]:
    """Return the factors (N, 6) and the images' size, without their pixels."""
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as file, zipfile.ZipFile(path) as archive:
            classes_NF = file["latents_classes"]
            with archive.open("imgs.npy") as images:
                shape = _npy_shape(images)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            f"{path}: not dSprites' .npz ({error})",
            hint="Get dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz from its owner",
        ) from error
    if classes_NF.ndim != 2 or classes_NF.shape[1] != 6 or shape[:1] != classes_NF.shape[:1]:
        raise DataError(f"{path}: {shape} images with factors of {classes_NF.shape}")
    return classes_NF, (shape[1], shape[2])


def _npy_shape(file: object) -> tuple[int, ...]:
    import numpy as np

    version = np.lib.format.read_magic(file)  # type: ignore[arg-type]
    read = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    shape, _, _ = read(file)  # type: ignore[arg-type]
    return shape


def _dsprites_images(path: Path, rows: np.ndarray) -> np.ndarray:
    import numpy as np

    with np.load(path, allow_pickle=False) as file:
        return file["imgs"][rows] * np.uint8(255)


# --- smallNORB ------------------------------------------------------------------------------

_NORB_STEMS = {
    "train": "smallnorb-5x46789x9x18x6x2x96x96-training",
    "test": "smallnorb-5x01235x9x18x6x2x96x96-testing",
}
_ELEVATION, _AZIMUTH = 1, 2
"""Columns of the info files; the azimuth is in tens of degrees, 0 to 34."""

_NORB_TYPES = {0x1E3D4C55: "<u1", 0x1E3D4C54: "<i4"}
"""Magic numbers of the owner's binary matrices: bytes, 32-bit integers."""


def read_smallnorb(path: Path, *, column: int, rule: str, num_classes: int) -> ArraySet:
    """Read the left images of smallNORB's four files; val is the first half of the drawn test set.

    `column` of the info files is the factor asked for.
    """
    import numpy as np

    from bench.data.sources import vtab_labels
    from bench.data.splits import drawn_vtab_rows

    labels: Rule = getattr(vtab_labels, rule)
    names = {
        (split, kind): _norb_file(path, f"{stem}-{kind}.mat")
        for split, stem in _NORB_STEMS.items()
        for kind in ("info", "dat")
    }
    info = {split: _norb_matrix(path / names[split, "info"]) for split in _NORB_STEMS}
    test_N = np.random.default_rng(0).permutation(len(info["test"]))
    half = len(test_N) // 2
    train, val = drawn_vtab_rows(len(info["train"]), half, seed=0, where=path)

    def images(*parts: tuple[str, np.ndarray]) -> np.ndarray:
        return np.concatenate(
            [_norb_matrix(path / names[split, "dat"])[rows, 0] for split, rows in parts]
        )

    def part(selector: str, *parts: tuple[str, np.ndarray]) -> ArraySplit:
        factor_N = np.concatenate([info[split][rows, column] for split, rows in parts])
        labels_N = labels(factor_N // 2 if column == _AZIMUTH else factor_N)
        return ArraySplit(labels_N, size_px, selector, partial(images, *parts))

    size_px = _norb_size(path / names["train", "dat"], len(info["train"]))
    _norb_size(path / names["test", "dat"], len(info["test"]))
    splits = {
        "train": part(
            f"800 of train and 200 of the first half of test, {DRAWN}",
            ("train", train),
            ("test", test_N[:half][val]),
        ),
        "test": part(f"the other half of test, {DRAWN}", ("test", test_N[half:])),
    }
    return ArraySet(tuple(names.values()), splits, tuple(map(str, range(num_classes))))


def _norb_file(folder: Path, name: str) -> str:
    for candidate in (name, f"{name}.gz"):
        if (folder / candidate).is_file():
            return candidate
    raise DataError(
        f"{folder}: no {name}[.gz]", hint="Get smallNORB's -dat and -info files from its owner"
    )


def _norb_matrix(path: Path) -> np.ndarray:
    import numpy as np

    content = read_bytes(path)
    dtype, shape, start = _norb_header(content, path)
    if int(np.prod(shape, dtype=object)) * dtype.itemsize != len(content) - start:
        raise DataError(
            f"{path}: {len(content):,} bytes do not fit its header {shape}",
            hint="Get the file again",
        )
    return np.frombuffer(content, dtype=dtype, offset=start).reshape(shape)


def _norb_header(content: bytes, path: Path) -> tuple[np.dtype[Any], tuple[int, ...], int]:
    """Return type, shape and start of the values: magic number, rank, at least three sizes."""
    import numpy as np

    magic, rank = struct.unpack_from("<2i", content) if len(content) >= 8 else (0, 0)
    start = 8 + 4 * max(3, rank)
    if magic not in _NORB_TYPES or not 1 <= rank <= 4 or len(content) < start:
        raise DataError(f"{path}: not a binary matrix of smallNORB", hint="Get the file again")
    shape = struct.unpack_from(f"<{rank}i", content, 8)
    if min(shape) < 0:
        raise DataError(f"{path}: sizes {shape} in its header", hint="Get the file again")
    return np.dtype(_NORB_TYPES[magic]), shape, start


def _norb_size(path: Path, num: int) -> tuple[int, int]:
    """Return the images' height and width from the header alone: the file is large."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            _, shape, _ = _norb_header(file.read(24), path)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error})", hint="Get the file again") from error
    if len(shape) != 4 or shape[:2] != (num, 2):
        raise DataError(f"{path}: images of shape {shape}, but factors of {num:,} pairs")
    return (shape[2], shape[3])


# --- readers --------------------------------------------------------------------------------

READERS = (
    ArrayReader(
        name="dsprites-loc",
        options=FileOptions,
        read=partial(read_dsprites, column=4, rule="dsprites_x_position"),
    ),
    ArrayReader(
        name="dsprites-ori",
        options=FileOptions,
        read=partial(read_dsprites, column=3, rule="dsprites_orientation"),
    ),
    ArrayReader(
        name="smallnorb-azim",
        options=FileOptions,
        read=partial(read_smallnorb, column=_AZIMUTH, rule="smallnorb_azimuth", num_classes=18),
    ),
    ArrayReader(
        name="smallnorb-elev",
        options=FileOptions,
        read=partial(read_smallnorb, column=_ELEVATION, rule="smallnorb_elevation", num_classes=9),
    ),
)
