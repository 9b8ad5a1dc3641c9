"""What several job kinds do: find the device, measure the cost, read inputs, write weights."""

from __future__ import annotations

import math
import os
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench import models
from bench.cost import forward_gflops
from bench.data import decoders
from bench.data.packs.build import packed
from bench.data.packs.drawn import Drawn
from bench.data.packs.read import Splits
from bench.errors import CheckpointError, JobError
from bench.jobs import JobContext
from bench.paths import CLASSES, HITS, LABELS, WEIGHTS, CachePaths, JobPaths
from bench.specs import Cost, JobResult, Metric, Scalar
from bench.training import (
    Training,
    devices,
    fastest,
    group,
    read_tensors,
    replace_file,
    write_tensors,
)


def device(context: JobContext) -> torch.device:
    """Return the job's device; raises JobError where this machine has none of its kind."""
    return devices.device(context.device)


def num_devices(context: JobContext) -> float:
    """Return the GPUs or TPU chips that the job's workers hold together, or its share of one."""
    resources = context.resources
    return resources.workers * (resources.gpus if context.device == "cuda" else resources.tpus)


def dataset(context: JobContext) -> Splits:
    """Return the job's data set, packed; raises JobError when it is not the planned one.

    In a limited run the splits that are evaluated have no more images than was planned. What is
    trained on is whole: there the steps are limited.
    """
    found = packed(context.card, cache_dir=context.cache_dir)
    check_planned(context)
    data = context.data
    if data.num_evaluated is None:
        return found
    trains = context.spec.recipe is not None
    evaluated = {data.eval_split} if trains else {data.eval_split, data.train_split}
    by_details = context.card.scoring == "corruption"
    return Drawn(found, evaluated, data.num_evaluated, by_details=by_details)


def check_planned(context: JobContext) -> None:
    """Raise JobError where the data set is not the one that was planned."""
    planned = context.data.digest
    if context.card.digest != planned:
        raise JobError(
            f"data set {context.card.name} has changed since the suite was planned "
            f"({context.card.digest[:12]}..., planned {planned[:12]}...)",
            hint="Plan the suite again",
        )


def labels(context: JobContext, data: Splits, split: str) -> np.ndarray:
    """Return labels_N of a split; raises JobError where one is not a planned class."""
    labels_N = data.split(split).labels_N
    classes = context.num_classes
    if len(labels_N) and int(labels_N.max()) >= classes:
        raise JobError(
            f"{context.card.name}, {split}: label {labels_N.max()} is not a class of a "
            f"classifier of {classes:,} classes"
        )
    return labels_N


def build(
    context: JobContext, *, pretraining_head: bool, dropout: float = 0.0
) -> models.Classifier:
    """Return the job's model, initialized from the job's seed, on the device."""
    spec = context.spec
    model = models.build(
        spec.system,
        num_classes=context.num_classes,
        image_size_px=context.image_size_px,
        generator=torch.Generator().manual_seed(spec.seed),
        pretraining_head=pretraining_head,
        dropout=dropout,
    )
    return model.to(device(context))


def choose_kernels(context: JobContext, model: nn.Module, *, num_steps: int) -> None:
    """Have a model about to be trained compute by the kernels that are fastest here."""
    spec, recipe, given = context.spec, context.recipe, context.resources
    image_flops = 1e9 * forward_gflops(spec.system, image_size_px=context.image_size_px)
    work = fastest.Work(
        system=spec.system.model_dump(mode="json"),
        image_size_px=context.image_size_px,
        batch_size=math.ceil(recipe.batch_size / (given.workers * given.pieces)),
        precision=recipe.precision,
        device=context.device,
        image_flops=image_flops,
        num_images=num_steps * recipe.batch_size,
    )
    encoder: Any = model.encoder
    fastest.choose(
        encoder,
        work,
        record=JobPaths(context.folder).kernels,
        cache=CachePaths(context.cache_dir),
    )


def pretrained_weights(context: JobContext) -> dict[str, Tensor]:
    """Return the weights of the input with role `checkpoint`, checked against its digest."""
    result, folder = context.inputs["checkpoint"]
    return read_tensors(folder / WEIGHTS, sha256=pretrained_digest(result))


def pretrained_digest(result: JobResult) -> str:
    """Return the SHA-256 of the weights of a training job."""
    try:
        return result.files[WEIGHTS]
    except KeyError:
        raise CheckpointError(f"job {result.job_id} left no weights behind") from None


def write_weights(context: JobContext, model: nn.Module, *, head: bool = True) -> dict[str, str]:
    """Write the model's weights into the job folder; return file name and digest.

    Without `head` the last linear layer is left out. Of a group the first worker writes.
    """
    if not group.current().leads:
        return {}
    state = {
        name: tensor
        for name, tensor in model.state_dict().items()
        if head or not name.startswith("head.")
    }
    return {WEIGHTS: write_tensors(context.folder / WEIGHTS, state)}


def write_hits(context: JobContext, hits: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Write hits (bool), and what else is known of each image, into the job folder.

    Returns file name and digest.

    Of a group the first worker writes.
    """
    if not group.current().leads:
        return {}

    def write(path: Path) -> None:
        with path.open("wb") as file:  # savez would add an ending to a path
            np.savez_compressed(file, **dict(hits))  # type: ignore[arg-type]

    return {HITS: replace_file(context.folder / HITS, write)}


def floor(
    train_labels_N: np.ndarray, labels_M: np.ndarray, *, num_classes: int
) -> dict[str, Scalar | None]:
    """Return what the most frequent class of training gets right, to be kept with a result.

    Of equally frequent classes the first counts.
    """
    most = np.bincount(train_labels_N, minlength=num_classes).argmax()
    return {"majority_top1": float((labels_M == most).mean())}


def answers(
    context: JobContext, labels_N: np.ndarray, classes: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Return the arrays that say which class each test image is of, and which it was taken for.

    `classes` holds those of each metric, the last axis being the images. Reports make tables of
    classes from these arrays, without the data.
    """
    kind = np.int16 if context.num_classes <= np.iinfo(np.int16).max else np.int32
    found = {LABELS: labels_N, **{f"{CLASSES}/{name}": each for name, each in classes.items()}}
    return {name: array.astype(kind) for name, array in found.items()}


def top1(name: str, hits_N: np.ndarray) -> Metric:
    """Return the share of hits as a metric."""
    return Metric(name=name, value=float(hits_N.mean()), n=len(hits_N))


@dataclass(frozen=True)
class Spent:
    """What another process spent for a job."""

    num_images: int
    """Images pushed through the system."""
    core_s: float
    """CPU seconds over all cores; not counted where a device does the work."""
    peak_memory_gib: float
    """Peak resident (CPU) or allocated (device) memory, in GiB."""


class Meter:
    """Measures what a job costs, from when it is made."""

    def __init__(self, context: JobContext) -> None:
        device(context)  # reported now where there is none, before any work
        self._context = context
        self._started_s = time.perf_counter()
        self._core_started_s = time.process_time()
        devices.restart_peak(context.device)

    def result(
        self,
        *,
        metrics: Mapping[str, Metric],
        values: Mapping[str, Scalar | None] | None = None,
        files: Mapping[str, str] | None = None,
        training: Training | None = None,
        num_evaluated: int = 0,
        evaluated_per_s: float | None = None,
        others: Sequence[Spent] = (),
    ) -> JobResult:
        """Return the job's result with its cost so far and the environment.

        `others` is what other processes spent for the job, while this one waited. Workers of a
        group ask together; what each spent is added up.
        """
        from bench import environment

        context = self._context
        wall_s = time.perf_counter() - self._started_s
        core_s = time.process_time() - self._core_started_s
        trained, rate = 0, evaluated_per_s
        if training is not None:
            trained, rate = training.num_images, training.num_images / training.stepping_s
            wall_s += training.earlier_wall_s
            core_s += training.earlier_core_s
        kind: Any = context.device
        workers = group.current().everyone((core_s, devices.peak_gib(context.device)))
        core_s = sum(spent_s for spent_s, _ in workers)
        cost = Cost(
            device=environment.device_name(context.device),
            device_kind=kind,
            wall_s=wall_s,
            finished_unix_s=time.time(),
            worker=f"{socket.gethostname()}:{os.getpid()}",
            core_s=(
                core_s + sum(other.core_s for other in others)
                if context.device == "cpu"
                else wall_s * num_devices(context)
            ),
            examples=trained + num_evaluated + sum(other.num_images for other in others),
            images_per_s=rate,
            peak_memory_gib=max(
                [*(gib for _, gib in workers), *(other.peak_memory_gib for other in others)]
            ),
        )
        return JobResult(
            job_id=context.spec.job_id,
            status="done",
            metrics=dict(metrics),
            values=dict(values or {}),
            files=dict(files or {}),
            cost=cost,
            environment={
                **environment.describe(context.device),
                **_decoding(context),
                **_division(training),
                **_kernels(context),
            },
            attempt=context.attempt,
        )


def _decoding(context: JobContext) -> dict[str, str]:
    """Return how many threads decode images, of a job that reads any."""
    return {} if context.dataset is None else {"decoders": str(decoders.num_threads())}


def _division(training: Training | None) -> dict[str, str]:
    """Return how batches were divided, which may move the last bits."""
    if training is None:
        return {}
    return {"pieces": str(training.pieces), "workers": str(group.current().world)}


def _kernels(context: JobContext) -> dict[str, str]:
    """Return the kernels that a long job chose; others compute as their device does by default."""
    chosen = fastest.recorded(JobPaths(context.folder).kernels)
    return {} if chosen is None else {"kernels": str(chosen)}
