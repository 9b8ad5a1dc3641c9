"""The comparison with core time and speed next to it: what the terminal and the page show.

A suite of profiles alone compares nothing but speeds: then the table of speeds is its overview.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import zip_longest

from reports.cards import TableCard
from reports.printing.cells import absent_cell
from reports.printing.table import Table
from reports.study.study import Study
from reports.tables import comparison, cost, speed


def table(study: Study) -> Table:
    """Return the comparison with two columns of timings, for reading and not for diffs."""
    compared = comparison.table(study)
    if not compared.rows:
        speeds = speed.table(study)
        if speeds.rows or "speed" in study.graph.suite.report.tables:
            return replace(speeds, name="overview", title=study.graph.suite.title)
    nothing = (absent_cell(), absent_cell())  # who looks at no image takes no time
    rows = [
        (*row, *cells)
        for row, cells in zip_longest(compared.rows, cost.summary_cells(study), fillvalue=nothing)
    ]
    caption = (
        f"{compared.caption} Core time: all jobs of one seed, and the choice of learning rates; "
        "speed: pre-training. Both are measured and differ between runs."
    )
    return replace(
        compared,
        name="overview",
        caption=caption,
        columns=(*compared.columns, *cost.summary_columns(study)),
        rows=tuple(rows),
    )


TABLE = TableCard(
    name="overview", make=table, place=900, always=True, measured=True, section="results"
)
