"""A suite in, a graph of jobs out: pure and deterministic, without torch.

    names.py       names of a suite -> cards, protocols and recipes, or an error with its key
    graph.py       collects each distinct job once, with its closed-form cost
    starts.py      [[pretrain]] and [[weights]]: what every transfer starts from
    transfers.py   [[transfer]]: few-shot, probe, nearest neighbours, evaluation of classifiers
    finetuning.py  [[transfer]]: the sweep of learning rates and the final runs
    pairs.py       [[pair]]: systems set against each other
    profiles.py    [[profile]]: speed and memory, from random weights

A job that nobody can do (data or weights that are not public) is planned as *refused*, with the
reason, and so is everything that needs it.
"""

from __future__ import annotations

from collections.abc import Mapping

from bench.plan.graph import Builder
from bench.plan.names import Names
from bench.plan.pairs import check_pair
from bench.plan.profiles import profile
from bench.plan.starts import Start, pretrain, weights
from bench.plan.transfers import transfer
from bench.specs import DatasetCard, JobGraph, Protocol, SuiteSpec


def plan(
    suite: SuiteSpec,
    *,
    datasets: Mapping[str, DatasetCard],
    protocols: Mapping[str, Protocol],
    file: str = "",
) -> JobGraph:
    """Turn a suite into its graph of content-addressed jobs; same input, same graph.

    `datasets` and `protocols` are all known cards by name; `file` is named in errors. Blocks of
    other scales are left out, and the graph's suite holds what runs.
    """
    names = Names(suite, datasets, protocols, file or suite.name)
    builder = Builder(names)
    starts: list[Start] = []
    for index, block in enumerate(suite.pretrain):
        if suite.runs(block):
            starts += pretrain(builder, block, f"pretrain[{index}]")
    for index, public in enumerate(suite.weights):
        if suite.runs(public):
            starts += weights(builder, public, f"weights[{index}]")
    for index, moved in enumerate(suite.transfer):
        if suite.runs(moved):
            transfer(builder, moved, f"transfer[{index}]", starts)
    for index, measured in enumerate(suite.profile):
        if suite.runs(measured):
            profile(builder, measured, f"profile[{index}]")
    jobs = tuple(builder.jobs.values())
    pairs = tuple(
        check_pair(names, pair, f"pair[{index}]", starts, jobs)
        for index, pair in enumerate(suite.pair)
        if suite.runs(pair)
    )
    spec = suite.narrowed().model_copy(update={"pair": pairs})
    return JobGraph(suite=spec, jobs=jobs, datasets=names.used)
