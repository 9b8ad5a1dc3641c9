"""Nearest neighbours: the weighted vote of training features, nothing fitted."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from bench.kinds import frozen
from bench.kinds.base import FROZEN, KindCard, Planner, Stage, TransferBlock, metric_by
from bench.paths import HITS
from bench.specs import DatasetCard, MetricCard

TEMPERATURE = 0.07
"""Temperature of the vote of neighbours (Wu et al., arXiv:1805.01978)."""


class KnnBlock(TransferBlock):
    """Let the nearest training features vote."""

    kind: Literal["knn"]
    """Job kind."""
    neighbours: tuple[Annotated[int, Field(gt=0)], ...] = Field(min_length=1)
    """Numbers of neighbours."""


def plan(planner: Planner, block: KnnBlock, key: str) -> None:
    """Plan one job for each start and data set."""
    protocol = planner.protocol(block.protocol, f"{key}.protocol")
    starts = frozen.once(planner.chosen(block, key, protocol))
    for card, _ in planner.downstream(block, key, splits=("train", "test")):
        _check_neighbours(planner, block, key, card)
        for start in starts:
            frozen.add(
                planner,
                "knn",
                start,
                card,
                protocol,
                words="neighbours",
                params={"neighbours": block.neighbours, "temperature": TEMPERATURE},
                least_evaluated=max(block.neighbours),
            )


def _check_neighbours(planner: Planner, block: KnnBlock, key: str, card: DatasetCard) -> None:
    """Raise SuiteError where more neighbours are asked for than there are training images."""
    available = card.splits["train"].num_examples
    for index, neighbours in enumerate(block.neighbours):
        if neighbours > available:
            raise planner.error(
                f"{key}.neighbours[{index}]",
                f"{neighbours:,} neighbours, but {card.name} has {available:,} training images",
            )


CARD = KindCard(
    name="knn",
    title="Nearest neighbours",
    place=70,
    run="bench.jobs.knn:run",
    shares_batches=True,
    stages=(
        Stage(
            name="knn",
            title="k-NN",
            role="result",
            work=FROZEN,
            metrics=metric_by("knn_top1", "neighbours"),
        ),
    ),
    table="transfer",
    block=KnnBlock,
    plan=plan,
    leaves=(HITS,),
    metrics=(
        MetricCard(
            name="knn_top1",
            title="{}-NN",
            unit="%",
            base_unit="fraction",
            direction="higher",
            scale=100,
            decimals=1,
            help="top-1 accuracy on the test split of the weighted vote of nearest training "
            "features",
        ),
    ),
)
