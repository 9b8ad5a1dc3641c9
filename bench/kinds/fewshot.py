"""Few-shot accuracy: least squares on the frozen features of a few images a class.

Source: arXiv:2010.11929, section 4.1, and big_vision's `fewshot_lsr`.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from bench.facts import FEWSHOT_L2
from bench.kinds import frozen
from bench.kinds.base import FROZEN, KindCard, Planner, Stage, TransferBlock, metric_by
from bench.paths import HITS
from bench.specs import Args, DatasetCard, MetricCard
from bench.specs import Protocol as ImageProtocol


class FewshotBlock(TransferBlock):
    """Fit a few images a class by least squares, on frozen features."""

    kind: Literal["fewshot"]
    """Job kind."""
    shots: tuple[int, ...] = Field(min_length=1)
    """Training images per class, nested."""
    draws: int = Field(default=3, gt=0)
    """Number of random draws of the shots."""
    l2: float = Field(default=FEWSHOT_L2, gt=0)
    """Regularization of the least squares (big_vision's 2^10)."""

    @field_validator("shots")
    @classmethod
    def _at_least_one(cls, shots: tuple[int, ...]) -> tuple[int, ...]:
        if any(shot < 1 for shot in shots):
            raise ValueError("shots must be at least 1")
        return shots


def plan(planner: Planner, block: FewshotBlock, key: str) -> None:
    """Plan one job for each start and data set."""
    protocol = planner.protocol(block.protocol, f"{key}.protocol")
    starts = frozen.once(planner.chosen(block, key, protocol))
    for card, _ in planner.downstream(block, key, splits=("train", "test")):
        pool = _pool(protocol, card)
        _check_shots(planner, block, key, card, pool)
        params: Args = {"shots": block.shots, "draws": block.draws, "l2": block.l2}
        for start in starts:
            frozen.add(
                planner,
                "fewshot",
                start,
                card,
                protocol,
                words="few-shot",
                params=params if pool is None else {**params, "pool": pool},
                num_train=pool,
            )


def _pool(protocol: ImageProtocol, card: DatasetCard) -> int | None:
    """Return how many of the training images shots are drawn from; None: all of them."""
    pool = protocol.fewshot_pool
    return pool if pool is not None and pool < card.splits["train"].num_examples else None


def _check_shots(
    planner: Planner, block: FewshotBlock, key: str, card: DatasetCard, pool: int | None
) -> None:
    available = card.splits["train"].num_examples if pool is None else pool
    words = f", of which {block.protocol} uses" if pool else ", whose training split has"
    for index, shots in enumerate(block.shots):
        if shots * card.num_classes > available:
            raise planner.error(
                f"{key}.shots[{index}]",
                f"{shots} images for each of {card.num_classes} classes requested from "
                f"{card.name}{words} {available:,}",
                f"At most {available // card.num_classes}",
            )


CARD = KindCard(
    name="fewshot",
    title="Few-shot",
    place=50,
    run="bench.jobs.fewshot:run",
    shares_batches=True,
    stages=(
        Stage(
            name="fewshot",
            title="Few-shot",
            role="result",
            work=FROZEN,
            metrics=metric_by("fewshot_top1", "shots"),
        ),
    ),
    table="transfer",
    block=FewshotBlock,
    plan=plan,
    leaves=(HITS,),
    metrics=(
        MetricCard(
            name="fewshot_top1",
            title="{}-shot",
            unit="%",
            base_unit="fraction",
            direction="higher",
            scale=100,
            decimals=1,
            help="top-1 accuracy of a regularized least-squares fit on frozen features",
        ),
    ),
)
