"""Which examples: nested random subsets and held-out parts, balanced over classes.

The paper draws random subsets of its upstream set to ask how much data a model needs
(arXiv:2010.11929, section 4.3), and chooses learning rates on a held-out part of the training set
(appendix B.1.1). Both are functions of the labels and a seed alone.
"""

from __future__ import annotations

import numpy as np

from bench.errors import DataError


def subset_indices(labels_N: np.ndarray, num_examples: int, *, seed: int) -> np.ndarray:
    """Return the sorted indices of a random subset, class-balanced as far as possible.

    Subsets of one seed are nested: a smaller one lies inside every larger one. Class counts differ
    by at most one until the smaller classes are used up. Raises DataError when asked for more
    examples than there are.
    """
    if not 0 < num_examples <= len(labels_N):
        raise DataError(
            f"a subset of {num_examples:,} images asked of {len(labels_N):,}",
            hint=f"Ask for 1 to {len(labels_N):,}",
        )
    rank_N, order_N = _ranks(labels_N, seed=seed)
    # Round by round over the classes; within a round in random order, so that the classes that
    # get the odd example are not always the first.
    return np.sort(np.lexsort((order_N, rank_N))[:num_examples])


def held_out_indices(
    labels_N: np.ndarray, share: float, *, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return sorted (train, held-out) indices: `share` of all examples, in class proportions.

    The number held out is the nearest to `share` x N, at least one and not all.
    """
    if len(labels_N) < 2:
        raise DataError("a held-out part needs at least two images")
    num_held = min(len(labels_N) - 1, max(1, round(share * len(labels_N))))
    rank_N, order_N = _ranks(labels_N, seed=seed)
    counts_K = np.bincount(labels_N)
    position_N = (rank_N + 0.5) / counts_K[labels_N]
    held = np.zeros(len(labels_N), dtype=bool)
    held[np.lexsort((order_N, position_N))[:num_held]] = True
    return np.flatnonzero(~held), np.flatnonzero(held)


def _ranks(labels_N: np.ndarray, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return each example's place in a shuffle of its own class, and in a shuffle of all."""
    order_N = np.random.default_rng(seed).permutation(len(labels_N))
    by_class = np.lexsort((order_N, labels_N))
    counts_K = np.bincount(labels_N)
    starts_K = np.concatenate(([0], np.cumsum(counts_K)[:-1]))
    rank_N = np.empty(len(labels_N), dtype=np.int64)
    rank_N[by_class] = np.arange(len(labels_N)) - starts_K[labels_N[by_class]]
    return rank_N, order_N
