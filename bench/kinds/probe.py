"""Linear probe: softmax regression on frozen features, its L2 chosen on held-out images."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from bench.kinds import frozen
from bench.kinds.base import FROZEN, KindCard, Planner, Stage, TransferBlock, metric
from bench.kinds.held_out import DEFAULT_HELD_OUT, num_held_out
from bench.paths import HITS
from bench.specs import MetricCard


class ProbeBlock(TransferBlock):
    """Fit softmax regression on frozen features."""

    kind: Literal["probe"]
    """Job kind."""
    l2s: tuple[Annotated[float, Field(ge=0)], ...] = Field(min_length=1)
    """Candidates of L2 regularization, chosen on the held-out part of train."""
    held_out: float | None = Field(default=None, gt=0, lt=1)
    """Share of train held out to choose on; None: a tenth."""


def plan(planner: Planner, block: ProbeBlock, key: str) -> None:
    """Plan one job for each start, seed and data set: each seed holds out another part."""
    protocol = planner.protocol(block.protocol, f"{key}.protocol")
    starts = planner.chosen(block, key, protocol)
    held_out = block.held_out or DEFAULT_HELD_OUT
    for card, _ in planner.downstream(block, key, splits=("train", "test")):
        num_held_out(planner, card, held_out, f"{key}.held_out", "regularization")
        for start in starts:
            frozen.add(
                planner,
                "probe",
                start,
                card,
                protocol,
                words="probe",
                params={"l2s": block.l2s},
                held_out=held_out,
                # One of a class to fit where another is held out.
                least_evaluated=2 * card.num_classes,
            )


CARD = KindCard(
    name="probe",
    title="Linear probe",
    place=60,
    run="bench.jobs.probe:run",
    shares_batches=True,
    stages=(
        Stage(
            name="probe",
            title="Probe",
            role="result",
            work=FROZEN,
            metrics=metric("probe_top1"),
        ),
    ),
    table="transfer",
    block=ProbeBlock,
    plan=plan,
    leaves=(HITS,),
    metrics=(
        MetricCard(
            name="probe_top1",
            title="Linear probe",
            unit="%",
            base_unit="fraction",
            direction="higher",
            scale=100,
            decimals=1,
            help="top-1 accuracy on the test split of a softmax regression on frozen features",
        ),
    ),
)
