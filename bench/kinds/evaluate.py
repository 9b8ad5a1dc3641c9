"""Evaluation of finished classifiers under the label rule of each data set."""

from __future__ import annotations

from typing import Literal

from bench.kinds import classifiers
from bench.kinds.base import OTHER, KindCard, Planner, Stage
from bench.paths import HITS
from bench.specs import Args, MetricCard


class EvaluateBlock(classifiers.ClassifierBlock):
    """Score finished classifiers under the label rule of each data set."""

    kind: Literal["evaluate"]
    """Job kind."""


def plan(planner: Planner, block: EvaluateBlock, key: str) -> None:
    """Plan one job for each classifier and data set."""
    for found in classifiers.plan(planner, block, key, words="evaluate", needs_all_classes=False):
        classifiers.add(planner, "evaluate", found, {"scoring": found[2].scoring})


def _metrics(params: Args) -> tuple[str, ...]:
    return ("eval_top1", "mce") if params.get("scoring") == "corruption" else ("eval_top1",)


CARD = KindCard(
    name="evaluate",
    title="Evaluation",
    place=40,
    run="bench.jobs.evaluate:run",
    shares_batches=True,
    stages=(
        Stage(name="evaluate", title="Evaluation", role="result", work=OTHER, metrics=_metrics),
    ),
    table="transfer",
    block=EvaluateBlock,
    plan=plan,
    leaves=(HITS,),
    metrics=(
        MetricCard(
            name="eval_top1",
            title="Top-1",
            unit="%",
            base_unit="fraction",
            direction="higher",
            scale=100,
            decimals=1,
            help="top-1 accuracy of a finished classifier under the rule of the evaluated set",
        ),
        MetricCard(
            name="mce",
            title="mCE",
            unit="%",
            base_unit="fraction of AlexNet's error",
            direction="lower",
            scale=100,
            decimals=1,
            help="mean corruption error: error over severities relative to AlexNet's, over "
            "corruptions",
        ),
    ),
)
