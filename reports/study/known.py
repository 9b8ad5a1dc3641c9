"""Published points that belong next to ours in figures: same data, same metric, as printed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import baselines
from bench.facts import UPSTREAM_IMAGES
from bench.specs import PublishedResult
from reports.study.samples import Measure
from reports.study.study import Study

PAPER = "ViT"


@dataclass(frozen=True)
class Point:
    """One published accuracy and where it stands on the axes."""

    system: str
    """System, as printed."""
    family: str
    """Its family."""
    upstream: str
    """Upstream data set, as printed."""
    value: float
    """Accuracy as a fraction."""
    exaflops: float | None
    """Pre-training compute, as printed; None where it is not."""
    table: str
    """Where it was printed."""
    upstream_images: float | None
    """Images of the upstream data set, as the paper rounds them; None where it gives none."""


def points(study: Study, measure: Measure, *, tables: Iterable[str]) -> list[Point]:
    """Return what the ViT paper printed for a measure's data set and metric in some tables.

    Every row stands for one system of the scaling study (Table 6) or of the data study (Table 5).
    """
    wanted = set(tables)
    rows = [row for row in study.published if row.paper == PAPER and row.table in wanted]
    compute = {_place(row): row.value for row in rows if row.metric == "pretrain_compute"}
    found = []
    for row in rows:
        if measure.metric in row.metric_ids and measure.dataset == row.dataset_id:
            work = compute.get(_place(row))
            found.append(
                Point(
                    system=row.system,
                    family=_family(row),
                    upstream=row.pretrain_dataset,
                    value=float(row.value) / (100 if row.unit == "%" else 1),
                    exaflops=None if work is None else float(work),
                    table=row.table,
                    upstream_images=UPSTREAM_IMAGES.get(row.upstream_id),
                )
            )
    return found


def _place(row: PublishedResult) -> tuple[str, str, str]:
    return row.system, row.pretrain_dataset, row.pretrain_epochs


def _family(row: PublishedResult) -> str:
    card = baselines.systems().get(row.system_id)
    return card.family if card else ""
