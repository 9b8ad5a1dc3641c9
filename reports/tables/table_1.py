"""Table 1 of the ViT paper, the variants' sizes, next to the parameters of our systems."""

from __future__ import annotations

import baselines
from reports.cards import TableCard
from reports.paper.as_printed import variants
from reports.printing.table import Table
from reports.study.study import Study


def table(study: Study) -> Table:
    """Return the table; it is arithmetic, whatever was run."""
    rows = [row for row in study.published if (row.paper, row.table) == ("ViT", "Table 1")]
    return variants(rows, baselines.systems())


TABLE = TableCard(name="table_1", make=table, place=121, section="leading")
