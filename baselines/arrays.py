"""What is in files of weights: which array of a file is which tensor of ours, and whose they are.

A layout maps names only; `bench/models/layouts.py` moves the tensors. A family states its layouts,
and what names and shapes say about the sizes of a system, on its card.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from bench.errors import CheckpointError
from bench.specs import Args

Shapes = Mapping[str, tuple[int, ...]]
"""Shapes of the arrays of a file, by name."""

Axes = Literal["same", "conv", "dense", "dense_hwio", "dense_oihw", "heads", "heads_bias", "merge"]
"""How the axes of an array differ from ours: `conv` is HWIO (ours OIHW); `dense` is transposed,
`dense_hwio` and `dense_oihw` a dense layer stored as a 1x1 convolution; `heads` and `heads_bias`
are a third of the packed query, key and value, with an axis for heads; `merge` is the projection
behind attention, with an axis for heads."""


class Rule(NamedTuple):
    """One array of a file: its tensor here, and how the axes differ."""

    theirs: str
    ours: str
    axes: Axes = "same"
    part: int = 0
    """Third of the packed query, key and value."""
    num_heads: int = 1


Rules = Callable[[Args, Collection[str]], Iterable[Rule]]
"""From the builder's arguments and the names of our tensors to a rule for every array; raises
CheckpointError where the layout has no place for a tensor."""


def _unchanged(args: Args, shapes: Shapes) -> dict[str, str]:
    return {name: name for name in shapes}


def _always(args: Args, shapes: Shapes) -> bool:
    return True


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How files hold the weights of a family."""

    name: str
    """Name in `WeightsSource.layout` and `save_weights`: `npz`."""
    ending: Literal[".npz", ".safetensors"]
    """Ending of the files that are written."""
    mark: str
    """Regular expression that is found in a name of every such file, and of no other layout's."""
    rules: Rules
    """Which array is which tensor."""
    renamed: Callable[[Args, Shapes], Mapping[str, str]] = _unchanged
    """Names as in the rules, by the names in a file, where versions of the files differ; arrays
    that it leaves out do not count."""
    fits: Callable[[Args, Shapes], bool] = _always
    """Whether a file with such a name is one; it has the arrays in the order of the file."""


def timm(head: str, *, axes: Axes = "same", check: Callable[[Args], None] | None = None) -> Layout:
    """Return timm's layout: our names, but for those of the `head`; `check` refuses arguments."""

    def rules(args: Args, names: Collection[str]) -> Iterator[Rule]:
        if check is not None:
            check(args)
        if "pre_logits.weight" in names:
            raise CheckpointError(
                "timm's layout has no place for a representation layer",
                hint='Use layout "npz" or "safetensors"',
            )
        for name in names:
            if name.startswith("encoder."):
                yield Rule(name.removeprefix("encoder."), name)
        yield Rule(f"{head}.weight", "head.weight", axes)
        yield Rule(f"{head}.bias", "head.bias")

    return Layout(name="timm", ending=".safetensors", mark=r"\.", rules=rules)


def linear(theirs: str, ours: str, axes: Axes = "dense") -> Iterator[Rule]:
    """Yield the rules of a dense layer or a convolution with a bias."""
    yield Rule(f"{theirs}/kernel", f"{ours}.weight", axes)
    yield Rule(f"{theirs}/bias", f"{ours}.bias")


def norm(theirs: str, ours: str, names: tuple[str, str] = ("scale", "bias")) -> Iterator[Rule]:
    """Yield the rules of a normalization."""
    yield Rule(f"{theirs}/{names[0]}", f"{ours}.weight")
    yield Rule(f"{theirs}/{names[1]}", f"{ours}.bias")


def unwrapped(name: str) -> str:
    """Return a name of a Flax file without the leading `opt/target/` or `params/`."""
    return re.sub(r"^(opt/target/|params/)", "", name)


def state_in(content: Any) -> Any:
    """Return what a torch file is about: itself, or its entry `state_dict` or `model`."""
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    return content


def blocks(layers: Iterable[int]) -> Iterator[tuple[int, int, str]]:
    """Yield stage, index and our name of each block of a ResNet."""
    for stage, num_blocks in enumerate(layers):
        for index in range(num_blocks):
            yield stage, index, f"stages.{stage}.blocks.{index}"


# --- what names and shapes say -----------------------------------------------------------------


def first(shapes: Shapes, *names: str) -> tuple[int, ...]:
    """Return the shape of the first of these arrays that is there; empty where none is."""
    return next((shapes[name] for name in names if name in shapes), ())


def count(shapes: Shapes, pattern: str) -> int:
    """Return how many values the group of a regular expression has among the names."""
    return len({found.group(1) for name in shapes if (found := re.search(pattern, name))})


def blocks_by_stage(shapes: Shapes) -> tuple[int, ...]:
    """Return the number of blocks of each stage of a ResNet."""
    units: dict[int, set[int]] = {}
    for name in shapes:
        found = re.search(r"block(\d+)/unit(\d+)/", name)
        found = found or re.search(r"stages\.(\d+)\.blocks\.(\d+)\.", name)
        if found:
            units.setdefault(int(found.group(1)), set()).add(int(found.group(2)))
    return tuple(len(units[stage]) for stage in sorted(units))
