"""Score a finished classifier, fine-tuned here or public, on a data set of its own classes.

Source: the label rules of `bench/data/scoring.py`, each with its own: ImageNet and V2, ReaL, A, R,
Sketch and C. Nothing is trained.
"""

from __future__ import annotations

from typing import Any

from bench.data import scoring
from bench.data.cards.imagenet import Scoring
from bench.data.scoring import Score
from bench.errors import DataError
from bench.jobs import JobContext, _features, _work
from bench.specs import JobResult, Metric, Scalar


def run(context: JobContext) -> JobResult:
    """Return `eval_top1` over the images that count and, of a `corruption` set, `mce`.

    The hits are those of all images of the split, in its order; `counted` says which count.
    Raises CheckpointError where the weights have no classifier, or one of other classes.
    """
    meter = _work.Meter(context)
    params: dict[str, Any] = context.spec.params
    rule: Scoring = params["scoring"]
    data = _work.dataset(context)
    split = data.split(context.data.eval_split)
    labels_N = _work.labels(context, data, context.data.eval_split)
    model = _features.frozen_model(context, classifier=True)
    predicted = _features.predict(
        context, model, data, context.data.eval_split, scoring.subset_classes(rule, labels_N)
    )
    try:
        score = scoring.judge(rule, predicted.classes_N, labels_N, details_NF=split.details_NF)
    except ValueError as error:
        raise DataError(
            f"{context.card.name}: cannot be scored by the rule {rule} ({error})",
            hint="Check scoring on its card",
        ) from error
    return meter.result(
        metrics=_metrics(score),
        values=_values(score),
        files=_work.write_hits(context, {"hits": score.hits_N, "counted": score.counted_N}),
        num_evaluated=predicted.num_computed,
        evaluated_per_s=predicted.num_computed / predicted.computing_s,
    )


def _metrics(score: Score) -> dict[str, Metric]:
    metrics = {"eval_top1": Metric(name="eval_top1", value=score.top1, n=score.num_counted)}
    if score.top1_by_corruption:
        metrics["mce"] = Metric(
            name="mce", value=score.mce, reason=score.why_no_mce, n=score.num_counted
        )
    return metrics


def _values(score: Score) -> dict[str, Scalar | None]:
    return {f"top1/{name}": value for name, value in score.top1_by_corruption.items()}
