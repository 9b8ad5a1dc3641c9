"""What is known about a job kind without doing it: its card, its stages, and how it is planned.

A kind is two files. `bench/kinds/<kind>.py` (this room: no torch) holds one `KindCard`: the record
of its block in a suite, how that block becomes jobs, the stages of these jobs and what they
measure. `bench/jobs/<kind>.py` does the work. Everybody else (planner, scheduler, MLflow, tables,
figures, listings) reads the card and keeps no list of kinds or stages.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from pydantic import Field

from bench.errors import SuiteError
from bench.specs import (
    Args,
    DatasetCard,
    DataUse,
    MetricCard,
    PlannedJob,
    Precision,
    Recipe,
    Record,
    Scales,
    SystemCard,
    WeightsSource,
)
from bench.specs import Protocol as ImageProtocol

# --- blocks of a suite ----------------------------------------------------------------------


class Block(Record):
    """One table of a suite file, `[[pretrain]]` or another: what every kind's block has."""

    scale: Scales = ()
    """The scales that this block belongs to; empty: every scale."""


class TransferBlock(Block):
    """Carry every pre-trained system of the suite to each downstream data set.

    A kind that starts from a checkpoint derives its block from this one: `kind` becomes a literal,
    and the kind's own keys are added. What a block does not name it refuses.
    """

    kind: str
    """Job kind."""
    systems: tuple[str, ...] = ()
    """Only these systems of the suite; empty: all of them."""
    datasets: tuple[str, ...] = Field(min_length=1)
    """Names of downstream data set cards."""
    protocol: str
    """Name of a protocol (input size and preprocessing)."""


# --- stages ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Work:
    """A kind of work, as figures of time show it."""

    title: str
    """Name as printed."""
    colour: str
    """Colour of its bars, as hex."""


PRETRAINING = Work("Pre-training", "#0072b2")
CHOOSING = Work("Choosing rates", "#b87a00")
FINE_TUNING = Work("Fine-tuning", "#d55e00")
FROZEN = Work("Frozen features", "#009e73")
PROFILING = Work("Profile", "#7b5ea7")
OTHER = Work("Other", "#8c6d1f")

Role = Literal["start", "choice", "result", "measurement"]
"""`start`: what everything else goes back to; `choice`: chooses, and is never reported; `result`:
reported and compared; `measurement`: speed and memory, in tables of their own."""


def _none(params: Args) -> tuple[str, ...]:
    return ()


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A part that jobs of a kind play in a suite."""

    name: str
    """Name in records, e.g. `final`."""
    title: str
    """How a person calls it: `Fine-tuning`."""
    role: Role
    """What its jobs are there for."""
    work: Work
    """Kind of work, for figures of time."""
    metrics: Callable[[Args], tuple[str, ...]] = _none
    """Metrics that a job of this stage leaves for a reader, from the arguments of its spec."""
    speed_of: str = ""
    """What the speed of its jobs is the speed of, where that is not `title`."""
    trains_classifier: bool = False
    """Whether its jobs leave a classifier of the downstream data set, which others can score."""


def metric(*names: str) -> Callable[[Args], tuple[str, ...]]:
    """Return what a stage of these metrics, whatever its arguments, has as `metrics`."""
    return lambda params: names


def metric_by(name: str, argument: str) -> Callable[[Args], tuple[str, ...]]:
    """Return `metrics` with one qualified metric for each value of an argument.

    >>> metric_by("fewshot_top1", "shots")({"shots": (1, 5)})
    ('fewshot_top1/1', 'fewshot_top1/5')
    """

    def metrics(params: Args) -> tuple[str, ...]:
        found = params.get(argument, ())
        values = found if isinstance(found, tuple | list) else (found,)
        return tuple(f"{name}/{value}" for value in values)

    return metrics


# --- planning -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Start:
    """A checkpoint that transfers start from, at one seed of the suite."""

    job: PlannedJob
    """The job that leaves the checkpoint."""
    system: SystemCard
    """Its system."""
    seed: int
    """Seed of the transfers."""
    place: str
    """What the starts of all seeds have in common; learning rates are chosen once for it."""
    words: str
    """System and upstream data, for names of jobs."""


@dataclass(frozen=True, kw_only=True)
class OwnWeights:
    """A weights file of the user's own, as far as names and shapes tell."""

    path: str
    """The file."""
    sha256: str
    """SHA-256 of its bytes, in hex."""
    name: str
    """What tables call it: the release that it is known to be, or a name with `(unverified)`."""
    note: str
    """What a reader must know of it, in words."""
    num_classes: int | None
    """Outputs of its classifier; None where it has none."""
    upstream: DatasetCard | None
    """What it was first trained on; None: not stated."""


class Planner(Protocol):
    """What a kind's `plan` is given: the suite's names looked up, and the graph as it grows.

    Methods that look a name up take the key that holds it, and raise SuiteError with that key, the
    cause and the nearest valid name.
    """

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of the suite."""

    @property
    def machine(self) -> str:
        """Processor or device of this machine, which what is measured belongs to."""

    @property
    def starts(self) -> list[Start]:
        """What was pre-trained or loaded so far; a kind that leaves checkpoints adds to it."""

    @property
    def jobs(self) -> Mapping[str, PlannedJob]:
        """Jobs so far, by id, inputs before their users."""

    def error(self, key: str, cause: str, hint: str = "") -> SuiteError:
        """Return the error to raise for what stands at `key`."""

    def system(self, name: str, key: str) -> SystemCard:
        """Return a system of the suite's own, or a card."""

    def dataset(self, name: str, key: str) -> DatasetCard:
        """Return a data set card, and note that the suite uses it."""

    def downstream(
        self, block: TransferBlock, key: str, *, splits: Sequence[str]
    ) -> Sequence[tuple[DatasetCard, str]]:
        """Return each data set of a block with its key, checked to have these splits."""

    def protocol(self, name: str, key: str) -> ImageProtocol:
        """Return a protocol, without its source: it changes no number."""

    def recipe(self, name: str, key: str) -> Recipe:
        """Return a recipe of the suite's own, or a published one."""

    def weights(self, system: SystemCard, name: str, key: str) -> WeightsSource:
        """Return the weights `name` of a system, public or not."""

    def weights_file(
        self, system: SystemCard, file: str, key: str, *, name: str, trained_on: Sequence[str]
    ) -> OwnWeights:
        """Return a weights file of the user's own, found to be of a system.

        Tables call it `name`, or as the file; `trained_on` are data sets, first to last, empty
        where that is not stated. `key` is that of the block.
        """

    def trained_on(self, source: WeightsSource, key: str) -> tuple[DatasetCard, DatasetCard]:
        """Return the data sets that weights were first and last trained on."""

    def chosen(self, block: TransferBlock, key: str, protocol: ImageProtocol) -> list[Start]:
        """Return the starts of a block's systems (all where it names none), fit for a protocol."""

    def check_splits(self, card: DatasetCard, wanted: Sequence[str], key: str) -> None:
        """Raise where a data set lacks a split."""

    def check_image(self, system: SystemCard, image_size_px: int, key: str, where: str) -> None:
        """Raise where images of a side cannot be an input of a system."""

    def check_arithmetic(self, precision: Precision, key: str) -> None:
        """Raise where the suite's devices do not have an arithmetic."""

    def check_objective(self, system: SystemCard, recipe: Recipe, key: str) -> None:
        """Raise where a system cannot learn what a recipe asks."""

    def fixed(self, recipe: Recipe, num_examples: int) -> Recipe:
        """Return what of a recipe changes the number, its length in steps."""

    def use(
        self,
        card: DatasetCard,
        train_split: str = "",
        eval_split: str = "",
        *,
        num_classes: int | None = None,
        num_examples: int | None = None,
        held_out: float | None = None,
    ) -> DataUse:
        """Return the part of a data set that changes a job's number."""

    def add(
        self,
        kind: str,
        *,
        stage: str,
        name: str,
        system: SystemCard,
        start: PlannedJob | None = None,
        classifier: PlannedJob | None = None,
        upstream: tuple[DatasetCard, int] | None = None,
        downstream: DatasetCard | None = None,
        data: DataUse | None = None,
        protocol: ImageProtocol | None = None,
        recipe: Recipe | None = None,
        params: Args | None = None,
        seed: int = 0,
        needs: Mapping[str, str] | None = None,
        labels: Mapping[str, Any] | None = None,
        image_size_px: int | None = None,
        num_evaluated: int | Sequence[int] = 0,
        least_evaluated: int = 0,
        num_trainings: int = 1,
        pretrain_exaflops: float | None = None,
        file: str = "",
        note: str = "",
        refused: str = "",
    ) -> PlannedJob:
        """Add a job unless it is there, and return it.

        A job goes back to the job `start` (whose upstream data it shares and with which it is
        refused), or stands at the beginning and names its `upstream` card and images. Of a
        `classifier` that was trained in the suite, the job is refused with it. `labels` are names
        of protocol and recipe as tables show them; `num_evaluated` images go forward through the
        system, at `image_size_px` where no protocol says, and the recipe is followed
        `num_trainings` times. Of several splits, or of one several times, `num_evaluated` is a
        number each: where the suite's steps are limited each is limited too, but not below
        `least_evaluated`, without which the kind cannot work. `pretrain_exaflops` is what is stated
        of the work behind a `file` of weights, and `note` what a reader must know of the file.
        `refused` says why nobody can do it.
        """


# --- the card -------------------------------------------------------------------------------

Table = Literal["pretrain", "weights", "transfer", "profile"]


@dataclass(frozen=True, kw_only=True)
class KindCard:
    """Everything that is known about a job kind."""

    name: str
    """Name in suites and records: `finetune`."""
    version: int = 1
    """Bumped when its result changes; part of job identity."""
    title: str
    """How a person calls it: `Fine-tuning`."""
    place: int = 100
    """Where it stands among the kinds in tables and listings; lower ones first."""
    run: str
    """Its heavy side, `module:function`, called with a `JobContext`."""
    stages: tuple[Stage, ...] = ()
    """Stages of its jobs."""
    table: Table | None = None
    """Suite table that its block stands in; None where another kind plans its jobs."""
    block: type[Block] | None = None
    """Record of its block."""
    plan: Callable[[Planner, Any, str], None] | None = None
    """Turns a block, found at a key, into jobs."""
    needs_data: bool = True
    """Whether its jobs read the images of a data set."""
    uses_device: bool = True
    """Whether its jobs compute on the suite's threads, GPUs and TPUs; others take one CPU."""
    shares_batches: bool = False
    """Whether several workers can share its batches."""
    leaves: tuple[str, ...] = ()
    """Files that its jobs leave in their folders."""
    metrics: tuple[MetricCard, ...] = ()
    """Metrics of its own, which no other kind has."""

    def stage(self, name: str) -> Stage:
        """Return a stage of this kind; raise KeyError."""
        return {stage.name: stage for stage in self.stages}[name]
