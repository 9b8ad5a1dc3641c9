"""A weights file of the user's own, before any tensor of it is read: digest, names and shapes.

Planning imports no torch and executes nothing of a file: headers are read, and of a torch file the
pickle with stand-ins for tensors. What is in no state dict of plain tensors is refused here, as the
job would refuse it. Digests are remembered by size and times of the file, as those of data are.
"""

from __future__ import annotations

import json
import pickle
import struct
import zipfile
import zlib
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from baselines.arrays import Shapes, state_in
from bench.data.sources.files import hashes
from bench.errors import UserError

TORCH = (".pth", ".pt", ".bin")
"""Endings of torch files."""
ENDINGS = (".npz", ".safetensors", *TORCH)
"""Endings of the files that are read."""

_MOST_HEADER_BYTES = 100_000_000
"""A safetensors header may not be longer, as in its own library."""

_DAMAGE = (
    OSError,
    ValueError,
    LookupError,
    EOFError,
    TypeError,
    AttributeError,
    RecursionError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
    pickle.UnpicklingError,
)


@dataclass(frozen=True)
class WeightsFile:
    """A weights file on this machine, as a plan knows it."""

    path: Path
    """The file, absolute."""
    sha256: str
    """SHA-256 of its bytes, in hex."""
    shapes: Shapes
    """Shapes of its arrays, by name."""


def look(path: Path) -> WeightsFile:
    """Return what a plan must know of a file; UserError where it cannot be one of weights."""
    if path.is_dir():
        raise UserError(f"{path}: is a folder", hint="Name the file of weights in it")
    if not path.exists():
        raise UserError(f"{path}: no such file", hint="A relative path starts at the suite file")
    if path.suffix not in ENDINGS or not path.is_file():
        raise UserError(
            f"{path}: not a file of weights by its name",
            hint=f"Files end in {', '.join(ENDINGS)}",
        )
    shapes = _shapes(path)
    if not shapes:
        raise UserError(f"{path}: holds no arrays", hint="Name another file")
    return WeightsFile(path, hashes(path.parent, [path.name])[path.name], shapes)


class _Refused(Exception):
    """A torch file holds more than tensors."""


def _shapes(path: Path) -> Shapes:
    try:
        if path.suffix == ".npz":
            return _of_npz(path)
        if path.suffix == ".safetensors":
            return _of_safetensors(path)
        return _of_torch(path)
    except _Refused as error:
        raise UserError(
            f"{path}: holds {error}, and code in a file is not executed",
            hint="Save the tensors alone: torch.save(model.state_dict(), FILE)",
        ) from error
    except PermissionError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror})", hint="Check its permissions"
        ) from error
    except _DAMAGE as error:
        words = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise UserError(
            f"{path}: not a readable weights file ({words})",
            hint="Get the file again; it may be cut short or damaged",
        ) from error


def _of_npz(path: Path) -> Shapes:
    from numpy.lib import format as npy

    found = {}
    with zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            name = member.removesuffix(".npy")
            with archive.open(member) as file:
                version = npy.read_magic(file)
                read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
                shape, _, dtype = read(file)
            # bfloat16 has no name in numpy: its files say "two bytes".
            if dtype.kind not in "fiu" and not (dtype.kind == "V" and dtype.itemsize == 2):
                raise ValueError(f"array {name} has type {dtype}, which is not numeric")
            found[name] = tuple(shape)
    return found


def _of_safetensors(path: Path) -> Shapes:
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > _MOST_HEADER_BYTES:
            raise ValueError("its header is too long")
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
    if path.stat().st_size != 8 + length + end:
        raise ValueError("it is not as long as its header says")
    return {name: tuple(map(int, entry["shape"])) for name, entry in header.items()}


# --- torch files ----------------------------------------------------------------------------


class _Shape(tuple[int, ...]):
    """Stands for a tensor."""


def _tensor(storage: Any, offset: Any, size: Any, *rest: Any) -> _Shape:
    """Stand for `torch._utils._rebuild_tensor_v2`: its size is all that is wanted."""
    del storage, offset, rest
    return _Shape(map(int, size))


def _parameter(data: _Shape, *rest: Any) -> _Shape:
    """Stand for `torch._utils._rebuild_parameter`."""
    del rest
    return data


_STAND_INS: dict[tuple[str, str], Any] = {
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch", "Size"): tuple,
    ("collections", "OrderedDict"): OrderedDict,
}


class _Reader(pickle.Unpickler):
    """Reads the pickle of a torch file with stand-ins; nothing that it names is imported."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _STAND_INS:
            return _STAND_INS[module, name]
        if module == "torch" and name.isidentifier():
            return f"torch.{name}"  # a type of numbers or of storage: no more than its name
        raise _Refused(f"a {module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        return pid


def _of_torch(path: Path) -> Shapes:
    with path.open("rb") as file:
        content = state_in(_unpickled(file))
    if not isinstance(content, dict):
        raise ValueError("holds something other than named tensors")
    for name, value in content.items():
        if not (isinstance(name, str) and isinstance(value, _Shape)):
            raise ValueError(f"its entry {name!r} is no tensor")
    return dict(content)


def _unpickled(file: IO[bytes]) -> Any:
    if not zipfile.is_zipfile(file):  # of before torch 1.6: three records of versions come first
        file.seek(0)
        for _ in range(3):
            _Reader(file).load()
        return _Reader(file).load()
    with zipfile.ZipFile(file) as archive:
        (member,) = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        with archive.open(member) as pickled:
            return _Reader(pickled).load()
