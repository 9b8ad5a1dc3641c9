"""Results: what came out of a job, and what was published."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, model_validator

from bench.specs.record import Record, Scalar


class Metric(Record):
    """One measured quantity, or the reason why it is absent."""

    name: str
    """Name in `bench/metrics.py`, qualified after a slash where needed (`fewshot_top1/5`)."""
    value: float | None
    """Value in the metric's unit; None when absent."""
    reason: str = ""
    """Why it is absent."""
    n: int = 0
    """Test images (or draws) behind the value."""
    samples: tuple[float, ...] = ()
    """Values that `value` is the mean of; of timings, the median."""

    @model_validator(mode="after")
    def _value_or_reason(self) -> Metric:
        if self.value is None and not self.reason:
            raise ValueError("an absent metric needs a reason")
        return self


class Cost(Record):
    """What a job took, measured. Times are never part of a result's identity."""

    device: str
    """Device model, e.g. the CPU's or GPU's name."""
    device_kind: Literal["cpu", "cuda", "tpu"]
    """Kind of device."""
    wall_s: float
    """Elapsed seconds, over all attempts that left a checkpoint behind."""
    finished_unix_s: float | None = None
    """When the last attempt ended, in seconds since 1970."""
    worker: str = ""
    """Host and process that did it."""
    core_s: float
    """CPU seconds over all cores; on an accelerator the elapsed seconds of every device that the
    job held, or of its share of one."""
    examples: int
    """Images pushed through the system, in training and evaluation."""
    images_per_s: float | None
    """Training images per second of stepping; evaluation images where nothing is trained."""
    peak_memory_gib: float
    """Peak resident (CPU) or allocated (device) memory, in GiB."""


class JobResult(Record):
    """What a job returns; written as `result.json` when it is done."""

    job_id: str
    """Content address of the job's spec."""
    status: Literal["done", "failed", "skipped"]
    """`failed` after the last attempt; `skipped` when an input failed."""
    metrics: dict[str, Metric] = {}
    """Metrics by name."""
    values: dict[str, Scalar | None] = {}
    """Other outcomes, e.g. the chosen learning rate."""
    files: dict[str, str] = {}
    """Files in the job folder that belong to the result: name -> SHA-256."""
    cost: Cost | None = None
    """What it took."""
    environment: dict[str, str] = {}
    """Machine, versions, git state."""
    attempt: int = 1
    """Which try this was."""
    error: str = ""
    """Why it failed or was skipped."""


def _words(value: Any) -> Any:
    """Return the words of a cell."""
    return value.split() if isinstance(value, str) else value


def _pairs(value: Any) -> Any:
    """Return the arguments of a cell such as `posemb=none depth=64`, numbers as numbers."""
    if not isinstance(value, str):
        return value
    return [(name, _scalar(text)) for name, _, text in (w.partition("=") for w in value.split())]


def _scalar(text: str) -> Scalar:
    try:
        found = json.loads(text)
    except ValueError:
        return text
    return found if isinstance(found, bool | int | float) else text


class PublishedResult(Record):
    """One row of `baselines/published.csv`: a number as its paper gives it, and what it means here.

    The first columns are the paper's own words, copied; nothing is read out of them but `value` and
    `std`. The others are identifiers of this project, by which the number meets what was measured.
    Where the paper is silent, or where there is no identifier, a column is empty: nothing is
    compared there.
    """

    paper: str
    """Paper or repository."""
    table: str
    """Table or figure."""
    system: str
    """System, in the paper's words."""
    pretrain_dataset: str = ""
    """Upstream data set, in the paper's words."""
    pretrain_epochs: str = ""
    """Epochs, in the paper's words."""
    resolution: str = ""
    """Input size, in the paper's words."""
    dataset: str = ""
    """Downstream data set, in the paper's words."""
    metric: str
    """Metric, in the paper's sense."""
    value: str
    """Value, with the paper's digits."""
    std: str = ""
    """Spread, with the paper's digits."""
    unit: str
    """Unit."""
    source: str
    """Where it was read."""
    confidence: Literal["verified", "recalled"]
    """`verified`, or `recalled`: not looked up."""
    note: str = ""
    """Remark."""
    system_id: str = ""
    """Card of the system."""
    system_args: Annotated[tuple[tuple[str, Scalar], ...], BeforeValidator(_pairs)] = ()
    """Builder arguments in which the system differs from its card: `posemb=none`."""
    upstream_id: str = ""
    """Card of the upstream data set."""
    dataset_id: str = ""
    """Card of the downstream data set, or name of a mean in `bench/facts.py`."""
    metric_ids: Annotated[tuple[str, ...], BeforeValidator(_words)] = ()
    """Our metrics that answer this one: `test_top1 eval_top1`."""
    pretraining_id: str = ""
    """Recipe of pre-training."""
    transfer_id: str = ""
    """Recipe of fine-tuning."""
    protocol_id: str = ""
    """Protocol of the transfer."""
    image_size_px: int | None = None
    """Side of the input in transfer, in pixels; it goes before that of the protocol."""
    epochs: Annotated[tuple[float, ...], BeforeValidator(_words)] = ()
    """Epochs of pre-training; several where the paper gives several: `7 14`."""
    is_public: bool = True
    """`no`: neither the weights nor the data of its pre-training were ever released."""
    pretraining_unprinted: Annotated[tuple[str, ...], BeforeValidator(_words)] = ()
    """Fields of the recipe of pre-training that the paper leaves open: what stands there is ours,
    or the released code's."""
    transfer_unprinted: Annotated[tuple[str, ...], BeforeValidator(_words)] = ()
    """Fields of the recipe of fine-tuning that the paper leaves open."""
    pretraining_tuned: Annotated[tuple[str, ...], BeforeValidator(_words)] = ()
    """Fields of the recipe of pre-training that the paper tuned for this number, and whose outcome
    it does not print: a run that has them at their default differs."""
    early_stopping: str = ""
    """By what the paper chose the step of pre-training that it reports, where it is not the last:
    `best validation accuracy`."""
