"""What training costs, in closed form: FLOPs, core-days, dollars. Runs nothing.

Counting rule: one multiply-add is 2 FLOPs; training is 3 x forward (the backward pass is twice the
forward); the input is 224 px in pre-training; the classification head is left out. With this rule
the compute column of ViT Table 6 (arXiv:2010.11929) comes out, ResNets included once multiply-adds
on zero padding are left out (`padding="skipped"`), as a compiler's count would.

>>> round(train_exaflops("ViT-L/16", num_images=303_000_000 * 7))
783
>>> round(train_exaflops("R50x1", num_images=303_000_000 * 7, padding="skipped"))
50
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Literal

from pydantic import Field, TypeAdapter, ValidationError

import baselines
from baselines.counting import Padding
from bench.errors import SuiteError, UnknownName, UserError
from bench.facts import JFT_IMAGES
from bench.kinds import stages
from bench.specs import (
    DeviceKind,
    JobSpec,
    PlannedJob,
    Precision,
    Record,
    SystemCard,
    SystemUse,
)

TRAIN_FACTOR = 3
"""FLOPs of training by FLOPs of a forward pass."""
DECODE_S, READ_S_PER_PIXEL = 1.46e-3, 2.3e-8
"""Seconds of one core for a photograph of ImageNet's usual size: decoding it, and reading each
pixel of the input from it (docs/performance.md, "Originals")."""
TPUV3_CORE_PEAK_FLOPS = 61.5e12
"""Peak FLOP/s of a TPUv3 core in bfloat16: half of a chip's 123e12 (vendor's figure, recalled)."""


@dataclass(frozen=True)
class Gpu:
    """A GPU as its vendor describes it; its name is a row of `baselines/prices.toml`."""

    memory_gib: float
    """Memory."""
    peak_flops_per_s: Mapping[Precision, float]
    """Dense matrix products, FLOP/s, by arithmetic."""


GPUS = {
    "v100": Gpu(16, {"float32": 15.7e12, "float16": 125e12}),
    "a100": Gpu(40, {"float32": 19.5e12, "tf32": 156e12, "bfloat16": 312e12, "float16": 312e12}),
    "h100": Gpu(80, {"float32": 67e12, "tf32": 495e12, "bfloat16": 989e12, "float16": 989e12}),
}
"""NVIDIA's data sheets (recalled); float32 without tensor cores, an H100 as SXM."""
ASSUMED_GPU = "a100"
"""The GPU that promised times and memory are of, where nobody names one."""
PEAK_FLOPS_PER_S: Mapping[DeviceKind, Mapping[Precision, float]] = {
    "cuda": GPUS[ASSUMED_GPU].peak_flops_per_s,
    "tpu": {"float32": 20.5e12, "tf32": 20.5e12, "bfloat16": 123e12, "float16": 20.5e12},
}
"""Peak FLOP/s of the device that promised times are of, by arithmetic. TPU: a v3 chip, which knows
bfloat16 alone and takes six of its products for one of float32 (recalled)."""
SUSTAINED_SHARE = 0.4
"""Share of that peak which training is assumed to sustain: large models reach .3 to .5."""
CPU_CORE_FLOPS_PER_S = 2e10
"""FLOP/s that a laptop's core is assumed to sustain, in any arithmetic."""

System = str | SystemCard | SystemUse
Basis = Literal["measured", "estimated"]


# --- operations -----------------------------------------------------------------------------


def forward_gflops(
    system: System, *, image_size_px: int = 224, padding: Padding = "counted"
) -> float:
    """Return the work of one image through the encoder, in 10^9 FLOPs."""
    card = baselines.system(system) if isinstance(system, str) else system
    return baselines.forward_flops(card, image_size_px, padding=padding) / 1e9


def train_exaflops(
    system: System, *, num_images: float, image_size_px: int = 224, padding: Padding = "counted"
) -> float:
    """Return the work of training on `num_images` images (data set size x epochs), in exaFLOPs."""
    forward = forward_gflops(system, image_size_px=image_size_px, padding=padding)
    return TRAIN_FACTOR * forward * num_images / 1e9


# --- ViT Table 6 ----------------------------------------------------------------------------


@dataclass(frozen=True)
class ComputeRow:
    """One row of the compute column of ViT Table 6."""

    title: str
    """System, as printed."""
    name: str
    """Name of the system's card."""
    epochs: int
    """Epochs on JFT-300M."""
    printed: float
    """exaFLOPs, as printed."""
    counted: float
    """exaFLOPs with multiply-adds on zero padding."""
    skipped: float
    """exaFLOPs without them: the rule that fits the paper."""
    note: str
    """Why the row is more than 1 % off, where it is."""

    @property
    def counted_off(self) -> float:
        """Difference of `counted` from the printed value, as a fraction of it."""
        return self.counted / self.printed - 1

    @property
    def skipped_off(self) -> float:
        """Difference of `skipped` from the printed value, as a fraction of it."""
        return self.skipped / self.printed - 1


TABLE_6_NOTES = {
    ("vit-b32", 7): "The paper's own rows disagree: 55 is what 49 tokens (no class token) give, "
    "but L/32 and R50x1+ViT-B/32 need 50 tokens.",
    (
        "hybrid-r50-vit-l16",
        7,
    ): "The paper's own rows disagree: half of its 1668 at 14 epochs is 834, "
    "which is what we compute; 859 is not fitted.",
}
"""Rows that no counting rule brings within 1 %, with the reason."""


def table_6() -> tuple[ComputeRow, ...]:
    """Return the 18 rows of ViT Table 6: printed and computed pre-training compute."""
    rows = []
    for row in baselines.published():
        if (row.paper, row.table, row.metric) != ("ViT", "Table 6", "pretrain_compute"):
            continue
        (epochs,) = map(int, row.epochs)
        counted, skipped = (
            train_exaflops(row.system_id, num_images=JFT_IMAGES * epochs, padding=padding)
            for padding in ("counted", "skipped")
        )
        rows.append(
            ComputeRow(
                title=row.system,
                name=row.system_id,
                epochs=epochs,
                printed=float(row.value),
                counted=counted,
                skipped=skipped,
                note=TABLE_6_NOTES.get((row.system_id, epochs), ""),
            )
        )
    return tuple(rows)


# --- checkpoints ----------------------------------------------------------------------------


def checkpoint_bytes(
    system: System,
    *,
    image_size_px: int,
    num_classes: int,
    optimizer: Literal["adam", "sgd"] = "adam",
    averaged: bool = False,
    pretraining: bool = False,
) -> int:
    """Return the bytes of a checkpoint: weights, moments and average, in float32.

    The names of the tensors, and the losses so far, are not in it. `pretraining` counts the hidden
    layer of the head that the authors pre-train with.

    >>> checkpoint_bytes("ViT-H/14", image_size_px=224, num_classes=1000)
    7584549600
    """
    sizes = baselines.sizes(baselines.system(system) if isinstance(system, str) else system)
    hidden = sizes.pre_logits_dim(pretraining=pretraining)
    layer = (sizes.feature_dim + 1) * hidden
    head = ((hidden or sizes.feature_dim) + 1) * num_classes
    copies = 1 + (2 if optimizer == "adam" else 1) + averaged
    return 4 * copies * (sizes.num_params(image_size_px) + layer + head)


def largest_checkpoint(jobs: Iterable[PlannedJob]) -> tuple[str, int]:
    """Return the system with the largest checkpoint, and its bytes; 0 where nothing is trained."""
    found = [("", 0)]
    for job in jobs:
        spec, recipe = job.spec, job.spec.recipe
        if recipe is None or spec.image_size_px is None or spec.num_classes is None:
            continue
        num_bytes = checkpoint_bytes(
            spec.system,
            image_size_px=spec.image_size_px,
            num_classes=spec.num_classes,
            optimizer=recipe.optimizer,
            averaged=recipe.polyak is not None,
            pretraining=stages()[job.labels.stage].role == "start",
        )
        found.append((job.labels.system, num_bytes))
    return max(found, key=lambda each: each[1])


# --- time -----------------------------------------------------------------------------------


def flops_per_s(spec: JobSpec) -> float:
    """Return the FLOP/s that a job is assumed to sustain before anything was measured.

    That of its kind of device in its arithmetic: one core, one A100, one TPU v3 chip.
    """
    if spec.device == "cpu":
        return CPU_CORE_FLOPS_PER_S
    return SUSTAINED_SHARE * PEAK_FLOPS_PER_S[spec.device][spec.precision]


# --- core-days ------------------------------------------------------------------------------


@dataclass(frozen=True)
class CoreDays:
    """TPUv3-core-days, and whether they were measured; the two kinds are never added up."""

    value: float
    """TPUv3 cores (half a chip each) x days."""
    basis: Basis
    """`measured` from cores and days, or `estimated` from FLOPs and an assumed utilization."""

    def __add__(self, other: CoreDays) -> CoreDays:
        if self.basis != other.basis:
            raise UserError(
                "measured and estimated core-days cannot be added",
                hint="Keep them in columns of their own",
            )
        return CoreDays(self.value + other.value, self.basis)


def decoded_per_s(image_size_px: int) -> float:
    """Return how many photographs one core decodes and resizes in a second.

    >>> round(decoded_per_s(224), -1), round(decoded_per_s(384), -1)
    (380.0, 210.0)
    """
    return 1 / (DECODE_S + READ_S_PER_PIXEL * image_size_px**2)


def measured_core_days(*, num_cores: int, days: float) -> CoreDays:
    """Return core-days of a run that was timed.

    >>> measured_core_days(num_cores=2048, days=6)
    CoreDays(value=12288, basis='measured')
    """
    return CoreDays(num_cores * days, "measured")


def estimated_core_days(exaflops: float, *, utilization: float) -> CoreDays:
    """Return the core-days that work would take at a share of the peak, in (0, 1]."""
    if not 0 < utilization <= 1:
        raise UserError(f"utilization = {utilization} must lie in (0, 1]")
    per_day = TPUV3_CORE_PEAK_FLOPS * utilization * 86_400
    return CoreDays(exaflops * 1e18 / per_day, "estimated")


def utilization(exaflops: float, core_days: CoreDays) -> float:
    """Return the share of the TPUv3 peak that a measured run reached."""
    if core_days.basis != "measured":
        raise UserError("utilization needs measured core-days")
    return exaflops * 1e18 / (core_days.value * 86_400 * TPUV3_CORE_PEAK_FLOPS)


# --- dollars --------------------------------------------------------------------------------


class Price(Record):
    """Price of an hour of a device."""

    usd_per_hour: float = Field(ge=0)
    """US dollars."""
    per: str
    """What one unit is: core, GPU."""
    source: str
    """Where and when the price was seen."""


def prices(path: Path | None = None) -> dict[str, Price]:
    """Return the price table: `baselines/prices.toml`, or a file of the same form."""
    return _prices(path)


def dollars(device: str, device_hours: float, *, path: Path | None = None) -> float:
    """Return the price of `device_hours` of a device in the price table, in US dollars.

    >>> dollars("tpu-v3", 24 * measured_core_days(num_cores=8, days=30).value)
    5760.0
    """
    table = prices(path)
    if device not in table:
        raise UnknownName("device", device, table)
    return table[device].usd_per_hour * device_hours


@functools.cache
def _prices(path: Path | None) -> dict[str, Price]:
    file = path or files("baselines") / "prices.toml"
    try:
        tables = tomllib.loads(file.read_text(encoding="utf-8"))
        return TypeAdapter(dict[str, Price]).validate_python(tables)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise SuiteError(str(path or "prices.toml"), key, first["msg"]) from error
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise SuiteError(str(path or "prices.toml"), "", str(error)) from error
