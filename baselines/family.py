"""What a family of systems is: a card, a frozen dataclass of sizes, and the cards of its systems.

`baselines/<family>.py` holds all three, and nobody else lists families or compares their names. The
fields of the sizes are the arguments of the builder: they are in `SystemCard.args`, are part of
job identity, and each can be overridden in `bench.models.build`. torch and timm are imported inside
`encoder` and `initialize` only.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import typing
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from baselines.arrays import Layout, Shapes
from baselines.counting import Padding
from baselines.footprint import Footprint, Numerics
from bench.errors import UnknownName, UserError, suggest
from bench.specs import Args, SystemCard, WeightsSource

if TYPE_CHECKING:
    import torch
    from torch import nn

_LATER = "later"


class Sizes(Protocol):
    """The sizes of one system, and what follows from them."""

    def __hash__(self) -> int:
        """Return a hash: sizes are frozen, and what follows from them is looked up by them."""

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

    def footprint(self, image_size_px: int, numerics: Numerics) -> Footprint:
        """Return the bytes that a forward pass keeps, and those of its widest layer."""

    def pre_logits_dim(self, *, pretraining: bool) -> int:
        """Return the width of the dense + tanh layer between encoder and head; 0: there is none.

        `pretraining` asks for the layer that the authors pre-train with.
        """

    def encoder(self, *, image_size_px: int, dropout: float, follows: str) -> nn.Module:
        """Return the module x_BCHW -> z_BD, uninitialized, on torch's default device."""

    def initialize(self, encoder: nn.Module, generator: torch.Generator) -> None:
        """Draw the weights of an encoder as the authors' code does."""


def _no_aliases(title: str) -> tuple[str, ...]:
    return ()


def _never(sizes: Any) -> bool:
    return False


def _unrecognized(shapes: Shapes) -> None:
    return None


@dataclass(frozen=True, kw_only=True)
class FamilyCard:
    """Everything that is known about a family of systems."""

    name: str
    """Name in cards, jobs and tags: `vit`."""
    title: str
    """As people call it: `BiT ResNet`."""
    word: str
    """Short name in verdicts and figures: `BiT leads`."""
    place: int = 100
    """Where it stands among the families; lower ones first."""
    sizes: Callable[..., Sizes]
    """Class of its sizes: a frozen dataclass with the methods of `Sizes`."""
    systems: tuple[SystemCard, ...]
    """Cards of its systems."""
    aliases: Callable[[str], Iterable[str]] = _no_aliases
    """Other spellings of a system's title in papers."""
    layouts: tuple[Layout, ...] = ()
    """Layouts of weights, besides our own, that can be read and written."""
    recognize: Callable[[Shapes], Args | None] = _unrecognized
    """The arguments that the names and shapes of a file give away, in any of the layouts or in our
    names (without the leading `encoder.`); None for a file of another family."""
    colour: str = ""
    """Colour in figures, as hex; empty: a spare one is assigned."""
    dark_colour: str = ""
    """The same on a dark page; empty: as on a light one."""
    markers: tuple[str, ...] = ()
    """Markers of its systems in figures, in matplotlib's letters; empty: spare ones."""
    has_patches: bool = False
    """Whether images are cut into patches of pixels, which can be masked. Its encoder then has
    `patch_embed` as timm's, `embed_dim`, and `encode` from patches to tokens."""

    has_batch_statistics: Callable[[Any], bool] = _never
    """Whether a system of these sizes normalizes images of a batch together: in pieces it would be
    another batch."""
    arguments_of: Callable[[str], Args] | None = None
    """Arguments of the system that `family:NAME` means, of a family whose systems are not listed.
    Its sizes then have `image_size_px`, the usual side of an image."""

    def __post_init__(self) -> None:
        for card in self.systems:
            if card.family != self.name:
                raise UserError(f'{card.name} is of the family "{card.family}", not "{self.name}"')
            for source in card.weights:
                if source.layout:
                    self.layout(source.layout, where=f"weights {source.name} of {card.name}")

    @property
    def recognizes(self) -> bool:
        """Whether the family says which files are its own."""
        return self.recognize is not _unrecognized

    def layout(self, name: str, *, where: str = "") -> Layout:
        """Return a layout by name; raise UnknownName."""
        known = {layout.name: layout for layout in self.layouts}
        if name not in known:
            raise UnknownName("layout", name, known, where=where or f"family {self.name}")
        return known[name]

    def layout_of(self, args: Args, shapes: Shapes) -> Layout | None:
        """Return the layout of a file by what is in it; None where none fits."""
        for layout in self.layouts:
            if any(re.search(layout.mark, name) for name in shapes) and layout.fits(args, shapes):
                return layout
        return None


def parse(family: FamilyCard, args: Args) -> Sizes:
    """Return the sizes that `args` describe; raise UserError on a wrong name, type or value."""
    hints = _hints(family.sizes)
    for key, value in args.items():
        if key not in hints:
            raise UserError(
                f'{family.name}: unknown argument "{key}"',
                hint=suggest(key, hints, kind="argument"),
            )
        if not _fits(value, hints[key]):
            raise UserError(f"{family.name}: {key} = {value!r} is not {_words(hints[key])}")
    for field in dataclasses.fields(family.sizes):  # type: ignore[arg-type]
        if field.default is dataclasses.MISSING and field.name not in args:
            raise UserError(f'{family.name}: argument "{field.name}" is missing')
    return family.sizes(**{key: _plain(value) for key, value in args.items()})


@functools.cache
def _hints(sizes: type[Sizes]) -> dict[str, Any]:
    """Return the types of a family's arguments, which take long to work out."""
    return typing.get_type_hints(sizes)


MOST = 1_000_000
"""Larger sizes are slips of the hand."""


def positive(**sizes: float | tuple[int, ...]) -> None:
    """Raise UserError unless every number is above zero, none absurd, and no tuple is empty."""
    for key, value in sizes.items():
        numbers = value if isinstance(value, tuple) else (value,)
        if not numbers or min(numbers) <= 0:
            raise UserError(f"{key} = {value!r} must be above zero")
        if max(numbers) > MOST:
            raise UserError(f"{key} is larger than {MOST:,}, which no system has")


def later(default: Any) -> Any:
    """Return a field that a family got after its cards were first used.

    At its default it is left out of `SystemCard.args`, so that jobs keep their identity.
    """
    return dataclasses.field(default=default, metadata={_LATER: True})


def arguments(sizes: Sizes) -> Args:
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
    family: str,
    sizes: Sizes,
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
