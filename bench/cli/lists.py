"""What there is, as rows: systems, data, suites and all else that people add, and from where."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from bench.cli.listing import Row
from bench.plugins import OURS

if TYPE_CHECKING:
    from bench.plan.spec import SuiteSpec
    from bench.plugins import Registry


def _list_systems() -> list[Row]:
    import baselines

    listed: list[Row] = [
        {
            "name": card.name,
            "title": card.title,
            "family": card.family,
            "params_m": round(card.num_params / 1e6, 3),
            "gflops": round(baselines.forward_flops(card, card.image_size_px) / 1e9, 4),
            "image_size_px": card.image_size_px,
            "weights": [source.name for source in card.weights],
            "licence": card.licence,
            "from": baselines.FAMILIES.origin(card.family),
        }
        for card in baselines.systems().values()
    ]
    return listed + [
        {
            "name": f"{family.name}:NAME",
            "title": f"any model of {family.title}, by its name there",
            "family": family.name,
            "params_m": "",
            "gflops": "",
            "image_size_px": "",
            "weights": [],
            "licence": "",
            "from": baselines.FAMILIES.origin(family.name),
        }
        for family in baselines.families()
        if family.arguments_of is not None
    ]


def _list_families() -> list[Row]:
    import baselines

    return [
        {
            "name": family.name,
            "title": family.title,
            "systems": len(family.systems),
            "layouts": [layout.name for layout in family.layouts],
            "from": baselines.FAMILIES.origin(family.name),
        }
        for family in baselines.families()
    ]


def _list_datasets() -> list[Row]:
    from bench.data import catalog

    return [
        {
            "name": card.name,
            "title": card.title,
            "classes": card.num_classes,
            "splits": [f"{split} {card.count(split)}" for split in card.splits],
            "licence": card.licence,
            "how_to_get": card.how_to_get,
            "from": catalog.CARDS.origin(card.name),
        }
        for card in catalog.datasets().values()
    ]


def _list_suites() -> list[Row]:
    from bench.plan import suites as suites

    specs = {name: suites.load(name) for name in suites.names()}
    return [
        {
            "name": spec.name,
            "claim": spec.claim,
            "source": spec.source,
            "scales": list(suites.scales(spec)),
            "jobs": _num_jobs(spec),
            "from": suites.SUITES.origin(name),
        }
        for name, spec in specs.items()
    ]


def _num_jobs(spec: SuiteSpec) -> int | str:
    """Return the number of jobs of a suite at the scale that its file names.

    A suite on images of the user's own has none before they are named.
    """
    from bench.data import catalog
    from bench.plan import plan

    if spec.dataset:
        return ""
    # As published: a part of a set that lies here, which only rehearses, changes no list.
    return len(plan(spec, datasets=catalog.CARDS, protocols=catalog.protocols()).jobs)


def _list_recipes() -> list[Row]:
    import baselines

    return [
        {
            "name": name,
            "optimizer": recipe.optimizer,
            "length": next(
                f"{value:,.10g} {unit}"
                for unit in ("steps", "epochs", "examples")
                if (value := getattr(recipe, unit)) is not None
            ),
            "batch_size": recipe.batch_size,
            "base_lr": ", ".join(f"{rate:g}" for rate in recipe.learning_rates)
            or ("swept" if recipe.base_lr is None else f"{recipe.base_lr:g}"),
            "schedule": "steps" if recipe.drop_steps or recipe.drop_shares else recipe.schedule,
            "source": recipe.source,
        }
        for name, recipe in baselines.recipes().items()
    ]


def _list_protocols() -> list[Row]:
    from bench.data import catalog

    return [
        {
            "name": name,
            "image_size_px": protocol.image_size_px,
            "training": protocol.train_transform,
            "evaluation": protocol.eval_transform,
            "splits": protocol.splits,
            "source": protocol.source,
        }
        for name, protocol in catalog.protocols().items()
    ]


def _list_kinds() -> list[Row]:
    from bench.kinds import KINDS, in_order

    return [
        {
            "name": card.name,
            "title": card.title,
            "table": f"[[{card.table}]]" if card.table else "",
            "stages": [stage.name for stage in card.stages],
            "from": KINDS.origin(card.name),
        }
        for card in in_order()
    ]


def _list_readers() -> list[Row]:
    from bench.data.readers import READERS

    return [
        {
            "name": reader.name,
            "keys": sorted(reader.options.model_fields) if reader.options else [],
            "from": READERS.origin(reader.name),
        }
        for reader in READERS.values()
    ]


def _list_tables() -> list[Row]:
    import reports
    from reports.cards import tables_in_order

    return [
        {"name": card.name, "measured": card.measured, "from": reports.TABLES.origin(card.name)}
        for card in tables_in_order()
    ]


def _list_figures() -> list[Row]:
    import reports

    return [
        {"name": card.name, "measured": card.measured, "from": reports.FIGURES.origin(card.name)}
        for card in reports.FIGURES.values()
    ]


def _registries() -> Iterator[Registry[Any]]:
    import baselines
    import reports
    from bench.data import catalog
    from bench.data.readers import READERS
    from bench.kinds import KINDS
    from bench.plan.suites import SUITES

    yield from (
        KINDS, baselines.FAMILIES, catalog.CARDS, READERS, reports.TABLES, reports.FIGURES, SUITES,
    )  # fmt: skip


def _list_plugins() -> list[Row]:
    """Return what other distributions add, and what of it was left out and why."""
    rows: list[Row] = []
    for registry in _registries():
        what = registry.noun
        rows += [
            {"name": name, "what": what, "from": registry.origin(name), "left_out": ""}
            for name in registry
            if registry.origin(name) != OURS
        ]
        rows += [
            {"name": name, "what": what, "from": why.partition(": ")[0], "left_out": why}
            for name, why in registry.broken.items()
        ]
    return rows


LISTS: dict[str, Callable[[], list[Row]]] = {
    "systems": _list_systems,
    "families": _list_families,
    "datasets": _list_datasets,
    "readers": _list_readers,
    "protocols": _list_protocols,
    "recipes": _list_recipes,
    "kinds": _list_kinds,
    "suites": _list_suites,
    "tables": _list_tables,
    "figures": _list_figures,
    "plugins": _list_plugins,
}
"""What `vitbench ls` can list: name -> rows."""
