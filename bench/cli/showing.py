"""Everything known about one thing, whatever it is: a system, a data set or a suite."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.cli.printing import fact, print_facts
from bench.errors import UnknownName, UserError
from bench.paths import CachePaths
from bench.specs import DatasetCard, SystemCard, WeightsSource

if TYPE_CHECKING:
    from rich.console import Console

    from bench.plan.spec import SuiteSpec


def facts_of(name: str, cache: CachePaths) -> dict[str, Any]:
    """Return what is known of the system, data set or suite of this name; raises UnknownName.

    A suite may be a path too.
    """
    import baselines
    from bench.data import catalog
    from bench.plan import suites

    if name in suites.SUITES or Path(name).suffix == ".toml":
        return _suite_facts(name)
    if name in catalog.datasets():
        return dataset_facts(catalog.dataset(name), cache)
    try:
        return _system_facts(name, cache)
    except UnknownName:
        if ":" in name:  # of a family that makes systems by their names, and knows its own
            raise
        known = (*baselines.systems(), *catalog.datasets(), *suites.names())
        raise UnknownName("system, data set or suite", name, known) from None


def show(console: Console, facts: Mapping[str, Any]) -> None:
    """Print facts: those of a system a line each, of anything else by their parts."""
    if "family" in facts:
        _show_system(console, facts)
    else:
        print_facts(facts)


# --- suites ---------------------------------------------------------------------------------


def _suite_facts(name: str) -> dict[str, Any]:
    """Return what a suite compares, and what it does at each of its scales."""
    from bench.plan import suites

    spec = suites.load(name)
    scales = suites.scales(spec)
    each: dict[str, Any] = {
        f"scale {scale}": _at_scale(suites.load(name, scale=scale)) for scale in scales
    }
    return {
        "name": spec.name,
        "title": spec.title,
        "claim": spec.claim,
        "source": spec.source,
        "file": suites.shown(suites.locate(name)),
        **(each or _at_scale(spec)),
        "tables": list(spec.report.tables),
        "figures": list(spec.report.figures),
    }


def _at_scale(spec: SuiteSpec) -> dict[str, Any]:
    ours = spec.narrowed()
    block = ours.scales.get(spec.scale) if spec.scale else None
    systems = [
        *(name for start in ours.pretrain for name in start.systems),
        *(name for start in ours.weights for name in start.systems),
        *(name for profile in ours.profile for name in profile.systems),
    ]
    return {
        "expected": block.expected if block else "",
        "cost": block.cost if block else "",
        "seeds": list(spec.seeds),
        "systems": list(dict.fromkeys(systems)),
        "pretrain": [
            f"{block.upstream} ({block.protocol}, {block.recipe})" for block in ours.pretrain
        ],
        "weights": list(dict.fromkeys(block.weights or block.file for block in ours.weights)),
        "transfer": list(dict.fromkeys(_transfers(ours))),
        "pairs": [" against ".join(pair.systems) for pair in ours.pair],
    }


def _transfers(spec: SuiteSpec) -> Iterator[str]:
    for block in spec.transfer:
        for name in block.datasets:
            yield f"{block.kind} {name} ({block.protocol})"


# --- data sets ------------------------------------------------------------------------------


def dataset_facts(card: DatasetCard, cache: CachePaths) -> dict[str, Any]:
    """Return the card of a data set, and what is packed of it in the work folder."""
    from bench.data.packs import examine

    packed = examine.packed_form(card, cache_dir=cache.folder)
    return {
        **card.model_dump(mode="json", exclude_defaults=True),
        "packed": packed.model_dump(mode="json") if packed is not None else "not yet",
    }


# --- systems --------------------------------------------------------------------------------


def _system_facts(name: str, cache: CachePaths) -> dict[str, Any]:
    """Return everything known about a system: its card, builder arguments, costs and weights.

    Of weights that a work folder used, `recorded_sha256` is the digest of the file.
    """
    import dataclasses

    import baselines
    from bench import cost, memory
    from bench.specs import Recipe

    card = baselines.system(name)
    size = card.image_size_px
    recipe = Recipe(steps=1, batch_size=32, optimizer="adam", schedule="constant")
    held = memory.training(card, recipe, image_size_px=size, num_classes=1000, device="cpu")
    return {
        **card.model_dump(mode="json", exclude={"weights", "args"}),
        "arguments": dataclasses.asdict(baselines.sizes(card)),  # type: ignore[call-overload]
        "gflops": {
            f"{px} px": {
                "forward": cost.forward_gflops(card, image_size_px=px),
                "forward_without_padding": cost.forward_gflops(
                    card, image_size_px=px, padding="skipped"
                ),
            }
            for px in (size, 2 * size)
            if _takes(card, px)
        },
        "train_memory_gib": {
            "batch 32, float32, adam": {"all": held.gib(32), **dataclasses.asdict(held)}
        },
        "weights": [
            {**source.model_dump(mode="json"), "recorded_sha256": _recorded(source, cache)}
            for source in card.weights
        ],
    }


def _takes(card: SystemCard, image_size_px: int) -> bool:
    import baselines

    try:
        baselines.sizes(card).check_image(image_size_px)
    except UserError:
        return False
    return True


def _recorded(source: WeightsSource, cache: CachePaths) -> str:
    from bench import digests

    found = digests.recorded(source.url, cache)
    return found.sha256 if found is not None else ""


def _show_system(console: Console, facts: Mapping[str, Any]) -> None:
    """Print the facts of one system, one line each."""
    for name, value in facts.items():
        if name == "weights":
            for source in value:
                where = source["url"] or "not public"
                fact(console, f"weights {source['name']}", f"{where} ({source['licence']})")
                if source["note"]:
                    fact(console, "", source["note"])
                for key, whose in (("sha256", "its owner's"), ("recorded_sha256", "as used here")):
                    if source[key]:
                        fact(console, "", f"sha256 {source[key]} ({whose})")
        elif isinstance(value, Mapping):
            for key, inner in value.items():
                fact(console, f"{name} {key}", _inner(inner))
        elif value not in ("", None):
            fact(console, name.replace("_", " "), _inner(value))


def _inner(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key.replace('_', ' ')} {_inner(part)}" for key, part in value.items())
    if isinstance(value, float):
        return f"{value:,.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
