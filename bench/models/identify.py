"""Which system a file's arrays look like: the hint of every error about weights."""

from __future__ import annotations

import re
from collections.abc import Mapping

import baselines
from bench.specs import Args

Shapes = Mapping[str, tuple[int, ...]]


def looks_like(shapes: Shapes) -> str:
    """Return `The file looks like ViT-B/16`, or what can be said, from names and shapes.

    Reads the authors' `.npz` layouts, timm's and our own.
    """
    family, sizes = _sizes({re.sub(r"^encoder\.", "", name): s for name, s in shapes.items()})
    if not family:
        return "The file looks like none of the known systems"
    cards = [card for card in baselines.systems().values() if card.family == family]
    for card in cards:
        if all(card.args[key] == value for key, value in sizes.items()):
            return f"The file looks like {card.title} ({card.name})"
    told = ", ".join(f"{key} {value}" for key, value in sizes.items())
    return f"The file looks like a {family} system of another size ({told})"


def _sizes(shapes: Shapes) -> tuple[str, Args]:
    """Return the family and the builder arguments that names and shapes give away."""
    stem = _first(shapes, "conv_root/kernel", "patch_embed.backbone.stem.conv.weight")
    patch = _first(shapes, "embedding/kernel", "patch_embed.proj.weight")
    root = _first(shapes, "resnet/root_block/standardized_conv2d/kernel", "stem.conv.weight")
    if patch and len(patch) == 4:
        official = "embedding/kernel" in shapes
        sizes: Args = {
            "width": patch[3] if official else patch[0],
            "depth": _count(shapes, r"(?:encoderblock_|^blocks\.)(\d+)[/.]"),
            "mlp_dim": _mlp_dim(shapes),
        }
        if stem:
            return "hybrid", sizes | {"layers": _layers(shapes)}
        return "vit", sizes | {"patch_px": patch[0] if official else patch[2]}
    if root and len(root) == 4:
        width = root[3] if root[2] == 3 else root[0]
        sizes = {"layers": _layers(shapes)}
        # Only full-size stems tell the width factor; micro systems differ in their stages anyway.
        return "bit", sizes | ({"width_factor": width / 64} if width % 64 == 0 else {})
    top = _first(shapes, "conv_head.weight")
    if top:
        return "noisy-student", {"width_factor": {2560: 2.0, 5504: 4.3}.get(top[0], top[0] / 1280)}
    return "", {}


def _first(shapes: Shapes, *names: str) -> tuple[int, ...]:
    return next((shapes[name] for name in names if name in shapes), ())


def _count(shapes: Shapes, pattern: str) -> int:
    return len({found.group(1) for name in shapes if (found := re.search(pattern, name))})


def _mlp_dim(shapes: Shapes) -> int:
    for name, shape in shapes.items():
        if re.search(r"(Dense_0/bias|mlp\.fc1\.bias)$", name):
            return shape[-1]
    return 0


def _layers(shapes: Shapes) -> tuple[int, ...]:
    """Return the number of blocks of each stage of a ResNet."""
    units: dict[int, set[int]] = {}
    for name in shapes:
        found = re.search(r"block(\d+)/unit(\d+)/", name)
        found = found or re.search(r"stages\.(\d+)\.blocks\.(\d+)\.", name)
        if found:
            units.setdefault(int(found.group(1)), set()).add(int(found.group(2)))
    return tuple(len(units[stage]) for stage in sorted(units))
