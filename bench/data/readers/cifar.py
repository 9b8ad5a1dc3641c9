"""CIFAR's python batches, read without unpickling: nothing in the file is ever executed.

A pickle may name any function and have it called. The unpickler here knows the five names that
CIFAR's own files use, each as an inert stand-in, and refuses every other. The layout is that of the
owner's page (cs.toronto.edu/~kriz/cifar.html).
"""

from __future__ import annotations

import io
import pickle
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.data.readers.base import FileOptions
from bench.data.readers.common import ArrayReader
from bench.data.sources.arrays import ArraySet, ArraySplit, kept
from bench.data.sources.files import read_bytes
from bench.errors import DataError

if TYPE_CHECKING:
    import numpy as np

MAX_LABEL = 1 << 16
"""Labels from here on are damage."""


class _ArrayStandIn:
    """Takes the place of a NumPy array in a pickle: keeps what it is given, computes nothing."""

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


def unpickle(path: Path) -> dict[str, Any]:
    """Return the dictionary of a CIFAR python file, executing nothing of it."""
    content = read_bytes(path)
    try:
        batch = _BatchUnpickler(io.BytesIO(content), encoding="bytes").load()
    except Exception as error:  # hostile bytes raise anything
        raise DataError(
            f"{path}: not a CIFAR python batch ({type(error).__name__}: {error})",
            hint="Get the file again from the owner of the data",
        ) from error
    if not isinstance(batch, dict):
        raise DataError(f"{path}: not a CIFAR python batch")
    return {text(key): value for key, value in batch.items()}


def text(value: object) -> str:
    """Return a name that a pickle of Python 2 or 3 holds."""
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def batch(path: Path, label_key: str) -> tuple[np.ndarray, np.ndarray]:
    """Return images_NHWC (uint8) and labels_N (int64) of one batch file; raises DataError."""
    import numpy as np

    if not path.is_file():
        raise DataError(f"{path}: missing", hint="Unpack the whole archive of the owner")
    content = unpickle(path)
    data, labels = content.get("data"), content.get(label_key)
    if not isinstance(data, _ArrayStandIn) or not isinstance(labels, list):
        raise DataError(f"{path}: no data and {label_key}", hint="Get the file again")
    if data.shape != (len(labels), 3072) or len(data.content) != 3072 * len(labels):
        raise DataError(
            f"{path}: {len(labels):,} labels for images of shape {data.shape}",
            hint="Get the file again",
        )
    planes = np.frombuffer(data.content, dtype=np.uint8).reshape(-1, 3, 32, 32)
    if not all(isinstance(label, int) and 0 <= label < MAX_LABEL for label in labels):
        raise DataError(f"{path}: labels are not whole numbers from 0", hint="Get the file again")
    return planes.transpose(0, 2, 3, 1), np.array(labels, dtype=np.int64)


def read_cifar(path: Path) -> ArraySet:
    """Read CIFAR-10's batches, or CIFAR-100's files with their fine labels."""
    import numpy as np

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
    meta = unpickle(path / meta_name)
    listed = meta.get("label_names" if ten else "fine_label_names")
    class_names = tuple(map(text, listed)) if isinstance(listed, list) else ()
    splits = {}
    for split, batch_names in names.items():
        batches = [batch(path / name, label_key) for name in batch_names]
        labels_N = np.concatenate([labels for _, labels in batches])
        images_NHWC = np.concatenate([images for images, _ in batches])
        splits[split] = ArraySplit(
            labels_N, (32, 32), ", ".join(batch_names), partial(kept, images_NHWC)
        )
    return ArraySet((meta_name, *names["train"], *names["test"]), splits, class_names)


READERS = (
    ArrayReader(
        name="cifar",
        options=FileOptions,
        read=read_cifar,
        marks=(("batches.meta", "data_batch_1"), ("meta", "train", "test")),
    ),
)
