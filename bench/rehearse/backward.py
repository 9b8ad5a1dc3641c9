"""Backward over the graph of autograd, node by node, without torch's own engine.

The engine asks the accelerator's driver for its streams as soon as a tensor says that it is on
one, and raises where there is no driver. The graph, its nodes and their formulas are torch's.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


class _Saved:
    """A tensor that a node keeps for its backward pass."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor: Tensor | None = tensor


class Graph:
    """What forward passes keep while `recording`, and the way back through it."""

    def __init__(self) -> None:
        self._read: list[_Saved] = []

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Keep what nodes save where it can be let go of as soon as a node is done."""
        with torch.autograd.graph.saved_tensors_hooks(_Saved, self._unpack):
            yield

    def _unpack(self, saved: _Saved) -> Tensor:
        if saved.tensor is None:
            raise RuntimeError("Trying to backward through the graph a second time")
        self._read.append(saved)
        return saved.tensor

    @torch.no_grad()
    def backward(self, loss: Tensor) -> None:
        """Add the gradients of `loss` to the leaves, as `loss.backward()` does."""
        root: Any = loss.grad_fn
        if root is None:
            raise RuntimeError("element 0 of tensors does not require grad and has no grad_fn")
        waits_for = _num_users(root)
        inputs: dict[Any, list[Tensor | None]] = {root: [torch.ones_like(loss)]}
        # Latest first, as the engine does: what was kept last is let go of first.
        ready = [(-root._sequence_nr(), 0, root)]
        while ready:
            _, _, node = heapq.heappop(ready)
            outputs = self._run(node, inputs.pop(node))
            for (user, place), gradient in zip(node.next_functions, outputs, strict=True):
                if user is None:
                    continue
                _add(inputs.setdefault(user, [None] * len(user._input_metadata)), place, gradient)
                waits_for[user] -= 1
                if not waits_for[user]:
                    heapq.heappush(ready, (-user._sequence_nr(), id(user), user))

    def _run(self, node: Any, gradients: list[Tensor | None]) -> tuple[Tensor | None, ...]:
        """Return what a node gives, and let go of what it had kept."""
        if all(gradient is None for gradient in gradients):
            return (None,) * len(node.next_functions)
        fitted = [
            gradient if gradient is None else _fitted(gradient, metadata, node)
            for gradient, metadata in zip(gradients, node._input_metadata, strict=True)
        ]
        gradients.clear()
        found = node(*fitted)
        for saved in self._read:
            saved.tensor = None
        self._read.clear()
        return found if isinstance(found, tuple) else (found,)[: len(node.next_functions)]


def _num_users(root: Any) -> dict[Any, int]:
    """Return how many gradients each node of a graph waits for."""
    found: dict[Any, int] = {root: 0}
    waiting = [root]
    while waiting:
        for user, _ in waiting.pop().next_functions:
            if user is None:
                continue
            if user not in found:
                found[user] = 0
                waiting.append(user)
            found[user] += 1
    return found


def _add(gradients: list[Tensor | None], place: int, gradient: Tensor | None) -> None:
    there = gradients[place]
    if gradient is not None:
        gradients[place] = gradient if there is None else there + gradient


def _fitted(gradient: Tensor, metadata: Any, node: Any) -> Tensor:
    """Return a gradient as what it is of is; raises where shape or device do not fit."""
    if gradient.device != metadata.device:
        raise RuntimeError(
            f"{node.name()} got a gradient on {gradient.device} and expected {metadata.device}"
        )
    # Summed over what was broadcast on the way forward; raises where the shapes do not fit.
    return gradient.sum_to_size(tuple(metadata.shape)).to(metadata.dtype)
