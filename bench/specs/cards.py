"""Cards: what exists. Systems, weights, data sets, protocols and recipes."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from bench.specs.record import Args, Record


class WeightsSource(Record):
    """Where public pre-trained weights of a system can be had."""

    name: str
    """Short name, e.g. `in21k`."""
    url: str
    """Official address or `hf-hub:` name; empty when not public."""
    upstream: str
    """Data set the weights were trained on."""
    licence: str
    """Licence of the weights as their owner states it."""
    layout: str = ""
    """Name of a layout of the family, such as `npz`; empty: the names in the file tell."""
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
    family: str
    """Name of its family (`FamilyCard`), which knows its builder."""
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
    """Reader in `bench/data/readers/sources.py` that yields the images."""
    args: Args = {}
    """Arguments of the reader (a path, generator sizes)."""
    num_classes: int = Field(gt=0)
    """Number of classes K; labels lie in [0, K)."""
    splits: dict[str, SplitCard]
    """Splits by name: `train` to learn from, `test` where results are reported; evaluation sets
    have only the latter."""
    class_names: tuple[str, ...] = ()
    """Class names in label order, where known."""
    metric: str = "top1"
    """Metric that the field reports on it."""
    scoring: Literal["top1", "multi-label", "class-subset", "corruption"] = "top1"
    """How `evaluate` scores a classifier on it: `multi-label` counts any of an image's labels and
    leaves out images without one (ReaL); `class-subset` leaves out scores of other classes
    (ImageNet-A, -R); `corruption` averages over corruptions and severities (ImageNet-C)."""
    group: str = ""
    """Group that the benchmark averages it in (VTAB: natural, specialized, structured)."""
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

    @property
    def refusal(self) -> str:
        """Why nobody outside its owner's house can have the data; empty for all other sets."""
        return f"{self.title} is {self.licence}" if self.licence.startswith("not public") else ""


class Protocol(Record):
    """How images are prepared, how splits are made and how a result is scored; versioned."""

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
    splits: Literal["held-out", "vtab-1k"] = "held-out"
    """`held-out`: choose on a held-out share of train, then train on all of it. `vtab-1k`: choose
    on train800 and val200, then train on those 1,000 (arXiv:1910.04867)."""
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
    learning_rates: tuple[float, ...] = ()
    """Candidates of the sweep that chooses `base_lr`, where a suite names none."""
    held_out: float | None = Field(default=None, gt=0, lt=1)
    """Share of train held out to choose on, where a suite names none."""
    schedule: Literal["cosine", "linear", "constant"]
    """Decay after warm-up, to `end_lr` one step after the last."""
    end_lr: float = Field(default=0.0, ge=0)
    """linear: where the decay ends (1e-5 in google-research/vision_transformer)."""
    warmup_steps: int = Field(default=0, ge=0)
    """Steps of linear warm-up from zero."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled weight decay, multiplied by the learning rate, on kernels only."""
    coupled_decay: bool = False
    """sgd: weight decay is part of the gradient instead, as is usual with SGD."""
    clip_norm: float | None = Field(default=None, gt=0)
    """Global gradient norm above which gradients are scaled down."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout rate after dense layers and position embeddings."""
    loss: Literal["softmax", "sigmoid"] = "softmax"
    """Cross-entropy over classes, or one binary cross-entropy per class."""
    objective: Literal["classification", "masked-patch"] = "classification"
    """`masked-patch`: predict the mean colour of masked patches (arXiv:2010.11929, appendix
    B.1.2); labels are not used."""
    head_bias: float = 0.0
    """First value of the classifier's biases in pre-training (-10 with big_vision's sigmoid loss on
    ImageNet-21k)."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of forward and backward; weights stay float32."""
    drop_steps: tuple[int, ...] = ()
    """Steps after each of which the learning rate is a tenth (BiT-HyperRule)."""
    drop_shares: tuple[float, ...] = ()
    """The same as shares of all steps, for lengths in epochs (BiT's pre-training)."""
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

    @model_validator(mode="after")
    def _fields_of_a_kind(self) -> Recipe:
        if self.objective == "masked-patch" and (self.mixup or self.loss != "softmax"):
            raise ValueError("masked patch prediction has its own targets: no mixup, softmax only")
        if self.end_lr and self.schedule != "linear":
            raise ValueError("end_lr belongs to the linear schedule")
        if self.coupled_decay and self.optimizer != "sgd":
            raise ValueError("coupled_decay belongs to sgd")
        if any(not 0 < share < 1 for share in self.drop_shares):
            raise ValueError("drop_shares must lie between 0 and 1")
        return self

    def num_steps(self, num_examples: int) -> int:
        """Return the number of optimizer steps on a training set of `num_examples` images."""
        if self.steps is not None:
            return self.steps
        seen = self.examples if self.examples is not None else self.epochs * num_examples  # type: ignore[operator]
        return max(1, round(seen / self.batch_size))
