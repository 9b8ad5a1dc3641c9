"""A suite planned with the data sets of the catalogue and those of its own."""

from __future__ import annotations

from collections.abc import Mapping

from bench.specs import DatasetCard, JobGraph, SuiteSpec


def planned(spec: SuiteSpec, own: Mapping[str, DatasetCard], *, file: str = "") -> JobGraph:
    """Return the jobs of a suite, whose `own` data sets were resolved; raises UserError.

    `file` is the suite's, for messages.
    """
    from bench.data import catalog
    from bench.plan import plan

    datasets = {**catalog.datasets(), **own}
    return plan(spec, datasets=datasets, protocols=catalog.protocols(), file=file)
