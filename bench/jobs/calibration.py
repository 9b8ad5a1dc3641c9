"""How far a finished classifier's confidence can be trusted, on a data set of its own classes.

Source: Guo et al., arXiv:1706.04599, section 2: expected calibration error over bins of equal width
of the highest class probability, and negative log-likelihood. Probabilities are the softmax of the
scores. Nothing is trained.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

import numpy as np
from scipy.special import log_softmax

from bench.jobs import JobContext, _features, _work
from bench.specs import JobResult, Metric


def run(context: JobContext) -> JobResult:
    """Return `ece` and `nll` on the evaluation split.

    Raises CheckpointError where the weights have no classifier, or one of other classes.
    """
    meter = _work.Meter(context)
    data, split = _work.dataset(context), context.data.eval_split
    labels_N = _work.labels(context, data, split)
    model = _features.frozen_model(context, classifier=True)
    started_s = time.perf_counter()
    logits = _features.scores(context, model, data, split)
    hits_N, confidences_N, losses_N = _judged(logits, labels_N)
    seconds = time.perf_counter() - started_s
    bins = int(str(context.spec.params["bins"]))
    ece, num = expected_calibration_error(confidences_N, hits_N, bins=bins), len(labels_N)
    return meter.result(
        metrics={
            "ece": Metric(name="ece", value=ece, n=num),
            "nll": Metric(name="nll", value=float(losses_N.mean()), n=num),
        },
        files=_work.write_hits(context, {"hits": hits_N}),
        num_evaluated=num,
        evaluated_per_s=num / seconds,
    )


def _judged(
    logits: Iterable[np.ndarray], labels_N: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return hit (bool), confidence and negative log-likelihood of each image, in order."""
    found: list[tuple[np.ndarray, ...]] = []
    start = 0
    for logits_BK in logits:
        labels_B = labels_N[start : start + len(logits_BK)]
        start += len(logits_BK)
        logs_BK = log_softmax(logits_BK.astype(np.float64), axis=1)
        classes_B, rows = logs_BK.argmax(axis=1), np.arange(len(labels_B))
        confidences_B = np.exp(logs_BK[rows, classes_B])
        found.append((classes_B == labels_B, confidences_B, -logs_BK[rows, labels_B]))
    hits_N, confidences_N, losses_N = (np.concatenate(part) for part in zip(*found, strict=True))
    return hits_N, confidences_N, losses_N


def expected_calibration_error(
    confidences_N: np.ndarray, hits_N: np.ndarray, *, bins: int
) -> float:
    """Return the mean over images of |accuracy - mean confidence| of their bin, in [0, 1].

    Bins are of equal width and closed above, as in the source; confidences lie in (0, 1].
    """
    bin_N = np.clip(np.ceil(confidences_N * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(bin_N, weights=hits_N - confidences_N, minlength=bins)
    return float(np.abs(gaps).sum() / len(confidences_N))
