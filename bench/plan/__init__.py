"""A suite in, a graph of jobs out: pure and deterministic, without torch.

    spec.py      what a suite asks, validated against the kinds and readers that there are
    suites.py    suite files: found, read, adjusted and validated
    weights_files.py  a weights file of the user's own: digest, names and shapes
    names.py     names of a suite -> cards, protocols and recipes, or an error with its key
    fitting.py   how a job fits the memory of its device: pieces of a batch
    learned.py   what jobs really held there
    shapes.py    distinct shapes of work: what a rehearsal does two steps of
    rehearsed.py what rehearsals found of them
    planner.py   the graph as it grows: each distinct job once, with its closed-form cost
    notes.py     what a plan does that may not be meant: batches beyond the data, pixels unseen
    cells.py     results that would share one cell of a table, or come of a part of their data
    pairs.py     [[pair]]: systems set against each other

How a block becomes jobs is up to its kind, in `bench/kinds/`. A job that nobody can do (data or
weights that are not public) is planned as *refused*, with the reason, and so is everything that
needs it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from bench import digests
from bench.kinds import KINDS
from bench.kinds.base import Block, KindCard, Table
from bench.paths import CachePaths
from bench.plan import learned
from bench.plan.cells import check_cells, check_parts
from bench.plan.fitting import Place, here
from bench.plan.names import Recorded
from bench.plan.pairs import check_pair
from bench.plan.planner import Planner
from bench.plan.spec import JobGraph, SuiteSpec
from bench.specs import DatasetCard, Protocol

__all__ = ["JobGraph", "SuiteSpec", "plan", "plan_with_catalogue"]

_TABLES: tuple[Table, ...] = ("pretrain", "weights", "transfer", "profile")
"""Tables of a suite in the order in which they are planned: what starts, then what builds on it."""


def plan(
    suite: SuiteSpec,
    *,
    datasets: Mapping[str, DatasetCard],
    protocols: Mapping[str, Protocol],
    file: str = "",
    place: Place | None = None,
    recorded: Recorded = MappingProxyType({}),
) -> JobGraph:
    """Turn a suite into its graph of content-addressed jobs; same input, same graph.

    `datasets` and `protocols` are all known cards by name; `file` is named in errors. Jobs are
    fitted to the memory of a `place`: this machine where none is given. `recorded` are digests that
    a work folder recorded of public weights, by which a file of the user's own is known. Blocks of
    other scales are left out, and the graph's suite holds what runs.
    """
    planner = Planner(
        suite, datasets, protocols, file or suite.name, place or here(suite), recorded
    )
    places: dict[str, str] = {}
    for key, block in _blocks(suite):
        kind = _kind(key, block)
        assert kind.plan is not None  # a kind of a table has a planner
        kind.plan(planner, block, key)
        for job_id in planner.jobs:
            places.setdefault(job_id, key)
    check_cells(planner, places)
    check_parts(planner, places)
    jobs = tuple(planner.jobs.values())
    pairs = tuple(
        check_pair(planner, pair, f"pair[{index}]", planner.starts, jobs)
        for index, pair in enumerate(suite.pair)
        if suite.runs(pair)
    )
    spec = suite.narrowed().model_copy(update={"pair": pairs})
    return JobGraph(suite=spec, jobs=jobs, datasets=planner.used)


def plan_with_catalogue(
    suite: SuiteSpec,
    own: Mapping[str, DatasetCard],
    *,
    file: str = "",
    cache: CachePaths | None = None,
) -> JobGraph:
    """Plan a suite with the catalogue's data sets and protocols, and its `own` data sets, located.

    With a `cache`, what jobs of that work folder held before corrects what they are said to need,
    and files of weights are known by the digests that it recorded.
    Raises UserError, as `plan` does.
    """
    from bench.data import catalog

    datasets = {**catalog.datasets(), **own}
    place = here(suite, learned.read(cache) if cache is not None else None)
    recorded = digests.all_recorded(cache) if cache is not None else {}
    return plan(
        suite,
        datasets=datasets,
        protocols=catalog.protocols(),
        file=file,
        place=place,
        recorded=recorded,
    )


def _blocks(suite: SuiteSpec) -> Iterator[tuple[str, Block]]:
    """Yield the blocks that run at the suite's scale, each with its key."""
    for table in _TABLES:
        blocks: tuple[Block, ...] = getattr(suite, table)
        for index, block in enumerate(blocks):
            if suite.runs(block):
                yield f"{table}[{index}]", block


def _kind(key: str, block: Block) -> KindCard:
    """Return the kind of a block: the one that it names, or the only one of its table."""
    return KINDS[getattr(block, "kind", key.partition("[")[0])]
