"""Job kinds: what is known about each without doing it. One file a kind; no torch.

base.py      the card of a kind, its stages, the base of its suite block, the planner's contract
<kind>.py    one kind: `CARD`
"""

from __future__ import annotations

import functools

from bench.kinds.base import KindCard, Stage
from bench.plugins import Registry

KINDS: Registry[KindCard] = Registry(
    "vitbench.kinds", package=__name__, attribute="CARD", of=KindCard, noun="job kind"
)
"""Every job kind by name, those of other distributions included."""


@functools.cache
def in_order() -> tuple[KindCard, ...]:
    """Return every kind in the order in which tables show them."""
    return tuple(sorted(KINDS.values(), key=lambda card: (card.place, card.name)))


@functools.cache
def stages() -> dict[str, Stage]:
    """Return every stage by name, in the order of the kinds."""
    return {stage.name: stage for card in in_order() for stage in card.stages}
