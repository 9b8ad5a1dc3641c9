"""What a suite asks, and the graph of jobs that it becomes.

A suite file is validated against the kinds and readers that there are: a `[[transfer]]` accepts the
keys of its kind and refuses all others.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import (
    BeforeValidator,
    Field,
    SerializeAsAny,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from bench.data.readers import block as dataset_block
from bench.data.readers.base import DatasetOptions
from bench.errors import UnknownName
from bench.kinds import KINDS, in_order
from bench.kinds.base import Block, KindCard, Table, TransferBlock
from bench.kinds.pretrain import PretrainBlock
from bench.kinds.profile import ProfileBlock
from bench.kinds.weights import WeightsBlock
from bench.specs import (
    DatasetCard,
    Pair,
    PlannedJob,
    Protocol,
    Recipe,
    Record,
    ReportBlock,
    Scale,
    ScaleBlock,
    SystemBlock,
)


def kinds_of(table: Table) -> dict[str, KindCard]:
    """Return the kinds whose blocks stand in a table of a suite, by name."""
    return {card.name: card for card in in_order() if card.table == table}


def transfer_record(value: Any) -> type[Block] | None:
    """Return the record of a `[[transfer]]` block as read from a file; None for an unknown kind."""
    kind = value.get("kind") if isinstance(value, dict) else None
    if not isinstance(kind, str):
        return None
    known = kinds_of("transfer")
    return known[kind].block if kind in known else None


def _transfer(value: Any) -> Any:
    """Return a block of `[[transfer]]`, read as its kind has it."""
    record = transfer_record(value)
    if record is not None:
        return record.model_validate(value)
    if not isinstance(value, dict) or not isinstance(value.get("kind"), str):
        return value  # the base says what is missing, or what is not text
    kind, known = value["kind"], kinds_of("transfer")
    cause = UnknownName("transfer kind", kind, known, note=KINDS.broken.get(kind, ""))
    # At the key that is wrong, not at the whole block.
    error = PydanticCustomError("unknown_kind", "{cause}", {"cause": str(cause)})
    raise ValidationError.from_exception_data(
        "transfer", [InitErrorDetails(type=error, loc=("kind",), input=value)]
    )


AnyTransfer = Annotated[SerializeAsAny[TransferBlock], BeforeValidator(_transfer)]
"""A block of `[[transfer]]`, of whichever kind it names."""


AnyDataset = Annotated[SerializeAsAny[DatasetOptions], BeforeValidator(dataset_block)]
"""A block `[dataset.NAME]`, of whichever reader it names."""


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
    """GPUs (one, or a fraction) of each worker of a job."""
    tpus: int = Field(default=0, ge=0)
    """TPU chips of each training job."""
    device_memory_gib: float | None = Field(default=None, gt=0)
    """Memory of one device that jobs are fitted to; None: that of this machine's, or 40 GiB (an
    A100's) where it has no GPU. It changes no number."""
    decoders: int = Field(default=0, ge=0, le=256)
    """CPU cores of each job that decode images and do nothing else; 0: its own threads decode too,
    on a GPU those of the machine. They change no number."""
    workers: int = Field(default=1, gt=0, le=1024)
    """Processes that share every batch of a training or transfer job, each with these threads,
    decoders and devices. They change no number but for rounding."""
    max_attempts: int = Field(default=3, gt=0, le=10)
    """Tries at a job before it counts as failed."""
    pretrain: tuple[PretrainBlock, ...] = ()
    """Pre-train blocks."""
    weights: tuple[WeightsBlock, ...] = ()
    """Public weights to start from."""
    transfer: tuple[AnyTransfer, ...] = ()
    """Transfer blocks."""
    profile: tuple[ProfileBlock, ...] = ()
    """Profile blocks: they need neither weights nor data, and may stand alone."""
    pair: tuple[Pair, ...] = ()
    """Systems set against each other."""
    report: ReportBlock = ReportBlock()
    """What the report shows."""
    recipe: dict[str, Recipe] = {}
    """Recipes of the suite's own."""
    protocol: dict[str, Protocol] = {}
    """Protocols of the suite's own: `[protocol.NAME]`."""
    dataset: dict[str, AnyDataset] = {}
    """Data sets of the suite's own."""
    system: dict[str, SystemBlock] = {}
    """Systems of the suite's own."""
    limit_steps: int | None = Field(default=None, gt=0)
    """Cap on the steps of every training job, and on the batches that a job scores of a split;
    results are marked as limited."""

    @property
    def label(self) -> str:
        """The suite's name, with its scale where it has several: what reports and runs carry."""
        return "-".join(filter(None, (self.name, self.scale)))

    def runs(self, block: Block | Pair) -> bool:
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

    @field_validator("protocol", mode="before")
    @classmethod
    def _named(cls, protocols: Any) -> Any:
        """Give each `[protocol.NAME]` its name."""
        if not isinstance(protocols, dict):
            return protocols
        return {
            name: {**block, "name": name} if isinstance(block, dict) else block
            for name, block in protocols.items()
        }

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


class JobGraph(Record):
    """A planned suite: jobs in an order in which inputs come before their users."""

    suite: SuiteSpec
    """The suite."""
    jobs: tuple[PlannedJob, ...]
    """Jobs, inputs first, each once."""
    datasets: dict[str, DatasetCard]
    """Cards of the data sets used, by name."""

    @property
    def most_evaluated(self) -> int | None:
        """The most images of a split that a job scores, where one scores fewer than there are."""
        limits = (job.spec.data.num_evaluated for job in self.jobs if job.spec.data)
        return max((limit for limit in limits if limit is not None), default=None)

    @property
    def parts(self) -> tuple[str, ...]:
        """Which published sets the jobs read no more than a part of, in words; usually none."""
        cards = [
            self.datasets[name] for name in dict.fromkeys(job.dataset for job in self.jobs) if name
        ]
        return tuple(
            f"{card.name}: {card.part}: a rehearsal on a part" for card in cards if card.part
        )

    def image_sizes_px(self) -> dict[str, list[int]]:
        """Return the input sizes, in pixels, that the jobs ask of each data set."""
        found: dict[str, set[int]] = {}
        for job in self.jobs:
            if job.dataset and job.spec.protocol is not None:
                found.setdefault(job.dataset, set()).add(job.spec.protocol.image_size_px)
        return {name: sorted(sizes) for name, sizes in found.items()}
