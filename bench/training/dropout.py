"""Dropout whose draws belong to examples: a hash of (seed, step, place in the batch, layer, value).

A generator's draws depend on what else is in the batch, on the device and on what was drawn before.
A hash of counters depends on nothing: a batch in pieces, on several workers, resumed, recomputed or
on another device drops the same values. One 64-bit hash serves four values, 16 bits each, so the
rate is met to within 2^-17, and what is kept is scaled by exactly the share that is kept.

The hash is the finalizer of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014, figure 16).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

_PARTS = 1 << 16
_GAMMA = -0x61C8864680B583EB  # 0x9E3779B97F4A7C15 as a signed number
_FIRST, _SECOND = -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15


class Places:
    """Where the images that are being computed stand: their step, and their place in its batch."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self.keys_B: Tensor | None = None
        """One number for each image, int64; None before the first step."""

    def stand(self, step: int, rows_B: np.ndarray, device: torch.device) -> None:
        """Say which images of which step come next."""
        words = np.random.SeedSequence((self._seed, step)).generate_state(1, np.uint64)
        keys_B = words.view(np.int64) + rows_B * np.int64(_GAMMA)
        self.keys_B = _mixed(torch.from_numpy(keys_B).to(device))


class Dropout(nn.Module):
    """Sets a share of the values of each image to zero, and scales the others up, in training."""

    def __init__(self, rate: float, places: Places, *, layer: int) -> None:
        """Drop `rate` (0 to 1) of the values; `layer` tells its draws from those of others."""
        super().__init__()
        self._num_dropped = round(rate * _PARTS)
        self._places = places
        self._stream = (layer * _SECOND + 2**63) % 2**64 - 2**63

    def forward(self, x: Tensor) -> Tensor:
        """Return x, whose first axis is that of the images, with some values dropped."""
        keys_B = self._places.keys_B
        if not self.training or self._num_dropped == 0:
            return x
        if keys_B is None or len(keys_B) != len(x):
            raise ValueError("dropout was not told which images these are")
        dropped = self._dropped(keys_B, x[0].numel()).view_as(x)
        return x.masked_fill(dropped, 0.0) * (_PARTS / (_PARTS - self._num_dropped))

    def _dropped(self, keys_B: Tensor, num: int) -> Tensor:
        """Return which of the `num` values of each image are dropped, bool."""
        counters_W = torch.arange(-(-num // 4), device=keys_B.device)
        keys_B1 = _mixed(keys_B + self._stream)[:, None]
        draws_BV = _mixed(counters_W * _GAMMA + keys_B1).view(torch.int16)[:, :num]
        return draws_BV < self._num_dropped - _PARTS // 2


def drop_by_place(model: nn.Module, seed: int) -> Places | None:
    """Replace torch's dropout layers of a model, in place; None where it has none that drop."""
    places = Places(seed)
    found = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if isinstance(child, nn.Dropout) and child.p > 0
    ]
    for layer, (parent, name, child) in enumerate(found):
        setattr(parent, name, Dropout(child.p, places, layer=layer))
    return places if found else None


def _mixed(numbers: Tensor) -> Tensor:
    """Return well-mixed bits of each number; shifts are of unsigned numbers."""
    numbers = (numbers ^ (numbers >> 30 & 0x3FFFFFFFF)) * _FIRST
    numbers = (numbers ^ (numbers >> 27 & 0x1FFFFFFFFF)) * _SECOND
    return numbers ^ (numbers >> 31 & 0x1FFFFFFFF)
