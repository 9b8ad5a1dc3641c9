"""Which system a file's arrays look like: the hint of every error about weights."""

from __future__ import annotations

import re

import baselines
from baselines.arrays import Shapes


def looks_like(shapes: Shapes) -> str:
    """Return `The file looks like ViT-B/16`, or what can be said, from names and shapes.

    Reads every layout of every family, and our own.
    """
    plain = {re.sub(r"^encoder\.", "", name): shape for name, shape in shapes.items()}
    for family in baselines.families():
        sizes = family.recognize(plain)
        if sizes is None:
            continue
        for card in family.systems:
            if all(card.args.get(key) == value for key, value in sizes.items()):
                return f"The file looks like {card.title} ({card.name})"
        words = ", ".join(f"{key} {value}" for key, value in sizes.items())
        return f"The file looks like a {family.name} system of another size ({words})"
    return "The file looks like none of the known systems"
