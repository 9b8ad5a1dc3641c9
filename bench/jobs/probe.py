"""Linear probe: softmax regression on frozen features, its L2 chosen on held-out images.

Source: the protocol of Kornblith et al. (arXiv:1805.08974) for "logistic regression on fixed
features": L-BFGS, strengths from the strongest to the weakest, each begun at the solution before
it; the best on held-out images is fitted again on all of the training split and scored on test,
once. Features are standardized here (see `_softmax.py`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.data.splits import held_out_indices
from bench.errors import JobError
from bench.jobs import JobContext, _features, _work
from bench.jobs._softmax import Fit, Softmax
from bench.specs import JobResult, Metric, Scalar


def run(context: JobContext) -> JobResult:
    """Return `probe_top1` on the evaluation split, `val_top1` of the choice, and the chosen l2."""
    meter = _work.Meter(context)
    spec = context.spec
    params: dict[str, Any] = spec.params
    l2s: tuple[float, ...] = tuple(params["l2s"])
    if len(l2s) > 1 and context.data.held_out is None:
        raise JobError(
            f"probe {spec.job_id} has {len(l2s)} l2s to choose from and no held-out images",
            hint="Set held_out in the block, or give one l2",
        )
    data = _work.dataset(context)
    train = _features.features(context, data, context.data.train_split)
    test = _features.features(context, data, context.data.eval_split)
    labels_N = _work.labels(context, data, context.data.train_split)
    metrics: dict[str, Metric] = {}
    chosen = None
    if context.data.held_out is not None:
        chosen, metrics["val_top1"] = _choose(context, train.z_ND, labels_N, l2s)
    probe = _softmax(context, train.z_ND, labels_N)
    fit = probe.fit(l2s[0] if chosen is None else chosen.l2, start=chosen)
    labels_M = _work.labels(context, data, context.data.eval_split)
    classes_M = probe.predict(fit, test.z_ND)
    hits_M = classes_M == labels_M
    answers = _work.answers(context, labels_M, {"probe_top1": classes_M})
    metrics["probe_top1"] = _work.top1("probe_top1", hits_M)
    values: dict[str, Scalar | None] = {
        "l2": fit.l2,
        "num_iterations": fit.num_iterations,
        "converged": fit.converged,
        **_work.floor(labels_N, labels_M, num_classes=context.num_classes),
    }
    return meter.result(
        metrics=metrics,
        values=values,
        files=_work.write_hits(context, {"hits": hits_M, **answers}),
        **_features.work(train, test),
    )


def _choose(
    context: JobContext, z_ND: np.ndarray, labels_N: np.ndarray, l2s: tuple[float, ...]
) -> tuple[Fit, Metric]:
    """Return the fit that does best on the held-out images; of equals, the strongest l2."""
    spec = context.spec
    assert context.data.held_out is not None
    fitted_N, held_N = held_out_indices(labels_N, context.data.held_out, seed=spec.seed)
    probe = _softmax(context, z_ND[fitted_N], labels_N[fitted_N])
    held_z_MD, best = z_ND[held_N], None
    for fit in probe.fits(l2s):
        metric = _work.top1("val_top1", probe.predict(fit, held_z_MD) == labels_N[held_N])
        if best is None or (metric.value or 0.0) > (best[1].value or 0.0):
            best = (fit, metric)
    assert best is not None
    return best


def _softmax(context: JobContext, z_ND: np.ndarray, labels_N: np.ndarray) -> Softmax:
    return Softmax(
        z_ND,
        labels_N,
        num_classes=context.num_classes,
        # float64, which a TPU does not have.
        device="cpu" if context.device == "tpu" else _work.device(context),
    )
