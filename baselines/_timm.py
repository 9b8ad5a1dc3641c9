"""timm's models as encoders, and what is measured of them without memory or arithmetic.

Parameters, widths and FLOPs are those of a model on torch's meta device. What a pass keeps is
measured on fake tensors, which have a device and a type but no numbers: autocast and autograd do
with them what they do on a machine that has the device.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from baselines.footprint import Numerics
from bench.errors import UnknownName

_CLASSES = 1000
"""Outputs of the classifier that tells a file's classifier from its encoder."""


class Encoder(nn.Module):
    """A model of timm without its classifier: x_BCHW -> z_BD."""

    def __init__(self, model: str, image_size_px: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self._made_of = model, image_size_px, dropout
        self.model = create(model, image_size_px, dropout=dropout)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the pooled features."""
        model: Any = self.model
        z_BD: Tensor = model.forward_head(model.forward_features(x_BCHW), pre_logits=True)
        return z_BD

    def draw(self, generator: torch.Generator) -> None:
        """Make the model anew on the CPU, with the weights and tables that timm gives it."""
        model, image_size_px, dropout = self._made_of
        seed = int(torch.randint(2**62, (), generator=generator))
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            torch.default_generator.manual_seed(seed)
            self.model = create(model, image_size_px, dropout=dropout)

    def fitted(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return tensors of an encoder of images of another side, resized by timm's rule.

        These are position embeddings, and biases of windows.
        """
        own = self.state_dict()
        if all(tensor.shape == own[name].shape for name, tensor in state.items() if name in own):
            return state
        rule = getattr(sys.modules[type(self.model).__module__], "checkpoint_filter_fn", None)
        if rule is None:
            return state  # does not fit, and the check of shapes says so
        theirs = {name.removeprefix("model."): tensor for name, tensor in state.items()}
        resized = {f"model.{name}": tensor for name, tensor in rule(theirs, self.model).items()}
        return {**state, **{name: resized[name] for name in own.keys() & resized.keys()}}


def create(
    model: str, image_size_px: int | None = None, *, num_classes: int = 0, dropout: float = 0.0
) -> nn.Module:
    """Return a model of timm for images of a side; not every architecture needs to know it."""
    options: dict[str, Any] = {"num_classes": num_classes}
    if dropout:
        options["drop_rate"] = dropout
    if image_size_px is not None:
        try:
            return timm.create_model(model, img_size=image_size_px, **options)
        except TypeError as error:
            if "img_size" not in str(error):
                raise
    return timm.create_model(model, **options)


# --- what is measured -----------------------------------------------------------------------


def about(model: str) -> dict[str, Any]:
    """Return what is true of a model at every image size; raises UnknownName, or what timm does.

    `arrays` are those of its state dict with a classifier, in order; `behind` are the classifier's.
    """
    if not timm.is_model(model):
        raise UnknownName("model of timm", model, timm.list_models())
    with torch.device("meta"):
        whole, encoder = create(model, num_classes=_CLASSES), create(model)
    config: Any = encoder.pretrained_cfg
    channels, side_px, _ = config["input_size"]
    if channels != 3:
        raise ValueError(f"its images have {channels} channels")
    z_BD = _features(model, side_px)[0]
    own = encoder.state_dict()
    return {
        "image_size_px": side_px,
        "feature_dim": z_BD.shape[1],
        "stride_px": _stride_px(encoder),
        "batch_statistics": any(isinstance(layer, _BatchNorm) for layer in encoder.modules()),
        "arrays": [(name, tuple(array.shape)) for name, array in whole.state_dict().items()],
        "behind": [name for name in whole.state_dict() if name not in own],
    }


def at(model: str, image_size_px: int) -> dict[str, Any]:
    """Return parameters and FLOPs of an encoder for images of a side; raises what timm does."""
    _, flops, num_params = _features(model, image_size_px)
    return {"num_params": num_params, "forward_flops": flops}


def footprint(model: str, image_size_px: int, numerics: Numerics) -> dict[str, int]:
    """Return the bytes that autograd keeps of a forward pass, and the most that is held without."""
    with torch.device("meta"):  # timm cannot make one of fake tensors, which have no values
        encoder = Encoder(model, image_size_px)
    with _numbers(numerics) as device:
        _move(encoder, device)
        for module in encoder.modules():
            if hasattr(module, "fused_attn"):
                module.fused_attn = numerics.fused  # type: ignore[assignment]
        two, four = (_kept_bytes(encoder, _images(num, image_size_px, device)) for num in (2, 4))
        with torch.no_grad(), _Held() as held:
            encoder.eval()(_images(2, image_size_px, device))
    image = (four - two) // 2
    return {"image": image, "shared": max(0, two - 2 * image), "widest": held.most // 2}


@contextmanager
def _numbers(numerics: Numerics) -> Iterator[str]:
    """Let tensors without numbers be computed as on a device; yield its name for them.

    Plain float32 is the same on the meta device, which is faster than fake tensors.
    """
    if not (numerics.casts or numerics.fused):
        yield "meta"
        return
    device = "cuda" if numerics.fused else "cpu"
    dtype = torch.bfloat16 if numerics.casts else None
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    with fake, _Attention(numerics.fused, dtype), _autocast(device, dtype):
        yield device


def _move(encoder: nn.Module, device: str) -> None:
    """Give an encoder tensors of a device; `to_empty` cannot where layers share fake ones."""
    moved: dict[Tensor, Tensor] = {}
    for module in encoder.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is not None and tensor not in moved:
                    new = torch.empty_like(tensor, device=device)
                    is_weight = isinstance(tensor, nn.Parameter)
                    moved[tensor] = nn.Parameter(new, tensor.requires_grad) if is_weight else new
                if tensor is not None:
                    tensors[name] = moved[tensor]  # type: ignore[assignment]


def _images(num: int, image_size_px: int, device: str) -> Tensor:
    return torch.empty(num, 3, image_size_px, image_size_px, device=device)


def _kept_bytes(encoder: Encoder, x_BCHW: Tensor) -> int:
    """Return the bytes that autograd keeps of a pass, besides the weights."""
    with _saved([*encoder.parameters(), *encoder.buffers()]) as saved:
        encoder(x_BCHW)
    return sum(_storage_bytes(tensor) for tensor in saved)


def _features(model: str, image_size_px: int) -> tuple[Tensor, int, int]:
    """Return features, FLOPs and parameters of one image on the meta device."""
    with torch.device("meta"):
        encoder = Encoder(model, image_size_px).eval()
        with FlopCounterMode(display=False) as counter:
            z_BD = encoder(torch.empty(1, 3, image_size_px, image_size_px))
    if not isinstance(z_BD, Tensor) or z_BD.ndim != 2:
        raise ValueError("it has no vector of features for an image")
    num_params = sum(weight.numel() for weight in encoder.parameters())
    return z_BD, counter.get_total_flops(), num_params


def _stride_px(model: nn.Module) -> int:
    """Return the total stride as timm states it; 1 where it does not."""
    info: Any = getattr(model, "feature_info", None)
    return int(info[-1]["reduction"]) if info else 1


@contextmanager
def _saved(weights: list[Tensor]) -> Iterator[list[Tensor]]:
    """Collect what autograd saves, each storage once, weights left out."""
    seen = {tensor.untyped_storage()._cdata for tensor in weights}
    found: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()._cdata
        if storage not in seen:
            seen.add(storage)
            found.append(tensor)  # which keeps the storage, so that no other takes its address
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield found


class _Held(TorchDispatchMode):
    """Follows the bytes of all tensors that are made inside, and the most of them at once."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.most = self._now = 0
        self._users: dict[int, int] = {}

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor) and not any(tensor is given for given in args):
                self._add(tensor)
        return out

    def _add(self, tensor: Tensor) -> None:
        storage, size = tensor.untyped_storage()._cdata, _storage_bytes(tensor)
        if storage not in self._users:
            self._now += size
            self.most = max(self.most, self._now)
        self._users[storage] = self._users.get(storage, 0) + 1
        weakref.finalize(tensor, self._drop, storage, size)

    def _drop(self, storage: int, size: int) -> None:
        self._users[storage] -= 1
        if not self._users[storage]:
            del self._users[storage]
            self._now -= size


def _storage_bytes(tensor: Tensor) -> int:
    return int(tensor.untyped_storage().nbytes())


class _Attention(TorchFunctionMode):
    """Fused attention as a GPU has it: where none is here, torch would take the plain way."""

    def __init__(self, fused: bool, dtype: torch.dtype | None) -> None:
        super().__init__()
        self._fused, self._dtype = fused, dtype

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        is_it = func is functional.scaled_dot_product_attention and args[0].ndim == 4
        if not (self._fused and is_it):
            return func(*args, **kwargs)
        query, key, value = (tensor.to(self._dtype or tensor.dtype) for tensor in args[:3])
        mask = kwargs.get("attn_mask")
        if mask is not None and mask.dtype == torch.bool:
            mask = mask.to(query.dtype)
        kernel: Any = torch.ops.aten._scaled_dot_product_efficient_attention
        return kernel(query, key, value, mask, True)[0]


@contextmanager
def _autocast(device: str, dtype: torch.dtype | None) -> Iterator[None]:
    """Cast as `torch.autocast` does, which refuses a device that is not here."""
    was, kind = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
    torch.set_autocast_enabled(device, dtype is not None)
    torch.set_autocast_dtype(device, dtype or kind)
    try:
        yield
    finally:
        torch.clear_autocast_cache()
        torch.set_autocast_enabled(device, was)
        torch.set_autocast_dtype(device, kind)
