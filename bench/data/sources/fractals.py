"""Formula-driven images: fractals of iterated function systems, as an upstream data set.

After Kataoka et al., "Pre-training without Natural Images" (FractalDB, arXiv:2101.08515): a class
is one iterated function system (IFS) that fills enough of the image; its images are the system
with perturbed parameters, turned and mirrored. Parameters are drawn in the singular value form of
Anderson and Farrell, "Improving Fractal Pre-training" (arXiv:2110.03091), which makes nearly every
draw a useful shape.

Every image is a pure function of (seed, class, instance, size): random numbers come from a hash of
these, and what lies between parameters and pixels is elementary float32 arithmetic, so images can
be generated in any order, in parallel, and alike on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MAX_MAPS = 6
"""A system has 2 to this many affine maps."""

FILL_PX = 16
"""Side of the grid on which the filling rate of a class is judged."""

FILL_RATE = (0.22, 0.75)
"""Share of grid cells that the shape of a class must touch."""

MAX_ATTEMPTS = 64
"""Systems drawn for a class; the first that fills enough is taken, else the nearest to it."""

TURN_RAD = 0.6
"""Range of the random turn of an image, in radians, centred at zero."""

NOISE = 0.20
"""Size of the perturbation of a class's parameters that makes an image of it."""

NUM_LANES = 8
"""Trajectories of one image that run side by side."""

BURN_IN = 12
"""First points of a trajectory, not yet on the attractor."""

CHUNK_POINTS = 1 << 18
"""Points held at once, so that they stay in the processor's cache."""

NUM_DRAWS = 6 * MAX_MAPS + 2 + 9
"""Random numbers of an image: parameters, turn and mirror, colour."""

_STREAM_CLASS, _STREAM_SEQUENCE, _STREAM_INSTANCE = 1, 2, 3


@dataclass(frozen=True)
class Systems:
    """Affine maps x -> A x + b of one system per row, in singular value form, with M map slots."""

    angles_CM2: np.ndarray
    """Angles of the two rotations, in radians."""
    scales_CM2: np.ndarray
    """Signed singular values; below 1 in size, so that every system contracts."""
    offsets_CM2: np.ndarray
    """Translations b."""
    shares_CM: np.ndarray
    """Probability of each map; zero for unused slots."""

    def matrices(self) -> np.ndarray:
        """Return A_CM22 = R(angle 0) diag(scales) R(angle 1)."""
        cos_CM2, sin_CM2 = np.cos(self.angles_CM2), np.sin(self.angles_CM2)
        return _rotation(cos_CM2[..., 0], sin_CM2[..., 0]) @ (
            self.scales_CM2[..., :, None] * _rotation(cos_CM2[..., 1], sin_CM2[..., 1])
        )


def images(
    *, seed: int, class_index: int, instances_N: np.ndarray, image_size_px: int
) -> np.ndarray:
    """Return the uint8 RGB images (N, side, side, 3) of one class.

    Each image depends on (seed, class, instance, size) alone, not on its neighbours in the call.
    """
    side = image_size_px
    instances_N = np.asarray(instances_N, dtype=np.int64)
    out_NHWC = np.empty((len(instances_N), side, side, 3), dtype=np.uint8)
    system = class_system(seed=seed, class_index=class_index)
    num_steps = steps_per_lane(side)
    sequence_T = _sequence(system, seed=seed, class_index=class_index, num_steps=num_steps)
    chunk = max(1, CHUNK_POINTS // (num_steps * NUM_LANES))
    for start in range(0, len(instances_N), chunk):
        part_N = instances_N[start : start + chunk]
        draws_ND = _uniform(NUM_DRAWS, seed, _STREAM_INSTANCE, class_index, part_N)
        points_2TL = _orbits(_perturbed(system, draws_ND), sequence_T)
        placing_N2, colour_N9 = draws_ND[:, -11:-9], draws_ND[:, -9:]
        density_NHW = _density(points_2TL, placing_N2, side=(side + 1) // 2, oversample=4)
        strokes_NHW = _doubled(_doubled(density_NHW, axis=1), axis=2)[:, :side, :side]
        out_NHWC[start : start + chunk] = _coloured(strokes_NHW, colour_N9)
    return out_NHWC


def class_system(*, seed: int, class_index: int) -> Systems:
    """Return the system of a class: the first draw whose shape fills enough of the image."""
    best: tuple[float, Systems] | None = None
    candidates = _draw_systems(seed, class_index, np.arange(MAX_ATTEMPTS))
    for row in range(MAX_ATTEMPTS):
        candidate = _row(candidates, row)
        rate = _filling_rate(candidate, seed=seed, class_index=class_index)
        miss = max(FILL_RATE[0] - rate, rate - FILL_RATE[1], 0.0)
        if best is None or miss < best[0]:
            best = (miss, candidate)
        if miss == 0.0:
            break
    assert best is not None
    return best[1]


def steps_per_lane(image_size_px: int) -> int:
    """Return the length of a trajectory: touched pixels are to be hit several times."""
    return 24 + image_size_px * image_size_px // 8


# --- random numbers by hash -----------------------------------------------------------------


def _mix(x: np.ndarray) -> np.ndarray:
    """SplitMix64's finalizer: a bijection of 64-bit words whose output passes for random."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _uniform(num: int, *keys: int | np.ndarray) -> np.ndarray:
    """Return `num` uniform draws in [0, 1) for every broadcast combination of keys (..., num)."""
    state = np.zeros(1, dtype=np.uint64)
    for key in keys:
        state = _mix(state + np.uint64(0x9E3779B97F4A7C15) + np.asarray(key).astype(np.uint64))
    counters = np.arange(1, num + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    words = _mix(state[..., None] + counters) >> np.uint64(40)
    return words.astype(np.float64) * 2.0**-24


# --- systems --------------------------------------------------------------------------------


def _rotation(cos: np.ndarray, sin: np.ndarray) -> np.ndarray:
    return np.stack((np.stack((cos, -sin), -1), np.stack((sin, cos), -1)), -2)


def _row(systems: Systems, row: int) -> Systems:
    pick = slice(row, row + 1)
    return Systems(
        systems.angles_CM2[pick],
        systems.scales_CM2[pick],
        systems.offsets_CM2[pick],
        systems.shares_CM[pick],
    )


def _draw_systems(seed: int, class_index: int, attempts_C: np.ndarray) -> Systems:
    """Draw one system per attempt; the number of maps depends on the draw too."""
    draws = _uniform(1 + 9 * MAX_MAPS, seed, _STREAM_CLASS, class_index, attempts_C)
    num_maps_C = 2 + (draws[:, 0] * (MAX_MAPS - 1)).astype(np.int64)
    per_map = draws[:, 1:].reshape(len(attempts_C), MAX_MAPS, 9)
    used_CM = np.arange(MAX_MAPS) < num_maps_C[:, None]
    # Anderson and Farrell: the sum of s1 + 2 s2 over the maps decides how well a shape fills.
    large, ratio = 0.25 + 0.75 * per_map[..., 0], 0.15 + 0.85 * per_map[..., 1]
    weight_CM = np.where(used_CM, large * (1 + 2 * ratio), 0.0)
    goal_C = (5 + num_maps_C + per_map[:, 0, 4]) / 2
    large *= (goal_C / weight_CM.sum(axis=1))[:, None]
    large = np.minimum(large, 0.92)
    signs = np.where(per_map[..., 5:7] < 0.5, -1.0, 1.0)
    scales = np.stack((large, large * ratio), -1) * signs
    shares_CM = np.where(used_CM, large * large * ratio + 0.03, 0.0)
    return Systems(
        angles_CM2=per_map[..., 2:4] * (2 * np.pi),
        scales_CM2=scales,
        offsets_CM2=per_map[..., 7:9] * 2 - 1,
        shares_CM=shares_CM / shares_CM.sum(axis=1, keepdims=True),
    )


def _perturbed(system: Systems, draws_ND: np.ndarray) -> Systems:
    """Return one variant of a class's system for each image: every parameter a little off."""
    num = len(draws_ND)
    noise = draws_ND[:, : 6 * MAX_MAPS].reshape(num, MAX_MAPS, 6) * 2 - 1
    scales = system.scales_CM2 * (1 + NOISE * noise[..., 2:4])
    return Systems(
        angles_CM2=system.angles_CM2 + NOISE * noise[..., 0:2],
        scales_CM2=np.clip(scales, -0.95, 0.95),
        offsets_CM2=system.offsets_CM2 + NOISE * noise[..., 4:6],
        shares_CM=system.shares_CM,
    )


def _sequence(system: Systems, *, seed: int, class_index: int, num_steps: int) -> np.ndarray:
    """Return which map acts at each step and lane (T, lanes): the same for a class's images."""
    draws = _uniform(num_steps * NUM_LANES, seed, _STREAM_SEQUENCE, class_index).reshape(
        num_steps, NUM_LANES
    )
    edges_M = np.cumsum(system.shares_CM[0])
    last_used = np.flatnonzero(system.shares_CM[0])[-1]  # edges may end a bit below 1
    return np.minimum(np.searchsorted(edges_M, draws, side="right"), last_used)


def _filling_rate(system: Systems, *, seed: int, class_index: int) -> float:
    """Return the share of grid cells that a system touches, in its own bounding square."""
    sequence_TL = _sequence(system, seed=seed, class_index=class_index, num_steps=64)
    points_2PN = _orbits(system, sequence_TL)
    grid = _density(points_2PN, np.full((1, 2), 0.5), side=FILL_PX, oversample=1)
    return float((grid > 0).mean())


# --- from systems to pixels -----------------------------------------------------------------


def _orbits(systems: Systems, sequence_TL: np.ndarray) -> np.ndarray:
    """Run the chaos game on all images at once; returns coordinates (2, T, images x lanes)."""
    num = len(systems.angles_CM2)
    matrices = systems.matrices()
    # (6, M, images): the row of a map is contiguous over images, so that a step is six loads.
    table = np.stack(
        (
            matrices[..., 0, 0], matrices[..., 0, 1], systems.offsets_CM2[..., 0],
            matrices[..., 1, 0], matrices[..., 1, 1], systems.offsets_CM2[..., 1],
        )
    )  # fmt: skip
    # Rounded to 2^-12, so that the last bit of a sine does not decide a pixel.
    table = (np.round(table * 4096) / 4096).astype(np.float32).transpose(0, 2, 1)
    num_steps = len(sequence_TL)
    points = np.empty((2, num_steps - BURN_IN, NUM_LANES, num), dtype=np.float32)
    x, y = np.zeros((NUM_LANES, num), np.float32), np.zeros((NUM_LANES, num), np.float32)
    for step, maps_L in enumerate(sequence_TL):
        a, b, e, c, d, f = np.ascontiguousarray(table[:, maps_L])
        x, y = a * x + b * y + e, c * x + d * y + f
        if step >= BURN_IN:
            points[0, step - BURN_IN] = x
            points[1, step - BURN_IN] = y
    return points.reshape(2, -1, num)


def _density(
    points_2PN: np.ndarray, draws_N2: np.ndarray, *, side: int, oversample: int = 2
) -> np.ndarray:
    """Turn, mirror and fit each image's points into the square and count them per pixel.

    Returns the share of sub-pixels touched (N, side, side), float32 in [0, 1].
    """
    turn_N = (draws_N2[:, 0] - 0.5) * TURN_RAD
    mirror_N = np.where(draws_N2[:, 1] < 0.5, -1.0, 1.0)
    cos = (np.round(np.cos(turn_N) * 4096) / 4096).astype(np.float32)
    sin = (np.round(np.sin(turn_N) * 4096) / 4096).astype(np.float32)
    num_images = len(draws_N2)
    x, y = points_2PN
    turned = [(cos * x - sin * y) * mirror_N.astype(np.float32), sin * x + cos * y]
    lows = [axis.min(axis=0) for axis in turned]
    extents = [axis.max(axis=0) - low for axis, low in zip(turned, lows, strict=True)]
    extent = np.maximum(np.maximum(*extents), np.float32(1e-6))
    fine = side * oversample
    cells = []
    for axis, low, own in zip(turned, lows, extents, strict=True):
        scale = np.float32(fine - 0.01) / extent
        margin = (extent - own) * np.float32(0.5)
        cells.append(((axis - (low - margin)) * scale).astype(np.int32))
    flat = (np.arange(num_images, dtype=np.int32) * fine + cells[1]) * fine + cells[0]
    counts = np.bincount(flat.ravel(), minlength=num_images * fine * fine)
    touched = (
        np.minimum(counts, 2)
        .astype(np.float32)
        .reshape(num_images, side, oversample, side, oversample)
    )
    return touched.sum(axis=(2, 4)) / np.float32(2 * oversample * oversample)


def _doubled(values: np.ndarray, *, axis: int) -> np.ndarray:
    """Enlarge an axis twofold, bilinear with half-pixel centres: points become soft strokes.

    Sharp points transfer badly: with strokes of about four pixels, frozen features of a small CNN
    went from 0.59 to 0.81 on 10-shot digits (docs/data.md).
    """
    values = np.moveaxis(values, axis, 0)
    near, quarter = np.float32(0.75) * values, np.float32(0.25) * values
    wide = np.empty((2 * len(values), *values.shape[1:]), dtype=np.float32)
    wide[0::2] = near + np.concatenate((quarter[:1], quarter[:-1]))
    wide[1::2] = near + np.concatenate((quarter[1:], quarter[-1:]))
    return np.moveaxis(wide, 0, axis)


def _coloured(density_NHW: np.ndarray, draws_N9: np.ndarray) -> np.ndarray:
    """Paint each shape on black: from grey to coloured, with a hue that drifts over the image."""
    side = density_NHW.shape[1]
    d = draws_N9.astype(np.float32)
    grey, saturation = np.float32(0.6) + np.float32(0.4) * d[:, 7:8], d[:, 8:9]
    tint = np.float32(0.3) + np.float32(0.7) * d[:, 0:3]
    bright = grey + saturation * (tint - grey)
    drift = (d[:, 3:6] - np.float32(0.5)) * saturation
    ramp_H = np.arange(side, dtype=np.float32) / np.float32(side) - np.float32(0.5)
    shade = bright[:, None, None, :] + ramp_H[None, :, None, None] * drift[:, None, None, :]
    gain = np.float32(2.0) + np.float32(2.0) * d[:, 6, None, None]
    value = np.minimum(density_NHW * gain, np.float32(1.0))[..., None] * shade
    return (np.clip(value, 0, 1) * np.float32(255)).astype(np.uint8)
