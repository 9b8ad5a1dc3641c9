"""Accuracy of the nearest neighbours among training features: no parameter is fitted.

Source: the weighted vote of Wu et al. (arXiv:1805.01978, section 3.4), as DINO (arXiv:2104.14294)
evaluates with it: each of the k training images of highest cosine similarity s votes for its class
with exp(s / T), T = 0.07.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from bench.errors import JobError
from bench.jobs import JobContext, _features, _work
from bench.specs import JobResult

_TRAIN_ROWS = 1 << 16
"""Training images compared at once: memory does not grow with their number."""

_TEST_ROWS = 256
"""Test images compared at once: similarities of a block are 64 MiB."""


def run(context: JobContext) -> JobResult:
    """Return `knn_top1/<k>` on the evaluation split for each number of neighbours."""
    meter = _work.Meter(context)
    spec = context.spec
    params: dict[str, Any] = spec.params
    neighbours: tuple[int, ...] = tuple(params["neighbours"])
    data = _work.dataset(context)
    train = _features.features(context, data, context.data.train_split)
    if max(neighbours) > len(train.z_ND):
        raise JobError(
            f"{max(neighbours)} neighbours requested from {len(train.z_ND)} training images of "
            f"{context.card.name}",
            hint="Lower neighbours",
        )
    test = _features.features(context, data, context.data.eval_split)
    labels_N = _work.labels(context, data, context.data.train_split)
    classes_KM = vote(
        train.z_ND,
        labels_N,
        test.z_ND,
        num_classes=context.num_classes,
        neighbours=neighbours,
        temperature=float(params["temperature"]),
        device=_work.device(context),
    )
    labels_M = _work.labels(context, data, context.data.eval_split)
    hits = {k: classes_M == labels_M for k, classes_M in classes_KM.items()}
    answers = _work.answers(
        context, labels_M, {f"knn_top1/{k}": classes_M for k, classes_M in classes_KM.items()}
    )
    return meter.result(
        metrics={f"knn_top1/{k}": _work.top1(f"knn_top1/{k}", found) for k, found in hits.items()},
        values=_work.floor(labels_N, labels_M, num_classes=context.num_classes),
        files=_work.write_hits(
            context, {**{f"neighbours_{k}": found for k, found in hits.items()}, **answers}
        ),
        **_features.work(train, test),
    )


def vote(
    train_z_ND: np.ndarray,
    labels_N: np.ndarray,
    test_z_MD: np.ndarray,
    *,
    num_classes: int,
    neighbours: Sequence[int],
    temperature: float,
    device: torch.device | str = "cpu",
) -> dict[int, np.ndarray]:
    """Return for each number of neighbours the class of each test image, int64 (M,).

    Of classes with equal votes the lowest wins. Similarities are float32.
    """
    found = {k: np.empty(len(test_z_MD), dtype=np.int64) for k in neighbours}
    labels = torch.from_numpy(np.ascontiguousarray(labels_N)).to(device)
    similar_Mk, near_Mk = _nearest(
        train_z_ND, _directions(test_z_MD, device), count=max(neighbours)
    )
    for start in range(0, len(test_z_MD), _TEST_ROWS):
        rows = slice(start, start + _TEST_ROWS)
        # Relative to the nearest: the same order of votes, and nothing overflows.
        votes_Bk = ((similar_Mk[rows] - similar_Mk[rows, :1]) / temperature).exp()
        classes_Bk = labels[near_Mk[rows]]
        tally_BK = torch.zeros(len(votes_Bk), num_classes, device=device)
        everyone = torch.arange(len(votes_Bk), device=device)
        # One neighbour after another: the sums have the same bits on every run.
        for rank in range(max(neighbours)):
            tally_BK[everyone, classes_Bk[:, rank]] += votes_Bk[:, rank]
            if rank + 1 in found:
                found[rank + 1][rows] = tally_BK.argmax(dim=1).cpu().numpy()
    return found


def _nearest(train_z_ND: np.ndarray, test_MD: Tensor, *, count: int) -> tuple[Tensor, Tensor]:
    """Return similarity and index (M, count) of the nearest training images, nearest first."""
    shape = (len(test_MD), count)
    best_Mk = torch.full(shape, -torch.inf, device=test_MD.device)
    index_Mk = torch.zeros(shape, dtype=torch.int64, device=test_MD.device)
    for start in range(0, len(train_z_ND), _TRAIN_ROWS):
        train_RD = _directions(train_z_ND[start : start + _TRAIN_ROWS], test_MD.device)
        for first in range(0, len(test_MD), _TEST_ROWS):
            rows = slice(first, first + _TEST_ROWS)
            here_Bk, place_Bk = (test_MD[rows] @ train_RD.T).topk(min(count, len(train_RD)), dim=1)
            best = torch.cat([best_Mk[rows], here_Bk], dim=1)
            index = torch.cat([index_Mk[rows], place_Bk + start], dim=1)
            best_Mk[rows], order_Bk = best.topk(count, dim=1)
            index_Mk[rows] = index.gather(1, order_Bk)
    return best_Mk, index_Mk


def _directions(z_ND: np.ndarray, device: torch.device | str) -> Tensor:
    """Return features scaled to length one; what is zero stays zero."""
    return functional.normalize(torch.from_numpy(np.array(z_ND)).to(device), dim=1)
