"""Ranks with their uncertainty: which places of a list were not shown to be wrong."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

from bench.stats.intervals import summary
from bench.stats.paired import hits_array, holm, paired_difference

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Rank:
    """The place of one system among others; 1 is the highest value."""

    rank: int
    """Place by the mean; equal means share the better place."""
    best: int | None
    """Best place that is not excluded; None where nothing can be said."""
    worst: int | None
    """Worst place that is not excluded; None where nothing can be said."""

    @property
    def is_tied(self) -> bool:
        """Tell whether another system may as well stand in this place."""
        return self.best != self.worst


def paired_ranks(
    scores: Sequence[Mapping[int, float]], *, confidence: float = 0.95, resolution: float = 0.0
) -> list[Rank]:
    """Rank K systems by their values (seed -> value), in the given order.

    A system's best place is one behind all that were shown better, its worst one before all that
    were shown worse: by `paired_difference` on shared seeds with Holm's correction over all pairs
    (intervals for ranks from differences: Mogstad, Romano, Shaikh and Wilhelm, 2024). Systems that
    were not shown to differ are tied. A pair with fewer than two shared seeds leaves both of its
    systems without an interval. Raises ValueError for a system without a value.
    """
    means = [summary(values.values()).mean for values in scores]
    if None in means:
        raise ValueError("a system without a value has no rank")
    pairs, p_values, blind = [], [], set()
    for a, b in combinations(range(len(scores)), 2):
        seeds = sorted(scores[a].keys() & scores[b].keys())
        found = paired_difference(
            [scores[a][seed] for seed in seeds],
            [scores[b][seed] for seed in seeds],
            confidence=confidence,
            resolution=resolution,
        )
        if found.p_value is None or found.mean is None:
            blind |= {a, b}
        else:
            pairs.append((a, b) if found.mean > 0 else (b, a))
            p_values.append(found.p_value)
    shown = [pair for pair, p in zip(pairs, holm(p_values), strict=True) if p <= 1 - confidence]
    ranks = []
    for k, mean in enumerate(means):
        rank = 1 + sum(other > mean for other in means if other is not None and mean is not None)
        best = 1 + sum(loser == k for _, loser in shown)
        worst = len(scores) - sum(winner == k for winner, _ in shown)
        ranks.append(Rank(rank, None, None) if k in blind else Rank(rank, best, worst))
    return ranks


def bootstrap_ranks(
    hits: ArrayLike,
    *,
    generator: np.random.Generator,
    confidence: float = 0.95,
    num_resamples: int = 2000,
) -> list[Rank]:
    """Rank K systems by hits_KSN (bool): S seeds on the same N images.

    Images and seeds are resampled together, as in `paired_bootstrap`; best and worst are quantiles
    of each system's place over the draws, with systems that draw level counted for both.
    """
    import numpy as np

    hits_KSN = hits_array(hits)
    if hits_KSN.ndim != 3 or not hits_KSN.size:
        raise ValueError(f"ranks need hits of systems, seeds and images, not {hits_KSN.shape}")
    _, num_seeds, num_images = hits_KSN.shape
    # Images that all runs answered alike are drawn together, as one pattern of their number.
    packed_NP = np.packbits(hits_KSN.reshape(-1, num_images).T, axis=1)
    _, first_U, count_U = np.unique(packed_NP, axis=0, return_index=True, return_counts=True)
    d_KSU = hits_KSN[:, :, first_U].astype(np.float64)
    if num_seeds > 1:
        mean_K1U = d_KSU.mean(axis=1, keepdims=True)
        d_KSU = mean_K1U + (d_KSU - mean_K1U) * math.sqrt(num_seeds / (num_seeds - 1))
    weight_BU = generator.multinomial(num_images, count_U / num_images, size=num_resamples)
    weight_BS = generator.multinomial(
        num_seeds, np.full(num_seeds, 1 / num_seeds), size=num_resamples
    )
    drawn_BK = np.einsum("bs,ksb->bk", weight_BS, d_KSU @ weight_BU.T)
    # Sums of the same terms in another order differ in their last bits: that is no lead.
    lead_BKK = np.round(drawn_BK[:, :, None] - drawn_BK[:, None, :], 9)
    tail = (1 - confidence) / 2
    best_K = np.quantile(1 + (lead_BKK < 0).sum(axis=2), tail, axis=0, method="lower")
    worst_K = np.quantile((lead_BKK <= 0).sum(axis=2), 1 - tail, axis=0, method="higher")
    sums_K = hits_KSN.sum(axis=(1, 2))
    return [
        Rank(1 + int((sums_K > total).sum()), int(best), int(worst))
        for total, best, worst in zip(sums_K, best_K, worst_K, strict=True)
    ]
