"""Table 8 of the ViT paper, position embeddings, beside what was measured."""

from __future__ import annotations

from reports.printing.render import Table
from reports.study.scores import Study
from reports.tables.beside import paper_table


def table(study: Study) -> Table:
    """Return the table with a verdict for each cell."""
    return paper_table(study, "8", title="position embeddings")
