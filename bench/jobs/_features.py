"""Frozen features, computed once for each checkpoint, split and transform, and kept on disk.

Their digest covers all that the features depend on. What does not agree with its SHA-256 is
computed again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from torch import Tensor

from bench import models, training
from bench.data import scoring, transforms
from bench.data.packs.read import Splits
from bench.errors import CheckpointError, JobError
from bench.files import clear_stale, file_sha256
from bench.jobs import JobContext, _work
from bench.paths import CachePaths, FeaturePaths
from bench.specs import content_id
from bench.training import group, replace_file

_VERSION = 1
"""Bumped when features of the same digest would differ."""

_log = logging.getLogger(__name__)


@dataclass
class Extracted:
    """Features of a split, and the forward passes that they took."""

    z_ND: np.ndarray
    """Representation of every image of the split, float32: mapped from its file."""
    num_computed: int
    """Images pushed through the model now; 0 when the features were on disk."""
    computing_s: float
    """Seconds that took."""


def features(
    context: JobContext, data: Splits, split: str, *, rows_N: np.ndarray | None = None
) -> Extracted:
    """Return the features of a split under the job's checkpoint and evaluation transform.

    With `rows_N` they are of these rows alone, and no other image is looked at. `data` is what
    `_work.dataset` gave.
    """
    digest = content_id(_identity(context, split, rows_N))
    paths = CachePaths(context.cache_dir).features(digest)
    workers = group.current()
    num_rows = len(data.split(split).labels_N if rows_N is None else rows_N)
    paths.folder.mkdir(parents=True, exist_ok=True)
    # One worker of a group holds the lock and writes, for all of them.
    with FileLock(paths.lock) if workers.leads else nullcontext():
        known = workers.leads and _known(paths, num_rows=num_rows)
        if workers.agreed(known):
            return Extracted(_mapped(paths), 0, 0.0)
        started_s = time.perf_counter()
        batches = _computed(context, data, split, rows_N)
        if workers.leads:
            _write(paths, batches, num_rows=num_rows)
        else:
            deque(batches, maxlen=0)
        workers.agreed(True)  # not before the file is there
        computing_s = time.perf_counter() - started_s
    return Extracted(_mapped(paths), num_rows, computing_s)


def _known(paths: FeaturePaths, *, num_rows: int) -> bool:
    """Return whether sound features are on disk; what a writer that died left goes."""
    clear_stale(paths.folder)
    return _read(paths, num_rows=num_rows) is not None


@dataclass
class Predicted:
    """Answers of a classifier on a split, and the forward passes that they took."""

    classes_N: np.ndarray
    """Class of the highest score of every image, int64."""
    num_computed: int
    """Images pushed through the model."""
    computing_s: float
    """Seconds that took."""


def predict(
    context: JobContext,
    model: models.Classifier,
    data: Splits,
    split: str,
    classes: np.ndarray | None,
) -> Predicted:
    """Return the model's answers on a split, among `classes` where not all may be answered.

    Scores are dropped batch after batch: of ImageNet-C they would take 15 GB. Raises JobError
    where one is not finite.
    """
    started_s = time.perf_counter()
    parts = [scoring.predict(rows, classes) for rows in scores(context, model, data, split)]
    classes_N = np.concatenate(parts)
    return Predicted(classes_N, len(classes_N), time.perf_counter() - started_s)


def scores(
    context: JobContext, model: models.Classifier, data: Splits, split: str
) -> Iterator[np.ndarray]:
    """Yield the scores of a split's images, float32 (B, K), batch after batch in order.

    Raises JobError where one is not finite.
    """
    transform = transforms.preset(context.protocol.eval_transform, size_px=context.image_size_px)
    for logits_BK in training.scores(model, data.split(split), transform):
        _check_finite(logits_BK, context, what="scores")
        yield logits_BK


def work(*extracted: Extracted) -> dict[str, Any]:
    """Return what `Meter.result` records of features: images pushed through, and their rate."""
    num_computed = sum(one.num_computed for one in extracted)
    computing_s = sum(one.computing_s for one in extracted)
    return {
        "num_evaluated": num_computed,
        "evaluated_per_s": num_computed / computing_s if num_computed else None,
    }


def _identity(context: JobContext, split: str, rows_N: np.ndarray | None) -> dict[str, object]:
    spec = context.spec
    result, _ = context.inputs["checkpoint"]
    limit = context.data.num_evaluated
    return {
        "version": _VERSION,
        "weights": _work.pretrained_digest(result),
        "system": spec.system.model_dump(mode="json"),
        "data": context.data.digest,
        "split": split,
        "transform": context.protocol.eval_transform,
        "protocol_version": context.protocol.version,
        "image_size_px": context.image_size_px,
        "num_threads": spec.num_threads,
        "device": context.device,
        **({} if limit is None else {"num_evaluated": limit}),
        **({} if rows_N is None else {"rows": hashlib.sha256(rows_N.tobytes()).hexdigest()}),
    }


def _computed(
    context: JobContext, data: Splits, split: str, rows_N: np.ndarray | None
) -> Iterator[np.ndarray]:
    protocol = context.protocol
    batches = training.extract_features(
        frozen_model(context),
        data.split(split),
        transforms.preset(protocol.eval_transform, size_px=protocol.image_size_px),
        rows_N=rows_N,
    )
    for z_BD in batches:
        _check_finite(z_BD, context, what="features")
        yield z_BD


def _check_finite(rows_NF: np.ndarray, context: JobContext, *, what: str) -> None:
    num, bad = len(rows_NF), int((~np.isfinite(rows_NF).all(axis=1)).sum())
    if bad:
        raise JobError(
            f"{bad} of {num} images of {context.card.name} have {what} that are not finite",
            hint="The checkpoint is of a run that diverged, or the weights are damaged",
        )


def frozen_model(context: JobContext, *, classifier: bool = False) -> models.Classifier:
    """Return the model of the job's checkpoint, as it was trained.

    `features` gives the representation up to the last linear layer. That keeps the tanh layer of
    the pre-training head where the checkpoint has one, as big_vision does (`pre_logits`);
    fine-tuning drops it. With `classifier` the checkpoint must have one, of the planned classes:
    CheckpointError otherwise. Without it, `head` is of no use.
    """
    weights = _work.pretrained_weights(context)
    if classifier:
        _check_classifier(context, weights)
    return frozen(context, weights, classifier=classifier)


def frozen(
    context: JobContext, weights: Mapping[str, Tensor], *, classifier: bool = False
) -> models.Classifier:
    """Return the model of these weights, with their classifier where it is asked for."""
    spec = context.spec
    representation, extra = weights.get("pre_logits.weight"), {}
    if representation is not None:
        extra["representation_dim"] = len(representation)
    model = models.build(
        spec.system,
        num_classes=context.num_classes,
        image_size_px=context.image_size_px,
        **extra,  # type: ignore[arg-type]
    )
    models.load_encoder(model, weights)
    wanted = ("pre_logits.", "head.") if classifier else ("pre_logits.",)
    rest = {name: value for name, value in weights.items() if name.startswith(wanted)}
    try:
        missing = model.load_state_dict(rest, strict=False).missing_keys
    except RuntimeError as error:
        raise CheckpointError(f"the weights do not fit the model ({error})") from error
    lost = [name for name in missing if name.startswith(wanted)]
    if lost:
        raise CheckpointError(f"the weights lack {lost[0]}")
    return model.to(_work.device(context))


def _check_classifier(context: JobContext, weights: Mapping[str, Tensor]) -> None:
    planned = context.num_classes
    if "head.weight" not in weights:
        raise CheckpointError(
            "the weights have no classifier to evaluate",
            hint="Evaluate weights that were fine-tuned, or fine-tune these first",
        )
    found = len(weights["head.weight"])
    if found != planned:
        raise CheckpointError(
            f"the classifier has {found:,} classes and {context.card.name} {planned:,}",
            hint="Evaluate it on a data set of its own classes",
        )


def _read(paths: FeaturePaths, *, num_rows: int) -> np.ndarray | None:
    try:
        sidecar = json.loads(paths.sidecar.read_bytes())
        if file_sha256(paths.array) != sidecar["sha256"]:
            raise ValueError("its SHA-256 differs")
        z_ND = _mapped(paths)
        if z_ND.ndim != 2 or len(z_ND) != num_rows:
            raise ValueError(f"its shape is {z_ND.shape}")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        _log.warning(
            "features in %s are damaged (%s); they are computed again", paths.folder, error
        )
        return None
    return z_ND


def _mapped(paths: FeaturePaths) -> np.ndarray:
    z_ND: np.ndarray = np.load(paths.array, mmap_mode="r", allow_pickle=False)
    return z_ND


def _write(paths: FeaturePaths, batches: Iterator[np.ndarray], *, num_rows: int) -> None:
    """Write features as they come: no more than a batch of them is ever in memory."""
    first_BD = next(batches)
    shape = num_rows, first_BD.shape[1]

    def write(path: Path) -> None:
        header = {"descr": first_BD.dtype.str, "fortran_order": False, "shape": shape}
        with path.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            for z_BD in chain((first_BD,), batches):
                file.write(np.ascontiguousarray(z_BD).data)

    sha256 = replace_file(paths.array, write, size=num_rows * first_BD[0].nbytes)
    text = json.dumps({"sha256": sha256, "shape": shape})
    replace_file(paths.sidecar, lambda path: path.write_text(text, encoding="ascii"))
