"""Table 6 of the ViT paper, scaling study, with what was measured."""

from __future__ import annotations

from reports.cards import TableCard
from reports.paper.with_measured import paper_table
from reports.printing.table import Table
from reports.study.study import Study


def table(study: Study) -> Table:
    """Return the table with a verdict for each cell."""
    return paper_table(study, "6", title="scaling study")


TABLE = TableCard(name="table_6", make=table, place=126, section="leading")
