"""The search of a learning rate that stops bad candidates early; fine-tuning plans it."""

from __future__ import annotations

from bench.kinds.base import KindCard
from bench.kinds.select import SELECT

CARD = KindCard(
    name="search",
    title="Search of a learning rate",
    place=32,
    run="bench.jobs.search:run",
    stages=(SELECT,),
)
