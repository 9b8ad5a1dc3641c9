"""Published points that belong beside ours in figures: same data, same metric, as printed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import baselines
from baselines.printed import MEASURES
from bench.errors import UnknownName
from bench.specs import PublishedResult
from reports.study.samples import Measure
from reports.study.study import Study, bare_name

UPSTREAM_IMAGES = {"ImageNet": 1.3e6, "ImageNet-21k": 14e6, "JFT-300M": 303e6}
"""Images of the paper's upstream data sets, as section 4.1 of arXiv:2010.11929 prints them."""
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

    @property
    def upstream_images(self) -> float | None:
        """Images of the upstream data set; None where print gives none."""
        return UPSTREAM_IMAGES.get(self.upstream)


def points(study: Study, measure: Measure, *, tables: Iterable[str]) -> list[Point]:
    """Return what the ViT paper printed for a measure's data set and metric in some tables.

    Every row stands for one system of the scaling study (Table 6) or of the data study (Table 5).
    """
    wanted, dataset = set(tables), bare_name(study.dataset_title(measure.dataset))
    rows = [row for row in study.published if row.paper == PAPER and row.table in wanted]
    compute = {_place(row): row.value for row in rows if row.metric == "pretrain_compute"}
    found = []
    for row in rows:
        answers = measure.metric in MEASURES.get(row.metric, ())
        if answers and bare_name(row.dataset) == dataset:
            work = compute.get(_place(row))
            found.append(
                Point(
                    system=row.system,
                    family=_family(row.system),
                    upstream=row.pretrain_dataset,
                    value=float(row.value) / (100 if row.unit == "%" else 1),
                    exaflops=None if work is None else float(work),
                    table=row.table,
                )
            )
    return found


def _place(row: PublishedResult) -> tuple[str, str, str]:
    return row.system, row.pretrain_dataset, row.pretrain_epochs


def _family(printed: str) -> str:
    try:
        return baselines.system(printed).family
    except UnknownName:
        return ""
