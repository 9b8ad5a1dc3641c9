"""Which kernels are fastest for a system on this machine: measured once, checked, remembered.

Each alternative of `bench/models/kernels.py` that applies is timed against the best so far, forward
and backward of the encoder on made images, in turns. It is taken where it is at least 2 % faster
and gives what the plain path gives, outputs and gradients, within a tolerance of the arithmetic.

What is chosen moves the last bits. So a machine chooses once for the same work and remembers it in
the work folder, and a job keeps its choice in its own folder, for whoever resumes it. A job that
does not last a minute computes as it always did and measures nothing.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from torch import Tensor, nn

from bench import environment
from bench.cost import TRAIN_FACTOR
from bench.files import read_json, write_text
from bench.models import kernels as kinds
from bench.models.kernels import Kernels
from bench.paths import CachePaths
from bench.specs import Precision, content_id
from bench.training import devices
from bench.training.arithmetic import autocast

TOLERANCES: dict[Precision, float] = {
    "float32": 1e-5,
    "tf32": 5e-3,
    "bfloat16": 2e-2,
    "float16": 5e-3,
}
"""How far outputs may be from those of the plain path, as a share of their norm: what rounding
leaves after the layers of a deep model, with room. Gradients may be as far as the square root: a
share p of ReLUs that rounding moves across zero moves them by that much."""
SHORT_FLOPS = {"cpu": 6e12, "cuda": 6e15, "tpu": 6e15}
"""Work of about a minute: what takes no longer is not worth a choice."""
COMPILED_FACTOR = 30
"""A job of so many times `SHORT_FLOPS` may be worth the minute or two that compiling takes."""

_MEASURED_FLOPS = {"cpu": 2e10, "cuda": 2e12, "tpu": 2e12}
"""Work of a measured step: a fraction of a second."""
_ROUNDS, _GAIN = 5, 0.98


@dataclass(frozen=True, kw_only=True)
class Work:
    """What is computed again and again."""

    system: Mapping[str, Any]
    """What the encoder is, as plain JSON."""
    image_size_px: int
    """Side of its images."""
    batch_size: int
    """Images that go through it at once."""
    precision: Precision
    """Its arithmetic."""
    device: str
    """`cpu`, `cuda` or `tpu`."""
    image_flops: float
    """Forward FLOPs of one image."""
    num_images: float
    """Images of the whole job."""

    @property
    def share_of_short(self) -> float:
        """The job's work, as a multiple of what is too short to choose for."""
        return TRAIN_FACTOR * self.image_flops * self.num_images / SHORT_FLOPS[self.device]

    @property
    def key(self) -> str:
        """Identity of the choice: the work, without how long it lasts, and the machine."""
        return content_id(
            {
                "system": dict(self.system),
                "shape": [self.batch_size, self.image_size_px],
                "precision": self.precision,
                "machine": environment.machine(self.device),
                "torch": torch.__version__,
                "threads": torch.get_num_threads(),
                "compiled": self.share_of_short >= COMPILED_FACTOR,
            }
        )


def choose(encoder: nn.Module, work: Work, *, record: Path, cache: CachePaths) -> Kernels:
    """Have an encoder compute by the fastest kernels for a job, and return them.

    `record` is the job's file of its choice: what stands there is taken, whoever chose it.
    """
    if work.share_of_short < 1:
        return kinds.default(work.device)
    chosen = recorded(record)
    if chosen is None:
        chosen = _remembered(cache, work.key) or _remember(cache, work, measured(encoder, work))
        write_text(record, chosen.model_dump_json() + "\n")
    kinds.put(encoder, chosen)
    return chosen


# --- measuring --------------------------------------------------------------------------------


def measured(encoder: nn.Module, work: Work) -> Kernels:
    """Return the fastest kernels that agree with the plain path; `encoder` stays as it is."""
    best = kinds.default(work.device)
    plain = _Trial(encoder, best, work)
    fastest = plain
    for change in alternatives(encoder, work):
        trial = _Trial(encoder, best.model_copy(update=change), work)
        if not agree(plain, trial, tolerance=TOLERANCES[work.precision]):
            continue
        times_s = _interleaved(fastest, trial)
        if times_s[1] < _GAIN * times_s[0]:
            best, fastest = trial.kernels, trial
    return best


def alternatives(encoder: nn.Module, work: Work) -> Iterator[dict[str, str]]:
    """Yield what may be faster than the plain path, one change at a time.

    Nothing that keeps more memory than was planned: so on an accelerator attention stays fused.
    """
    modules = list(encoder.modules())
    on_cpu, linear = work.device == "cpu", any(isinstance(m, nn.Linear) for m in modules)
    if on_cpu and any(hasattr(module, "fused_attn") for module in modules):
        yield {"attention": "fused"}
    if on_cpu and work.precision == "bfloat16" and any(map(kinds.is_tanh_gelu, modules)):
        yield {"gelu": "exact"}
    if on_cpu and linear and work.precision == "float32" and kinds.has_onednn():
        yield {"linear": "onednn"}
    if sum(isinstance(module, nn.Conv2d) for module in modules) > 1:  # more than patches
        yield {"layout": "channels_last"}
    if work.device == "cuda" and work.share_of_short >= COMPILED_FACTOR:
        yield {"compiled": "yes"}


class _Trial:
    """A copy of an encoder with some kernels, and a step of it that can be repeated."""

    def __init__(self, encoder: nn.Module, kernels: Kernels, work: Work) -> None:
        self.kernels = kernels
        self._device = work.device
        self._encoder = copy.deepcopy(encoder).eval()  # no dropout: its draws would differ
        kinds.put(self._encoder, kernels)
        self._autocast = autocast(work.device, work.precision)
        num = int(_MEASURED_FLOPS[work.device] / (TRAIN_FACTOR * work.image_flops))
        shape = (max(1, min(work.batch_size, num)), 3, work.image_size_px, work.image_size_px)
        self._generator = torch.Generator().manual_seed(0)
        self._x_BCHW = self._drawn(shape)
        self._gradient: Tensor | None = None

    def _drawn(self, shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape, generator=self._generator).to(self._device)

    def step(self) -> tuple[Tensor, list[Tensor]]:
        """Return the output and the gradients of a forward and backward pass."""
        parameters = [p for p in self._encoder.parameters() if p.requires_grad]
        with self._autocast:
            z_BD = self._encoder(self._x_BCHW)
        if self._gradient is None:
            self._gradient = self._drawn(tuple(z_BD.shape)).to(z_BD.dtype)
        gradients = torch.autograd.grad(z_BD, parameters, self._gradient, allow_unused=True)
        return z_BD.detach(), [g for g in gradients if g is not None]

    def time_s(self) -> float:
        """Return how long a step takes: of a CPU its own time, whatever else runs there."""
        now = time.process_time if self._device == "cpu" else time.perf_counter
        devices.synchronize(self._device)
        started_s = now()
        self.step()
        devices.synchronize(self._device)
        return now() - started_s


def agree(plain: _Trial, other: _Trial, *, tolerance: float) -> bool:
    """Tell whether two give the same outputs, within a tolerance, and gradients, in its root."""
    (z, gradients), (other_z, other_gradients) = plain.step(), other.step()
    if not _difference([z], [other_z]) <= tolerance:
        return False
    return _difference(gradients, other_gradients) <= tolerance**0.5


def _difference(expected: list[Tensor], found: list[Tensor]) -> float:
    """Return the norm of a difference over that of what is expected; NaN where one is NaN."""
    pairs = zip(expected, found, strict=True)
    off = torch.stack([(f.double() - e.double()).square().sum() for e, f in pairs]).sum()
    whole = torch.stack([e.double().square().sum() for e in expected]).sum()
    return float((off / whole).sqrt())


def _interleaved(*trials: _Trial) -> list[float]:
    """Return the shortest time of each, measured in turns: other load only ever adds time."""
    rounds = [[trial.time_s() for trial in trials] for _ in range(_ROUNDS)]
    return [min(times) for times in zip(*rounds, strict=True)]


# --- remembering ------------------------------------------------------------------------------


def recorded(path: Path) -> Kernels | None:
    """Return the choice in a job's folder; None where it made none."""
    found = read_json(path)
    return None if found is None else Kernels.model_validate(found)


def _remembered(cache: CachePaths, key: str) -> Kernels | None:
    found = _read(cache.kernels).get(key)
    return None if found is None else Kernels.model_validate(found["kernels"])


def _remember(cache: CachePaths, work: Work, chosen: Kernels) -> Kernels:
    """Remember a choice; return that of another process which was earlier, where one was."""
    cache.folder.mkdir(parents=True, exist_ok=True)
    with FileLock(cache.kernels_lock):
        entries = _read(cache.kernels)
        if work.key not in entries:
            entries[work.key] = {
                "kernels": chosen.model_dump(),
                "system": dict(work.system),
                "batch_size": work.batch_size,
                "image_size_px": work.image_size_px,
                "precision": work.precision,
                "machine": environment.machine(work.device),
            }
            write_text(cache.kernels, json.dumps(entries, indent=1, sort_keys=True) + "\n")
        return Kernels.model_validate(entries[work.key]["kernels"])


def _read(path: Path) -> dict[str, Any]:
    """Return what is remembered; nothing where the file is missing or damaged."""
    found = read_json(path)
    return found if isinstance(found, dict) else {}
