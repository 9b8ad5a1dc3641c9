"""Jobs: what is done, its identity, and what the suite knows about it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from bench.specs.cards import Precision, Protocol, Recipe
from bench.specs.compared import Compared, NotCompared
from bench.specs.record import Args, Record, content_id

EVALUATION_BATCH = 256
"""Images of a batch that is scored. It is computed at once where memory allows: another number at
once may give another last bit."""


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

    digest: Annotated[str, NotCompared("a number is of a data set by its card, whose counts fit")]
    """Digest of the data set's content (or of what generates it)."""
    num_classes: Annotated[int, NotCompared("follows from the data set")]
    """Number of classes K."""
    train_split: Annotated[str, NotCompared("follows from the protocol's split rule")]
    """Split trained on (or fitted, for few-shot)."""
    eval_split: Annotated[str, NotCompared("what is reported is always measured on test")]
    """Split evaluated on: `held-out` when choosing, `test` when reporting."""
    num_examples: Annotated[int | None, NotCompared("compared as upstream images")] = None
    """Size of the random subset of the training split; None: all of it."""
    held_out: Annotated[float | None, NotCompared("compared as the recipe's split")] = None
    """Share of the training split kept for choosing; None: train on all of it."""
    num_evaluated: Annotated[int | None, NotCompared("a limited run says so as a whole")] = None
    """Most images of a split that are scored, or whose features are taken (`drawn_rows`); None: all
    of them, as in every run whose steps are not limited."""
    version: Annotated[int, NotCompared("follows from the data set")] = 1
    """Version of the card."""
    squared_px: Annotated[int | None, Compared("images kept as", 72, by_rule=True)] = None
    """Side of the squares that images were squashed to before the protocol; None: originals."""


DeviceKind = Literal["cpu", "cuda", "tpu"]
"""Kind of device that a job computes on."""


class JobSpec(Record):
    """What changes the number of a job, as far as a suite says it; names and resources do not.

    Versions of libraries and the model of the device may change the last bits: they are recorded
    with the result (`JobResult.environment`).
    """

    kind: str
    """Job kind: a card in `bench/kinds/`."""
    kind_version: int
    """Version of the kind; bumped when its result changes."""
    system: SystemUse
    """What is trained or evaluated."""
    data: DataUse | None = None
    """What on; None where no images are read."""
    protocol: Protocol | None = None
    """How images are prepared; None where none are."""
    recipe: Recipe | None = None
    """How weights are updated; None where none are."""
    params: Args = {}
    """Arguments of the kind (shots, draws, l2)."""
    seed: int
    """Seed of initialization, data order and augmentation."""
    num_threads: int = 1
    """CPU threads; the same seed gives other bits at another number."""
    device: DeviceKind = "cpu"
    """Kind of device; the same seed gives other numbers on another."""
    needs: dict[str, str] = {}
    """Job ids of inputs by role: `checkpoint`, `select`, `candidate:0`, ..."""

    @property
    def image_size_px(self) -> int | None:
        """Side of the square input, in pixels: the protocol's, or that of the kind's arguments."""
        found = self.protocol.image_size_px if self.protocol else self.params.get("image_size_px")
        return found if isinstance(found, int) else None

    @property
    def num_classes(self) -> int | None:
        """Classes of the classifier: those of the data, or of the kind's arguments."""
        found = self.data.num_classes if self.data else self.params.get("num_classes")
        return found if isinstance(found, int) else None

    @property
    def precision(self) -> Precision:
        """Arithmetic: that of the recipe, or of the kind's arguments, or float32."""
        found: Any = self.params.get("precision", "float32")
        return self.recipe.precision if self.recipe else found

    @property
    def weights_file(self) -> str:
        """SHA-256 of the weights file of the user's own that is loaded; empty for all others."""
        return str(self.params.get("file_sha256", ""))

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
    decoders: int = Field(default=0, ge=0)
    """CPU cores, out of `cpus`, that decode images and do nothing else; 0: the job's own threads
    decode too."""
    workers: int = Field(default=1, ge=1)
    """Processes that share every batch, each with these cores and devices."""
    pieces: int = Field(default=1, ge=1)
    """Pieces that a worker takes its share of a batch in, one after another."""
    evaluation_batch: int = Field(default=EVALUATION_BATCH, ge=1)
    """Images of such a batch that are scored at once."""
    sharded: bool = False
    """Whether each of several workers trains a shard of the weights, and not a replica of them."""
    memory_gib: float = Field(default=0, ge=0)
    """Memory of one device that the job is expected to need, in GiB; 0: not known."""

    def of_all_workers(self) -> Resources:
        """Return what the workers take together."""
        num = self.workers
        return self.model_copy(
            update={"cpus": num * self.cpus, "gpus": num * self.gpus, "tpus": num * self.tpus}
        )


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
    best_of: str = ""
    """Alternatives of one name compete on validation; the better one is reported."""
    stage: str
    """Stage of the job's kind (`bench/kinds/`): its role in the suite."""


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
    dataset: str = ""
    """Name of the data set card the job reads; empty where it reads none."""
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
    file: str = ""
    """Path of the weights file of the user's own that it loads; its digest is in the spec."""
    note: str = ""
    """What a reader must know of that file, in words."""
    refused: str = ""
    """Why nobody can do this job (data or weights that are not public); empty: it can be done."""
