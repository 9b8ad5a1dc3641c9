"""Results: what came out of a job, and what was published."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

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
    """CPU seconds over all cores, or device-seconds on an accelerator."""
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


class PublishedResult(Record):
    """One row of `baselines/published.csv`."""

    paper: str
    """Paper or repository."""
    table: str
    """Table or figure."""
    system: str
    """System, as printed."""
    pretrain_dataset: str
    """Upstream data set, as printed."""
    pretrain_epochs: str
    """Epochs, as printed."""
    resolution: str
    """Input size, as printed."""
    dataset: str
    """Downstream data set."""
    metric: str
    """Metric."""
    value: str
    """Value, as printed."""
    std: str
    """Spread, as printed."""
    unit: str
    """Unit."""
    source: str
    """Where it was read."""
    confidence: str
    """`verified`, or `recalled`: not looked up."""
    note: str
    """Remark."""
