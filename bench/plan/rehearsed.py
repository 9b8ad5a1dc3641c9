"""What rehearsals found of each shape of work, kept in the work folder for whoever plans."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import TypeAdapter, ValidationError

from bench import environment
from bench.files import write_text
from bench.paths import CachePaths
from bench.plan import shapes
from bench.plan.spec import JobGraph
from bench.specs import Record


class Measured(Record):
    """Memory and time of a shape of work; what was not measured is None."""

    constant_gib: float = 0.0
    """Memory whatever the batch: weights, gradients, state of the optimizer, averages."""
    image_gib: float = 0.0
    """Memory that each image takes on top."""
    image_s: float | None = None
    """Seconds an image; None where the device was pretended."""
    checkpoint_gib: float = 0.0
    """Size of a checkpoint; 0 where nothing is trained."""
    fault: str = ""
    """What the code raised; empty: nothing."""

    def memory_gib(self, num_images: int) -> float:
        """Return the most memory held with so many images at once."""
        return self.constant_gib + self.image_gib * num_images

    def most_images(self, batch_size: int, memory_gib: float) -> int:
        """Return how many images of a batch fit at once; 0: not one.

        >>> Measured(constant_gib=10, image_gib=1).most_images(64, 50)
        40
        """
        if self.memory_gib(batch_size) <= memory_gib:
            return batch_size
        if self.memory_gib(1) > memory_gib:
            return 0
        return max(1, int((memory_gib - self.constant_gib) / self.image_gib))


_NOTES = TypeAdapter(dict[str, dict[str, Measured]])
"""By machine, and by key of the shape."""


def seconds(graph: JobGraph, paths: CachePaths) -> dict[str, float]:
    """Return the seconds of those jobs whose work was rehearsed here, by job id."""
    known = _all(paths)
    found: dict[str, float] = {}
    unknown: set[str] = set()
    for part in shapes.parts(graph) if known else ():
        machine = environment.machine(part.shape.device)
        measured = known.get(machine, {}).get(part.shape.key)
        if measured is None or measured.image_s is None:
            unknown.add(part.job.job_id)
        else:
            taken_s = part.num_images * measured.image_s
            found[part.job.job_id] = found.get(part.job.job_id, 0.0) + taken_s
    return {job_id: taken_s for job_id, taken_s in found.items() if job_id not in unknown}


def read(paths: CachePaths, machine: str) -> dict[str, Measured]:
    """Return what was measured on a machine, by key of the shape; a damaged file holds nothing."""
    return _all(paths).get(machine, {})


def add(paths: CachePaths, machine: str, measured: Mapping[str, Measured]) -> None:
    """Keep what was measured on a machine; what was pretended or raised is left out."""
    real = {key: one for key, one in measured.items() if one.image_s is not None and not one.fault}
    if real:
        notes = _all(paths)
        notes[machine] = {**notes.get(machine, {}), **real}
        text = _NOTES.dump_json(notes, indent=1, exclude_defaults=True).decode()
        write_text(paths.rehearsals, text, sync=False)


def _all(paths: CachePaths) -> dict[str, dict[str, Measured]]:
    try:
        return _NOTES.validate_json(paths.rehearsals.read_bytes())
    except (FileNotFoundError, ValidationError):
        return {}
