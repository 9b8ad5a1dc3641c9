"""Table 7 of the ViT paper, optimizer of ResNets, beside what was measured."""

from __future__ import annotations

from reports.beside import paper_table
from reports.render import Table
from reports.results import Study


def table(study: Study) -> Table:
    """Return the table with a verdict for each cell."""
    return paper_table(study, "7", title="optimizer of ResNets")
