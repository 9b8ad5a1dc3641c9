"""Tables of a suite file that are about no job kind: scales, systems, data, pairs, reports."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

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


class Pair(Record):
    """Systems that the suite compares at matched pre-training compute."""

    scale: Scales = ()
    """The scales that this pair belongs to; empty: every scale."""
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
    figures: tuple[str, ...] = (
        "upstream_size", "pretrain_compute", "equal_compute", "learning_curves", "speed",
        "makespan",
    )  # fmt: skip
    """Figures, by the name of their file in `reports/`."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    """Confidence level of intervals."""
