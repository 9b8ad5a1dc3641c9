"""Data sets and protocols by name: what a suite may ask for, without opening a single image.

A card states facts (splits, counts, classes, terms, how to get it) and which reader yields the
images. Protocols say how images are prepared. Nothing heavy is imported here, so that plans,
listings and rejected suites stay light. Sources are on each card and protocol.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from baselines.protocols import PROTOCOLS
from bench.data import home
from bench.data.readers import READERS, options_of
from bench.errors import UnknownName
from bench.plugins import Registry
from bench.specs import DatasetCard, Protocol

CARDS: Registry[DatasetCard] = Registry(
    "vitbench.datasets",
    package="bench.data.cards",
    attribute="CARDS",
    of=DatasetCard,
    noun="data set",
)
"""Every data set card by name, as published; those of other distributions too."""


def datasets() -> dict[str, DatasetCard]:
    """Return every data set card by name, located where `vitbench data prepare` found its files."""
    return home.located(CARDS)


def dataset(name: str) -> DatasetCard:
    """Return the card of `name`; raises UnknownName with the nearest name."""
    return home.located({name: CARDS.named(name)})[name]


def published(name: str) -> DatasetCard:
    """Return the card of `name` as published, located or not; raises UnknownName."""
    return CARDS.named(name)


def protocols() -> dict[str, Protocol]:
    """Return every protocol by name."""
    return dict(PROTOCOLS)


def protocol(name: str) -> Protocol:
    """Return the protocol `name`; raises UnknownName with the nearest name."""
    if name not in PROTOCOLS:
        raise UnknownName("protocol", name, PROTOCOLS)
    return PROTOCOLS[name]


def resolve(name: str, block: Any, *, base_dir: Path) -> DatasetCard:
    """Turn a suite's own `[dataset.NAME]` into a card with counts and a digest of the content.

    Relative paths are taken from `base_dir`. Raises DataError when a key is wrong or the data are
    not there, and UnknownName for a reader that does not exist.
    """
    options = options_of(name, block)
    reader = READERS[options.reader]
    return reader.card(name, options, base_dir=base_dir, claim=CARDS.get(name))
