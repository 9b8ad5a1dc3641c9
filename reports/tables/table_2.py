"""Table 2 of the ViT paper, state of the art, with what was measured."""

from __future__ import annotations

from reports.cards import TableCard
from reports.paper.with_measured import paper_table
from reports.printing.table import Table
from reports.study.study import Study


def table(study: Study) -> Table:
    """Return the table with a verdict for each cell."""
    return paper_table(study, "2", title="state of the art")


TABLE = TableCard(name="table_2", make=table, place=122, section="leading")
