"""Images that two splits share: the same pixels, or nearly the same.

An upstream set that holds images of a downstream test set makes transfer look better than it is;
the paper removed them (arXiv:2010.11929, section 4.1; arXiv:1912.11370, appendix). Exact copies
are found by the SHA-256 of the packed pixels. Near copies, of another compression, size or
brightness, by a 64-bit difference hash: the image in grey, shrunk to 8 x 9 by averaging over areas,
and whether each pixel is darker than its right neighbour. Images are read a block at a time;
what is kept of each is its hash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

BLOCK_IMAGES = 1024
"""Images hashed at a time, and rows of a block of distances."""

HASH_BITS = 64
FLAT_BITS = 8
"""A hash with fewer bits set, or unset, is of a nearly flat image: such images all look alike."""

SIMILAR_BITS, SIMILAR_CORRELATION = 4, 0.98
"""Nearly identical: so many bits of the hash differ at most, and pixels correlate so much. What was
saved again, or made brighter, stays above."""

MOST_PAIRS = 50_000
"""Pairs of like hashes beyond which the hash tells nothing: line drawings agree by chance."""

_GREY_C = np.array((0.299, 0.587, 0.114), dtype=np.float32)


class Images(Protocol):
    """What is needed of a split."""

    @property
    def labels_N(self) -> np.ndarray:
        """Labels, int64."""
        ...

    def images(self, rows: slice | np.ndarray) -> np.ndarray | list[np.ndarray]:
        """Return some images, uint8 (B, H, W, 3), or each (H, W, 3) where sizes differ."""
        ...


def overlap(a: Images, b: Images, *, max_distance: int = 0) -> np.ndarray:
    """Return the pairs (row of a, row of b) of images that are alike, int64 (P, 2), sorted.

    With `max_distance` 0, images of the same pixels: either both sets are squashed or none is.
    Above, images whose difference hashes differ in at most that many of 64 bits: 2 to 4 finds
    copies saved again, 10 finds look-alikes too. Nearly flat images are compared exactly alone.
    """
    if max_distance == 0:
        return _equal_pairs(_keys(exact_hashes(a)), _keys(exact_hashes(b)))
    return _near_pairs(difference_hashes(a), difference_hashes(b), max_distance)


def similar(a: Images, b: Images | None = None) -> dict[int, int]:
    """Return which images of `b` are nearly, but not exactly, an image of `a`: row of b -> of a.

    Without `b`: which images of `a` are nearly an earlier one of `a`. Images are squares of one
    size. Copies of the same pixels are left out. Empty where the hash tells nothing.
    """
    hashes_N = difference_hashes(a)
    others_M = hashes_N if b is None else difference_hashes(b)
    pairs_P2 = _near_pairs(hashes_N, others_M, SIMILAR_BITS)
    if b is None:
        pairs_P2 = pairs_P2[pairs_P2[:, 0] < pairs_P2[:, 1]]
    found: dict[int, int] = {}
    if len(pairs_P2) > MOST_PAIRS:
        return found
    for start in range(0, len(pairs_P2), BLOCK_IMAGES):
        rows_B, others_B = pairs_P2[start : start + BLOCK_IMAGES].T
        alike_B = _correlation(a.images(rows_B), (a if b is None else b).images(others_B))
        near_B = (alike_B >= SIMILAR_CORRELATION) & (alike_B < 1)
        for row, other in zip(rows_B[near_B].tolist(), others_B[near_B].tolist(), strict=True):
            found.setdefault(other, row)
    return found


def _correlation(first: Any, second: Any) -> np.ndarray:
    """Return how much the pixels of images of one size correlate, float32 (B,); 1: the same."""
    pairs_2BD = np.stack((first, second)).astype(np.float32).reshape(2, len(first), -1)
    same_B = (pairs_2BD[0] == pairs_2BD[1]).all(axis=1)
    pairs_2BD -= pairs_2BD.mean(axis=2, keepdims=True)
    norms_B = np.linalg.norm(pairs_2BD, axis=2).prod(axis=0)
    products_B = (pairs_2BD[0] * pairs_2BD[1]).sum(axis=1)
    return np.where(same_B, 1.0, np.minimum(products_B / norms_B, np.float32(1 - 1e-6)))


def exact_hashes(split: Images) -> np.ndarray:
    """Return the first 16 bytes of the SHA-256 of each image's pixels, uint8 (N, 16)."""
    digests = [
        hashlib.sha256(image.tobytes()).digest()[:16] for block in _blocks(split) for image in block
    ]
    return np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, 16)


def difference_hashes(split: Images) -> np.ndarray:
    """Return each image's difference hash, uint64 (N,)."""
    hashes = [
        _difference_hash(images_BHWC)
        for block in _blocks(split)
        for images_BHWC in ([block] if isinstance(block, np.ndarray) else (i[None] for i in block))
    ]
    return np.concatenate(hashes) if hashes else np.empty(0, dtype=np.uint64)


def _blocks(split: Images) -> Iterator[np.ndarray | list[np.ndarray]]:
    for start in range(0, len(split.labels_N), BLOCK_IMAGES):
        yield split.images(slice(start, start + BLOCK_IMAGES))


def _difference_hash(images_BHWC: np.ndarray) -> np.ndarray:
    grey_BHW = images_BHWC.astype(np.float32) @ _GREY_C
    small_B89 = _shares(8, grey_BHW.shape[1]) @ grey_BHW @ _shares(9, grey_BHW.shape[2]).T
    # Rounded, so that the last bit of a sum does not decide between equal neighbours.
    small_B89 = np.round(small_B89 * 16)
    bits_BK = (small_B89[:, :, :-1] < small_B89[:, :, 1:]).reshape(len(images_BHWC), HASH_BITS)
    return np.packbits(bits_BK, axis=1).view(">u8")[:, 0].astype(np.uint64)


def _shares(num_out: int, num_in: int) -> np.ndarray:
    """Return how much of each input pixel lies in each output pixel (num_out, num_in)."""
    edges = np.linspace(0, num_in, num_out + 1)
    pixels = np.arange(num_in)
    covered = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return (np.maximum(covered, 0) * (num_out / num_in)).astype(np.float32)


def _keys(hashes_N16: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(hashes_N16).view("V16")[:, 0]


def _equal_pairs(a_N: np.ndarray, b_M: np.ndarray) -> np.ndarray:
    """Return all pairs of equal keys, by one sort of each side's distinct keys."""
    joined, number = np.unique(np.concatenate((a_N, b_M)), return_inverse=True)
    number_a, number_b = number[: len(a_N)], number[len(a_N) :]
    order_b = np.argsort(number_b, kind="stable")
    counts = np.bincount(number_b, minlength=len(joined))
    starts = np.concatenate(([0], np.cumsum(counts)[:-1])) if len(joined) else counts
    num_a = counts[number_a]
    rows_a = np.repeat(np.arange(len(a_N)), num_a)
    within = np.arange(len(rows_a)) - np.repeat(np.cumsum(num_a) - num_a, num_a)
    rows_b = order_b[np.repeat(starts[number_a], num_a) + within]
    return np.stack((rows_a, rows_b), axis=1).astype(np.int64)


def _near_pairs(a_N: np.ndarray, b_M: np.ndarray, max_distance: int) -> np.ndarray:
    rows_a, rows_b = _not_flat(a_N), _not_flat(b_M)
    pairs = [np.empty((0, 2), dtype=np.int64)]
    for start in range(0, len(rows_a), BLOCK_IMAGES):
        block = rows_a[start : start + BLOCK_IMAGES]
        for other in range(0, len(rows_b), BLOCK_IMAGES):
            part = rows_b[other : other + BLOCK_IMAGES]
            distance = np.bitwise_count(a_N[block][:, None] ^ b_M[part][None, :])
            near = np.argwhere(distance <= max_distance)
            pairs.append(np.stack((block[near[:, 0]], part[near[:, 1]]), axis=1))
    found = np.concatenate(pairs)
    return found[np.lexsort((found[:, 1], found[:, 0]))]


def _not_flat(hashes_N: np.ndarray) -> np.ndarray:
    ones_N = np.bitwise_count(hashes_N)
    return np.flatnonzero((ones_N >= FLAT_BITS) & (ones_N <= HASH_BITS - FLAT_BITS))
