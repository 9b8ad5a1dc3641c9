"""A GPU that is not there: tensors with a device, a type and a shape, and no values.

Under `pretended` every tensor is a fake one (`torch._subclasses.FakeTensorMode`), those "on cuda"
included, so that the code of a job runs as it is at full size, on any machine: what does not agree
in device, type or shape raises what it would raise on the device. Whatever is read from a tensor
is made up: a number is 1, an array is zeros, and nothing is where something is looked for.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor
from torch._subclasses import fake_tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from bench.rehearse.backward import Graph

_ALLOCATED_BYTES = 512
"""CUDA's allocator of torch gives out multiples of this."""

_READS = torch.ops.aten._local_scalar_dense.default
_FUSED_SGD = torch.ops.aten._fused_sgd_.default
_OF_ONE_TYPE = {
    getattr(torch.ops.aten, name).default
    for name in ("mm", "addmm", "bmm", "baddbmm", "convolution", "convolution_backward")
}
"""Products: their fakes let types mix, and their kernels do not."""
_LOOKS_FOR = torch.ops.aten.nonzero.default


class Held:
    """Bytes that fake tensors of one device hold, now and at most."""

    def __init__(self, device_kind: str) -> None:
        self.now_bytes = 0
        self.peak_bytes = 0
        self._device_kind = device_kind
        self._storages: weakref.WeakSet[Any] = weakref.WeakSet()

    def restart(self) -> None:
        """Look for the peak from here on."""
        self.peak_bytes = self.now_bytes

    @property
    def peak_gib(self) -> float:
        """Most memory that was held since the last restart, in GiB."""
        return self.peak_bytes / 2**30

    def add(self, tensor: FakeTensor) -> None:
        """Count the storage of a tensor until nothing refers to it; views share theirs."""
        storage = tensor.untyped_storage()
        if tensor.fake_device.type != self._device_kind or storage in self._storages:
            return
        num_bytes = -(-storage.nbytes() // _ALLOCATED_BYTES) * _ALLOCATED_BYTES
        self._storages.add(storage)
        weakref.finalize(storage, self._drop, num_bytes).atexit = False
        self.now_bytes += num_bytes
        self.peak_bytes = max(self.peak_bytes, self.now_bytes)

    def _drop(self, num_bytes: int) -> None:
        self.now_bytes -= num_bytes


class _Mode(FakeTensorMode):
    """Fake tensors that answer when they are read, and whose storages are counted."""

    def __init__(self, held: Held) -> None:
        super().__init__(allow_non_fake_inputs=True, allow_fallback_kernels=False)
        self._held = held
        self._depth = 0

    @property
    def avoid_device_init(self) -> bool:
        """Whether no driver is called, even where `torch.cuda` says that there is one."""
        return True

    def dispatch(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """Return what an operation gives, without doing it."""
        if func is _READS:
            return _one(args[0].dtype)
        if func is _LOOKS_FOR:
            with self:
                return torch.empty(0, args[0].dim(), dtype=torch.int64, device=args[0].device)
        if func in _OF_ONE_TYPE:
            _check_types(func, args)
        if func is _FUSED_SGD:  # which has no fake of its own
            for changed in (args[0], args[2]):
                torch._foreach_add_(changed, args[1])
            return None
        self._depth += 1
        try:
            found = super().dispatch(func, types, args, kwargs or {})
        finally:
            self._depth -= 1
        # Modules swap their tensors as they move, which weak references to these would forbid.
        self.fake_tensor_converter.tensor_memo.clear()
        if not self._depth:  # a formula that stands for a kernel holds more than the kernel
            for leaf in pytree.tree_leaves(found):
                if isinstance(leaf, FakeTensor):
                    self._held.add(leaf)
        return found


class _Reads(TorchFunctionMode):
    """Arrays in place of fake tensors that are read; backward and pinning without a driver."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self._graph = graph

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        tensor = args[0] if args else None
        if isinstance(tensor, Tensor):
            if func is Tensor.numpy and isinstance(tensor, FakeTensor):
                _check_on_cpu(tensor)
                return np.zeros(tuple(tensor.shape), dtype=_array_type(tensor.dtype))
            if func is functional.scaled_dot_product_attention:
                return _fused_attention(*args, **(kwargs or {}))
            if func is Tensor.backward and isinstance(tensor, FakeTensor):
                return self._graph.backward(tensor)
            if func is Tensor.any and len(args) == 1 and not kwargs:
                return False
            if func is Tensor.pin_memory:
                return tensor
        return func(*args, **(kwargs or {}))


@contextmanager
def pretended(device_kind: str) -> Iterator[Held]:
    """Pretend that there is a device of a kind while the block runs; yield what it holds.

    Nothing made inside is of use outside.
    """
    held = Held(device_kind)
    graph = Graph()
    with _Mode(held), _Reads(graph), _driver(), graph.recording():
        yield held


def _check_types(func: Any, args: Sequence[Any]) -> None:
    """Raise as torch does where a product is of tensors of several types."""
    types = {arg.dtype for arg in args if isinstance(arg, Tensor)}
    if len(types) > 1:
        found = " and ".join(sorted(str(dtype) for dtype in types))
        raise RuntimeError(f"{func}: expected tensors of one dtype, but got {found}")


def _fused_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Return what torch's attention gives on a GPU, by the kernel that it takes there.

    Without a driver torch would take its plain products, which keep each attention matrix.
    """
    del enable_gqa
    if query.dtype != torch.float32 and attn_mask is None:
        found = torch.ops.aten._scaled_dot_product_flash_attention(
            query, key, value, dropout_p, is_causal, scale=scale
        )
    else:
        found = torch.ops.aten._scaled_dot_product_efficient_attention(
            query, key, value, attn_mask, query.requires_grad, dropout_p, is_causal, scale=scale
        )
    attended: Tensor = found[0]
    return attended


@contextmanager
def _driver() -> Iterator[None]:
    """Have torch believe that there is a driver with one device, and never call it."""
    answers: dict[str, Any] = {
        "is_available": True,
        "is_bf16_supported": True,
        "device_count": 1,
        "current_device": 0,
    }
    with contextlib.ExitStack() as stack:
        for name, answer in answers.items():
            said = mock.Mock(return_value=answer)
            stack.enter_context(mock.patch.object(torch.cuda, name, said))
        # The mode itself would start a context where it believes that there is a driver.
        stack.enter_context(mock.patch.object(fake_tensor, "init_gpu_context"))
        yield


def _one(dtype: torch.dtype) -> bool | int | float:
    if dtype == torch.bool:
        return True
    return 1.0 if dtype.is_floating_point else 1


def _check_on_cpu(tensor: FakeTensor) -> None:
    """Raise as torch does where the values of a device are asked for as an array."""
    if tensor.fake_device.type != "cpu":
        raise TypeError(f"can't convert {tensor.fake_device} device type tensor to numpy")


def _array_type(dtype: torch.dtype) -> Any:
    """Return NumPy's type of torch's; raises TypeError where there is none."""
    name = str(dtype).removeprefix("torch.")
    if dtype == torch.bfloat16:
        raise TypeError("Got unsupported ScalarType BFloat16")
    return np.dtype(name)
