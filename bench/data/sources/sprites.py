"""Micro VTAB tasks made from formulas: sprites with known factors, and gratings.

Miniatures for smoke runs of the benchmark's structured and specialized groups (digits stand for the
natural one). As in dSprites (Matthey et al., 2017), an image shows one shape on black with factors
drawn independently: shape, size, orientation, position. A task asks for one of them, so that all
others are noise to it. Gratings ask for their orientation whatever the spatial frequency, phase and
contrast, as texture classes do.

An image is a function of (seed, task, split) and its place. Edges are smooth over one pixel.
"""

from __future__ import annotations

import numpy as np

from bench.data.cards.generated import IMAGE_SIZE_PX, SPRITES, SPRITES_COUNTS, SPRITES_VERSION

_SPLITS = tuple(SPRITES_COUNTS)
_TASK_NUMBERS = {name: number for number, name in enumerate(SPRITES)}


def generate(task: str, split: str, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return uint8 images (N, 16, 16, 3) and int64 labels (N,) of a split."""
    num, num_classes = SPRITES_COUNTS[split], SPRITES[task].num_classes
    rng = np.random.default_rng((seed, _TASK_NUMBERS[task], _SPLITS.index(split), SPRITES_VERSION))
    labels_N = rng.integers(0, num_classes, num)
    draws_NF = rng.random((num, 10))
    if task == "gratings":
        value_NHW = _gratings(labels_N, draws_NF, num_classes=num_classes)
    else:
        value_NHW = _sprites(task, labels_N, draws_NF, num_classes=num_classes)
    tint_NC = 0.5 + 0.5 * draws_NF[:, 6:9]
    images_NHWC = np.round(value_NHW[..., None] * tint_NC[:, None, None, :] * 255)
    return images_NHWC.astype(np.uint8), labels_N.astype(np.int64)


def _grid() -> tuple[np.ndarray, np.ndarray]:
    """Return the pixel centres (y, x) as (1, H, 1) and (1, 1, W), in pixels."""
    centres = np.arange(IMAGE_SIZE_PX) + 0.5
    return centres[None, :, None], centres[None, None, :]


def _sprites(
    task: str, labels_N: np.ndarray, draws_NF: np.ndarray, *, num_classes: int
) -> np.ndarray:
    """Paint one shape an image: a bar, or an ellipse; returns values in [0, 1]."""
    length_N = 3.0 + 1.5 * draws_NF[:, 0]
    width_N = length_N * (0.3 + 0.15 * draws_NF[:, 1])
    turn_N = np.pi * draws_NF[:, 2]
    y_N = 4.5 + 7.0 * draws_NF[:, 3]
    x_N = 4.5 + 7.0 * draws_NF[:, 4]
    if task == "sprites-location":
        x_N = IMAGE_SIZE_PX / num_classes * (labels_N + draws_NF[:, 4])
    else:
        # Inside a class the orientation moves by up to a third of the step between classes.
        turn_N = np.pi / num_classes * (labels_N + (draws_NF[:, 2] - 0.5) / 3)
    y_H, x_W = _grid()
    dy, dx = y_H - y_N[:, None, None], x_W - x_N[:, None, None]
    cos, sin = np.cos(turn_N)[:, None, None], np.sin(turn_N)[:, None, None]
    along = np.abs(cos * dx + sin * dy) / length_N[:, None, None]
    across = np.abs(cos * dy - sin * dx) / width_N[:, None, None]
    ellipse_N = draws_NF[:, 5] < 0.5
    radius = np.where(ellipse_N[:, None, None], np.hypot(along, across), np.maximum(along, across))
    return np.clip((1 - radius) * width_N[:, None, None] + 0.5, 0, 1)


def _gratings(labels_N: np.ndarray, draws_NF: np.ndarray, *, num_classes: int) -> np.ndarray:
    """Paint stripes of 2 to 4.5 cycles an image; returns values in [0, 1]."""
    turn_N = np.pi / num_classes * (labels_N + (draws_NF[:, 0] - 0.5) / 2)
    cycles_N = 2.0 + 2.5 * draws_NF[:, 1]
    phase_N = 2 * np.pi * draws_NF[:, 2]
    contrast_N = 0.25 + 0.25 * draws_NF[:, 3]
    y_H, x_W = _grid()
    along = np.cos(turn_N)[:, None, None] * x_W + np.sin(turn_N)[:, None, None] * y_H
    angle = 2 * np.pi * cycles_N[:, None, None] * along / IMAGE_SIZE_PX + phase_N[:, None, None]
    return 0.5 + contrast_N[:, None, None] * np.sin(angle)
