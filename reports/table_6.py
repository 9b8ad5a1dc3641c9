"""Table 6 of the ViT paper, scaling study, beside what was measured."""

from __future__ import annotations

from reports.beside import paper_table
from reports.render import Table
from reports.results import Study


def table(study: Study) -> Table:
    """Return the table with a verdict for each cell."""
    return paper_table(study, "6", title="scaling study")
