"""Images held out of a training split to choose on: what fine-tuning and the probe share."""

from __future__ import annotations

from bench.kinds.base import Planner
from bench.specs import DatasetCard

DEFAULT_HELD_OUT = 0.1
"""Share of train to choose on, where neither suite nor recipe says."""


def num_held_out(
    planner: Planner, card: DatasetCard, held_out: float, key: str, choice: str
) -> int:
    """Return the number of held-out images; raise SuiteError where they are too few."""
    num_train = card.splits["train"].num_examples
    num_held = round(num_train * held_out)
    if num_held < card.num_classes:
        raise planner.error(
            key,
            f"{num_held} images of {card.name} are too few to choose a {choice} for "
            f"{card.num_classes} classes",
        )
    if num_train - num_held < card.num_classes:
        raise planner.error(
            key,
            f"{num_train - num_held} images of {card.name} are left to train on, fewer than its "
            f"{card.num_classes} classes",
        )
    return num_held
