"""Every record that crosses a boundary between two layers.

Records are frozen, forbid unknown fields and turn into canonical JSON. The identity of a job
(`job_id`) is the hash of its `JobSpec`, which therefore holds everything that changes the number
and nothing else: names, labels, paths, resources and the suite live in `PlannedJob`.

Glossary (one word per idea)
    suite       a file that states a claim and the comparison that tests it
    system      what is compared: an architecture at a size (ViT-B/16, R50x1); described by a card
    upstream    the data set of pre-training;  downstream: the data set of transfer
    protocol    how images are prepared, which splits are used and how a result is scored
    recipe      how weights are updated: steps, batch size, optimizer, learning rate, schedule
    job         one unit of work with one result;  attempt: one try at a job
    run         MLflow's word for its record of a job
    pair        systems compared at matched pre-training compute
    top-1       the share of test images whose highest-scored class is right, a fraction in [0, 1]
    exaFLOPs    10^18 floating-point operations; one multiply-add is 2; training is 3 x forward
    core-seconds  seconds of CPU time, summed over cores (device-seconds on an accelerator)
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

KIND_VERSIONS = {"pretrain": 1, "finetune": 1, "select": 1, "fewshot": 1}
"""Version of each job kind (the file in `bench/jobs/`); bumped when its result changes."""

Scalar = bool | int | float | str
Args = dict[str, Scalar | tuple[int, ...]]


class Record(BaseModel):
    """Base of all records: frozen, strict about unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


def canonical_json(record: BaseModel | dict[str, Any]) -> str:
    """Return the one JSON text of a record: sorted keys, no spaces, NaN refused."""
    data = record.model_dump(mode="json") if isinstance(record, BaseModel) else record
    return json.dumps(
        data, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False
    )


def content_id(record: BaseModel | dict[str, Any]) -> str:
    """Return the first 16 hex digits (64 bits) of the SHA-256 of the canonical JSON."""
    return hashlib.sha256(canonical_json(record).encode()).hexdigest()[:16]


# --- cards: what exists ---------------------------------------------------------------------


class WeightsSource(Record):
    """Where public pre-trained weights of a system can be had."""

    name: str
    """Short name, e.g. `in21k`."""
    url: str
    """Official address or `hf-hub:` name; empty when not public."""
    layout: Literal["vit-npz", "bit-npz", "timm", "none"]
    """File layout, which selects the reader."""
    upstream: str
    """Data set the weights were trained on."""
    licence: str
    """Licence of the weights as their owner states it."""
    sha256: str = ""
    """Digest of the file, where known."""
    note: str = ""
    """What a user must know, e.g. `not public`."""


class SystemCard(Record):
    """What is known of one system; the builder lives in `baselines/<family>.py`."""

    name: str
    """Identifier in suites and tables, e.g. `vit-b16`."""
    title: str
    """Name as printed in papers, e.g. `ViT-B/16`."""
    family: Literal["vit", "bit", "hybrid", "noisy-student"]
    """Family, which selects the module that builds it."""
    args: Args
    """Arguments of the family's builder; part of job identity."""
    image_size_px: int = Field(gt=0)
    """Default (pre-training) input side, in pixels."""
    patch_px: int = Field(gt=0)
    """Patch side of a ViT, or total stride of a CNN or hybrid, in pixels."""
    feature_dim: int = Field(gt=0)
    """Width D of the representation z_BD."""
    num_params: int = Field(gt=0)
    """Parameters without the classification head, at the default input size."""
    source: str
    """Paper, section or table the architecture is taken from."""
    follows: Literal["authors", "timm"] = "authors"
    """Whose implementation the numbers follow."""
    licence: str = "Apache-2.0"
    """Licence of the code the system is built from."""
    weights: tuple[WeightsSource, ...] = ()
    """Public weights, and those known not to be public."""
    version: int = 1
    """Bumped when the same arguments build another function; part of job identity."""
    note: str = ""
    """Anything else a user should know."""


class SplitCard(Record):
    """One split of a data set."""

    num_examples: int = Field(gt=0)
    """Number of images."""
    selector: str = ""
    """How the split is selected from the source, in words."""


class DatasetCard(Record):
    """What is known of one data set."""

    name: str
    """Identifier in suites and tables, e.g. `digits`."""
    title: str
    """Name as printed."""
    reader: str
    """Reader in `bench/data/sources.py` that yields the images."""
    args: Args = {}
    """Arguments of the reader (a path, generator sizes)."""
    num_classes: int = Field(gt=0)
    """Number of classes K; labels lie in [0, K)."""
    splits: dict[str, SplitCard]
    """Splits by name: `train` always, `test` where results are reported."""
    class_names: tuple[str, ...] = ()
    """Class names in label order, where known."""
    metric: str = "top1"
    """Metric that the field reports on it."""
    digest: str = ""
    """Digest of what the reader yields: of the generator's arguments, or of the files' contents."""
    version: int = 1
    """Bumped when the meaning of the card changes."""
    source: str = ""
    """Where it comes from (paper or owner)."""
    licence: str = ""
    """Licence or terms, as the owner states them."""
    how_to_get: str = ""
    """What a user does to have it."""


class Protocol(Record):
    """How images are prepared and how a result is scored; named and versioned."""

    name: str
    """Identifier, e.g. `vit-finetune`."""
    version: int = 1
    """Bumped when the meaning changes."""
    image_size_px: int = Field(gt=0, le=4096)
    """Side of the square input, in pixels."""
    train_transform: str
    """Preset in `bench/data/transforms.py` used for training images."""
    eval_transform: str
    """Preset used for evaluation images."""
    source: str = ""
    """Paper, section or table."""


class Recipe(Record):
    """How weights are updated. Exactly one of `steps`, `epochs`, `examples` sets the length."""

    steps: int | None = Field(default=None, gt=0)
    """Length in optimizer steps."""
    epochs: float | None = Field(default=None, gt=0)
    """Length in passes over the training split."""
    examples: int | None = Field(default=None, gt=0)
    """Length in training images seen."""
    batch_size: int = Field(gt=0)
    """Images per optimizer step."""
    optimizer: Literal["adam", "sgd"]
    """`adam`: beta (0.9, 0.999), decoupled weight decay on kernels; `sgd`: momentum 0.9."""
    base_lr: float | None = Field(default=None, gt=0)
    """Peak learning rate; None where a sweep chooses it."""
    schedule: Literal["cosine", "linear", "constant"]
    """Decay after warm-up, to zero at the last step."""
    warmup_steps: int = Field(default=0, ge=0)
    """Steps of linear warm-up from zero."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled weight decay, multiplied by the learning rate, on kernels only."""
    clip_norm: float | None = Field(default=None, gt=0)
    """Global gradient norm above which gradients are scaled down."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout rate after dense layers and position embeddings."""
    loss: Literal["softmax", "sigmoid"] = "softmax"
    """Cross-entropy over classes, or one binary cross-entropy per class."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of forward and backward; weights stay float32."""
    drop_steps: tuple[int, ...] = ()
    """Steps after each of which the learning rate is a tenth (BiT-HyperRule)."""
    mixup: float = Field(default=0.0, ge=0)
    """Alpha of mixup: images and losses of a batch are mixed with those of the reversed batch."""
    polyak: float | None = Field(default=None, gt=0, lt=1)
    """Factor of the running average of weights that is evaluated and kept; None: no average."""
    source: str = ""
    """Paper, table, or the tuning that led to it."""

    @model_validator(mode="after")
    def _one_length(self) -> Recipe:
        if sum(length is not None for length in (self.steps, self.epochs, self.examples)) != 1:
            raise ValueError("set exactly one of steps, epochs, examples")
        return self

    def num_steps(self, num_examples: int) -> int:
        """Return the number of optimizer steps on a training set of `num_examples` images."""
        if self.steps is not None:
            return self.steps
        seen = self.examples if self.examples is not None else self.epochs * num_examples  # type: ignore[operator]
        return max(1, round(seen / self.batch_size))


# --- suites: what is asked ------------------------------------------------------------------


class PretrainBlock(Record):
    """Pre-train every system on every size of the upstream data set, for every suite seed."""

    systems: tuple[str, ...] = Field(min_length=1)
    """Names of system cards."""
    upstream: str
    """Name of a data set card."""
    num_examples: tuple[int, ...] = ()
    """Sizes of nested random subsets of the upstream training split; empty: all of it."""
    recipe: str
    """Name in `baselines/recipes.toml` or in the suite's own `[recipe.NAME]`."""
    protocol: str
    """Name of a pre-training protocol."""
    epochs: tuple[float, ...] = ()
    """Passes over each size in `num_examples`, in place of the recipe's length."""

    @model_validator(mode="after")
    def _epochs_per_size(self) -> PretrainBlock:
        if self.epochs and len(self.epochs) != max(1, len(self.num_examples)):
            raise ValueError("epochs must have one entry for each entry of num_examples")
        return self


class TransferBlock(Record):
    """Carry every pre-trained system of the suite to each downstream data set."""

    kind: Literal["finetune", "fewshot"]
    """Job kind."""
    datasets: tuple[str, ...] = Field(min_length=1)
    """Names of downstream data set cards."""
    protocol: str
    """Name of a protocol (input size and preprocessing)."""
    recipe: str | None = None
    """fine-tuning: name of a recipe."""
    learning_rates: tuple[float, ...] = ()
    """fine-tuning: candidates, chosen on the held-out part of the training split."""
    held_out: float = Field(default=0.1, gt=0, lt=1)
    """fine-tuning: held-out share of the training split used to choose the learning rate."""
    shots: tuple[int, ...] = ()
    """few-shot: training images per class, nested."""
    draws: int = Field(default=3, gt=0)
    """few-shot: number of random draws of the shots."""
    l2: float = Field(default=1024.0, gt=0)
    """few-shot: regularization of the least squares (big_vision's 2^10)."""

    @model_validator(mode="after")
    def _fields_of_the_kind(self) -> TransferBlock:
        if self.kind == "finetune" and not (self.recipe and self.learning_rates):
            raise ValueError("fine-tuning needs recipe and learning_rates")
        if self.kind == "fewshot" and not self.shots:
            raise ValueError("few-shot needs shots")
        if any(not 0 < rate < 100 for rate in self.learning_rates):
            raise ValueError("learning_rates must lie between 0 and 100")
        if any(shot < 1 for shot in self.shots):
            raise ValueError("shots must be at least 1")
        return self


class Pair(Record):
    """Systems that the suite compares at matched pre-training compute."""

    vit: str
    """Name of the ViT."""
    bit: str
    """Name of the BiT ResNet."""
    hybrid: str | None = None
    """Name of the hybrid, if any."""
    max_ratio: float = Field(default=1.15, ge=1)
    """Largest allowed ratio of pre-training exaFLOPs between two members."""


class ReportBlock(Record):
    """What the report shows."""

    tables: tuple[str, ...] = ("comparison", "pairs", "cost")
    """Tables, by the name of their file in `reports/`."""
    figures: tuple[str, ...] = ("upstream_size", "pretrain_compute", "learning_curves")
    """Figures, by the name of their file in `reports/`."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    """Confidence level of intervals."""


class DatasetBlock(Record):
    """A data set of the suite's own."""

    reader: str
    """Reader in `bench/data/sources.py`, e.g. `image_folder` or `formula`."""
    path: str = ""
    """Folder or file; relative paths are taken from the suite file."""
    num_classes: int | None = Field(default=None, gt=1)
    """formula: number of classes."""
    images_per_class: int | None = Field(default=None, gt=0)
    """formula: images per class."""
    image_size_px: int | None = Field(default=None, gt=0, le=4096)
    """Side of the packed square images, in pixels."""
    test_share: float = Field(default=0.2, gt=0, lt=1)
    """image_folder: share of each class held back for test where no `test/` folder is there."""
    skip_damaged: bool = False
    """image_folder, csv: leave out files that do not decode; their number stands on the card."""
    seed: int = 0
    """Seed of the generator or of the split."""


class SuiteSpec(Record):
    """A suite file, validated."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    """Identifier: the MLflow experiment and the report folder carry it."""
    title: str
    """One line for tables and pages."""
    claim: str
    """The sentence that the comparison tests."""
    source: str = ""
    """Paper, section, table or figure the suite follows."""
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    """Seeds of pre-training and fine-tuning."""
    num_threads: int = Field(default=1, gt=0, le=256)
    """CPU threads of each job; part of job identity, since it changes the bits."""
    gpus: float = Field(default=0.0, ge=0)
    """GPUs (or a fraction of one) of each training job."""
    tpus: int = Field(default=0, ge=0)
    """TPU chips of each training job."""
    max_attempts: int = Field(default=3, gt=0, le=10)
    """Tries at a job before it counts as failed."""
    pretrain: tuple[PretrainBlock, ...] = Field(min_length=1)
    """Pre-train blocks."""
    transfer: tuple[TransferBlock, ...] = Field(min_length=1)
    """Transfer blocks."""
    pair: tuple[Pair, ...] = ()
    """Pairs compared at matched compute."""
    report: ReportBlock = ReportBlock()
    """What the report shows."""
    recipe: dict[str, Recipe] = {}
    """Recipes of the suite's own."""
    dataset: dict[str, DatasetBlock] = {}
    """Data sets of the suite's own."""
    limit_steps: int | None = Field(default=None, gt=0)
    """Cap on the steps of every training job; results are marked as limited."""

    @model_validator(mode="after")
    def _distinct_seeds(self) -> SuiteSpec:
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError("seeds must be distinct")
        if any(not 0 <= seed < 2**31 for seed in self.seeds):
            raise ValueError("seeds must lie in [0, 2^31)")
        return self


# --- jobs: what is done ---------------------------------------------------------------------


class SystemUse(Record):
    """The part of a system that changes a number."""

    family: str
    """Family of the builder."""
    args: Args
    """Arguments of the builder."""
    version: int
    """Version of the card."""
    follows: str = "authors"
    """Whose implementation is followed."""


class DataUse(Record):
    """The part of a data set that changes a number."""

    digest: str
    """Digest of the data set's content (or of what generates it)."""
    num_classes: int
    """Number of classes K."""
    train_split: str
    """Split trained on (or fitted, for few-shot)."""
    eval_split: str
    """Split evaluated on: `held-out` when choosing, `test` when reporting."""
    num_examples: int | None = None
    """Size of the random subset of the training split; None: all of it."""
    held_out: float | None = None
    """Share of the training split kept for choosing; None: train on all of it."""


class JobSpec(Record):
    """Everything that changes the number of a job, and nothing else."""

    kind: str
    """Job kind: the file in `bench/jobs/`."""
    kind_version: int
    """Version of the kind; bumped when its result changes."""
    system: SystemUse
    """What is trained or evaluated."""
    data: DataUse
    """What on."""
    protocol: Protocol
    """How images are prepared."""
    recipe: Recipe | None = None
    """How weights are updated; None where none are."""
    params: Args = {}
    """Arguments of the kind (shots, draws, l2)."""
    seed: int
    """Seed of initialization, data order and augmentation."""
    num_threads: int = 1
    """CPU threads; the same seed gives other bits at another number."""
    needs: dict[str, str] = {}
    """Job ids of inputs by role: `checkpoint`, `select`, `candidate:0`, ..."""

    @property
    def job_id(self) -> str:
        """The content address of this job: 16 hex digits.

        Fields at their default are left out, so that a new optional field changes no identity.
        """
        return content_id(self.model_dump(mode="json", exclude_defaults=True))


class Resources(Record):
    """What a job asks of the scheduler. Never part of its identity."""

    cpus: float = Field(default=1, ge=0)
    """CPU cores."""
    gpus: float = Field(default=0, ge=0)
    """GPUs, or a fraction of one."""
    tpus: int = Field(default=0, ge=0)
    """TPU chips."""


class Labels(Record):
    """Names by which people and tables know a job. Never part of its identity."""

    system: str
    """Name of the system card."""
    title: str
    """Printed name of the system."""
    family: str
    """Family of the system."""
    upstream: str
    """Name of the upstream data set."""
    upstream_examples: int
    """Upstream images in the training subset."""
    downstream: str = ""
    """Name of the downstream data set; empty for pre-training."""
    protocol: str = ""
    """Name of the protocol."""
    recipe: str = ""
    """Name of the recipe."""
    learning_rate: float | None = None
    """Learning rate of a sweep candidate."""
    stage: Literal["pretrain", "candidate", "select", "final", "fewshot"]
    """Role in the suite: only `final` and `fewshot` are reported."""


class PlannedJob(Record):
    """A job with what the suite knows about it."""

    job_id: str
    """Content address of `spec`."""
    spec: JobSpec
    """What changes the number."""
    name: str
    """Readable name, unique in the suite."""
    labels: Labels
    """Names for tables."""
    dataset: str
    """Name of the data set card the job reads."""
    resources: Resources
    """What it asks of the scheduler."""
    train_examples: int
    """Training images seen over the whole job (0 where nothing is trained)."""
    num_steps: int
    """Optimizer steps (0 where nothing is trained)."""
    exaflops: float
    """Closed form of the whole job's work, in 10^18 FLOPs."""
    pretrain_exaflops: float
    """Pre-training work behind this job's checkpoint (its own, for pre-training)."""
    num_params: int
    """Parameters of the system without its head."""


class JobGraph(Record):
    """A planned suite: jobs in an order in which inputs come before their users."""

    suite: SuiteSpec
    """The suite."""
    jobs: tuple[PlannedJob, ...]
    """Jobs, inputs first, each once."""
    datasets: dict[str, DatasetCard]
    """Cards of the data sets used, by name."""


# --- results: what came out -----------------------------------------------------------------


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
    """Values that `value` is the mean of."""

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
