"""Label rules of VTAB's structured tasks: from what is known about a scene to a class.

Read in google-research/task_adaptation, task_adaptation/data/{clevr,dsprites,kitti,smallnorb}.py,
and for the factors' names in tensorflow/datasets (dsprites, smallnorb, kitti). Thresholds are open
below and closed above: a distance equal to a threshold belongs to the nearer class.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

CLEVR_CLOSEST = (0.0, 8.0, 8.5, 9.0, 9.5, 10.0, 100.0)
"""Depths between which CLEVR's classes of the closest object lie, in scene units; the depth is the
third pixel coordinate of an object."""

KITTI_CLOSEST_M = (-100.0, 8.0, 20.0, 999.0)
"""Distances in metres between which KITTI's classes lie; the last class is "no vehicle"."""

KITTI_NO_VEHICLE_M = 1000.0
KITTI_VEHICLES = ("Car", "Van", "Truck")

DSPRITES_ORIENTATIONS, DSPRITES_POSITIONS, DSPRITES_CLASSES = 40, 32, 16


def clevr_count(num_objects_N: ArrayLike) -> np.ndarray:
    """Return the class of scenes with 3 to 10 objects: 0 to 7."""
    return np.asarray(num_objects_N, dtype=np.int64) - 3


def clevr_closest(depth_N: ArrayLike) -> np.ndarray:
    """Return the class (0 to 5) of the smallest depth of a scene's objects."""
    return _between(CLEVR_CLOSEST, depth_N)


def kitti_closest(distance_m_N: ArrayLike) -> np.ndarray:
    """Return the class (0 to 3) of the distance to the closest vehicle, in metres."""
    return _between(KITTI_CLOSEST_M, distance_m_N)


def dsprites_x_position(position_N: ArrayLike) -> np.ndarray:
    """Return one of 16 classes from the place (0 to 31) of a sprite from left to right."""
    return _binned(position_N, DSPRITES_POSITIONS)


def dsprites_orientation(orientation_N: ArrayLike) -> np.ndarray:
    """Return one of 16 classes from the turn (0 to 39) of a sprite; 40 / 16 is 2.5, so that
    classes hold two and three turns by turns."""
    return _binned(orientation_N, DSPRITES_ORIENTATIONS)


def smallnorb_azimuth(azimuth_N: ArrayLike) -> np.ndarray:
    """Return the class (0 to 17) of the azimuth, 0 to 340 degrees in steps of 20. The owner's files
    count in tens of degrees: their values are halved first, as TensorFlow Datasets does."""
    return np.asarray(azimuth_N, dtype=np.int64)


def smallnorb_elevation(elevation_N: ArrayLike) -> np.ndarray:
    """Return the class (0 to 8) of the elevation: 30 to 70 degrees in steps of 5."""
    return np.asarray(elevation_N, dtype=np.int64)


def _between(thresholds: tuple[float, ...], value_N: ArrayLike) -> np.ndarray:
    """Return the largest index whose threshold is smaller than the value."""
    places = np.searchsorted(np.array(thresholds), np.asarray(value_N, np.float64), side="left")
    return np.asarray(places, dtype=np.int64) - 1


def _binned(value_N: ArrayLike, num_values: int) -> np.ndarray:
    places = np.floor_divide(np.asarray(value_N, np.int64), num_values / DSPRITES_CLASSES)
    return np.asarray(places, dtype=np.int64)


# --- exports of TensorFlow Datasets -----------------------------------------------------------

Rule = Callable[[Sequence[Any]], list[int]]


def _of_numbers(rule: Callable[[np.ndarray], np.ndarray]) -> Rule:
    def apply(values: Sequence[Any]) -> list[int]:
        return [int(label) for label in rule(np.array(values))]

    return apply


def _of_scenes(measure: Callable[[dict[str, Any]], float], rule: Callable[..., Any]) -> Rule:
    def apply(values: Sequence[Any]) -> list[int]:
        measured = np.array([measure(json.loads(value)) for value in values])
        return [int(label) for label in rule(measured)]

    return apply


def _num_objects(objects: dict[str, Any]) -> float:
    return len(objects["size"])


def _smallest_depth(objects: dict[str, Any]) -> float:
    return float(min(place[2] for place in objects["pixel_coords"]))


def _closest_vehicle_m(objects: dict[str, Any]) -> float:
    """Distance ahead of the closest car, van or truck: types 0 to 2 of TensorFlow Datasets."""
    places = zip(objects["type"], objects["location"], strict=True)
    ahead = [float(place[2]) for kind, place in places if kind < len(KITTI_VEHICLES)]
    return min(ahead, default=KITTI_NO_VEHICLE_M)


EXPORTED: dict[str, tuple[str, Rule]] = {
    "clevr-count": ("objects", _of_scenes(_num_objects, clevr_count)),
    "clevr-dist": ("objects", _of_scenes(_smallest_depth, clevr_closest)),
    "kitti-dist": ("objects", _of_scenes(_closest_vehicle_m, kitti_closest)),
    "dsprites-loc": ("label_x_position", _of_numbers(dsprites_x_position)),
    "dsprites-ori": ("label_orientation", _of_numbers(dsprites_orientation)),
    "smallnorb-azim": ("label_azimuth", _of_numbers(smallnorb_azimuth)),
    "smallnorb-elev": ("label_elevation", _of_numbers(smallnorb_elevation)),
}
"""Column and rule by the name that `export_tfds.py --label` takes."""
