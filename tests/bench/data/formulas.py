"""What presets make of an image, by the formulas of TensorFlow and the authors, slowly."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

f32 = np.float32


def pixel_by_pixel(image_HWC: np.ndarray, size_px: int, *, legacy: bool = False) -> np.ndarray:
    """TensorFlow's bilinear resize, one number after another, all in float32."""
    height, width, _ = image_HWC.shape
    out = np.empty((size_px, size_px, 3), dtype=f32)
    for row in range(size_px):
        top, bottom, down = one_tap(row, height, size_px, legacy)
        for column in range(size_px):
            left, right, along = one_tap(column, width, size_px, legacy)
            for channel in range(3):
                a, b = (f32(image_HWC[top, x, channel]) for x in (left, right))
                c, d = (f32(image_HWC[bottom, x, channel]) for x in (left, right))
                above, below = f32(a + f32(f32(b - a) * along)), f32(c + f32(f32(d - c) * along))
                out[row, column, channel] = f32(above + f32(f32(below - above) * down))
    return out


def one_tap(index: int, source: int, target: int, legacy: bool) -> tuple[int, int, np.float32]:
    scale = f32(f32(source) / f32(target))
    if legacy:
        position = f32(f32(index) * scale)
    else:
        position = f32(f32(f32(f32(index) + f32(0.5)) * scale) - f32(0.5))
    floor = math.floor(position)
    return max(floor, 0), max(min(math.ceil(position), source - 1), 0), f32(position - f32(floor))


def resized(image_HWC: np.ndarray, size_px: int, *, legacy: bool = False) -> np.ndarray:
    """The same for whole images: the taps of each axis by the loop, then the same float steps."""
    height, width, _ = image_HWC.shape
    rows = [one_tap(index, height, size_px, legacy) for index in range(size_px)]
    columns = [one_tap(index, width, size_px, legacy) for index in range(size_px)]
    (top, bottom, down), (left, right, along) = (
        [np.array(part) for part in zip(*axis, strict=True)] for axis in (rows, columns)
    )
    pixels = image_HWC.astype(f32)
    along, down = along[None, :, None], down[:, None, None]
    above = pixels[top][:, left]
    above = above + (pixels[top][:, right] - above) * along
    below = pixels[bottom][:, left]
    below = below + (pixels[bottom][:, right] - below) * along
    found: np.ndarray = above + (below - above) * down
    return found


def seen(pixels_HWC: np.ndarray) -> np.ndarray:
    """Return (x - 127.5) / 127.5, channels first."""
    return ((pixels_HWC - f32(127.5)) / f32(127.5)).transpose(2, 0, 1)


def random_crop(
    width: int, height: int, uniform: Callable[[], float]
) -> tuple[int, int, int, int] | None:
    """One attempt of sample_distorted_bounding_box, number after number, as its source has it."""
    aspect = f32(f32(uniform()) * f32(f32(1.33) - f32(0.75)) + f32(0.75))
    low = f32(f32(f32(0.05) * f32(width)) * f32(height))
    high = f32(f32(f32(1.0) * f32(width)) * f32(height))
    shortest, tallest = (int(np.rint(np.sqrt(f32(area / aspect)))) for area in (low, high))
    if int(np.rint(f32(tallest) * aspect)) > width:
        tallest = int((width + 0.5 - 1e-7) / float(aspect))
        if int(np.rint(f32(tallest) * aspect)) > width:
            tallest -= 1
    tallest = min(tallest, height)
    shortest = min(shortest, tallest)
    share = uniform()
    box_height = shortest + int(share * (tallest - shortest + 1))
    box_width = int(np.rint(f32(box_height) * aspect))
    if box_width * box_height < low:
        box_height += 1
        box_width = int(np.rint(f32(box_height) * aspect))
    if box_width * box_height > high:
        box_height -= 1
        box_width = int(np.rint(f32(box_height) * aspect))
    area = box_width * box_height
    down, along = uniform(), uniform()
    if not low <= area <= high or box_width > width or box_height > height or area <= 0:
        return None
    top = int(down * (height - box_height)) if box_height < height else 0
    left = int(along * (width - box_width)) if box_width < width else 0
    return top, left, box_height, box_width
