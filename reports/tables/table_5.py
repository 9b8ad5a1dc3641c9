"""Table 5 of the ViT paper, pre-training data, with what was measured."""

from __future__ import annotations

from reports.cards import TableCard
from reports.paper.with_measured import paper_table
from reports.printing.table import Table
from reports.study.study import Study


def table(study: Study) -> Table:
    """Return the table with a verdict for each cell."""
    return paper_table(study, "5", title="pre-training data")


TABLE = TableCard(name="table_5", make=table, place=125, section="leading")
