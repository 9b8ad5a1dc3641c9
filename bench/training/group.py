"""The workers that share every batch of a job: replicas of the model, or a shard of it each.

Every worker runs the whole job on its part of each batch (`Part`), and what leaves a job (files,
progress lines) leaves the first worker. Gradients are summed, each image weighted alike, so losses
are those of one worker but for rounding. A model is replicated (DDP), or sharded (FSDP2,
`fully_shard`) where a replica's training state does not fit the device. Checkpoints hold whole
tensors, so any number of workers continues from those of any other number.

A job without a group is the only worker of its own.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bench.data.parts import Part
from bench.training.blocks import repeated


@dataclass(frozen=True)
class Group:
    """The workers of a job, as one of them sees them."""

    rank: int = 0
    """Which one this is, from 0."""
    world: int = 1
    """How many there are."""
    sharded: bool = False
    """Whether each keeps a shard of what it trains, and not a replica."""

    @property
    def leads(self) -> bool:
        """Whether this worker writes and reports for all."""
        return self.rank == 0

    def part(self, piece: int = 0, pieces: int = 1) -> Part:
        """Return a piece of this worker's part of a batch."""
        return Part(piece, pieces, self.rank, self.world)

    def total(self, values: Tensor) -> Tensor:
        """Return the sum of what all workers have; they must all ask."""
        if self.world == 1:
            return values
        summed = values.clone()
        torch.distributed.all_reduce(summed)
        return summed

    def agreed(self, yes: bool) -> bool:
        """Return whether any worker says yes; they must all ask."""
        return yes if self.world == 1 else any(self.everyone(yes))

    def everyone(self, value: Any) -> list[Any]:
        """Return what each worker says, in order; they must all speak."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        torch.distributed.all_gather_object(values, value)
        return values


_group = Group()


def current() -> Group:
    """Return the group that this process works in."""
    return _group


@contextmanager
def working_in(group: Group) -> Iterator[None]:
    """Work in a group while the block runs; torch's process group is there already."""
    global _group
    before, _group = _group, group
    try:
        yield
    finally:
        _group = before


class Shared:
    """A model being trained by a group: this worker's modules, and their tensors as wholes."""

    def __init__(self, model: nn.Module, group: Group) -> None:
        """Share `model`, which is on this worker's device."""
        self.model = model
        self.forward: nn.Module = model
        self._whole: nn.Module | None = None
        if group.world == 1:
            return
        if group.sharded:
            self._whole, self.model = model, _sharded(model)
            self.forward = self.model
        else:
            replicas = nn.parallel.DistributedDataParallel
            self.forward = replicas(model, gradient_as_bucket_view=True)

    def accumulating(self, *, is_last: bool) -> AbstractContextManager[None]:
        """Return the context of a piece; gradients travel with the last one."""
        if self._whole is not None:
            self.model.set_requires_gradient_sync(is_last)  # type: ignore[operator]
        elif self.forward is not self.model and not is_last:
            return self.forward.no_sync()  # type: ignore[operator]
        return nullcontext()

    def whole(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return tensors as wholes, on the host where they were shards; all workers must ask."""
        if self._whole is None:
            return dict(tensors)
        return {
            name: full(tensor).cpu() if isinstance(tensor, _dtensor()) else tensor
            for name, tensor in tensors.items()
        }

    def parted(
        self, tensors: Mapping[str, Tensor], like: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return whole tensors as this worker keeps those of the same names."""
        if self._whole is None:
            return dict(tensors)
        return {name: _like(tensor, like[name]) for name, tensor in tensors.items()}

    def finish(self) -> None:
        """Put the weights into the model that was to be trained."""
        if self._whole is None:
            return
        device = next(self.model.parameters()).device
        self._whole.load_state_dict(self.whole(self.model.state_dict()))
        self._whole.to(device)


def full(tensor: Tensor) -> Tensor:
    """Return the whole of a tensor that is in shards; all workers must ask."""
    found: Any = tensor
    whole: Tensor = found.full_tensor() if isinstance(tensor, _dtensor()) else tensor
    return whole


def here(tensors: Iterable[Tensor]) -> list[Any]:
    """Return the part of each tensor that this worker holds, for work on each value by itself."""
    sharded: Any = _dtensor()
    return [tensor.to_local() if isinstance(tensor, sharded) else tensor for tensor in tensors]


def _dtensor() -> type:
    """Return the class of sharded tensors; a class of nothing where there is no group."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return _Nothing
    from torch.distributed.tensor import DTensor

    return DTensor


class _Nothing:
    """Nothing is one of these."""


def _like(whole: Tensor, there: Tensor) -> Tensor:
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(there, DTensor):
        return whole
    return distribute_tensor(whole.to(there.device), there.device_mesh, there.placements)


def _sharded(model: nn.Module) -> nn.Module:
    """Return a copy of a model in shards, and move the model itself to the host."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    device = next(model.parameters()).device
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    model.to("cpu")
    shards = copy.deepcopy(model)
    for block in repeated(shards):
        fully_shard(block.to(device), mesh=mesh)
    fully_shard(shards.to(device), mesh=mesh)
    return shards
