"""Data sets and protocols by name: what a suite may ask for, without opening a single image.

A card states facts (splits, counts, classes, terms, how to get it) and which reader yields the
images. Protocols say how images are prepared. Nothing heavy is imported here, so that plans,
listings and rejected suites stay light. Sources stand on each card and protocol.
"""

from __future__ import annotations

from pathlib import Path

from baselines.protocols import PROTOCOLS
from bench.data import known, micro
from bench.data.getting import home, resolving
from bench.data.getting.resolving import formula_card
from bench.errors import UnknownName
from bench.specs import DatasetBlock, DatasetCard, Protocol

__all__ = [
    "dataset",
    "datasets",
    "formula_card",
    "protocol",
    "protocols",
    "published",
    "resolve",
]


def datasets() -> dict[str, DatasetCard]:
    """Return every data set card by name, located where `vitbench data prepare` found its files."""
    return home.located(_CARDS)


def dataset(name: str) -> DatasetCard:
    """Return the card of `name`; raises UnknownName with the nearest name."""
    if name not in _CARDS:
        raise UnknownName("data set", name, _CARDS)
    return home.located({name: _CARDS[name]})[name]


def published(name: str) -> DatasetCard:
    """Return the card of `name` as published, located or not; raises UnknownName."""
    if name not in _CARDS:
        raise UnknownName("data set", name, _CARDS)
    return _CARDS[name]


def protocols() -> dict[str, Protocol]:
    """Return every protocol by name."""
    return dict(PROTOCOLS)


def protocol(name: str) -> Protocol:
    """Return the protocol `name`; raises UnknownName with the nearest name."""
    if name not in PROTOCOLS:
        raise UnknownName("protocol", name, PROTOCOLS)
    return PROTOCOLS[name]


def resolve(name: str, block: DatasetBlock, *, base_dir: Path) -> DatasetCard:
    """Turn a suite's own `[dataset.NAME]` into a card with counts and a digest of the content.

    Relative paths are taken from `base_dir`. Raises DataError when a field is missing or the data
    are not there, and UnknownName for a reader that does not exist.
    """
    return resolving.resolve(name, block, base_dir=base_dir, known=_CARDS)


# --- cards ----------------------------------------------------------------------------------

_CARDS = {
    card.name: card
    for card in (
        *micro.cards(),
        formula_card(
            "fractals", num_classes=64, images_per_class=256, image_size_px=16, title="Fractals"
        ),
        *known.cards(),
    )
}
