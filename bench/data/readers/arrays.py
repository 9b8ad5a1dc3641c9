"""Data sets that come as arrays: MNIST's idx files, CIFAR's python batches, NumPy's .npz.

Nothing in a file is executed: CIFAR's pickles are read by an unpickler of inert stand-ins
(`cifar.py`), .npz without pickle. Every file is checked before its pixels are used: sizes against
headers, images against labels.

Layouts: the idx format as its owner describes it (yann.lecun.com/exdb/mnist), CIFAR's as on its
owner's page (cs.toronto.edu/~kriz/cifar.html).
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from bench.data.readers import cifar
from bench.data.readers.files import MAX_FILE_BYTES, read_bytes
from bench.data.splits import held_out_indices
from bench.errors import DataError

VERSION = 1
"""Bumped when the same files give other images, labels or splits."""

Images = Callable[[], np.ndarray]


@dataclass(frozen=True)
class ArraySplit:
    """One split: labels at once, pixels when they are asked for."""

    labels_N: np.ndarray
    """int64."""
    size_px: tuple[int, int]
    """Height and width."""
    selector: str
    """How the split was selected, in words."""
    images: Images
    """Returns uint8 (N, H, W) grey or (N, H, W, 3) RGB."""


@dataclass(frozen=True)
class ArraySet:
    """A data set in arrays."""

    files: tuple[str, ...]
    """Files read, relative to the path's folder."""
    splits: dict[str, ArraySplit]
    """Splits by name."""
    class_names: tuple[str, ...] = ()
    """Class names in label order, where the files have them."""

    has_test: bool = True
    """Whether the files have a test split, else it was drawn."""

    @property
    def num_classes(self) -> int:
        """Classes: as many as there are names, or as the largest training label asks for."""
        return len(self.class_names) or int(self.splits["train"].labels_N.max()) + 1


def read(reader: str, path: Path, *, test_share: float, seed: int) -> ArraySet:
    """Read the files at `path`; a set without a test split is split by a stratified draw.

    Raises DataError naming the file, what is wrong with it, and the cure.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file or folder", hint="Check path in the suite file")
    found = readers()[reader](path)
    for split, content in found.splits.items():
        if not len(content.labels_N):
            raise DataError(f"{path}, {split}: no images", hint="Check that the files are complete")
    for split, content in found.splits.items():
        _check(content, where=f"{path}, {split}", num_classes=found.num_classes)
    return found if "test" in found.splits else _with_test(found, test_share, seed)


def root_of(path: Path) -> Path:
    """Return the folder that `ArraySet.files` are relative to."""
    return path if path.is_dir() else path.parent


def _check(split: ArraySplit, *, where: str, num_classes: int) -> None:
    labels_N = split.labels_N
    if labels_N.min() < 0 or labels_N.max() >= num_classes:
        raise DataError(
            f"{where}: labels from {labels_N.min()} to {labels_N.max()}, but there are "
            f"{num_classes} classes",
            hint="Labels must count from 0 and every test class must be in train",
        )


def _with_test(found: ArraySet, share: float, seed: int) -> ArraySet:
    whole = found.splits["train"]
    selector = f"{share:g} of all drawn for test, stratified, with seed {seed}"
    train, test = held_out_indices(whole.labels_N, share, seed=seed)

    def part(rows: np.ndarray) -> ArraySplit:
        return ArraySplit(
            whole.labels_N[rows], whole.size_px, selector, lambda: whole.images()[rows]
        )

    splits = {"train": part(train), "test": part(test)}
    return ArraySet(found.files, splits, found.class_names, has_test=False)


def _same(images: np.ndarray) -> np.ndarray:
    return images


# --- idx ------------------------------------------------------------------------------------

_IDX_STEMS = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


def _read_idx_folder(path: Path) -> ArraySet:
    files: list[str] = []
    splits: dict[str, ArraySplit] = {}
    for split, (image_stem, label_stem) in _IDX_STEMS.items():
        image_file, label_file = _idx_file(path, image_stem), _idx_file(path, label_stem)
        if image_file is None or label_file is None:
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
            labels_N, (height, width), image_file.name, partial(_same, images_NHW)
        )
        files += [image_file.name, label_file.name]
    return ArraySet(tuple(files), splits)


def _idx_file(folder: Path, stem: str) -> Path | None:
    candidates = (folder / name for name in (stem, f"{stem}.gz", stem.replace("-idx", ".idx")))
    return next((path for path in candidates if path.is_file()), None)


def _idx(path: Path) -> np.ndarray:
    """Return the uint8 array of an idx file."""
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


# --- CIFAR's python batches -----------------------------------------------------------------


def _read_cifar_folder(path: Path) -> ArraySet:
    ten = (path / "batches.meta").is_file()
    if not ten and not (path / "meta").is_file():
        raise DataError(
            f"{path}: neither batches.meta (CIFAR-10) nor meta (CIFAR-100)",
            hint="Point path to the folder unpacked from the python version",
        )
    names = {
        "train": tuple(f"data_batch_{k}" for k in range(1, 6)) if ten else ("train",),
        "test": ("test_batch",) if ten else ("test",),
    }
    meta_name = "batches.meta" if ten else "meta"
    label_key = "labels" if ten else "fine_labels"
    meta = cifar.unpickle(path / meta_name)
    listed = meta.get("label_names" if ten else "fine_label_names")
    class_names = tuple(map(cifar.text, listed)) if isinstance(listed, list) else ()
    splits = {}
    for split, batch_names in names.items():
        batches = [cifar.batch(path / name, label_key) for name in batch_names]
        labels_N = np.concatenate([labels for _, labels in batches])
        images_NHWC = np.concatenate([images for images, _ in batches])
        splits[split] = ArraySplit(
            labels_N, (32, 32), ", ".join(batch_names), partial(_same, images_NHWC)
        )
    return ArraySet((meta_name, *names["train"], *names["test"]), splits, class_names)


# --- .npz -----------------------------------------------------------------------------------

_NPZ_KEYS = {
    "train": (("train_images", "train_labels"), ("x_train", "y_train"), ("images", "labels")),
    "test": (("test_images", "test_labels"), ("x_test", "y_test")),
}


NPZ_HINT = "Write it with numpy.savez(path, train_images=..., train_labels=...)"


def _read_npz(path: Path) -> ArraySet:
    try:
        opened = np.load(path, allow_pickle=False, mmap_mode="r")
        if not isinstance(opened, np.lib.npyio.NpzFile):
            raise DataError(
                f"{path}: a single array, where images and labels are needed", hint=NPZ_HINT
            )
        with opened as file:
            _check_zip(path, file.zip)
            arrays = {
                split: (file[keys[0]], file[keys[1]], keys)
                for split, choices in _NPZ_KEYS.items()
                for keys in choices
                if keys[0] in file and keys[1] in file
            }
    except DataError:
        raise
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            f"{path}: not an .npz file of plain arrays ({error})",
            hint=NPZ_HINT,
        ) from error
    if "train" not in arrays:
        raise DataError(
            f"{path}: no train_images and train_labels",
            hint="Name the arrays train_images, train_labels, test_images, test_labels",
        )
    splits = {split: _npz_split(path, *content) for split, content in arrays.items()}
    return ArraySet((path.name,), splits)


def _check_zip(path: Path, archive: zipfile.ZipFile | None) -> None:
    total = sum(entry.file_size for entry in archive.infolist()) if archive else 0
    if total > 8 * MAX_FILE_BYTES:
        raise DataError(f"{path}: unpacks to {total >> 30} GiB", hint="Use an image folder")


def _npz_split(
    path: Path, images: np.ndarray, labels: np.ndarray, keys: tuple[str, str]
) -> ArraySplit:
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise DataError(f"{path}: {keys[1]} must be whole numbers of shape (N,)")
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
    return ArraySplit(labels.astype(np.int64), (height, width), keys[0], partial(_same, images))


READERS: dict[str, Callable[[Path], ArraySet]] = {
    "idx": _read_idx_folder,
    "cifar": _read_cifar_folder,
    "arrays": _read_npz,
}
"""Readers of this module; `readers()` has all."""


def readers() -> dict[str, Callable[[Path], ArraySet]]:
    """Return every reader of array files by name."""
    from bench.data.readers import binaries, vtab_arrays  # they build on this module

    return {**READERS, **binaries.READERS, **vtab_arrays.READERS}
