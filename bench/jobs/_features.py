"""Frozen features, computed once for each checkpoint, split and transform, and kept on disk.

    CACHE/features/<digest>/features.npy       z_ND, float32
    CACHE/features/<digest>/features.json      its SHA-256 and shape

The digest covers all that the features depend on. What does not agree with its SHA-256 is
computed again.
"""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock

from bench import models, training
from bench.checkpoint import file_sha256, replace_file
from bench.data import prepare, transforms
from bench.errors import CheckpointError, JobError
from bench.jobs import JobContext, _work
from bench.specs import content_id

_VERSION = 1
"""Bumped when features of the same digest would differ."""

_log = logging.getLogger(__name__)


@dataclass
class Extracted:
    """Features of a split, and the forward passes that they took."""

    z_ND: np.ndarray
    """Representation of every image of the split, float32."""
    num_computed: int
    """Images pushed through the model now; 0 when the features were on disk."""
    computing_s: float
    """Seconds that took."""


def features(context: JobContext, data: prepare.Packed, split: str) -> Extracted:
    """Return the features of a split under the job's checkpoint and evaluation transform."""
    digest = content_id(_identity(context, split))
    folder = context.cache_dir / "features" / digest
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock"):
        z_ND = _read(folder, num_rows=len(data.split(split).labels_N))
        if z_ND is not None:
            return Extracted(z_ND, 0, 0.0)
        started_s = time.perf_counter()
        z_ND = _compute(context, data, split)
        computing_s = time.perf_counter() - started_s
        _write(folder, z_ND)
    return Extracted(z_ND, len(z_ND), computing_s)


def _identity(context: JobContext, split: str) -> dict[str, object]:
    spec = context.spec
    result, _ = context.inputs["checkpoint"]
    return {
        "version": _VERSION,
        "weights": _work.pretrained_digest(result),
        "system": spec.system.model_dump(mode="json"),
        "data": spec.data.digest,
        "split": split,
        "transform": spec.protocol.eval_transform,
        "protocol_version": spec.protocol.version,
        "image_size_px": spec.protocol.image_size_px,
        "num_threads": spec.num_threads,
        "device": context.device,
    }


def _compute(context: JobContext, data: prepare.Packed, split: str) -> np.ndarray:
    protocol = context.spec.protocol
    z_ND = training.extract_features(
        _frozen_model(context),
        data.split(split),
        transforms.preset(protocol.eval_transform, size_px=protocol.image_size_px),
    )
    bad = int((~np.isfinite(z_ND).all(axis=1)).sum())
    if bad:
        raise JobError(
            f"{bad} of {len(z_ND)} images of {context.card.name} have features that are not finite",
            hint="The checkpoint is of a run that diverged, or the weights are damaged",
        )
    return z_ND


def _frozen_model(context: JobContext) -> models.Classifier:
    """Return the pre-trained model up to its last linear layer.

    That keeps the tanh layer of the pre-training head where there is one, as big_vision does
    (`pre_logits`); fine-tuning drops it.
    """
    model = _work.build(context, pretraining_head=True)
    weights = _work.pretrained_weights(context)
    models.load_encoder(model, weights)
    if model.pre_logits is not None:
        try:
            model.pre_logits.load_state_dict(
                {key: weights[f"pre_logits.{key}"] for key in ("weight", "bias")}
            )
        except (KeyError, RuntimeError) as error:
            raise CheckpointError(
                f"the weights lack the layer before the head ({error})"
            ) from error
    return model


def _read(folder: Path, *, num_rows: int) -> np.ndarray | None:
    path = folder / "features.npy"
    try:
        sidecar = json.loads((folder / "features.json").read_bytes())
        if file_sha256(path) != sidecar["sha256"]:
            raise ValueError("its SHA-256 differs")
        z_ND: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
        if z_ND.ndim != 2 or len(z_ND) != num_rows:
            raise ValueError(f"its shape is {z_ND.shape}")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        _log.warning("features in %s are damaged (%s); they are computed again", folder, error)
        return None
    return z_ND


def _write(folder: Path, z_ND: np.ndarray) -> None:
    def write(path: Path) -> None:
        with path.open("wb") as file:  # save would add an ending to a path
            np.save(file, z_ND)

    sha256 = replace_file(folder / "features.npy", write, size=z_ND.nbytes)
    text = json.dumps({"sha256": sha256, "shape": z_ND.shape})
    replace_file(folder / "features.json", lambda path: path.write_text(text, encoding="ascii"))
