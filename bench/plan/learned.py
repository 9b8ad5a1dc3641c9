"""What jobs really held, against the closed form: one factor by device, family, work, arithmetic.

Allocators, libraries and kernels differ from device to device. After a job the measured peak over
the forecast is kept in the work folder; the next plan multiplies by it. Small jobs teach nothing:
there the process itself is most of the peak.
"""

from __future__ import annotations

import json

from filelock import FileLock

from bench.files import read_json, write_text
from bench.paths import CachePaths
from bench.plan.fitting import Factors, expected_gib, factor_key
from bench.specs import Cost, JobSpec, Resources

LEAST_GIB = 1.0
"""Forecasts below this are not learned from."""
RANGE = (0.5, 4.0)
"""Factors beyond are of something else than the model: they are cut."""


def read(cache: CachePaths) -> Factors:
    """Return the factors of a work folder; none where nothing, or nothing readable, is there."""
    found = read_json(cache.memory_record)
    if not isinstance(found, dict):
        return {}
    return {name: value for name, value in found.items() if isinstance(value, float)}


def note(spec: JobSpec, resources: Resources, cost: Cost, cache: CachePaths) -> None:
    """Add what a job held: the largest factor seen counts."""
    forecast_gib = expected_gib(spec, resources)
    if forecast_gib < LEAST_GIB or cost.peak_memory_gib <= 0:
        return
    least, most = RANGE
    factor = round(min(most, max(least, cost.peak_memory_gib / forecast_gib)), 3)
    cache.folder.mkdir(parents=True, exist_ok=True)
    with FileLock(cache.memory_lock):
        factors = dict(read(cache))
        name = factor_key(spec)
        factors[name] = max(factor, factors.get(name, 0.0))
        write_text(cache.memory_record, json.dumps(factors, indent=1, sort_keys=True))
