"""Which fields of a record are compared with what was published; each says so where it is defined.

    batch_size: Annotated[int, Compared("batch size", 150)]
    source: Annotated[str, NotCompared("says where it stands, not what it is")] = ""

The metadata is of the field alone: it is in no record, no canonical JSON and no job id.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from bench.specs.record import Record

UNRANKED = 200
"""Rank of the first field whose effect on accuracy nobody measured."""


@dataclass(frozen=True)
class Compared:
    """What a reader calls a field that is compared, and its place in a list of differences."""

    title: str
    """Name as a reader knows it, with its unit."""
    rank: int = UNRANKED
    """Place by known effect on accuracy, the largest first; from UNRANKED on, a mere order."""
    by_rule: bool = False
    """Whether its values say too little by themselves: a rule in `reports/verdicts/differences.py`
    compares what they mean (a length in epochs is a number of steps on a data set)."""


@dataclass(frozen=True)
class NotCompared:
    """Why a field is not compared."""

    reason: str
    """In words."""


@functools.cache
def comparisons(record: type[Record]) -> dict[str, Compared]:
    """Return the fields of a record that are compared, by rank."""
    found = {
        name: note
        for name, field in record.model_fields.items()
        for note in field.metadata
        if isinstance(note, Compared)
    }
    return dict(sorted(found.items(), key=lambda item: item[1].rank))
