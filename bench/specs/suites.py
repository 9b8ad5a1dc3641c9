"""Suites: what is asked. Each class is one kind of table in a suite file."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from bench.specs.cards import Recipe
from bench.specs.record import Args, Record

Scale = Literal["smoke", "public", "full"]
"""`smoke`: minutes on a CPU, micro systems; `public`: one GPU, public weights and data;
`full`: the paper's own."""


def _listed(value: Any) -> Any:
    """Return one scale as a list of one."""
    return (value,) if isinstance(value, str) else value


Scales = Annotated[tuple[Scale, ...], BeforeValidator(_listed)]
"""One scale or a list of them, as a block names those that it belongs to; empty: every scale."""


class ScaleBlock(Record):
    """What a suite changes at one of its scales: `[scales.smoke]`."""

    seeds: tuple[int, ...] = ()
    """Seeds in place of the suite's."""
    num_threads: int | None = Field(default=None, gt=0, le=256)
    """CPU threads of each job in place of the suite's."""
    gpus: float | None = Field(default=None, ge=0)
    """GPUs of each training job in place of the suite's."""
    tpus: int | None = Field(default=None, ge=0)
    """TPU chips of each training job in place of the suite's."""
    expected: str = ""
    """What should come out, in words or numbers, with its source."""
    cost: str = ""
    """What it takes: time and devices."""


class SystemBlock(Record):
    """A system of the suite's own: another one with some arguments changed."""

    like: str
    """Name of a system card, or of an earlier system of the suite's own."""
    title: str = ""
    """Name as printed; the suite's name for it where empty."""
    args: Args = {}
    """Arguments of the builder that differ."""


class WeightsBlock(Record):
    """Start from public weights in place of pre-training."""

    systems: tuple[str, ...] = Field(min_length=1)
    """Names of system cards."""
    weights: str
    """Name of the weights on the card, e.g. `in21k`."""
    scale: Scales = ()
    """The scales that this block belongs to; empty: every scale."""


class PretrainBlock(Record):
    """Pre-train every system on every size of the upstream data set, for every suite seed."""

    scale: Scales = ()
    """The scales that this block belongs to; empty: every scale."""
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

    kind: Literal["finetune", "fewshot", "probe", "knn", "evaluate"]
    """Job kind."""
    scale: Scales = ()
    """The scales that this block belongs to; empty: every scale."""
    systems: tuple[str, ...] = ()
    """Only these systems of the suite; empty: all of them."""
    datasets: tuple[str, ...] = Field(min_length=1)
    """Names of downstream data set cards."""
    protocol: str
    """Name of a protocol (input size and preprocessing)."""
    recipe: str | None = None
    """fine-tuning: name of a recipe."""
    learning_rates: tuple[float, ...] = ()
    """fine-tuning: candidates, chosen on the held-out part of the training split."""
    search: Literal["grid", "asha"] = "grid"
    """fine-tuning: `grid` trains every candidate to its end, as the paper; `asha` stops bad ones
    early in one Ray Tune job, and marks its numbers off-protocol."""
    best_of: str = ""
    """fine-tuning: blocks of one name are alternatives; the better on validation is reported."""
    held_out: float | None = Field(default=None, gt=0, lt=1)
    """fine-tuning, probe: share of train held out to choose on; None: the recipe's, or a tenth."""
    shots: tuple[int, ...] = ()
    """few-shot: training images per class, nested."""
    draws: int = Field(default=3, gt=0)
    """few-shot: number of random draws of the shots."""
    l2: float = Field(default=1024.0, gt=0)
    """few-shot: regularization of the least squares (big_vision's 2^10)."""
    l2s: tuple[float, ...] = ()
    """probe: candidates of L2 regularization, chosen on the held-out part of train."""
    neighbours: tuple[int, ...] = ()
    """knn: numbers of neighbours."""
    of: str = ""
    """evaluate: data set that an earlier fine-tuning block trained the classifier on; empty: the
    classifier that comes with the weights."""

    @model_validator(mode="after")
    def _fields_of_the_kind(self) -> TransferBlock:
        if self.kind == "finetune" and not self.recipe:
            raise ValueError("fine-tuning needs a recipe")
        if self.kind == "fewshot" and not self.shots:
            raise ValueError("few-shot needs shots")
        if self.kind == "probe" and not self.l2s:
            raise ValueError("a probe needs l2s")
        if self.kind == "knn" and not self.neighbours:
            raise ValueError("knn needs neighbours")
        if any(not 0 < rate < 100 for rate in self.learning_rates):
            raise ValueError("learning_rates must lie between 0 and 100")
        if any(shot < 1 for shot in self.shots):
            raise ValueError("shots must be at least 1")
        return self


class ProfileBlock(Record):
    """Measure speed and memory of every system at every input size; nothing is learned."""

    systems: tuple[str, ...] = Field(min_length=1)
    """Names of system cards."""
    scale: Scales = ()
    """The scales that this block belongs to; empty: every scale."""
    image_sizes_px: tuple[int, ...] = Field(min_length=1)
    """Sides of the square input, in pixels."""
    batch_sizes: tuple[int, ...] = Field(min_length=1)
    """Images pushed through at once."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of forward and backward; weights stay float32."""
    steps: int = Field(default=5, gt=0, le=1000)
    """Batches in one timing."""
    repeats: int = Field(default=5, gt=0, le=100)
    """Timings of each batch size, after a warm-up; their median is told."""
    memory_gib: float | None = Field(default=None, gt=0)
    """Memory that the largest batch must fit; None: all that the device has (on a CPU the largest
    batch is then not sought)."""

    @model_validator(mode="after")
    def _sizes(self) -> ProfileBlock:
        for key, sizes, most in (
            ("image_sizes_px", self.image_sizes_px, 4096),
            ("batch_sizes", self.batch_sizes, 16_384),
        ):
            if len(set(sizes)) != len(sizes):
                raise ValueError(f"{key} must be distinct")
            if any(not 1 <= size <= most for size in sizes):
                raise ValueError(f"{key} must lie between 1 and {most:,}")
        return self


class Pair(Record):
    """Systems that the suite sets against each other: the first against each of the others."""

    scale: Scales = ()
    """The scales that this pair belongs to; empty: every scale."""
    systems: tuple[str, ...] = Field(min_length=2)
    """Names of two or more systems."""
    match: Literal["exaflops", "params", "forward_gflops", "none"] = "exaflops"
    """What they are matched on: pre-training compute, parameters, the work of one image, nothing."""
    max_ratio: float = Field(default=1.15, ge=1)
    """Largest allowed ratio of what they are matched on, between two of them."""

    @property
    def matched_on(self) -> str:
        """What the systems are matched on, in words; empty for nothing."""
        return {
            "exaflops": "pre-training compute",
            "params": "parameters",
            "forward_gflops": "forward compute",
            "none": "",
        }[self.match]

    @model_validator(mode="before")
    @classmethod
    def _systems_are_listed(cls, data: Any) -> Any:
        """Show how it is written where systems stand under keys of their own."""
        if isinstance(data, dict) and "systems" not in data:
            named = [key for key, value in data.items() if key not in cls.model_fields]
            if len(named) > 1 and all(isinstance(data[key], str) for key in named):
                systems = ", ".join(f'"{data[key]}"' for key in named)
                keys = ", ".join(f'"{key}"' for key in named)
                raise ValueError(f"unknown keys {keys}: write systems = [{systems}]")
        return data

    @model_validator(mode="after")
    def _ratio_of_something(self) -> Pair:
        if len(set(self.systems)) != len(self.systems):
            raise ValueError("systems must be distinct")
        if self.match == "none" and self.max_ratio != type(self).model_fields["max_ratio"].default:
            raise ValueError('match = "none" uses no max_ratio')
        return self


class ReportBlock(Record):
    """What the report shows."""

    tables: tuple[str, ...] = ("comparison", "pairs", "cost")
    """Tables, by the name of their file in `reports/`."""
    figures: tuple[str, ...] = (
        "upstream_size", "pretrain_compute", "equal_compute", "learning_curves", "speed",
        "makespan",
    )  # fmt: skip
    """Figures, by the name of their file in `reports/`."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    """Confidence level of intervals."""


class DatasetBlock(Record):
    """A data set of the suite's own."""

    reader: str
    """Reader in `bench/data/readers/sources.py`, e.g. `image_folder` or `formula`."""
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
    """image files, parquet, huggingface: leave out images that do not decode; their number stands
    on the card."""
    stream: bool = False
    """shards: read them where they lie, for sets larger than the disk; for pre-training alone."""
    image_column: str = ""
    """parquet, huggingface: column of images, where its name is unusual."""
    label_column: str = ""
    """parquet, huggingface: column of labels, where its name is unusual."""
    revision: str = ""
    """huggingface: commit on the hub, where path is a name there."""
    config: str = ""
    """huggingface: configuration on the hub."""
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
    scale: Scale | None = None
    """Scale to run at: blocks of other scales are left out. None where the suite has one scale."""
    scales: dict[Scale, ScaleBlock] = {}
    """What each scale changes."""
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
    pretrain: tuple[PretrainBlock, ...] = ()
    """Pre-train blocks."""
    weights: tuple[WeightsBlock, ...] = ()
    """Public weights to start from."""
    transfer: tuple[TransferBlock, ...] = ()
    """Transfer blocks."""
    profile: tuple[ProfileBlock, ...] = ()
    """Profile blocks: they need neither weights nor data, and may stand alone."""
    pair: tuple[Pair, ...] = ()
    """Systems set against each other."""
    report: ReportBlock = ReportBlock()
    """What the report shows."""
    recipe: dict[str, Recipe] = {}
    """Recipes of the suite's own."""
    dataset: dict[str, DatasetBlock] = {}
    """Data sets of the suite's own."""
    system: dict[str, SystemBlock] = {}
    """Systems of the suite's own."""
    limit_steps: int | None = Field(default=None, gt=0)
    """Cap on the steps of every training job; results are marked as limited."""

    @property
    def label(self) -> str:
        """The suite's name, with its scale where it has several: what reports and runs carry."""
        return "-".join(filter(None, (self.name, self.scale)))

    def runs(
        self, block: PretrainBlock | WeightsBlock | TransferBlock | ProfileBlock | Pair
    ) -> bool:
        """Return whether a block belongs to the suite's scale."""
        return not block.scale or self.scale in block.scale

    def narrowed(self) -> SuiteSpec:
        """Return the suite with nothing but what runs at its scale."""
        return self.model_copy(
            update={
                "scales": {
                    name: block for name, block in self.scales.items() if name == self.scale
                },
                "pretrain": tuple(block for block in self.pretrain if self.runs(block)),
                "weights": tuple(block for block in self.weights if self.runs(block)),
                "transfer": tuple(block for block in self.transfer if self.runs(block)),
                "profile": tuple(block for block in self.profile if self.runs(block)),
                "pair": tuple(pair for pair in self.pair if self.runs(pair)),
            }
        )

    @model_validator(mode="after")
    def _starts_somewhere(self) -> SuiteSpec:
        if not (self.pretrain or self.weights or self.profile):
            raise ValueError(
                "a suite needs at least one [[pretrain]], [[weights]] or [[profile]] table"
            )
        if self.transfer and not (self.pretrain or self.weights):
            raise ValueError("a [[transfer]] needs a [[pretrain]] or [[weights]] table")
        if (self.pretrain or self.weights) and not self.transfer:
            raise ValueError("a suite that pre-trains needs at least one [[transfer]] table")
        return self

    @model_validator(mode="after")
    def _distinct_seeds(self) -> SuiteSpec:
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError("seeds must be distinct")
        if any(not 0 <= seed < 2**31 for seed in self.seeds):
            raise ValueError("seeds must lie in [0, 2^31)")
        return self
