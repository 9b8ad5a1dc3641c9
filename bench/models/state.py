"""Weights from one model to another: heads dropped, position embeddings interpolated.

Source: arXiv:2010.11929, section 3.2, and `checkpoint.load_pretrained` of the authors' code: the
patch side stays, the grid of position embeddings is resized bilinearly with corners aligned (which
is what `scipy.ndimage.zoom(order=1)` does), the class token's embedding is kept as it is.

No publication moves the other position embeddings of appendix D.4 to another resolution. Here the
same rule holds along their one axis: rows and columns of 2-D embeddings, and the offsets of
relative ones, are resized linearly with their ends aligned.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional

from bench.errors import CheckpointError
from bench.models.build import Classifier

POSITIONS = "encoder.pos_embed"


def encoder_state(model: Classifier) -> dict[str, Tensor]:
    """Return the state dict without the head (neither of its linear layers)."""
    return {
        name: tensor for name, tensor in model.state_dict().items() if name.startswith("encoder.")
    }


def load_encoder(model: Classifier, state: Mapping[str, Tensor]) -> None:
    """Copy all of `state` but the head (both linear layers) into `model`.

    Position embeddings of another grid are interpolated. Raises CheckpointError, naming the array
    and both shapes, where the rest does not fit; the model is then unchanged.
    """
    incoming = {name: tensor for name, tensor in state.items() if name.startswith("encoder.")}
    incoming = fit_encoder(model, incoming)
    own = encoder_state(model)
    for name in own.keys() & incoming.keys():
        if name == POSITIONS:
            incoming[name] = fit_positions(model, incoming[name])
        elif name.endswith((".pos_rows", ".pos_columns", ".offsets")):
            incoming[name] = _fit_axis(incoming[name], own[name])
    check_shapes(own, incoming)
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(incoming[name])


def fit_encoder(model: Classifier, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors by our names, resized where the encoder has a rule of its own for that."""
    rule: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]] | None
    rule = getattr(model.encoder, "fitted", None)
    if rule is None:
        return dict(state)
    resized = rule({name.removeprefix("encoder."): tensor for name, tensor in state.items()})
    return {**state, **{f"encoder.{name}": resized[name] for name in resized}}


def fit_positions(model: Classifier, positions_LND: Tensor) -> Tensor:
    """Return position embeddings for the grid of `model`, interpolated where it is another.

    L is 1, or the number of layers where each has its own.
    """
    own_LND: Tensor = model.encoder.pos_embed  # type: ignore[assignment]
    if positions_LND.ndim != 3 or positions_LND.shape[1:] == own_LND.shape[1:]:
        return positions_LND
    num_class_tokens = int(model.system.args["pooling"] == "token")
    if not _is_grid(positions_LND.shape[1] - num_class_tokens):
        return positions_LND  # does not fit, and the check of shapes says so
    side = math.isqrt(own_LND.shape[1] - num_class_tokens)
    return interpolate_positions(
        positions_LND,
        side,
        num_class_tokens=num_class_tokens,
        as_timm=model.system.follows == "timm",
    )


def interpolate_positions(
    positions_LND: Tensor, side: int, *, num_class_tokens: int = 1, as_timm: bool = False
) -> Tensor:
    """Return position embeddings resized to a grid of `side` x `side` patches.

    Bilinear with aligned corners, as the authors; `as_timm` gives timm's antialiased bicubic. The
    first `num_class_tokens` rows are kept as they are.
    """
    kept, grid_LND = positions_LND[:, :num_class_tokens], positions_LND[:, num_class_tokens:]
    old = math.isqrt(grid_LND.shape[1])
    grid_LDHW = grid_LND.reshape(len(grid_LND), old, old, -1).permute(0, 3, 1, 2).float()
    size = (side, side)
    if as_timm:
        grid_LDHW = functional.interpolate(grid_LDHW, size, mode="bicubic", antialias=True)
    else:
        grid_LDHW = functional.interpolate(grid_LDHW, size, mode="bilinear", align_corners=True)
    grid_LND = grid_LDHW.permute(0, 2, 3, 1).reshape(len(grid_LND), side * side, -1)
    return torch.cat([kept, grid_LND.to(positions_LND.dtype)], dim=1)


def _fit_axis(embeddings: Tensor, own: Tensor) -> Tensor:
    """Return embeddings (..., places, width) resized to the places that `own` has."""
    if embeddings.ndim != own.ndim or embeddings.shape[-2:] == own.shape[-2:]:
        return embeddings  # fits, or the check of shapes says that it does not
    by_width = embeddings.reshape(-1, *embeddings.shape[-2:]).transpose(1, 2).float()
    resized = functional.interpolate(
        by_width, own.shape[-2], mode="linear", align_corners=True
    ).transpose(1, 2)
    return resized.reshape(*embeddings.shape[:-2], *resized.shape[1:]).to(embeddings.dtype)


def check_shapes(own: Mapping[str, Tensor], incoming: Mapping[str, Tensor]) -> None:
    """Raise CheckpointError unless names and shapes are the same."""
    missing = [name for name in own if name not in incoming]
    extra = [name for name in incoming if name not in own]
    if missing or extra:
        raise CheckpointError(
            f"weights of another model: {_some('missing', missing)}{_some('unexpected', extra)}"
        )
    for name, tensor in own.items():
        if tensor.shape != incoming[name].shape:
            raise CheckpointError(
                f"{name} has shape {tuple(incoming[name].shape)} in the weights and "
                f"{tuple(tensor.shape)} in the model"
            )


def _some(word: str, names: list[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{word} {names[0]}{more}; "


def _is_grid(num_patches: int) -> bool:
    return num_patches > 0 and math.isqrt(num_patches) ** 2 == num_patches
