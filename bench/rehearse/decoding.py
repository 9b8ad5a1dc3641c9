"""How fast this machine decodes photographs, measured in a blink."""

from __future__ import annotations

import time

import numpy as np
import simplejpeg

from bench.cost import READ_S_PER_PIXEL
from bench.data import decode

_HEIGHT_PX, _WIDTH_PX = 375, 500
"""The usual size of ImageNet's photographs."""
_NUM = 20


def decode_s() -> float:
    """Return the seconds of one core for a photograph of the usual size: the median of some."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, size=(_HEIGHT_PX // 5, _WIDTH_PX // 5, 3), dtype=np.uint8)
    image_HWC = np.ascontiguousarray(coarse.repeat(5, axis=0).repeat(5, axis=1))
    content = simplejpeg.encode_jpeg(image_HWC, quality=90)
    taken_s = []
    for _ in range(_NUM):
        started_s = time.perf_counter()
        decode.original(content, name="made")
        taken_s.append(time.perf_counter() - started_s)
    return float(np.median(taken_s))


def decoded_per_s(image_size_px: int, *, one_s: float) -> float:
    """Return the photographs that a core decodes and resizes in a second."""
    return 1 / (one_s + READ_S_PER_PIXEL * image_size_px**2)
