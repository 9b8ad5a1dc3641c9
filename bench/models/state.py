"""Weights from one model to another: heads dropped, position embeddings interpolated.

Source: arXiv:2010.11929, section 3.2, and `checkpoint.load_pretrained` of the authors' code: the
patch side stays, the grid of position embeddings is resized bilinearly with corners aligned (which
is what `scipy.ndimage.zoom(order=1)` does), the class token's embedding is kept as it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

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
    own = encoder_state(model)
    if POSITIONS in own and POSITIONS in incoming:
        incoming[POSITIONS] = fit_positions(model, incoming[POSITIONS])
    check_shapes(own, incoming)
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(incoming[name])


def fit_positions(model: Classifier, positions_1ND: Tensor) -> Tensor:
    """Return position embeddings for the grid of `model`, interpolated where it is another."""
    own_1ND: Tensor = model.encoder.pos_embed  # type: ignore[assignment]
    if positions_1ND.ndim != 3 or positions_1ND.shape[1:] == own_1ND.shape[1:]:
        return positions_1ND
    num_class_tokens = int(model.system.args["pooling"] == "token")
    if not _is_grid(positions_1ND.shape[1] - num_class_tokens):
        return positions_1ND  # does not fit, and the check of shapes says so
    side = math.isqrt(own_1ND.shape[1] - num_class_tokens)
    return interpolate_positions(
        positions_1ND,
        side,
        num_class_tokens=num_class_tokens,
        as_timm=model.system.follows == "timm",
    )


def interpolate_positions(
    positions_1ND: Tensor, side: int, *, num_class_tokens: int = 1, as_timm: bool = False
) -> Tensor:
    """Return position embeddings resized to a grid of `side` x `side` patches.

    Bilinear with aligned corners, as the authors; `as_timm` gives timm's antialiased bicubic. The
    first `num_class_tokens` rows are kept as they are.
    """
    kept, grid_1ND = positions_1ND[:, :num_class_tokens], positions_1ND[:, num_class_tokens:]
    old = math.isqrt(grid_1ND.shape[1])
    grid_1DHW = grid_1ND.reshape(1, old, old, -1).permute(0, 3, 1, 2).float()
    size = (side, side)
    if as_timm:
        grid_1DHW = functional.interpolate(grid_1DHW, size, mode="bicubic", antialias=True)
    else:
        grid_1DHW = functional.interpolate(grid_1DHW, size, mode="bilinear", align_corners=True)
    grid_1ND = grid_1DHW.permute(0, 2, 3, 1).reshape(1, side * side, -1)
    return torch.cat([kept, grid_1ND.to(positions_1ND.dtype)], dim=1)


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
