"""What a weights file holds, from the names and shapes of its arrays alone: no torch, no tensor.

The layouts of the families say which array is which (`baselines/arrays.py`); nothing else is
guessed. A plan asks this of a file's header, a job of the arrays that it has read.
"""

from __future__ import annotations

import math
import re
from typing import NamedTuple

import baselines
from baselines.arrays import Layout, Rule, Shapes
from baselines.family import arguments
from bench.errors import CheckpointError
from bench.specs import SystemCard, SystemUse

OWN = "safetensors"
"""Name of our own layout."""

_HEAD, _PRE_LOGITS, _POSITIONS = "head.weight", "pre_logits.weight", "encoder.pos_embed"
_OUTPUTS_LAST = ("dense", "dense_hwio")


class Contents(NamedTuple):
    """What a weights file holds besides the encoder, and how."""

    layout: str
    """Name of the layout: `safetensors` (ours), `npz`, `timm`, or another of the family."""
    num_classes: int | None
    """Outputs of its classifier; None where it has none."""
    representation_dim: int
    """Width of its layer before the classifier; 0 where it has none."""
    image_size_px: int | None
    """Side, in pixels, of the images that its position embeddings were made for; None where it has
    none, or they are no grid."""


def contents(system: SystemCard | SystemUse, shapes: Shapes) -> Contents:
    """Return what a file for `system` holds; CheckpointError where it is in no layout of it."""
    layout = layout_of(system, shapes)
    if layout is None:
        found = {ours: shapes[ours] for ours in (_HEAD, _PRE_LOGITS, _POSITIONS) if ours in shapes}
        outputs = {ours: shape[0] for ours, shape in found.items() if shape}
    else:
        names = layout.renamed(arguments(baselines.sizes(system)), shapes)
        known = {name: shapes[theirs] for theirs, name in names.items()}
        rules = [rule for rule in _rules(layout, system) if known.get(rule.theirs)]
        found = {rule.ours: known[rule.theirs] for rule in rules}
        outputs = {
            rule.ours: found[rule.ours][-1 if rule.axes in _OUTPUTS_LAST else 0] for rule in rules
        }
    return Contents(
        layout=OWN if layout is None else layout.name,
        num_classes=outputs.get(_HEAD),
        representation_dim=outputs.get(_PRE_LOGITS, 0),
        image_size_px=_image_size_px(system, found.get(_POSITIONS, ())),
    )


def layout_of(system: SystemCard | SystemUse, shapes: Shapes, *, named: str = "") -> Layout | None:
    """Return the layout of a file for `system`, by the names in it; None where it is our own.

    `named` is what the card of the weights says. Raises CheckpointError where the file is in no
    layout of the system's family.
    """
    if any(name.startswith("encoder.") for name in shapes):
        return None
    family = baselines.family_of(system)
    args = arguments(baselines.sizes(system))
    found = family.layout(named) if named else family.layout_of(args, shapes)
    if found is None:
        raise CheckpointError(
            f"the file is in no layout of the {family.name} family", hint=looks_like(shapes)
        )
    return found


def check_system(system: SystemCard, shapes: Shapes) -> None:
    """Raise CheckpointError where names and shapes give away that a file is of another system.

    What passes may still not fit: that takes all shapes of the model, which the job compares.
    """
    plain = _plain(shapes)
    family = baselines.family_of(system)
    sizes = family.recognize(plain)
    if sizes is None:
        fits = not family.recognizes
    else:
        fits = all(system.args.get(key) == value for key, value in sizes.items())
    if not fits:
        raise CheckpointError(
            f"the file holds the weights of another system than {system.name}",
            hint=looks_like(shapes),
        )


def looks_like(shapes: Shapes) -> str:
    """Return `The file looks like ViT-B/16`, or what can be said, from names and shapes.

    Reads every layout of every family, and our own.
    """
    plain = _plain(shapes)
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


def _plain(shapes: Shapes) -> Shapes:
    return {re.sub(r"^encoder\.", "", name): shape for name, shape in shapes.items()}


def _rules(layout: Layout, system: SystemCard | SystemUse) -> list[Rule]:
    """Return a layout's rules for classifier, layer before it and position embeddings."""
    wanted, args = (_HEAD, _PRE_LOGITS, _POSITIONS), arguments(baselines.sizes(system))
    try:
        rules = list(layout.rules(args, wanted))
    except CheckpointError:  # it has no place for a layer before the classifier
        rules = list(layout.rules(args, (_HEAD, _POSITIONS)))
    return [rule for rule in rules if rule.ours in wanted]


def _image_size_px(system: SystemCard | SystemUse, positions: tuple[int, ...]) -> int | None:
    if len(positions) != 3:
        return None
    num_patches = positions[1] - int(system.args.get("pooling", "token") == "token")
    side = math.isqrt(max(0, num_patches))
    return side * baselines.sizes(system).stride_px if side**2 == num_patches > 0 else None
