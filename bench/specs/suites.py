"""Tables of a suite file that are about no job kind: scales, systems, data, pairs, reports."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

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
    decoders: int | None = Field(default=None, ge=0, le=256)
    """CPU cores of each job that decode images, in place of the suite's."""
    workers: int | None = Field(default=None, gt=0, le=1024)
    """Processes that share every batch of a job."""
    expected: str = ""
    """What should come out, in words or numbers, with its source."""
    cost: str = ""
    """What it takes: time and devices."""


class SystemBlock(Record):
    """A system of the suite's own: another one with some arguments changed, or one of a family."""

    like: str = ""
    """Name of a system card, or of an earlier system of the suite's own."""
    family: str = ""
    """Name of a family in place of `like`: `args` are then all arguments of its builder."""
    title: str = ""
    """Name as printed; the suite's name for it where empty."""
    args: Args = {}
    """Arguments of the builder; those that differ from `like`."""

    @model_validator(mode="after")
    def _one_origin(self) -> SystemBlock:
        if bool(self.like) == bool(self.family):
            raise ValueError("set exactly one of like (a system) and family (with its args)")
        return self


class Pair(Record):
    """Systems that the suite sets against each other: the first against each of the others."""

    scale: Scales = ()
    """The scales that this pair belongs to; empty: every scale."""
    systems: tuple[str, ...] = Field(min_length=2)
    """Names of two or more systems."""
    match: Literal["exaflops", "params", "forward_gflops", "none"] = "exaflops"
    """What they are matched on: pre-training compute, parameters, work of one image, or nothing."""
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
