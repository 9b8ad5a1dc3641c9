"""Pre-trained weights in place of pre-training: fetched or read, verified, and kept as our own.

Source: the files that the authors released, `.npz` of arXiv:2010.11929 and arXiv:2106.10270 (ViT,
hybrid) and of arXiv:1912.11370 (BiT), and timm's; each card in `baselines/` names its own. The
digest of the file is checked (`bench/digests.py`) and kept in the result, and nothing in the file
is executed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from baselines.contents import Contents, contents
from bench import digests, models
from bench.errors import CheckpointError
from bench.files import file_sha256
from bench.jobs import JobContext, _work
from bench.kinds.weights import UNTRAINED
from bench.models.fetch import fetch
from bench.models.weights import read_arrays
from bench.paths import CachePaths
from bench.specs import JobResult, WeightsSource


def run(context: JobContext) -> JobResult:
    """Return the file of encoder, layer before the head and classifier, as the source has them.

    Weights called `untrained` are drawn from the job's seed, and are an encoder alone.

    Raises UserError where the weights are not public, CheckpointError where they cannot be
    fetched, have another digest than was stated anywhere, are of another system or of another
    number of classes; of a file of the user's own, where it is no longer the one that was planned.
    """
    meter = _work.Meter(context)
    if context.spec.params.get("weights") == UNTRAINED:
        model = _work.build(context, pretraining_head=False)
        files = _work.write_weights(context, model, head=False)
        return meter.result(metrics={}, values={"weights": UNTRAINED}, files=files)
    name, path, sha256 = _own_file(context) if context.spec.weights_file else _public(context)
    shapes = {name: tuple(array.shape) for name, array in read_arrays(path).items()}
    found = contents(context.spec.system, shapes)
    classes = context.spec.num_classes
    if found.num_classes not in (None, classes):
        raise CheckpointError(
            f'weights "{name}" have a classifier of {found.num_classes:,} classes, and '
            f"{classes or 0:,} were planned",
            hint="Correct the card of the weights, and plan the suite again",
        )
    model = _load(context, path, found)
    return meter.result(
        metrics={},
        values={
            "weights": name,
            digests.VALUE: sha256,
            "layout": found.layout,
            "num_classes": found.num_classes,
        },
        files=_work.write_weights(context, model, head=found.num_classes is not None),
    )


class _Loaded(NamedTuple):
    """A weights file that is what was planned."""

    name: str
    path: Path
    sha256: str


def _public(context: JobContext) -> _Loaded:
    params: Mapping[str, Any] = context.spec.params
    source = WeightsSource(
        name=params["weights"],
        url=params["url"],
        sha256=params["sha256"],
        licence="",
    )
    path, sha256 = fetch(source, shared=CachePaths(context.cache_dir))
    return _Loaded(source.name, path, sha256)


def _own_file(context: JobContext) -> _Loaded:
    path, planned = Path(context.file), context.spec.weights_file
    if not context.file or not path.is_file():
        raise CheckpointError(
            f"{path}: there is no such weights file on this machine",
            hint="Put it back, where every machine of the run sees it, and run the suite again",
        )
    sha256 = file_sha256(path)
    if sha256 != planned:
        raise CheckpointError(
            f"{path} is no longer the file that was planned: SHA-256 {sha256}, planned {planned}",
            hint="Run the suite again, which plans the file that is there now",
        )
    return _Loaded(path.name, path, sha256)


def _load(context: JobContext, path: Path, found: Contents) -> models.Classifier:
    """Return the system with the weights of the file, on the CPU.

    Position embeddings stay on their own grid, and are interpolated once, by whoever uses them.
    """
    spec, has_head = context.spec, found.num_classes is not None
    extra = {}
    if found.representation_dim:
        extra["representation_dim"] = found.representation_dim
    model = models.build(
        spec.system,
        num_classes=found.num_classes or spec.num_classes or 1,
        image_size_px=found.image_size_px or context.image_size_px,
        **extra,  # type: ignore[arg-type]
    )
    models.load_weights(model, path, head="load" if has_head else "drop")
    return model
