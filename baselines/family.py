"""What a family of systems is: a frozen dataclass of sizes that knows its closed forms and builder.

`baselines/<family>.py` defines one such class and its cards. Its fields are the arguments of the
builder: they stand in `SystemCard.args`, are part of job identity, and each can be overridden in
`bench.models.build`. torch and timm are imported inside `encoder` and `initialize` only.
"""

from __future__ import annotations

import dataclasses
import typing
from typing import TYPE_CHECKING, Any, Literal, Protocol

from baselines.counting import Padding
from bench.errors import UserError, suggest
from bench.specs import Args, SystemCard, WeightsSource

if TYPE_CHECKING:
    import torch
    from torch import nn

_LATER = "later"

FamilyName = Literal["vit", "bit", "hybrid", "noisy-student"]


class Family(Protocol):
    """The sizes of one system, and what follows from them."""

    @property
    def feature_dim(self) -> int:
        """Width D of the encoder's output z_BD."""

    @property
    def stride_px(self) -> int:
        """Patch side, or total stride, in pixels."""

    def check_image(self, image_size_px: int) -> None:
        """Raise UserError where images of this side cannot be an input."""

    def num_params(self, image_size_px: int) -> int:
        """Return the parameters of the encoder: no representation layer, no head."""

    def forward_flops(self, image_size_px: int, *, padding: Padding) -> int:
        """Return the FLOPs of one image through the encoder."""

    def activations(self, image_size_px: int) -> int:
        """Return the values kept for the backward pass of one image."""

    def encoder(self, *, image_size_px: int, dropout: float, follows: str) -> nn.Module:
        """Return the module x_BCHW -> z_BD, uninitialized, on torch's default device."""

    def initialize(self, encoder: nn.Module, generator: torch.Generator) -> None:
        """Draw the weights of an encoder as the authors' code does."""


def parse(family: str, kind: type[Any], args: Args) -> Family:
    """Return the sizes that `args` describe; raise UserError on a wrong name, type or value."""
    hints = typing.get_type_hints(kind)
    for key, value in args.items():
        if key not in hints:
            raise UserError(
                f'{family}: unknown argument "{key}"',
                hint=suggest(key, hints, kind="argument"),
            )
        if not _fits(value, hints[key]):
            raise UserError(f"{family}: {key} = {value!r} is not {_words(hints[key])}")
    sizes: Family = kind(**{key: _plain(value) for key, value in args.items()})
    return sizes


def positive(**sizes: float | tuple[int, ...]) -> None:
    """Raise UserError unless every number is above zero and no tuple is empty."""
    for key, value in sizes.items():
        numbers = value if isinstance(value, tuple) else (value,)
        if not numbers or min(numbers) <= 0:
            raise UserError(f"{key} = {value!r} must be above zero")


def later(default: Any) -> Any:
    """Return a field that a family got after its cards were first used.

    At its default it is left out of `SystemCard.args`, so that jobs keep their identity.
    """
    return dataclasses.field(default=default, metadata={_LATER: True})


def arguments(sizes: Family) -> Args:
    """Return the builder's arguments as they stand in a card and in a job."""
    fields = dataclasses.fields(sizes)  # type: ignore[arg-type]
    values = dataclasses.asdict(sizes)  # type: ignore[call-overload]
    return {
        field.name: values[field.name]
        for field in fields
        if not (_LATER in field.metadata and values[field.name] == field.default)
    }


def card(
    name: str,
    title: str,
    family: FamilyName,
    sizes: Family,
    *,
    source: str,
    image_size_px: int = 224,
    note: str = "",
    weights: tuple[WeightsSource, ...] = (),
) -> SystemCard:
    """Return the card of a system, with what follows from its sizes filled in."""
    return SystemCard(
        name=name,
        title=title,
        family=family,
        args=arguments(sizes),
        image_size_px=image_size_px,
        patch_px=sizes.stride_px,
        feature_dim=sizes.feature_dim,
        num_params=sizes.num_params(image_size_px),
        source=source,
        note=note,
        weights=weights,
    )


def _fits(value: Any, hint: Any) -> bool:
    if typing.get_origin(hint) is Literal:
        return value in typing.get_args(hint)
    if typing.get_origin(hint) is tuple:
        return isinstance(value, list | tuple) and all(_fits(item, int) for item in value)
    numbers = (int, float) if hint is float else (hint,)
    return isinstance(value, numbers) and not (isinstance(value, bool) and hint is not bool)


def _words(hint: Any) -> str:
    if typing.get_origin(hint) is Literal:
        return " or ".join(f'"{word}"' for word in typing.get_args(hint))
    if typing.get_origin(hint) is tuple:
        return "a list of whole numbers"
    return {int: "a whole number", float: "a number"}.get(hint, "a word")


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
