"""Calibration of finished classifiers: does a confidence of 80 % mean right in 80 % of cases?

Source: Guo et al., arXiv:1706.04599.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from bench.kinds import classifiers
from bench.kinds.base import OTHER, KindCard, Planner, Stage, metric
from bench.specs import MetricCard


class CalibrationBlock(classifiers.ClassifierBlock):
    """Compare the confidence of finished classifiers with how often they are right."""

    kind: Literal["calibration"]
    """Job kind."""
    bins: int = Field(default=15, gt=0, le=1000)
    """Bins of equal width that confidences are sorted into."""


def plan(planner: Planner, block: CalibrationBlock, key: str) -> None:
    """Plan one job for each classifier and data set."""
    found = classifiers.plan(planner, block, key, words="calibration", needs_all_classes=True)
    for start, classifier, card, protocol, name in found:
        if card.scoring != "top1":
            raise planner.error(
                f"{key}.datasets",
                f"{card.name} is scored by the rule {card.scoring}, and a likelihood needs one "
                "label for each image",
                "Name data sets that are scored by top-1 accuracy",
            )
        place = (start, classifier, card, protocol, name)
        classifiers.add(planner, "calibration", place, {"bins": block.bins})


CARD = KindCard(
    name="calibration",
    title="Calibration",
    place=45,
    run="bench.jobs.calibration:run",
    stages=(
        Stage(
            name="calibration",
            title="Calibration",
            role="result",
            work=OTHER,
            metrics=metric("ece", "nll"),
        ),
    ),
    table="transfer",
    block=CalibrationBlock,
    plan=plan,
    metrics=(
        MetricCard(
            name="ece",
            title="ECE",
            unit="%",
            base_unit="fraction",
            direction="lower",
            scale=100,
            decimals=1,
            help="expected calibration error: mean gap between confidence and accuracy, over bins",
        ),
        MetricCard(
            name="nll",
            title="NLL",
            unit="nats",
            base_unit="nats",
            direction="lower",
            decimals=3,
            help="mean negative log-likelihood of the right class",
        ),
    ),
)
