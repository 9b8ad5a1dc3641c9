"""Any model of the installed timm, by its name: `timm:resnet50`.

Source: Wightman, "PyTorch Image Models" (timm). There is no list of cards: a system is made when it
is named. Nor is there a closed form: what a model needs is measured once, on tensors without memory
(`_timm.py`), and kept in the user's cache by the versions of timm and torch. So only the first plan
imports either.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any, NamedTuple

from baselines.arrays import Axes, Layout, Rule, Shapes
from baselines.counting import Padding
from baselines.family import FamilyCard, positive
from baselines.footprint import MASK, Footprint, Numerics
from bench.errors import CheckpointError, UnknownName, UserError
from bench.files import remembered
from bench.specs import Args

if TYPE_CHECKING:
    import torch
    from torch import nn

_FORMAT = 1
"""Bumped when `_timm.py` measures another thing."""


@dataclass(frozen=True, kw_only=True)
class TimmModel:
    """A model of timm."""

    model: str
    """Its name in timm, without that of weights: `convnext_tiny`."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_]+", self.model):
            raise UserError(f"model = {self.model!r} is not the name of an architecture of timm")
        _about(self.model)

    @property
    def image_size_px(self) -> int:
        """Side of the images that timm trains it on."""
        return _about(self.model).image_size_px

    @property
    def feature_dim(self) -> int:
        """Width D of the encoder's output z_BD."""
        return _about(self.model).feature_dim

    @property
    def stride_px(self) -> int:
        """Total stride, in pixels, as timm states it."""
        return _about(self.model).stride_px

    @property
    def has_batch_statistics(self) -> bool:
        """Whether images of a batch are normalized together."""
        return _about(self.model).batch_statistics

    def check_image(self, image_size_px: int) -> None:
        """Raise UserError, with timm's reason, where a model for this side does not run."""
        positive(image_size_px=image_size_px)
        _at(self.model, image_size_px)

    def num_params(self, image_size_px: int) -> int:
        """Return the parameters of the encoder; no head."""
        return _at(self.model, image_size_px).num_params

    def forward_flops(self, image_size_px: int, *, padding: Padding = "counted") -> int:
        """Return the FLOPs of one image through the encoder, as torch counts them.

        Multiply-adds on padding are always counted: nobody knows where timm's models pad.
        """
        return _at(self.model, image_size_px).forward_flops

    def footprint(self, image_size_px: int, numerics: Numerics) -> Footprint:
        """Return the bytes that autograd keeps, and the most that a pass without it holds."""
        self.check_image(image_size_px)
        found = _footprint(self.model, image_size_px, dataclasses.replace(numerics, dropout=False))
        mask = MASK * self.feature_dim if numerics.dropout else 0
        return Footprint(found.image + mask, found.shared, found.widest)

    def pre_logits_dim(self, *, pretraining: bool) -> int:
        """Return 0: the head is linear, in pre-training too."""
        return 0

    def encoder(self, *, image_size_px: int, dropout: float, follows: str) -> nn.Module:
        """Return the module x_BCHW -> z_BD, uninitialized, on torch's default device.

        Dropout acts on the features, as timm's `drop_rate`.
        """
        from baselines._timm import Encoder

        return Encoder(self.model, image_size_px, dropout=dropout)

    def initialize(self, encoder: nn.Module, generator: torch.Generator) -> None:
        """Draw the weights as timm does when it makes the model, and its constant tables."""
        from baselines._timm import Encoder

        assert isinstance(encoder, Encoder)
        encoder.draw(generator)


# --- what is measured, and kept -------------------------------------------------------------


class _About(NamedTuple):
    """What is true of a model at every image size; as `_timm.About`, read from a file."""

    image_size_px: int
    feature_dim: int
    stride_px: int
    batch_statistics: bool
    arrays: Shapes
    behind: tuple[str, ...]


class _At(NamedTuple):
    """What is true of a model at one image size."""

    num_params: int
    forward_flops: int


@functools.cache
def _about(model: str) -> _About:
    found = _known("about", model)
    if "refused" in found:
        raise UserError(f"{model} of timm cannot be an encoder: {found['refused']}")
    arrays = {name: tuple(shape) for name, shape in found["arrays"]}
    return _About(**{**found, "arrays": arrays, "behind": tuple(found["behind"])})


@functools.cache
def _at(model: str, image_size_px: int) -> _At:
    found = _known("at", model, image_size_px)
    if "refused" in found:
        usual_px = _about(model).image_size_px
        raise UserError(
            f"{model} of timm takes no images of {image_size_px} px: {found['refused']}",
            hint=f"timm trains it at {usual_px} px",
        )
    return _At(**found)


@functools.cache
def _footprint(model: str, image_size_px: int, numerics: Numerics) -> Footprint:
    found = _known("footprint", model, image_size_px, numerics)
    if "refused" in found:
        raise UserError(f"the memory of {model} of timm cannot be measured: {found['refused']}")
    return Footprint(**found)


def _known(what: str, *of: Any) -> dict[str, Any]:
    """Return what a function of `_timm.py` finds, which is imported where nobody remembers it.

    What timm's code raises is remembered too, as `refused`: that of a thousand models may raise
    anything. A name that timm does not know is no such thing.
    """

    def measure() -> dict[str, Any]:
        from baselines import _timm

        try:
            return dict(getattr(_timm, what)(*of))
        except (UnknownName, MemoryError):
            raise
        except Exception as error:
            words = next(iter(str(error).splitlines()), "").rstrip(". ")
            return {"refused": words or type(error).__name__}

    words = [dataclasses.asdict(item) if isinstance(item, Numerics) else item for item in of]
    versions = {name: metadata.version(name) for name in ("timm", "torch")}
    return remembered({"measure": f"timm {what} {_FORMAT}", "of": words, **versions}, measure)


# --- weights --------------------------------------------------------------------------------


def _arguments(name: str) -> Args:
    """Return the arguments that `timm:NAME` means; a name of weights behind a dot is left out."""
    return {"model": name.partition(".")[0]}


def _head(about: _About) -> str:
    """Return the name of the classifier in timm's files; empty where it is no plain linear layer.

    It may be stored as a 1x1 convolution.
    """
    if len(about.behind) != 2:
        return ""
    weight, bias = about.behind
    head = weight.removesuffix(".weight")
    _, *rest = about.arrays[weight]
    is_linear = rest in ([about.feature_dim], [about.feature_dim, 1, 1])
    return head if bias == f"{head}.bias" and is_linear else ""


def _rules(args: Args, names: Collection[str]) -> Iterator[Rule]:
    if "pre_logits.weight" in names:
        raise CheckpointError(
            "timm's layout has no place for a representation layer",
            hint='Use layout "safetensors"',
        )
    about = _about(str(args["model"]))
    for name in names:
        if name.startswith("encoder."):
            yield Rule(name.removeprefix("encoder.model."), name)
    head = _head(about)
    if head:
        axes: Axes = "dense_oihw" if len(about.arrays[f"{head}.weight"]) == 4 else "same"
        yield Rule(f"{head}.weight", "head.weight", axes)
        yield Rule(f"{head}.bias", "head.bias")


def _named(args: Args, shapes: Shapes) -> dict[str, str]:
    """Return the names of a file that count; those of a classifier that is not plain do not."""
    about = _about(str(args["model"]))
    return {name: name for name in shapes if _counts(name, about)}


def _named_in_order(args: Args, shapes: Shapes) -> dict[str, str]:
    """Return timm's names by those of a file that has the same arrays, one after the other."""
    about = _about(str(args["model"]))
    pairs = zip(shapes, about.arrays, strict=True)
    return {theirs: ours for theirs, ours in pairs if _counts(ours, about)}


def _counts(name: str, about: _About) -> bool:
    return name not in about.behind or bool(_head(about))


def _in_order(args: Args, shapes: Shapes) -> bool:
    """Tell whether a file has other names than timm, and the same arrays one after the other.

    Shapes do not tell a scale from an offset: the last part of each name must be the same too. Of
    a classifier the number of classes is free.
    """
    about = _about(str(args["model"]))
    if about.arrays.keys() == shapes.keys() or len(about.arrays) != len(shapes):
        return False
    for ours, theirs in zip(about.arrays, shapes, strict=True):
        free = int(ours in about.behind)
        if about.arrays[ours][free:] != shapes[theirs][free:]:
            return False
        if ours.rpartition(".")[2] != theirs.rpartition(".")[2]:
            return False
    return True


FAMILY = FamilyCard(
    name="timm",
    title="timm",
    word="timm",
    place=80,
    sizes=TimmModel,
    systems=(),
    arguments_of=_arguments,
    layouts=(
        Layout(
            name="timm, by order",
            ending=".safetensors",
            mark=".",
            rules=_rules,
            renamed=_named_in_order,
            fits=_in_order,
        ),
        Layout(name="timm", ending=".safetensors", mark=r"\.", rules=_rules, renamed=_named),
    ),
    colour="#4b6a9b",
    markers=("h", "H", "p", "8"),
    has_batch_statistics=lambda sizes: bool(getattr(sizes, "has_batch_statistics", False)),
)
