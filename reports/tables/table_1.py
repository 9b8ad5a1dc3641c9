"""Table 1 of the ViT paper, the variants' sizes, beside the parameters of our systems."""

from __future__ import annotations

import baselines
from reports.printing.render import Table
from reports.study.scores import Study
from reports.tables.paper import variants


def table(study: Study) -> Table:
    """Return the table; it is arithmetic, whatever was run."""
    rows = [row for row in study.published if (row.paper, row.table) == ("ViT", "Table 1")]
    return variants(rows, baselines.systems())
