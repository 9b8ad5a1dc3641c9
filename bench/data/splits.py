"""Which examples: nested random subsets and held-out parts, balanced over classes.

The paper draws random subsets of its upstream set to ask how much data a model needs
(arXiv:2010.11929, section 4.3), and chooses learning rates on a held-out part of the training set
(appendix B.1.1). Both are functions of the labels and a seed alone.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bench.errors import DataError
from bench.facts import VTAB_SPLITS, VTAB_TRAIN, VTAB_VAL

VTAB_TRAIN_PERCENT = 90
"""Where VTAB's own val split starts in a training split without one."""


def subset_indices(labels_N: np.ndarray, num_examples: int, *, seed: int) -> np.ndarray:
    """Return the sorted indices of a random subset, class-balanced as far as possible.

    Subsets of one seed are nested: a smaller one lies inside every larger one. Class counts differ
    by at most one until the smaller classes are used up. Raises DataError when asked for more
    examples than there are.
    """
    if not 0 < num_examples <= len(labels_N):
        raise DataError(
            f"a subset of {num_examples:,} images requested from {len(labels_N):,}",
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


def vtab_rows(
    name: str, train_N: np.ndarray, val_M: np.ndarray | None = None
) -> list[tuple[str, np.ndarray]]:
    """Return (split, rows) of the parts of one of VTAB_SPLITS, from the labels of train and val.

    train800 are the first 800 of train, val200 the first 200 of val; train800val200 is one after
    the other. Without a val split, val starts at 90 % of train, earlier where that leaves fewer
    than 200. Labels in sorted order say that images are stored class by class: then the first 800
    are the first of a random order, drawn with seed 0. Raises DataError where there are too few.
    """
    if name not in VTAB_SPLITS:
        raise ValueError(f"{name} is not one of {tuple(VTAB_SPLITS)}")
    if val_M is None:
        start = min(VTAB_TRAIN_PERCENT * len(train_N) // 100, len(train_N) - VTAB_VAL)
        order_N = _stored_order(train_N)
        train, val = order_N[: max(start, 0)], order_N[max(start, 0) :]
    else:
        train, val = _stored_order(train_N), _stored_order(val_M)
    if len(train) < VTAB_TRAIN or len(val) < VTAB_VAL:
        raise DataError(
            f"{name}: {len(train):,} images to train on and {len(val):,} to choose on, but VTAB-1k "
            f"takes {VTAB_TRAIN} and {VTAB_VAL}",
            hint="Choose a protocol with a held-out share, or a set of 1,000 training images",
        )
    parts = [("train", train[:VTAB_TRAIN]), ("train" if val_M is None else "val", val[:VTAB_VAL])]
    return {"train800": parts[:1], "val200": parts[1:]}.get(name, parts)


def drawn_vtab_rows(
    num_train: int, num_val: int, *, seed: int, where: Path
) -> tuple[np.ndarray, np.ndarray]:
    """Return 800 rows of a train part and 200 of a val part, in a random order of each.

    Raises DataError when there are fewer.
    """
    if num_train < VTAB_TRAIN or num_val < VTAB_VAL:
        raise DataError(
            f"{where}: {num_train:,} images for train and {num_val:,} for val, but VTAB-1k takes "
            f"{VTAB_TRAIN} and {VTAB_VAL}",
            hint="Complete the files",
        )
    rng = np.random.default_rng(seed)
    return rng.permutation(num_train)[:VTAB_TRAIN], rng.permutation(num_val)[:VTAB_VAL]


def drawn_rows(
    labels_N: np.ndarray, num_images: int, *, details_NF: np.ndarray | None = None
) -> np.ndarray:
    """Return the sorted rows of at most `num_images` that stand for a split; all of a small one.

    Classes have equally many, as far as possible: the first images of files that lie class by class
    would be of one class, and so would every tenth of labels that go round. Within a class they are
    drawn with seed 0, and lie inside every larger draw. Where scoring averages over cells of
    `details_NF` (corruption and severity), these take the place of classes, so that none is missed.
    """
    if num_images >= len(labels_N):
        return np.arange(len(labels_N))
    groups_N = labels_N
    if details_NF is not None:
        groups_N = np.unique(details_NF, axis=0, return_inverse=True)[1].ravel()
    return subset_indices(groups_N, num_images, seed=0)


def pool_rows(labels_N: np.ndarray, num_examples: int) -> np.ndarray:
    """Return the sorted rows of the images that few-shot draws its shots from.

    They are the first `num_examples` in the stored order (all, where there are fewer), as in
    big_vision, whose order is that of TensorFlow Datasets' files, which are shuffled. Labels in
    sorted order say that images are stored class by class, where the first 65,000 of ImageNet would
    be of 50 classes: then they are the first of a random order, drawn with seed 0.
    """
    return np.sort(_stored_order(labels_N)[:num_examples])


def _stored_order(labels_N: np.ndarray) -> np.ndarray:
    """Return the stored order, or a random one where images are stored class by class."""
    if len(labels_N) > 1 and (np.diff(labels_N) >= 0).all():
        return np.random.default_rng(0).permutation(len(labels_N))
    return np.arange(len(labels_N))


def _ranks(labels_N: np.ndarray, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return each example's place in a shuffle of its own class, and in a shuffle of all."""
    order_N = np.random.default_rng(seed).permutation(len(labels_N))
    by_class = np.lexsort((order_N, labels_N))
    counts_K = np.bincount(labels_N)
    starts_K = np.concatenate(([0], np.cumsum(counts_K)[:-1]))
    rank_N = np.empty(len(labels_N), dtype=np.int64)
    rank_N[by_class] = np.arange(len(labels_N)) - starts_K[labels_N[by_class]]
    return rank_N, order_N
