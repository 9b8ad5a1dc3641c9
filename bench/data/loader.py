"""Batches as a function of (seed, step): any step can be repeated without replaying the epoch.

Each epoch is a permutation of its own, drawn from (seed, epoch); batches run on over the end of
an epoch, so every example comes exactly once per epoch whatever the batch size. Augmentation draws
from a generator seeded with (seed, block of steps); the steps of a block are prepared together,
because after a training step the caches are cold and a small batch would cost ten times its work.
Nothing here keeps a state that a resumed job would miss.

A batch can be asked for in parts (`parts.py`): each is augmented as in the whole batch, so the
parts together are the batch, bit by bit.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from bench.data import decoders
from bench.data.crops import Draws, Randomness
from bench.data.packs.read import Originals, Split
from bench.data.parts import WHOLE, Part
from bench.data.sources.stream import ShardBatches
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
    """Training batches of a split (or of some of its examples), addressed by step and part.

    With `prefetch`, a thread prepares the next block of steps while this one is trained on, on a
    CUDA stream of its own. None: on CUDA, and where a job has decoders of its own; else a job on a
    CPU has no idle core (docs/performance.md, section "Data").
    """

    def __init__(
        self,
        split: Split,
        indices_N: np.ndarray | None,
        transform: Transform,
        *,
        batch_size: int,
        seed: int,
        device: torch.device | str = "cpu",
        prefetch: bool | None = None,
    ) -> None:
        self._split = split
        self._indices_N = np.arange(len(split.labels_N)) if indices_N is None else indices_N
        self._transform = transform
        self._batch_size = batch_size
        self._seed = seed
        self._device = torch.device(device)
        self._block_steps = _block_steps(split, batch_size)
        self._block = -1
        self._made: dict[Part, tuple[Tensor, Tensor]] = {}
        self._make_block = _made_by(self._make, self._device, prefetch)

    @property
    def num_examples(self) -> int:
        """Number of examples an epoch has."""
        return len(self._indices_N)

    def at(self, step: int, part: Part = WHOLE) -> tuple[Tensor, Tensor]:
        """Return x_BCHW (float32 in [-1, 1]) and y_B (int64) of a part of a step's batch."""
        block, within = divmod(step, self._block_steps)
        if self._block != block or self._block_steps == 1:
            self._made.clear()  # its memory may serve the next one
            self._block = block
        if part not in self._made:
            self._made[part] = self._make_block(block, part)
        x_BCHW, labels_B = self._made[part]
        size = len(labels_B) // self._block_steps
        return x_BCHW[within * size :][:size], labels_B[within * size :][:size]

    def _make(self, block: int, part: Part) -> tuple[Tensor, Tensor]:
        """Prepare the steps of a block together: the first call of an operation costs most."""
        num = self._batch_size * self._block_steps
        rows = self._indices_N[
            batch_indices(self.num_examples, batch_size=num, seed=self._seed, step=block)
        ]
        draws = Draws(step_generator(self._seed, block), num)
        if not part.is_whole:
            first_S1 = np.arange(self._block_steps)[:, None] * self._batch_size
            here = (first_S1 + part.rows(self._batch_size)).ravel()
            rows, draws = rows[here], replace(draws, rows_B=torch.from_numpy(here))
        labels_B = to_device(self._split.labels_N[rows], self._device)
        return inputs(self._split, rows, self._transform, draws, self._device), labels_B


def _block_steps(split: Split, batch_size: int) -> int:
    if isinstance(split.images_NHWC, Originals):
        return 1  # decoding takes so long that nothing is gained by more
    _, height, width, _ = split.images_NHWC.shape
    return max(1, min(MAX_BLOCK_STEPS, BLOCK_PIXELS // (batch_size * height * width)))


def inputs(
    split: Split,
    rows: slice | np.ndarray,
    transform: Transform,
    randomness: Randomness,
    device: torch.device,
) -> Tensor:
    """Return x_BCHW (float32) of some images of a split, on the device.

    Images of one size are transformed there; originals as they are decoded, on the CPU.
    """
    if isinstance(split.images_NHWC, Originals):
        chosen = np.arange(len(split.labels_N))[rows]
        x_BCHW = transform.originals(split.images_NHWC, chosen, randomness)
        return _sent(x_BCHW, device)
    return transform(to_device(split.images(rows), device), randomness)


class Streamed:
    """Training batches of a set that is read from its shards where they lie, addressed by step."""

    def __init__(
        self,
        batches: ShardBatches,
        transform: Transform,
        *,
        seed: int,
        device: torch.device | str = "cpu",
        prefetch: bool | None = None,
    ) -> None:
        self._batches = batches
        self._transform = transform
        self._seed = seed
        self._device = torch.device(device)
        self._make_step = _made_by(self._make, self._device, prefetch)

    def at(self, step: int, part: Part = WHOLE) -> tuple[Tensor, Tensor]:
        """Return x_BCHW (float32 in [-1, 1]) and y_B (int64) of a part of a step's batch."""
        return self._make_step(step, part)

    def _make(self, step: int, part: Part) -> tuple[Tensor, Tensor]:
        num = self._batches.batch_size
        here = part.rows(num)
        images, labels_B = self._batches.at(step, here)
        draws = Draws(step_generator(self._seed, step), num)
        if not part.is_whole:
            draws = replace(draws, rows_B=torch.from_numpy(here))
        if isinstance(images, np.ndarray):
            x_BCHW = self._transform(to_device(images, self._device), draws)
        else:
            originals = self._transform.originals(images, np.arange(len(labels_B)), draws)
            x_BCHW = _sent(originals, self._device)
        return x_BCHW, to_device(labels_B, self._device)


Make = Callable[[int, Part], tuple[Tensor, Tensor]]
"""(block of steps, part) -> x_BCHW, y_B."""


def _made_by(make: Make, device: torch.device, prefetch: bool | None) -> Make:
    """Return `make`, or the same with the next part prepared in the background."""
    return _Ahead(make, device).take if _reads_ahead(prefetch, device) else make


def _reads_ahead(prefetch: bool | None, device: torch.device) -> bool:
    if prefetch is None:
        return device.type == "cuda" or decoders.are_spare()
    return prefetch


class _Ahead:
    """One part prepared in the background; parts taken in order are ready when asked for."""

    def __init__(self, make: Make, device: torch.device) -> None:
        self._make = make
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._next: tuple[tuple[int, Part], Future[tuple[Tensor, Tensor]]] | None = None

    def take(self, block: int, part: Part) -> tuple[Tensor, Tensor]:
        """Return a part, and start on the one after it; an error of the thread is raised here."""
        if self._next is None or self._next[0] != (block, part):
            self._start(block, part)
        assert self._next is not None
        made = self._next[1].result()
        after = part.following()
        self._start(*((block, after) if after else (block + 1, part.first())))
        return made

    def _start(self, block: int, part: Part) -> None:
        self._next = (block, part), self._pool.submit(self._work, block, part)

    def _work(self, block: int, part: Part) -> tuple[Tensor, Tensor]:
        if self._stream is None:
            return self._make(block, part)
        with torch.cuda.stream(self._stream):
            made = self._make(block, part)
        # Here, in the thread, and not where the block is used: the device is through with the
        # block before anybody gets it, and the training stream never waits for the one after it.
        self._stream.synchronize()
        for tensor in made:
            tensor.record_stream(torch.cuda.default_stream(self._stream.device))
        return made


def to_device(values: np.ndarray, device: torch.device) -> Tensor:
    """Wrap an array as a tensor and send it to the device, without waiting where it can."""
    return _sent(torch.from_numpy(values), device)


def _sent(tensor: Tensor, device: torch.device) -> Tensor:
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
