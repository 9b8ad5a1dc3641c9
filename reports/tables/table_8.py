"""Table 8 of the ViT paper, position embeddings, with what was measured."""

from __future__ import annotations

from reports.cards import TableCard
from reports.paper.with_measured import paper_table
from reports.printing.table import Table
from reports.study.study import Study


def table(study: Study) -> Table:
    """Return the table with a verdict for each cell."""
    return paper_table(study, "8", title="position embeddings")


TABLE = TableCard(name="table_8", make=table, place=128, section="leading")
