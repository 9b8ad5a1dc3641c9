"""Table 7 of the ViT paper, optimizer of ResNets, with what was measured."""

from __future__ import annotations

from reports.cards import TableCard
from reports.paper.with_measured import paper_table
from reports.printing.table import Table
from reports.study.study import Study


def table(study: Study) -> Table:
    """Return the table with a verdict for each cell."""
    return paper_table(study, "7", title="optimizer of ResNets")


TABLE = TableCard(name="table_7", make=table, place=127, section="leading")
