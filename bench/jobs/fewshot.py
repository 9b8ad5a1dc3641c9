"""Few-shot accuracy of a frozen pre-trained system, by least squares in closed form.

Source: arXiv:2010.11929, section 4.1; rules of big_vision's `fewshot_lsr`. Shots come from the
training split, or from a pool of it (`splits.pool_rows`), accuracies from the whole evaluation
split; draws have the seeds 0, 1, 2, ... for every system, so that systems are compared on the same
shots.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.data.splits import pool_rows
from bench.jobs import JobContext, _features, _work
from bench.jobs._least_squares import FewShot
from bench.specs import JobResult, Metric


def run(context: JobContext) -> JobResult:
    """Return `fewshot_top1/<shots>`: mean over draws, one sample a draw.

    Where classes have fewer images than shots, `short_classes/<shots>` says how many.
    """
    meter = _work.Meter(context)
    spec = context.spec
    params: dict[str, Any] = spec.params
    shots: tuple[int, ...] = tuple(params["shots"])
    data = _work.dataset(context)
    labels_N = data.split(context.data.train_split).labels_N
    rows_N = None if "pool" not in params else pool_rows(labels_N, params["pool"])
    train = _features.features(context, data, context.data.train_split, rows_N=rows_N)
    test = _features.features(context, data, context.data.eval_split)
    labels_M = data.split(context.data.eval_split).labels_N
    task = FewShot(
        train.z_ND,
        labels_N if rows_N is None else labels_N[rows_N],
        test.z_ND,
        num_classes=context.num_classes,
    )
    hits: dict[int, list[np.ndarray]] = {count: [] for count in shots}
    values = _work.floor(labels_N, labels_M, num_classes=context.num_classes)
    classes: dict[int, list[np.ndarray]] = {count: [] for count in shots}
    for fit in task.fits(shots=shots, draws=params["draws"], l2s=(params["l2"],)):
        classes_M = task.predict(fit)
        classes[fit.shots].append(classes_M)
        hits[fit.shots].append(classes_M == labels_M)
        if fit.num_short_classes:
            values[f"short_classes/{fit.shots}"] = fit.num_short_classes
    answers = _work.answers(
        context,
        labels_M,
        {f"fewshot_top1/{count}": np.stack(found) for count, found in classes.items()},
    )
    return meter.result(
        metrics={f"fewshot_top1/{count}": _metric(count, found) for count, found in hits.items()},
        values=values,
        files=_work.write_hits(
            context,
            {**{f"shots_{count}": np.stack(found) for count, found in hits.items()}, **answers},
        ),
        **_features.work(train, test),
    )


def _metric(shots: int, hits: list[np.ndarray]) -> Metric:
    samples = tuple(float(hits_M.mean()) for hits_M in hits)
    return Metric(
        name=f"fewshot_top1/{shots}",
        value=float(np.mean(samples)),
        n=len(hits[0]),
        samples=samples,
    )
