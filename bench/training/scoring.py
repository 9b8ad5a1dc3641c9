"""Scoring with frozen weights: a split in fixed batches, each as many images at once as there is
memory for.

Results leave the device batch after batch: neither it nor the host ever holds those of a split.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench.data import loader
from bench.data.packs.read import Split
from bench.data.transforms import Transform
from bench.specs import EVALUATION_BATCH
from bench.training import devices
from bench.training.group import Group, current
from bench.training.memory import is_exhausted

_log = logging.getLogger(__name__)

_num_at_once = EVALUATION_BATCH

Told = Callable[[int, int], None]
"""Takes how many images of a split are scored, and how many there are."""


def _nobody(done: int, total: int) -> None:
    del done, total


_tell: Told = _nobody


@contextmanager
def at_once(num_images: int) -> Iterator[None]:
    """Score at most so many images at once in the block; batches stay what they are."""
    global _num_at_once
    before, _num_at_once = _num_at_once, num_images
    try:
        yield
    finally:
        _num_at_once = before


@contextmanager
def told(tell: Told) -> Iterator[None]:
    """Say in the block how far scoring is, batch after batch; one worker of a group does."""
    global _tell
    before, _tell = _tell, tell
    try:
        yield
    finally:
        _tell = before


def evaluate(
    model: nn.Module, split: Split, transform: Transform, *, indices_N: np.ndarray | None = None
) -> np.ndarray:
    """Return hits_N (bool): whether the highest-scored class of each image is its label.

    `indices_N` selects images of the split, in order; None takes all of them.
    """
    labels_N = split.labels_N if indices_N is None else split.labels_N[indices_N]
    hits_N: np.ndarray = classify(model, split, transform, indices_N=indices_N) == labels_N
    return hits_N


def classify(
    model: nn.Module, split: Split, transform: Transform, *, indices_N: np.ndarray | None = None
) -> np.ndarray:
    """Return classes_N (int64), the highest-scored class of each image; `indices_N` as above."""

    def answers(x_BCHW: Tensor) -> Tensor:
        classes_B: Tensor = model(x_BCHW).float().argmax(dim=1)
        return classes_B

    return np.concatenate(list(_outputs(model, answers, split, transform, indices_N)))


def scores(model: nn.Module, split: Split, transform: Transform) -> Iterator[np.ndarray]:
    """Yield the scores of a split's images, float32 (B, K), batch after batch in order."""
    return _outputs(model, model, split, transform, None)


def extract_features(
    model: nn.Module, split: Split, transform: Transform, *, rows_N: np.ndarray | None = None
) -> Iterator[np.ndarray]:
    """Yield the frozen representation z_BD (float32) of every image, or of some rows, in order.

    Needs `model.features`.
    """
    features: Any = model.features
    return _outputs(model, features, split, transform, rows_N)


def _outputs(
    model: nn.Module,
    function: Callable[[Tensor], Tensor],
    split: Split,
    transform: Transform,
    indices_N: np.ndarray | None,
) -> Iterator[np.ndarray]:
    """Yield `function` of the images batch after batch; nothing is learned from them.

    A batch is fetched when the next one is under way, so that a device need not wait. Workers of a
    group take turns, and each has the results of all.
    """
    num = len(split.labels_N) if indices_N is None else len(indices_N)
    batches = _Batches(function, split, transform, indices_N, next(model.parameters()).device)
    model.eval()
    group = current()
    starts = range(0, num, EVALUATION_BATCH)
    under_way: list[Tensor] = []
    for first in range(0, len(starts), group.world):
        own = starts[first : first + group.world][group.rank :][:1]
        rows = [batches.outputs(start, min(start + EVALUATION_BATCH, num)) for start in own]
        yield from _of_all(group, under_way) if first else ()
        under_way = rows
        if group.leads:
            _tell(min((first + group.world) * EVALUATION_BATCH, num), num)
    yield from _of_all(group, under_way)


def _of_all(group: Group, own: list[Tensor]) -> Iterator[np.ndarray]:
    """Yield what each worker of the group has, in order: one batch each, or none at the end."""
    for rows in group.everyone([rows_BF.cpu().numpy() for rows_BF in own]):
        yield from rows


class _Batches:
    """A function of batches of a split, of half as many images at once after memory ran out."""

    def __init__(
        self,
        function: Callable[[Tensor], Tensor],
        split: Split,
        transform: Transform,
        indices_N: np.ndarray | None,
        device: torch.device,
    ) -> None:
        self._function = function
        self._split = split
        self._transform = transform
        self._indices_N = indices_N
        self._device = device
        self._num_at_once = _num_at_once

    def outputs(self, start: int, stop: int) -> Tensor:
        """Return the function of images `start` to `stop`, on the device.

        Raises what says that memory is exhausted where it is at one image.
        """
        while True:
            try:
                return self._in_pieces(start, stop)
            except (MemoryError, RuntimeError) as error:
                if not is_exhausted(error) or self._num_at_once == 1:
                    raise
            # Here, and not in the handler: the frames of the error hold tensors.
            devices.release(self._device.type)
            self._num_at_once = min(self._num_at_once, stop - start) // 2 or 1
            _log.warning("memory is exhausted: going on with %d images at once", self._num_at_once)

    def _in_pieces(self, start: int, stop: int) -> Tensor:
        firsts = range(start, stop, self._num_at_once)
        pieces = [self._piece(first, min(first + self._num_at_once, stop)) for first in firsts]
        return torch.cat(pieces) if len(pieces) > 1 else pieces[0]

    def _piece(self, start: int, stop: int) -> Tensor:
        rows = slice(start, stop) if self._indices_N is None else self._indices_N[start:stop]
        with torch.inference_mode():  # not around a yield: the mode would leak to the caller
            x_BCHW = loader.inputs(self._split, rows, self._transform, None, self._device)
            rows_BF = self._function(x_BCHW)
            return rows_BF.float() if rows_BF.is_floating_point() else rows_BF
