"""Public pre-trained weights in place of pre-training: fetched, verified, and kept as our own.

Source: the files that the authors released, `.npz` of arXiv:2010.11929 and arXiv:2106.10270 (ViT,
hybrid) and of arXiv:1912.11370 (BiT), and timm's; each card in `baselines/` names its own. The
digest of the file is checked (`bench/digests.py`) and kept in the result, and nothing in the file
is executed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

import baselines
from bench import digests, models
from bench.errors import CheckpointError
from bench.jobs import JobContext, _work
from bench.kinds.weights import UNTRAINED
from bench.models.fetch import fetch
from bench.models.weights import read_arrays
from bench.paths import CachePaths
from bench.specs import JobResult, WeightsSource

_HEADS = re.compile(r"(^|/)(head/kernel|head/conv2d/kernel)$|^(head|head\.fc|classifier)\.weight$")
"""The classifier's kernel, by the names of the authors' files, of timm's and of our own."""

_POSITIONS = re.compile(r"(^|/)pos_embedding$|(^|\.)pos_embed$")
"""The position embeddings."""

_PRE_LOGITS = re.compile(r"(^|/)pre_logits/kernel$|^pre_logits\.weight$")
"""The kernel of the layer before the classifier."""


class _Parts(NamedTuple):
    """What a weights file holds besides the encoder."""

    num_classes: int | None
    """Outputs of its classifier; None where it has none."""
    representation_dim: int
    """Width of its layer before the classifier; 0 where it has none."""
    image_size_px: int
    """Side of the images that its position embeddings were made for; the planned one where it has
    none. They are kept on their own grid, and interpolated once, by whoever uses them."""


def run(context: JobContext) -> JobResult:
    """Return the file of encoder, layer before the head and classifier, as the source has them.

    Weights called `untrained` are drawn from the job's seed, and are an encoder alone.

    Raises UserError where the weights are not public, CheckpointError where they cannot be
    fetched, have another digest than was stated anywhere, are of another system or of another
    number of classes.
    """
    meter = _work.Meter(context)
    if context.spec.params["weights"] == UNTRAINED:
        model = _work.build(context, pretraining_head=False)
        files = _work.write_weights(context, model, head=False)
        return meter.result(metrics={}, values={"weights": UNTRAINED}, files=files)
    source = _source(context)
    path, sha256 = fetch(source, shared=CachePaths(context.cache_dir))
    parts = _parts(context, read_arrays(path))
    classes = context.num_classes
    if parts.num_classes not in (None, classes):
        raise CheckpointError(
            f'weights "{source.name}" have a classifier of {parts.num_classes:,} classes, and '
            f"{classes:,} were planned",
            hint="Correct the card of the weights, and plan the suite again",
        )
    model = _load(context, path, parts)
    return meter.result(
        metrics={},
        values={
            "weights": source.name,
            digests.VALUE: sha256,
            "num_classes": parts.num_classes,
        },
        files=_work.write_weights(context, model, head=parts.num_classes is not None),
    )


def _source(context: JobContext) -> WeightsSource:
    params: Mapping[str, Any] = context.spec.params
    return WeightsSource(
        name=params["weights"],
        url=params["url"],
        sha256=params["sha256"],
        licence="",
    )


def _parts(context: JobContext, arrays: Mapping[str, Tensor]) -> _Parts:
    heads = [array for name, array in arrays.items() if _HEADS.search(name)]
    layers = [array for name, array in arrays.items() if _PRE_LOGITS.search(name)]
    # Kernels of the authors end in the outputs; torch's begin with them.
    last = any("/" in name for name in arrays)
    outputs = [int(array.shape[-1 if last else 0]) for array in (*heads, *layers)]
    return _Parts(
        num_classes=outputs[0] if heads else None,
        representation_dim=outputs[-1] if layers else 0,
        image_size_px=_image_size_px(context, arrays),
    )


def _image_size_px(context: JobContext, arrays: Mapping[str, Tensor]) -> int:
    system = context.spec.system
    planned_px = context.image_size_px
    positions = [array for name, array in arrays.items() if _POSITIONS.search(name)]
    if not positions or positions[0].ndim != 3:
        return planned_px
    num_class_tokens = int(system.args.get("pooling", "token") == "token")
    num_patches = positions[0].shape[1] - num_class_tokens
    side = math.isqrt(max(0, num_patches))
    # Where it is not a grid, the check of shapes says so.
    return side * baselines.sizes(system).stride_px if side**2 == num_patches > 0 else planned_px


def _load(context: JobContext, path: Path, parts: _Parts) -> models.Classifier:
    """Return the system with the weights of the file, on the CPU."""
    spec = context.spec
    extra = {}
    if parts.representation_dim:
        extra["representation_dim"] = parts.representation_dim
    model = models.build(
        spec.system,
        num_classes=context.num_classes,
        image_size_px=parts.image_size_px,
        **extra,  # type: ignore[arg-type]
    )
    models.load_weights(model, path, head="load" if parts.num_classes is not None else "drop")
    return model
