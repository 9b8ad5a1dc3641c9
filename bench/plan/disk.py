"""What the jobs of a suite take on disk, in closed form: data, features, weights, checkpoints."""

from __future__ import annotations

from dataclasses import dataclass

import baselines
from bench import cost
from bench.errors import DataError
from bench.kinds import KINDS, stages
from bench.kinds.base import FROZEN
from bench.paths import WEIGHTS, CachePaths
from bench.plan import shapes
from bench.plan.spec import JobGraph
from bench.specs import DatasetCard, PlannedJob

CHECKPOINTS = 3
"""Checkpoints of a running job: two that are kept, and one that is being written."""


@dataclass(frozen=True)
class Disk:
    """Bytes on disk, by what takes them."""

    data: int
    """Packed data sets that are not there yet; 0 for those that cannot be read."""
    features: int
    """Frozen features."""
    weights: int
    """Weights that training jobs leave behind."""
    checkpoints: int
    """Checkpoints of the jobs that run at once."""

    @property
    def num_bytes(self) -> int:
        """All of it."""
        return self.data + self.features + self.weights + self.checkpoints


def needed(graph: JobGraph, cache: CachePaths, *, num_running: int = 1) -> Disk:
    """Return what the jobs that can be done take at most, so many of them at once.

    Files on disk are looked at for data sets that are not packed yet.
    """
    jobs = [job for job in graph.jobs if not job.refused]
    used = {job.dataset for job in jobs}
    cards = [card for name, card in graph.datasets.items() if name in used]
    _, largest = cost.largest_checkpoint(jobs)
    num_training = sum(job.spec.recipe is not None for job in jobs)
    return Disk(
        data=sum(_packed_bytes(card, cache) for card in cards),
        features=_feature_bytes(jobs),
        weights=sum(4 * job.num_params for job in jobs if _leaves_weights(job)),
        checkpoints=min(num_running, num_training) * CHECKPOINTS * largest,
    )


def _leaves_weights(job: PlannedJob) -> bool:
    """Return whether a job leaves weights: what only chooses between candidates leaves none."""
    is_choice = stages()[job.labels.stage].role == "choice"
    return WEIGHTS in KINDS[job.spec.kind].leaves and not is_choice


def _packed_bytes(card: DatasetCard, cache: CachePaths) -> int:
    from bench.data.packs.build import bytes_needed

    if card.args.get("stream") or not card.digest or cache.packed(card.digest).is_dir():
        return 0
    try:
        return bytes_needed(card)
    except DataError:
        return 0  # said of the data set itself


def _feature_bytes(jobs: list[PlannedJob]) -> int:
    """Return the bytes of features, which jobs of one start, data set and protocol share."""
    found: dict[object, int] = {}
    for job in jobs:
        spec = job.spec
        if stages()[job.labels.stage].work is not FROZEN or spec.data is None:
            continue
        part = spec.data.num_evaluated, spec.params.get("pool")
        shared = spec.needs.get("checkpoint"), spec.data.digest, job.labels.protocol, part
        num_bytes = 4 * baselines.sizes(spec.system).feature_dim * shapes.num_evaluated(job)
        found[shared] = max(found.get(shared, 0), num_bytes)
    return sum(found.values())
