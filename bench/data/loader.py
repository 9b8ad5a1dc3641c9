"""Batches as a function of (seed, step): any step can be repeated without replaying the epoch.

Each epoch is a permutation of its own, drawn from (seed, epoch); batches run on over the end of
an epoch, so every example comes exactly once per epoch whatever the batch size. Augmentation draws
from a generator seeded with (seed, block of steps); the steps of a block are prepared together,
because after a training step the caches are cold and a small batch would cost ten times its work.
Nothing here keeps a state that a resumed job would miss.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from bench.data.prepare import Split
from bench.data.transforms import Transform

BLOCK_PIXELS = 1 << 17
"""Pixels prepared at once: small batches are made several steps at a time."""

MAX_BLOCK_STEPS = 8
"""Most steps prepared at once."""


@lru_cache(maxsize=2)
def _permutation(num_examples: int, seed: int, epoch: int) -> np.ndarray:
    order_N = np.random.default_rng((seed, epoch)).permutation(num_examples)
    order_N.setflags(write=False)
    return order_N


def batch_indices(num_examples: int, *, batch_size: int, seed: int, step: int) -> np.ndarray:
    """Return the indices idx_B (int64) of the examples of batch `step`, counted from zero."""
    if num_examples < 1 or batch_size < 1 or step < 0:
        raise ValueError("batches need at least one example, one per batch, and a step from zero")
    start, parts = step * batch_size, []
    stop = start + batch_size
    while start < stop:
        epoch, offset = divmod(start, num_examples)
        taken = min(num_examples - offset, stop - start)
        parts.append(_permutation(num_examples, seed, epoch)[offset : offset + taken])
        start += taken
    return np.concatenate(parts)


def step_generator(seed: int, step: int) -> torch.Generator:
    """Return the generator of a step's augmentation: streams of (seed, step) do not overlap."""
    mixed = np.random.SeedSequence((seed, step)).generate_state(2, dtype=np.uint32)
    # torch keeps 64 bits of a seed and accepts 63.
    return torch.Generator().manual_seed(int(mixed[0]) << 31 | int(mixed[1]) >> 1)


class Batches:
    """Training batches of a split (or of some of its examples), addressed by step."""

    def __init__(
        self,
        split: Split,
        indices_N: np.ndarray | None,
        transform: Transform,
        *,
        batch_size: int,
        seed: int,
        device: torch.device | str = "cpu",
    ) -> None:
        self._split = split
        self._indices_N = np.arange(len(split.labels_N)) if indices_N is None else indices_N
        self._transform = transform
        self._batch_size = batch_size
        self._seed = seed
        self._device = torch.device(device)
        pixels = batch_size * split.images_NHWC.shape[1] * split.images_NHWC.shape[2]
        self._block_steps = max(1, min(MAX_BLOCK_STEPS, BLOCK_PIXELS // pixels))
        self._block: tuple[int, Tensor, Tensor] | None = None

    @property
    def num_examples(self) -> int:
        """Number of examples an epoch has."""
        return len(self._indices_N)

    def at(self, step: int) -> tuple[Tensor, Tensor]:
        """Return x_BCHW (float32 in [-1, 1]) and y_B (int64) of a step, on the device."""
        block, within = divmod(step, self._block_steps)
        if self._block is None or self._block[0] != block:
            self._block = (block, *self._make(block))
        _, x_BCHW, labels_B = self._block
        part = slice(within * self._batch_size, (within + 1) * self._batch_size)
        return x_BCHW[part], labels_B[part]

    def _make(self, block: int) -> tuple[Tensor, Tensor]:
        """Prepare the steps of a block together: the first call of an operation costs most."""
        rows = self._indices_N[
            batch_indices(
                self.num_examples,
                batch_size=self._batch_size * self._block_steps,
                seed=self._seed,
                step=block,
            )
        ]
        images_BHWC = to_device(self._split.images_NHWC[rows], self._device)
        labels_B = to_device(self._split.labels_N[rows], self._device)
        return self._transform(images_BHWC, step_generator(self._seed, block)), labels_B


def evaluation_batches(
    split: Split,
    transform: Transform,
    *,
    batch_size: int,
    device: torch.device | str = "cpu",
    indices_N: np.ndarray | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield x_BCHW and y_B over the split in order, each example once; the last may be smaller."""
    num = len(split.labels_N) if indices_N is None else len(indices_N)
    for start in range(0, num, batch_size):
        rows: slice | np.ndarray = slice(start, start + batch_size)
        if indices_N is not None:
            rows = indices_N[start : start + batch_size]
        images_BHWC = to_device(split.images_NHWC[rows], torch.device(device))
        yield transform(images_BHWC, None), to_device(split.labels_N[rows], torch.device(device))


def to_device(values: np.ndarray, device: torch.device) -> Tensor:
    """Wrap an array as a tensor and send it to the device, without waiting where it can."""
    tensor = torch.from_numpy(values)
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
