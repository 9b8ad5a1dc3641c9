"""Where a resize reads, and what it makes of it: TensorFlow's two-tap bilinear rule, to the bit.

    half-pixel centres   output i reads at (i + 0.5) * scale - 0.5     TensorFlow 2
    legacy               output i reads at i * scale                   TensorFlow 1
    value                columns first, then rows: a + (b - a) * lerp

All in float32, in the order of TensorFlow's kernel (core/kernels/image/resize_bilinear_op.cc), so
that the pixels equal the authors'. Nothing is averaged when an image shrinks: two pixels of the
source are read in each direction, however many lie between them. A crop of a resized image, and
the resize of a crop, are read in one go: only where is different.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

ROWS = 32
"""Rows of an image that are read at a time."""

HALF_RANGE = np.float32(127.5)
"""Half of the largest value of a pixel: [0, 255] becomes [-1, 1]."""


@dataclass(frozen=True)
class Taps:
    """Where one axis of each image of a batch is read."""

    low_BO: np.ndarray
    """First pixel of each output pixel, int64, in the image."""
    high_BO: np.ndarray
    """Second pixel, int64."""
    lerp_BO: np.ndarray
    """Weight of the second, float32 in [0, 1)."""

    def flipped(self, flip_B: np.ndarray) -> Taps:
        """Return the taps with some images read backwards."""
        return Taps(
            *(
                np.where(flip_B[:, None], values[:, ::-1], values)
                for values in (self.low_BO, self.high_BO, self.lerp_BO)
            )
        )


def taps(
    length_B: np.ndarray,
    resized_px: int,
    *,
    start_B: np.ndarray | int = 0,
    chosen_BO: np.ndarray | None = None,
    legacy: bool = False,
) -> Taps:
    """Return where `length_B` pixels from `start_B` on are read to become `resized_px` of them.

    `chosen_BO` are the pixels wanted of the resized axis (int64 in [0, resized_px)); None: all.
    """
    if chosen_BO is None:
        chosen_BO = np.broadcast_to(np.arange(resized_px), (len(length_B), resized_px))
    scale_B1 = (length_B.astype(np.float32) / np.float32(resized_px))[:, None]
    half = np.float32(0 if legacy else 0.5)
    position_BO = (chosen_BO.astype(np.float32) + half) * scale_B1 - half
    floor_BO = np.floor(position_BO)
    last_B1 = (length_B - 1)[:, None]
    low_BO = np.maximum(floor_BO.astype(np.int64), 0)
    high_BO = np.minimum(np.ceil(position_BO).astype(np.int64), last_B1)
    start_B1 = np.reshape(start_B, (-1, 1))
    return Taps(
        np.minimum(low_BO, last_B1) + start_B1, np.maximum(high_BO, 0) + start_B1,
        position_BO - floor_BO,
    )  # fmt: skip


def read(image_HW4: np.ndarray, rows: Taps, columns: Taps, index: int, out_COO: np.ndarray) -> None:
    """Read image `index` of a batch into float32 (3, O, O), as (x - 127.5) / 127.5 in [-1, 1].

    Pixels have four bytes (`decode.original_4`), so that each is picked as one number. A few rows
    are read at a time: what stands between the steps then fits the processor's cache.
    """
    image_HW = image_HW4.view(np.uint32)[..., 0]
    left_O, right_O = columns.low_BO[index], columns.high_BO[index]
    lerp_O1 = columns.lerp_BO[index][:, None]

    def across(row_R: np.ndarray) -> np.ndarray:
        picked_RW = image_HW.take(row_R, axis=0)
        left_RO4, right_RO4 = _pixels(picked_RW, left_O), _pixels(picked_RW, right_O)
        right_RO4 -= left_RO4
        right_RO4 *= lerp_O1
        left_RO4 += right_RO4
        return left_RO4

    for start in range(0, len(left_O), ROWS):
        part = slice(start, start + ROWS)
        top_RO4, bottom_RO4 = (
            across(row_BO[index, part]) for row_BO in (rows.low_BO, rows.high_BO)
        )
        bottom_RO4 -= top_RO4
        bottom_RO4 *= rows.lerp_BO[index, part, None, None]
        top_RO4 += bottom_RO4
        top_RO4 -= HALF_RANGE
        top_RO4 /= HALF_RANGE
        out_COO[:, part] = top_RO4[..., :3].transpose(2, 0, 1)


def _pixels(image_RW: np.ndarray, columns_O: np.ndarray) -> np.ndarray:
    """Return some columns as float32, (R, O, 4)."""
    picked: np.ndarray = image_RW.take(columns_O, axis=1)[..., None].view(np.uint8)
    return picked.astype(np.float32)
