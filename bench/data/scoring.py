"""Label rules: when a classifier's answer counts as right, and which images count at all.

Every rule works on the scores of the full 1,000-class (or K-class) classifier; nothing is trained
again. Arrays in, numbers out.

    top1          the label is the class with the highest score
    multi-label   any of the image's labels will do; images without a label do not count
                  (ImageNet ReaL, Beyer et al., arXiv:2006.07159)
    class-subset  scores of classes that the set does not have are left out before the highest is
                  taken (ImageNet-A and -R, arXiv:1907.07174 and arXiv:2006.16241)
    corruption    top-1 of each corruption over its five severities, and the mean corruption error
                  relative to AlexNet (ImageNet-C, Hendrycks and Dietterich, arXiv:1903.12261)
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from bench.data.cards.imagenet import ALEXNET_ERRORS, CORRUPTIONS, NUM_SEVERITIES, Scoring


@dataclass(frozen=True)
class Score:
    """What a rule says of one classifier on one data set."""

    hits_N: np.ndarray
    """bool, one an image: whether the answer is right; False where it does not count."""
    counted_N: np.ndarray
    """bool, one an image: whether the image counts."""
    top1: float
    """Share of right answers among images that count, in [0, 1]; `corruption`: the mean of that
    over corruptions and severities."""
    top1_by_corruption: dict[str, float] = field(default_factory=dict)
    """`corruption`: mean top-1 over the severities of each corruption."""
    mce: float | None = None
    """`corruption`: mean corruption error relative to AlexNet, as a fraction (papers print per
    cent); None where a corruption or a severity is missing."""
    why_no_mce: str = ""
    """Why `mce` is None."""

    @property
    def num_counted(self) -> int:
        """Number of images that count."""
        return int(self.counted_N.sum())


def score(
    scoring: Scoring,
    logits_NK: np.ndarray,
    labels_N: np.ndarray,
    *,
    details_NF: np.ndarray | None = None,
) -> Score:
    """Score a classifier's outputs (N, K) against labels; `details_NF` as in `judge`.

    For more images than fit as scores, call `predict` batch by batch and `judge` once.
    """
    classes = subset_classes(scoring, labels_N)
    return judge(scoring, predict(logits_NK, classes), labels_N, details_NF=details_NF)


def subset_classes(scoring: Scoring, labels_N: np.ndarray) -> np.ndarray | None:
    """Return the sorted classes that may be answered, or None for all.

    `labels_N` are those of the whole split: a part of it would shorten the list.
    """
    return np.unique(labels_N) if scoring == "class-subset" else None


def predict(logits_NK: np.ndarray, classes: np.ndarray | None = None) -> np.ndarray:
    """Return the class of the highest score, int64 (N,); ties go to the lowest class."""
    logits_NK = np.asarray(logits_NK)
    if classes is None:
        return logits_NK.argmax(axis=1).astype(np.int64)
    return np.asarray(classes, dtype=np.int64)[logits_NK[:, classes].argmax(axis=1)]


def judge(
    scoring: Scoring,
    predicted_N: np.ndarray,
    labels_N: np.ndarray,
    *,
    details_NF: np.ndarray | None = None,
) -> Score:
    """Score predicted classes.

    `details_NF` holds what a label cannot: the image's labels, padded with -1 (`multi-label`), or
    its place in CORRUPTIONS and its severity, 1 to 5 (`corruption`).
    """
    predicted_N, labels_N = np.asarray(predicted_N), np.asarray(labels_N)
    if scoring in ("multi-label", "corruption") and details_NF is None:
        raise ValueError(f"{scoring} scoring needs details")
    if scoring == "multi-label":
        assert details_NF is not None
        counted_N = np.asarray((details_NF >= 0).any(axis=1))
        hits_N = np.asarray((details_NF == predicted_N[:, None]).any(axis=1))
        return Score(hits_N, counted_N, _share(hits_N[counted_N]))  # no class is -1: no stray hit
    hits_N = np.asarray(predicted_N == labels_N)
    counted_N = np.ones(len(labels_N), dtype=bool)
    if scoring == "corruption":
        assert details_NF is not None
        return _corruption(hits_N, counted_N, details_NF)
    return Score(hits_N, counted_N, _share(hits_N))


def _share(hits_N: np.ndarray) -> float:
    if not len(hits_N):
        raise ValueError("no image counts")
    return float(hits_N.mean())


def _corruption(hits_N: np.ndarray, counted_N: np.ndarray, details_N2: np.ndarray) -> Score:
    """Average over the images of a cell, then over severities, then over corruptions."""
    cell_N = details_N2[:, 0] * NUM_SEVERITIES + details_N2[:, 1] - 1
    num_cells = len(CORRUPTIONS) * NUM_SEVERITIES
    num_C = np.bincount(cell_N, minlength=num_cells).reshape(-1, NUM_SEVERITIES)
    right_C = np.bincount(cell_N, weights=hits_N, minlength=num_cells).reshape(num_C.shape)
    # Rows of corruptions that are not there hold no cell, so that their mean is never taken.
    by_corruption = {
        name: float((right_C[row, there] / num_C[row, there]).mean())
        for row, name in enumerate(CORRUPTIONS)
        if (there := num_C[row] > 0).any()
    }
    why = "" if (num_C > 0).all() else _missing(num_C)
    return Score(
        hits_N,
        counted_N,
        float(np.mean(list(by_corruption.values()))),
        top1_by_corruption=by_corruption,
        mce=None if why else mean_corruption_error(by_corruption),
        why_no_mce=why,
    )


def _missing(num_C: np.ndarray) -> str:
    row, column = np.argwhere(num_C == 0)[0]
    total = int((num_C == 0).sum())
    return f"{total} of 75 sets missing, first {CORRUPTIONS[row]} at severity {column + 1}"


def mean_corruption_error(top1_by_corruption: dict[str, float]) -> float:
    """Return mCE as a fraction: each corruption's error over AlexNet's, averaged over the 15.

    The sums over the five severities in the paper's definition are means here: the fives cancel.
    """
    return float(
        np.mean([(1 - top1_by_corruption[name]) / error for name, error in ALEXNET_ERRORS.items()])
    )
