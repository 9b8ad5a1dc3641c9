"""Weights in and out of files, by any of the layouts people have.

`safetensors` is our own: our names, with a JSON card next to the file. The others are those of the
system's family, such as `npz` (the authors' of ViT, hybrid and BiT) and `timm` (timm's names, in
safetensors or `.pth`). All are read and written.

Nothing read is executed: object arrays and pickled code are refused.
"""

from __future__ import annotations

import json
import pickle
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

import baselines
from baselines.arrays import state_in
from baselines.contents import OWN, layout_of, looks_like
from bench.errors import CheckpointError, UserError
from bench.files import file_sha256, replacing, write_text
from bench.models import layouts
from bench.models.build import Classifier, build
from bench.models.fetch import fetch
from bench.models.state import check_shapes, encoder_state, load_encoder
from bench.paths import WorkPaths
from bench.specs import SystemUse, WeightsSource

_DAMAGE = (
    OSError,
    ValueError,
    KeyError,
    EOFError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
    pickle.UnpicklingError,
    SafetensorError,
)


def load_weights(
    model: Classifier,
    source: str | Path | WeightsSource,
    *,
    head: Literal["load", "drop"] = "load",
    cache_dir: Path | None = None,
    workdir: Path | None = None,
) -> None:
    """Load weights into `model` from a file, a hub name, an official address or a card's entry.

    Position embeddings of another grid are interpolated. `head="load"` takes representation layer
    and head too, which then must fit; `head="drop"` takes the encoder only, for transfer. With a
    `workdir`, what is public must be the file that this work folder used first. Raises
    CheckpointError, naming the array and both shapes and saying which system the file looks like;
    the model is then unchanged.

    >>> model = build("vit-micro", num_classes=10)
    >>> load_weights(model, "hf-hub:../secret")
    Traceback (most recent call last):
    ...
    bench.errors.UserError: "hf-hub:../secret" is not a hub name. Write hf-hub:OWNER/NAME[@REVISION]
    """
    if head not in ("load", "drop"):
        raise UserError(f'head = {head!r} is not "load" or "drop"')
    arrays = read_arrays(_local(source, cache_dir, workdir))
    shapes = {name: tuple(array.shape) for name, array in arrays.items()}
    named = source.layout if isinstance(source, WeightsSource) else ""
    layout = layout_of(model.system, shapes, named=named)
    if layout is None:
        _load_own(model, arrays, head == "load")
        return
    state = layouts.read(model, arrays, layout, head=head == "load")
    with torch.no_grad():
        own = model.state_dict()
        for name, tensor in state.items():
            own[name].copy_(tensor)


def save_weights(model: Classifier, path: str | Path, *, layout: str = OWN) -> Path:
    """Write the weights of `model` in a layout; return the file. Reading them back is bit-exact.

    `layout` is one of the system's family, such as `npz` or `timm`, or `safetensors`, which also
    writes `<name>.json`: system, sizes, classes and digest, from which `load_model` builds the
    model again.
    """
    family = baselines.family_of(model.system)
    theirs = None if layout == OWN else family.layout(layout)
    ending = ".safetensors" if theirs is None else theirs.ending
    path = Path(path)
    if path.suffix != ending:
        raise UserError(f'{path}: a file of layout "{layout}" ends in {ending}')
    with replacing(path) as temporary:
        if theirs is not None and theirs.ending == ".npz":
            arrays = {name: t.numpy(force=True) for name, t in layouts.write(model, theirs).items()}
            with temporary.open("wb") as file:
                np.savez(file, **arrays)  # type: ignore[arg-type]
        elif theirs is not None:
            save_file(layouts.write(model, theirs), temporary)
        else:
            save_file({name: t.contiguous() for name, t in model.state_dict().items()}, temporary)
            card = _card(model, file_sha256(temporary))
            write_text(path.with_suffix(".json"), json.dumps(card, indent=2) + "\n")
    return path


def load_model(path: str | Path) -> Classifier:
    """Return the model that `save_weights(..., layout="safetensors")` wrote, head included."""
    path = Path(path)
    card_path = path.with_suffix(".json")
    try:
        card = json.loads(card_path.read_text(encoding="utf-8"))
        use = SystemUse.model_validate(card["system"])
        sizes = {key: int(card[key]) for key in ("num_classes", "image_size_px")}
        representation = int(card["representation_dim"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{card_path}: no card to build the model from ({error})",
            hint="Build the model yourself and use load_weights",
        ) from error
    # The layer may have come with a pre-training head, which the arguments do not tell.
    extra = {"representation_dim": representation} if representation else {}
    model = build(use, **sizes, **extra)  # type: ignore[arg-type]
    load_weights(model, path)
    return model


def read_arrays(path: Path) -> dict[str, Tensor]:
    """Return every array of a `.npz`, `.safetensors` or torch file as a tensor, executing nothing.

    Raises CheckpointError for a damaged file, an object array or a number that is not finite.
    """
    try:
        if path.suffix == ".npz":
            arrays = _read_npz(path)
        elif path.suffix == ".safetensors":
            _check_card(path)
            arrays = load_file(path)
        else:
            arrays = _read_torch(path)
    except _DAMAGE as error:
        raise CheckpointError(
            f"{path}: not a readable weights file ({_first_line(error)})",
            hint="Get the file again; it may be cut short or damaged",
        ) from error
    for name, array in arrays.items():
        if array.is_floating_point() and not torch.isfinite(array).all():
            raise CheckpointError(f"{path}: array {name} holds NaN or infinity")
    return arrays


def _load_own(model: Classifier, arrays: Mapping[str, Tensor], head: bool) -> None:
    try:
        if not head:
            load_encoder(model, arrays)
            return
        state = model.state_dict()
        rest = {key: t for key, t in arrays.items() if not key.startswith("encoder.")}
        check_shapes({key: state[key] for key in state.keys() - encoder_state(model).keys()}, rest)
        load_encoder(model, arrays)
        with torch.no_grad():
            for key, tensor in rest.items():
                state[key].copy_(tensor)
    except CheckpointError as error:
        shapes = {name: tuple(array.shape) for name, array in arrays.items()}
        raise CheckpointError(error.message, hint=looks_like(shapes)) from error


def _local(
    source: str | Path | WeightsSource, cache_dir: Path | None, workdir: Path | None
) -> Path:
    if isinstance(source, WeightsSource) or str(source).startswith(("hf-hub:", "https:", "http:")):
        shared = None if workdir is None else WorkPaths(workdir).cache
        return fetch(source, cache_dir=cache_dir, shared=shared).path  # type: ignore[arg-type]
    path = Path(source)
    if not path.is_file():
        raise UserError(f"{path}: there is no such weights file", hint="Name a file or hf-hub:...")
    return path


def _read_npz(path: Path) -> dict[str, Tensor]:
    arrays = {}
    with np.load(path, allow_pickle=False) as file:
        for name in file.files:
            try:
                array = file[name]
            except ValueError as error:
                raise ValueError(f"array {name}: {error}") from error
            if array.dtype.kind == "V" and array.dtype.itemsize == 2:
                tensor = torch.from_numpy(array.view(np.uint16).copy()).view(torch.bfloat16)
                arrays[name] = tensor.float()
            elif array.dtype.kind in "fiu":
                arrays[name] = torch.from_numpy(np.ascontiguousarray(array))
            else:
                raise ValueError(f"array {name} has type {array.dtype}, which is not numeric")
    return arrays


def _read_torch(path: Path) -> dict[str, Tensor]:
    content: Any = torch.load(path, map_location="cpu", weights_only=True)
    content = state_in(content)
    if not isinstance(content, dict) or not all(isinstance(t, Tensor) for t in content.values()):
        raise ValueError("holds something other than named tensors")
    return content


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or "damaged"


def _check_card(path: Path) -> None:
    """Compare a file of ours with the digest in its card; safetensors has no checksum itself."""
    card_path = path.with_suffix(".json")
    if card_path.is_file():
        card = json.loads(card_path.read_text(encoding="utf-8"))
        expected = card.get("sha256", "") if isinstance(card, dict) else ""
        if expected and file_sha256(path) != expected:
            raise ValueError(f"its SHA-256 is not the one in {card_path.name}")


def _card(model: Classifier, sha256: str) -> dict[str, Any]:
    return {
        "format": 1,
        "system": model.system.model_dump(mode="json"),
        "image_size_px": model.image_size_px,
        "num_classes": model.head.out_features,
        "representation_dim": 0 if model.pre_logits is None else model.pre_logits.out_features,
        "sha256": sha256,
    }
