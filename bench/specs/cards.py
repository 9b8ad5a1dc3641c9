"""Cards: what exists. Systems, weights, data sets, protocols and recipes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from bench.specs.compared import UNRANKED, Compared, NotCompared
from bench.specs.record import Args, Record


class Training(Record):
    """One training that public weights went through."""

    dataset: str
    """Identifier of the data set's card."""
    image_size_px: int | None = None
    """Side of its images, in pixels; None: that of the system's card."""
    unlabelled: str = ""
    """Identifier of a data set whose images, without their labels, were learned from along with
    it."""


class WeightsSource(Record):
    """Where public pre-trained weights of a system can be obtained."""

    name: str
    """Short name, e.g. `in21k`."""
    url: str
    """Official address or `hf-hub:` name; empty when not public."""
    trained_on: tuple[Training, ...] = ()
    """What the weights were trained on, first to last; empty: not known."""
    release: Literal["the authors'", "AugReg's"] = "the authors'"
    """Whose release it is: AugReg (arXiv:2106.10270) trained the same systems by another recipe."""
    licence: str
    """Licence of the weights as their owner states it."""
    layout: str = ""
    """Name of a layout of the family, such as `npz`; empty: the names in the file tell."""
    sha256: str = ""
    """SHA-256 of the file, in hex, where its owner publishes it; part of the identity of the jobs
    that load it. Others are recorded on first use: `bench/digests.py`."""
    note: str = ""
    """What a user must know, e.g. `not public`."""


class SystemCard(Record):
    """What is known about one system; the builder lives in `baselines/<family>.py`."""

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
    num_params: int = Field(ge=0)
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
    """What is known about one data set."""

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
    squared_px: int | None = None
    """Side, in pixels, of the squares that its images were asked to be squashed to before any
    protocol sees them; None: they stay as they are."""
    whole: dict[str, Annotated[int, Field(gt=0)]] = {}
    """Images of each split of the published set where the files are a part of it, which serves
    rehearsals alone; empty: they are all of it."""
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

    def num_published(self, split: str) -> int:
        """Return the images of a split in the whole set, however many of them are here."""
        return self.whole.get(split) or self.splits[split].num_examples

    def count(self, split: str) -> str:
        """Return the images of a split in words: `50,000`, or `5,085 of 50,000`."""
        here = f"{self.splits[split].num_examples:,}"
        return f"{here} of {self.whole[split]:,}" if split in self.whole else here

    @property
    def part(self) -> str:
        """How much of the published set is here, in words; empty: all of it."""
        if not self.whole:
            return ""
        return ", ".join(f"{self.count(split)} {split}" for split in self.splits) + " images"


class Protocol(Record):
    """How images are prepared, how splits are made and how a result is scored; versioned."""

    name: Annotated[str, NotCompared("what the name stands for is compared")]
    """Identifier, e.g. `vit-finetune`."""
    version: Annotated[int, Compared("protocol version", UNRANKED, by_rule=True)] = 1
    """Bumped when the meaning changes."""
    image_size_px: Annotated[int, Field(gt=0, le=4096), Compared("image size", 60, by_rule=True)]
    """Side of the square input, in pixels."""
    train_transform: Annotated[str, Compared("preparation of training images", 80, by_rule=True)]
    """Preset in `bench/data/transforms.py` used for training images."""
    eval_transform: Annotated[str, Compared("preparation of test images", 70)]
    """Preset used for evaluation images."""
    splits: Annotated[Literal["held-out", "vtab-1k"], Compared("split rule", 100)] = "held-out"
    """`held-out`: choose on a held-out share of train, then train on all of it. `vtab-1k`: choose
    on train800 and val200, then train on those 1,000 (arXiv:1910.04867)."""
    fewshot_pool: Annotated[
        int | None,
        Field(gt=0),
        Compared("images that shots are drawn from", 125, by_rule=True),
    ] = None
    """Of a larger training split, few-shot takes the first so many images, in the order that they
    are stored in (`bench.data.splits.pool_rows`); None: all. Other kinds leave it alone."""
    source: Annotated[str, NotCompared("says where the protocol is taken from")] = ""
    """Paper, section or table."""


MAX_EPOCHS = 100_000
"""More passes over a data set are a slip of the hand."""

MAX_STEPS = 1_000_000_000
"""More steps are too."""

MAX_BATCH_SIZE = 1 << 20
"""And so are more images in a batch: the largest published ones have 65,536."""

MAX_RATE = 100
"""And such learning rates."""

_LENGTH = NotCompared("lengths are compared in steps, those of pre-training in epochs of its data")


Precision = Literal["float32", "tf32", "bfloat16", "float16"]
"""Arithmetic of a model, in every operation alike (`bench/training/arithmetic.py`): `float32` is
IEEE; `tf32` is that of NVIDIA GPUs; the others keep weights and sums in float32."""

GPU_ARITHMETIC = ("tf32", "float16")
"""Arithmetic that a CPU does not have, or a hundred times slower."""


class Recipe(Record):
    """How weights are updated. Exactly one of `steps`, `epochs`, `examples` sets the length."""

    steps: Annotated[int | None, Field(gt=0, le=MAX_STEPS), Compared("steps", 50, by_rule=True)] = (
        None
    )
    """Length in optimizer steps."""
    epochs: Annotated[float | None, Field(gt=0, le=MAX_EPOCHS), _LENGTH] = None
    """Length in passes over the training split."""
    examples: Annotated[int | None, Field(gt=0), _LENGTH] = None
    """Length in training images seen."""
    batch_size: Annotated[int, Field(gt=0, le=MAX_BATCH_SIZE), Compared("batch size", 150)]
    """Images per optimizer step."""
    optimizer: Annotated[Literal["adam", "sgd"], Compared("optimizer", 160)]
    """`adam`: beta (0.9, 0.999), decoupled weight decay on kernels; `sgd`: momentum 0.9."""
    base_lr: Annotated[
        float | None, Field(gt=0, lt=MAX_RATE), Compared("peak learning rate", 220, by_rule=True)
    ] = None
    """Peak learning rate; None where a sweep chooses it."""
    learning_rates: Annotated[
        tuple[Annotated[float, Field(gt=0, lt=MAX_RATE)], ...],
        Compared("learning rates", 110, by_rule=True),
    ] = ()
    """Candidates of the sweep that chooses `base_lr`, where a suite names none."""
    held_out: Annotated[float | None, Field(gt=0, lt=1), Compared("split", 90, by_rule=True)] = None
    """Share of train held out to choose on, where a suite names none."""
    schedule: Annotated[Literal["cosine", "linear", "constant"], Compared("schedule", 170)]
    """Decay after warm-up, to `end_lr` one step after the last."""
    end_lr: Annotated[float, Field(ge=0), Compared("end of the schedule", 201)] = 0.0
    """linear: where the decay ends (1e-5 in google-research/vision_transformer)."""
    warmup_steps: Annotated[int, Field(ge=0), Compared("warm-up steps", 203)] = 0
    """Steps of linear warm-up from zero."""
    weight_decay: Annotated[float, Field(ge=0), Compared("weight decay", 204)] = 0.0
    """Decoupled weight decay, multiplied by the learning rate, on kernels only."""
    coupled_decay: Annotated[bool, Compared("coupled weight decay", 202)] = False
    """sgd: weight decay is part of the gradient instead, as is usual with SGD."""
    clip_norm: Annotated[float | None, Field(gt=0), Compared("gradient clipping", 205)] = None
    """Global gradient norm above which gradients are scaled down."""
    dropout: Annotated[float, Field(ge=0, lt=1), Compared("dropout", 206)] = 0.0
    """Dropout rate after dense layers and position embeddings."""
    loss: Annotated[Literal["softmax", "sigmoid"], Compared("loss", 207)] = "softmax"
    """Cross-entropy over classes, or one binary cross-entropy per class."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1), Compared("label smoothing", 214)] = 0.0
    """softmax: share of each target that is spread evenly over all classes."""
    objective: Annotated[Literal["classification", "masked-patch"], Compared("objective", 211)] = (
        "classification"
    )
    """`masked-patch`: predict the mean colour of masked patches (arXiv:2010.11929, appendix
    B.1.2); labels are not used."""
    head_bias: Annotated[float, Compared("first biases of the classifier", 212)] = 0.0
    """First value of the classifier's biases in pre-training (-10 with big_vision's sigmoid loss on
    ImageNet-21k)."""
    precision: Annotated[Precision, Compared("arithmetic", 213)] = "float32"
    """Arithmetic of forward and backward; weights stay float32."""
    momentum_precision: Annotated[
        Literal["float32", "bfloat16"], Compared("momentum kept in", 215)
    ] = "float32"
    """What the momentum (adam: the mean of gradients) is rounded to where it is kept between steps;
    bfloat16 in the authors' released code."""
    deterministic: Annotated[bool, NotCompared("the same sums, added up in another order")] = True
    """Whether a GPU must give the same bits again; false: libraries choose what is fastest."""
    drop_steps: Annotated[tuple[int, ...], Compared("steps of decay", 208)] = ()
    """Steps after each of which the learning rate is a tenth (BiT-HyperRule)."""
    drop_shares: Annotated[tuple[float, ...], Compared("decay after shares of the steps", 209)] = ()
    """The same as shares of all steps, for lengths in epochs (BiT's pre-training)."""
    mixup: Annotated[float, Field(ge=0), Compared("mixup", 210)] = 0.0
    """Alpha of mixup: images and losses of a batch are mixed with those of the reversed batch."""
    polyak: Annotated[float | None, Field(gt=0, lt=1), Compared("Polyak averaging", 140)] = None
    """Factor of the running average of weights that is evaluated and kept; None: no average."""
    patience: Annotated[int | None, Field(gt=0, le=20), Compared("early stopping", 216)] = None
    """Fine-tuning: twentieths of the steps that may pass, since the last score on held-out images
    within a standard error of the best, before a candidate ends; the final run ends where the
    chosen candidate had that score. None: all steps are taken."""
    source: Annotated[str, NotCompared("says where the recipe is taken from")] = ""
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
        softmax = self.objective == "classification" and self.loss == "softmax"
        if self.label_smoothing and not softmax:
            raise ValueError("label_smoothing belongs to the softmax loss of classes")
        if self.end_lr and self.schedule != "linear":
            raise ValueError("end_lr belongs to the linear schedule")
        if self.coupled_decay and self.optimizer != "sgd":
            raise ValueError("coupled_decay belongs to sgd")
        if self.patience and self.objective == "masked-patch":
            raise ValueError("patience belongs to fine-tuning, which has held-out images")
        if any(not 0 < share < 1 for share in self.drop_shares):
            raise ValueError("drop_shares must lie between 0 and 1")
        return self

    def num_steps(self, num_examples: int) -> int:
        """Return the number of optimizer steps on a training set of `num_examples` images."""
        if self.steps is not None:
            return self.steps
        seen = self.examples if self.examples is not None else self.epochs * num_examples  # type: ignore[operator]
        return max(1, round(seen / self.batch_size))
