"""Table 9 of the ViT paper, VTAB by task, with what was measured."""

from __future__ import annotations

from reports.cards import TableCard
from reports.paper.with_measured import paper_table
from reports.printing.table import Table
from reports.study.study import Study


def table(study: Study) -> Table:
    """Return the table with a verdict for each cell."""
    return paper_table(study, "9", title="VTAB by task")


TABLE = TableCard(name="table_9", make=table, place=129, section="leading")
