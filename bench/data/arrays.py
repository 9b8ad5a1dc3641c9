"""Data sets that come as arrays: MNIST's idx files, CIFAR's python batches, NumPy's .npz.

Nothing in a file is executed: CIFAR's pickles are read by an unpickler that knows two inert
stand-ins and no other name, .npz without pickle. Every file is checked before its pixels are used:
sizes against headers, images against labels.

Layouts: the idx format as its owner describes it (yann.lecun.com/exdb/mnist), CIFAR's as on its
owner's page (cs.toronto.edu/~kriz/cifar.html).
"""

from __future__ import annotations

import gzip
import io
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.data.splits import held_out_indices
from bench.errors import DataError

VERSION = 1
"""Bumped when the same files give other images, labels or splits."""

MAX_FILE_BYTES = 1 << 30
"""Larger files of these formats are refused: they are read whole."""

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
    found = READERS[reader](path)
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


def _bytes(path: Path) -> bytes:
    """Return a file's content, unpacked when its name ends in .gz; bounded either way."""
    try:
        if path.suffix != ".gz":
            if path.stat().st_size > MAX_FILE_BYTES:
                raise DataError(f"{path}: larger than {MAX_FILE_BYTES >> 20} MiB")
            return path.read_bytes()
        with gzip.open(path) as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:  # gzip.BadGzipFile too
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (EOFError, zlib.error) as error:
        raise DataError(f"{path}: damaged gzip file ({error})", hint="Get it again") from error
    if len(content) > MAX_FILE_BYTES:
        raise DataError(f"{path}: unpacks to more than {MAX_FILE_BYTES >> 20} MiB")
    return content


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
    content = _bytes(path)
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


class _ArrayStandIn:
    """Takes the place of a NumPy array in a pickle: keeps what it is told, computes nothing."""

    content: bytes = b""
    shape: tuple[int, ...] = ()

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        _version, shape, _dtype, fortran, content = state
        if fortran or not isinstance(content, bytes):
            raise pickle.UnpicklingError("not a C-ordered array of bytes")
        self.shape, self.content = tuple(int(size) for size in shape), content


class _TypeStandIn:
    """Takes the place of a NumPy dtype in a pickle."""

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


class _ByteString:
    """Takes the place of `_codecs.encode`, by which protocol 2 writes byte strings."""

    def __new__(cls, text: object, encoding: object) -> Any:
        if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
            raise pickle.UnpicklingError("not a byte string")
        return text.encode("latin-1")

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("a byte string has no state")


class _BatchUnpickler(pickle.Unpickler):
    """Knows the names that CIFAR's files use, as inert stand-ins; refuses all others."""

    _NAMES: dict[tuple[str, str], Any] = {  # noqa: RUF012
        ("numpy.core.multiarray", "_reconstruct"): _ArrayStandIn,
        ("numpy._core.multiarray", "_reconstruct"): _ArrayStandIn,
        ("numpy", "ndarray"): _TypeStandIn,
        ("numpy", "dtype"): _TypeStandIn,
        ("_codecs", "encode"): _ByteString,
    }

    def find_class(self, module: str, name: str) -> Any:
        """Return the stand-in of a name, or refuse it."""
        if (module, name) not in self._NAMES:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return self._NAMES[module, name]


def unpickle_batch(path: Path) -> dict[str, Any]:
    """Return the dictionary of a CIFAR python file, executing nothing of it."""
    content = _bytes(path)
    try:
        batch = _BatchUnpickler(io.BytesIO(content), encoding="bytes").load()
    except Exception as error:  # hostile bytes raise anything
        raise DataError(
            f"{path}: not a CIFAR python batch ({type(error).__name__}: {error})",
            hint="Get the file again from the owner of the data",
        ) from error
    if not isinstance(batch, dict):
        raise DataError(f"{path}: not a CIFAR python batch")
    return {_text(key): value for key, value in batch.items()}


def _text(value: object) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


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
    meta = unpickle_batch(path / meta_name)
    class_names = tuple(
        _text(name) for name in meta.get("label_names" if ten else "fine_label_names", ())
    )
    splits = {}
    for split, batch_names in names.items():
        batches = [_cifar_batch(path / name, label_key) for name in batch_names]
        labels_N = np.concatenate([labels for _, labels in batches])
        images_NHWC = np.concatenate([images for images, _ in batches])
        splits[split] = ArraySplit(
            labels_N, (32, 32), ", ".join(batch_names), partial(_same, images_NHWC)
        )
    return ArraySet((meta_name, *names["train"], *names["test"]), splits, class_names)


def _cifar_batch(path: Path, label_key: str) -> tuple[np.ndarray, np.ndarray]:
    if not path.is_file():
        raise DataError(f"{path}: missing", hint="Unpack the whole archive of the owner")
    batch = unpickle_batch(path)
    data, labels = batch.get("data"), batch.get(label_key)
    if not isinstance(data, _ArrayStandIn) or not isinstance(labels, list):
        raise DataError(f"{path}: no data and {label_key}", hint="Get the file again")
    if data.shape != (len(labels), 3072) or len(data.content) != 3072 * len(labels):
        raise DataError(
            f"{path}: {len(labels):,} labels for images of shape {data.shape}",
            hint="Get the file again",
        )
    planes = np.frombuffer(data.content, dtype=np.uint8).reshape(-1, 3, 32, 32)
    if not all(isinstance(label, int) for label in labels):
        raise DataError(f"{path}: labels are not whole numbers", hint="Get the file again")
    return planes.transpose(0, 2, 3, 1), np.array(labels, dtype=np.int64)


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
