"""What a whole suite will take, from what was measured of each shape of its work.

Times of a device that is not here are not measured: its closed-form work is divided by a stated
share of the peak that its vendor prints, and the forecast says so.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import baselines
from bench import cost
from bench.data.parts import fewest_pieces, largest_part
from bench.kinds import KINDS
from bench.plan.fitting import RESERVE, most_pieces
from bench.plan.rehearsed import Measured
from bench.plan.shapes import Part, Shape
from bench.plan.spec import JobGraph
from bench.schedule.order import JOB_OVERHEAD_S, remaining_paths
from bench.specs import EVALUATION_BATCH, DeviceKind, PlannedJob, Record


@dataclass(frozen=True)
class Place:
    """Where a suite is to run."""

    gpu: str
    """Which GPU, a name in `cost.GPUS`."""
    memory_gib: Mapping[DeviceKind, float]
    """Memory of a device that a job may use, by kind."""
    num_cores: int
    """Cores of this machine."""
    free_disk_gib: float
    """Free disk where the work folder is."""
    needed_disk_gib: float = 0.0
    """What the suite takes there."""
    saved_gib_per_s: float = math.inf
    """How fast checkpoints are written there, and hashed."""
    start_s: float = 0.0
    """Seconds until a new process can compute."""
    budget_usd: float | None = None
    """Dollars that may be spent; None: no limit."""


class Row(Record):
    """One shape of work, and what it takes over the whole suite."""

    system: str
    """Name of the system card."""
    work: str
    """`train` or `evaluate`."""
    image_size_px: int
    """Side of the input."""
    batch_size: int
    """Images of a step, or scored at once."""
    precision: str
    """Arithmetic."""
    num_jobs: int
    """Jobs with such work."""
    memory_gib: float
    """Most memory of a device, in so many pieces."""
    pieces: int | None
    """Pieces of a batch; None: one image does not fit."""
    images_per_s: float
    """Speed."""
    measured: bool
    """Whether the speed was measured here."""
    decoding_cores: float
    """Cores that decode so many photographs a second."""
    checkpoint_gib: float
    """Size of a checkpoint."""
    checkpoint_s: float
    """Seconds to write one, behind the training."""
    hours: float
    """Time over all jobs that can be done."""
    fault: str
    """What the code raised; empty: nothing."""


class Forecast(Record):
    """What a suite will take."""

    suite: str
    """Suite and scale."""
    gpu: str
    """The GPU that is priced."""
    num_jobs: int
    """Jobs that can be done."""
    refused: dict[str, int]
    """Jobs that nobody can do, by reason; rehearsed and not counted."""
    num_searches: int
    """Profiles that look for the largest batch: how long, depends on what fits; not counted."""
    hours: float
    """Elapsed time, on this machine's cores or one GPU."""
    gpu_days: float
    """Days of one GPU."""
    usd: float
    """Dollars for them."""
    disk_gib: float
    """Packed data, features, weights that stay and the checkpoints of running jobs."""
    memory_gib: float
    """Most memory that a job needs on its device."""
    measured: bool
    """Whether all speeds were measured here."""
    rows: tuple[Row, ...]
    """Shapes, the longest first."""
    red_lines: tuple[str, ...]
    """What stands in the way."""


def forecast(
    graph: JobGraph,
    parts: Sequence[Part],
    measured: Mapping[str, Measured],
    *,
    place: Place,
    decoded_per_s: Callable[[int], float] = cost.decoded_per_s,
) -> Forecast:
    """Return what a suite takes; `measured` is by key of the shape.

    `decoded_per_s` gives the photographs that a core decodes in a second, by input side.
    """
    image_s = {p.shape.key: _image_s(p.shape, measured[p.shape.key], place) for p in parts}
    seconds: dict[str, float] = {}
    for part in parts:
        taken_s = part.num_images * image_s[part.shape.key]
        seconds[part.job.job_id] = seconds.get(part.job.job_id, JOB_OVERHEAD_S) + taken_s
    doable = [job for job in graph.jobs if not job.refused]
    on_gpu = {part.job.job_id for part in parts if part.shape.device != "cpu"}
    elapsed_s = place.start_s + makespan_s(
        graph,
        lambda job: 0.0 if job.refused else seconds.get(job.job_id, JOB_OVERHEAD_S),
        num_slots=num_slots(graph, parts, num_cores=place.num_cores),
    )
    gpu_s = sum(seconds[job.job_id] for job in doable if job.job_id in on_gpu)
    rows = tuple(_rows(parts, measured, image_s, place, decoded_per_s))
    found = Forecast(
        suite=graph.suite.label,
        gpu=place.gpu,
        num_jobs=len(doable),
        refused=_refused(graph),
        num_searches=sum(_searches(job) for job in doable),
        hours=elapsed_s / 3600,
        gpu_days=gpu_s / 86_400,
        usd=cost.dollars(place.gpu, gpu_s / 3600) if gpu_s else 0.0,
        disk_gib=place.needed_disk_gib,
        memory_gib=max((row.memory_gib for row in rows), default=0.0),
        measured=all(row.measured for row in rows),
        rows=tuple(sorted(rows, key=lambda row: -row.hours)),
        red_lines=(),
    )
    return found.model_copy(update={"red_lines": tuple(_red_lines(found, parts, place))})


def num_slots(graph: JobGraph, parts: Sequence[Part], *, num_cores: int) -> int:
    """Return the jobs that run at once: on one device, or on a machine's cores."""
    if any(part.shape.device != "cpu" for part in parts):
        return 1
    return max(1, num_cores // graph.suite.num_threads)


def makespan_s(graph: JobGraph, seconds: Callable[[PlannedJob], float], *, num_slots: int) -> float:
    """Return the seconds from the first job to the last, in the order of the scheduler.

    Profiles wait for each other, as on a machine's CPU.
    """
    paths = remaining_paths(graph, seconds)
    missing = {job.job_id: len(set(job.spec.needs.values())) for job in graph.jobs}
    users: dict[str, list[PlannedJob]] = {}
    for job in graph.jobs:
        for needed in set(job.spec.needs.values()):
            users.setdefault(needed, []).append(job)
    ready = [(-paths[job.job_id], job.job_id, job) for job in graph.jobs if not missing[job.job_id]]
    heapq.heapify(ready)
    running: list[tuple[float, str]] = []
    now_s = profiled_s = 0.0
    while ready or running:
        while ready and len(running) < num_slots:
            _, _, job = heapq.heappop(ready)
            if _is_profile(job):
                ended_s = profiled_s = max(now_s, profiled_s) + seconds(job)
            else:
                ended_s = now_s + seconds(job)
            heapq.heappush(running, (ended_s, job.job_id))
        now_s, done = heapq.heappop(running)
        for user in users.get(done, ()):
            missing[user.job_id] -= 1
            if not missing[user.job_id]:
                heapq.heappush(ready, (-paths[user.job_id], user.job_id, user))
    return now_s


def _image_s(shape: Shape, found: Measured, place: Place) -> float:
    """Return the seconds of an image: measured, or its work over a share of the vendor's peak."""
    if found.image_s is not None:
        return found.image_s
    flops = baselines.forward_flops(shape.system, shape.image_size_px)
    flops *= cost.TRAIN_FACTOR if shape.work == "train" else 1
    peaks = cost.GPUS[place.gpu].peak_flops_per_s
    if shape.device == "cuda":
        return flops / (cost.SUSTAINED_SHARE * peaks.get(shape.precision, peaks["float32"]))
    return flops / cost.CPU_CORE_FLOPS_PER_S


def _rows(
    parts: Sequence[Part],
    measured: Mapping[str, Measured],
    image_s: Mapping[str, float],
    place: Place,
    decoded_per_s: Callable[[int], float],
) -> Iterator[Row]:
    members: dict[str, list[Part]] = {}
    for part in parts:
        members.setdefault(part.shape.key, []).append(part)
    for key, same in members.items():
        shape, found = same[0].shape, measured[key]
        batch = shape.batch_size or EVALUATION_BATCH
        pieces, num_at_once = _divided(shape, found, place)
        num_images = sum(part.num_images for part in same if not part.job.refused)
        yield Row(
            system=same[0].job.labels.system,
            work=shape.work,
            image_size_px=shape.image_size_px,
            batch_size=batch,
            precision=shape.precision,
            num_jobs=len(same),
            memory_gib=found.memory_gib(num_at_once),
            pieces=pieces,
            images_per_s=1 / image_s[key],
            measured=found.image_s is not None,
            decoding_cores=1 / image_s[key] / decoded_per_s(shape.image_size_px),
            checkpoint_gib=found.checkpoint_gib,
            checkpoint_s=found.checkpoint_gib / place.saved_gib_per_s,
            hours=num_images * image_s[key] / 3600,
            fault=found.fault,
        )


def _divided(shape: Shape, found: Measured, place: Place) -> tuple[int | None, int]:
    """Return the pieces of a batch by the rule of the planner, None where none is small enough,
    and the images of the largest one."""
    batch = shape.batch_size or EVALUATION_BATCH
    images = found.most_images(batch, (1 - RESERVE) * place.memory_gib[shape.device])
    most = most_pieces(shape.system, shape.recipe) if shape.recipe else batch
    pieces = fewest_pieces(batch, num_images=images, most=most)
    return pieces, largest_part(batch, pieces or most)


def _refused(graph: JobGraph) -> dict[str, int]:
    found: dict[str, int] = {}
    for job in graph.jobs:
        if job.refused:
            found[job.refused] = found.get(job.refused, 0) + 1
    return found


def _searches(job: PlannedJob) -> bool:
    """Tell whether a job looks for the largest batch of a stated memory, or of its device's."""
    return _is_profile(job) and ("memory_gib" in job.spec.params or job.spec.device == "cuda")


def _is_profile(job: PlannedJob) -> bool:
    return KINDS[job.spec.kind].table == "profile"


def _red_lines(found: Forecast, parts: Sequence[Part], place: Place) -> Iterator[str]:
    for row in found.rows:
        what = f"{row.system}: {row.work} at {row.image_size_px} px in {row.precision}"
        if row.fault:
            yield f"{what} raises {row.fault}"
        elif row.pieces is None:
            yield f"{what} does not fit the memory with one image ({row.memory_gib:.1f} GiB)"
        elif row.measured and found.gpu_days and row.decoding_cores > place.num_cores:
            cores = f"{row.decoding_cores:.0f} cores to decode, and there are {place.num_cores}"
            yield f"{what} needs {cores}"
    if found.disk_gib > place.free_disk_gib:
        free = f"{place.free_disk_gib:.1f} GiB free"
        yield f"the disk has {free}, and {found.disk_gib:.1f} are needed"
    if place.budget_usd is not None and found.usd > place.budget_usd:
        yield f"${found.usd:,.0f} are over the budget of ${place.budget_usd:,.0f}"
