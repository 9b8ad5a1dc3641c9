"""Checkpoints that survive kills, full disks and flipped bits; and files of weights.

A checkpoint is two files: `step-N.safetensors` with the tensors, and `step-N.json`, the sidecar,
with the owner's identity, the SHA-256 of the tensors and what else is needed to continue. Each
appears whole or not at all; the sidecar comes last, so a checkpoint without one was never
finished. Two are kept: where the newest is damaged, the one before is used.

Training waits for a copy of the state in the host's memory alone; a thread hashes and writes it.

safetensors, because reading it executes nothing; the hash, because neither safetensors nor torch
notices a flipped bit.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from bench import preemption
from bench.errors import CheckpointError, Preempted
from bench.files import file_sha256, replacing

KEPT = 2
"""Checkpoints of a job that are kept: the newest, and one in case that one is damaged."""

MAX_SAVING_SHARE = 0.01
"""Share of a job's time that saving may take. Of the writing behind it this holds as far as
MAX_LOST_S allows, of what training waits for always."""

MAX_LOST_S = 300.0
"""Seconds of work that a process killed without notice loses at most, where training need not wait
for longer than MAX_SAVING_SHARE of them."""

LARGE_BYTES = 2**26
"""Buffers of so many bytes are made ready before a copy is due."""

_log = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints of one job in one folder."""

    def __init__(
        self,
        folder: Path,
        identity: str,
        *,
        interval_s: float = 20.0,
        warn: Callable[[str], None] = _log.warning,
    ) -> None:
        """Keep checkpoints in `folder` for the job `identity` (its job id).

        `interval_s`: least seconds between two checkpoints; 0 saves at every step.
        `warn` gets one line for each checkpoint that is damaged or another job's.
        """
        self.folder = folder
        self.identity = identity
        self._least_s = self._interval_s = interval_s
        self._warn = warn
        self._saved_at_s = time.monotonic()
        self._copy = _Copy()
        self._has_room = False
        self._thread = threading.Thread()
        self._error: BaseException | None = None

    @contextmanager
    def kept_up(self) -> Iterator[None]:
        """Train in the block: a process told to end first saves, and what is written is waited for.

        Raises Preempted then, and CheckpointError where the last checkpoint could not be written.
        """
        with preemption.deferred():
            try:
                yield
            finally:
                self._join()
            self.wait()

    def expect(self, tensors: Callable[[], Mapping[str, Tensor]]) -> None:
        """Make room for a copy of what is saved, once the first checkpoint is near.

        Training goes on meanwhile: pages of fresh memory take longer than what is copied to them.
        """
        elapsed_s = time.monotonic() - self._saved_at_s
        if not self._has_room and elapsed_s >= self._interval_s / 2:
            self._has_room = True
            self._copy.expect(tensors())

    def due(self, *, is_last: bool = False) -> bool:
        """Return whether a checkpoint should be saved now: by the clock, or for the end.

        `is_last`: after the last step only a process that was told to end needs one. Raises
        CheckpointError where the checkpoint before could not be written.
        """
        self._raise_error()
        if preemption.asked():
            return True
        if is_last:
            return False
        if self._interval_s == 0:
            return True
        elapsed_s = time.monotonic() - self._saved_at_s
        return elapsed_s >= self._interval_s and not self._thread.is_alive()

    def save(self, step: int, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Copy the state of `step`, and have it written while training goes on.

        `meta` must be plain JSON. Raises CheckpointError where the checkpoint before could not be
        written: the disk is full, or refuses; those that were there stay. In a process that was
        told to end it waits until everything is written, and raises Preempted.
        """
        self.wait()
        started_s = time.monotonic()
        self._copy.take(tensors)
        self._saved_at_s = time.monotonic()
        sidecar = {"identity": self.identity, "step": step, "meta": dict(meta)}
        self._thread = threading.Thread(
            target=self._write, args=(sidecar, started_s), name="checkpoint", daemon=True
        )
        self._thread.start()
        if preemption.asked():
            self.wait()
            raise Preempted(f"the process was told to end; its checkpoint is of step {step}")

    def wait(self) -> None:
        """Wait until everything is written; raises CheckpointError where it could not be."""
        self._join()
        self._raise_error()

    def _join(self) -> None:
        if self._thread.is_alive():
            self._thread.join()

    def _raise_error(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _write(self, sidecar: dict[str, Any], started_s: float) -> None:
        """Write what was copied, drop the oldest checkpoint, and learn what saving costs."""
        try:
            tensors = self._copy.tensors()
            copied_s = time.monotonic() - started_s
            step = sidecar["step"]
            data = self.folder / f"step-{step:09d}.safetensors"
            sidecar["sha256"] = write_tensors(data, tensors)
            text = json.dumps(sidecar, sort_keys=True, allow_nan=False)
            size = len(text)
            replace_file(data.with_suffix(".json"), lambda path: path.write_text(text), size=size)
            self._prune(step)
        except BaseException as error:  # raised where the job sees it
            self._error = error
            return
        if self._least_s > 0:
            saved_s = time.monotonic() - started_s
            wanted_s = max(self._least_s, saved_s / MAX_SAVING_SHARE)
            self._interval_s = max(min(wanted_s, MAX_LOST_S), copied_s / MAX_SAVING_SHARE)

    def newest(self) -> tuple[int, dict[str, Tensor], dict[str, Any]] | None:
        """Return (step, tensors, meta) of the newest valid checkpoint of this job, or None.

        Damaged checkpoints, and those of another job, are skipped and reported to `warn`.
        """
        for sidecar in self._sidecars():
            try:
                return self._read(sidecar)
            except CheckpointError as error:
                self._warn(f"skipped a checkpoint: {error}")
        return None

    def _sidecars(self) -> list[Path]:
        return sorted(self.folder.glob("step-*.json"), reverse=True)

    def _read(self, path: Path) -> tuple[int, dict[str, Tensor], dict[str, Any]]:
        try:
            sidecar = json.loads(path.read_bytes())
            step, meta = int(sidecar["step"]), dict(sidecar["meta"])
            identity, sha256 = str(sidecar["identity"]), str(sidecar["sha256"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{path} is damaged ({error})") from error
        if identity != self.identity:
            raise CheckpointError(f"{path} belongs to job {identity}, not to {self.identity}")
        return step, read_tensors(path.with_suffix(".safetensors"), sha256=sha256), meta

    def _prune(self, step: int) -> None:
        # What claims a later step is damaged or foreign: this job went on from before it.
        ours = [path.stem for path in self._sidecars() if path.stem <= f"step-{step:09d}"]
        kept = set(ours[:KEPT])
        for path in self.folder.glob("step-*"):
            if path.name.split(".")[0] not in kept:
                path.unlink(missing_ok=True)


class _Copy:
    """A copy of tensors in the host's memory, whose buffers are used again."""

    def __init__(self) -> None:
        self._buffers: dict[str, Tensor] = {}
        self._copied: torch.cuda.Event | None = None
        self._thread = threading.Thread()

    def expect(self, tensors: Mapping[str, Tensor]) -> None:
        """Make the buffers in a thread; small ones can wait."""
        if sum(tensor.nbytes for tensor in tensors.values()) >= LARGE_BYTES:
            self._thread = threading.Thread(
                target=self._make, args=(tensors,), name="room for a checkpoint", daemon=True
            )
            self._thread.start()

    def _make(self, tensors: Mapping[str, Tensor]) -> None:
        """Make buffers, and have the kernel give them their pages; where it has none, none."""
        with contextlib.suppress(MemoryError, RuntimeError):
            buffers = {name: self._buffer(name, tensor) for name, tensor in tensors.items()}
            for buffer in buffers.values():
                if not buffer.is_pinned():  # those have pages already
                    # In this thread alone, and without Python's lock.
                    buffer.reshape(-1).view(torch.uint8).numpy().fill(0)
            self._buffers = buffers

    def take(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy tensors as they are now; what is done to them afterwards does not show."""
        if self._thread.is_alive():
            self._thread.join()
        self._buffers = {name: self._buffer(name, tensor) for name, tensor in tensors.items()}
        on_cuda = False
        for name, tensor in tensors.items():
            on_cuda |= tensor.is_cuda
            self._buffers[name].copy_(tensor.detach(), non_blocking=tensor.is_cuda)
        self._copied = torch.cuda.Event() if on_cuda else None
        if self._copied is not None:
            self._copied.record()

    def tensors(self) -> dict[str, Tensor]:
        """Return the copies, once the device has delivered them."""
        if self._copied is not None:
            self._copied.synchronize()
        return self._buffers

    def _buffer(self, name: str, tensor: Tensor) -> Tensor:
        there = self._buffers.get(name)
        if there is not None and there.shape == tensor.shape and there.dtype == tensor.dtype:
            return there
        return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Write a safetensors file atomically and return its SHA-256; same tensors, same bytes.

    Raises CheckpointError, and leaves what was at `path`, when the disk is full or refuses.
    """
    stored: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        plain = tensor.detach().cpu().contiguous()
        # The format has no aliases: weights that two layers share are stored twice.
        stored[name] = plain.clone() if plain.data_ptr() in seen else plain
        seen.add(plain.data_ptr())
    size = sum(tensor.numel() * tensor.element_size() for tensor in stored.values())
    return replace_file(path, lambda temporary: save_file(stored, temporary), size=size)


def read_tensors(path: Path, *, sha256: str) -> dict[str, Tensor]:
    """Read a safetensors file whose SHA-256 is known; raises CheckpointError if it differs."""
    try:
        found = file_sha256(path)
        if found != sha256:
            raise CheckpointError(
                f"{path} is damaged: its SHA-256 is {found[:12]}..., not {sha256[:12]}..."
            )
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read ({error})") from error


def replace_file(path: Path, write: Callable[[Path], object], *, size: int = 0) -> str:
    """Have `write` fill a file that then takes the name `path`, and return its SHA-256.

    Readers see the old file or the new one, never a part, whatever happens in between. `size` is
    the number of bytes needed, stated when the disk is full. Raises CheckpointError.
    """
    sha256 = ""
    try:
        with replacing(path) as temporary:
            write(temporary)
            sha256 = file_sha256(temporary)
    except (OSError, SafetensorError) as error:
        raise _write_error(path, error, size=size) from error
    return sha256


def _write_error(path: Path, error: Exception, *, size: int) -> CheckpointError:
    # safetensors tells a full disk in its message only.
    full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or any(
        f"os error {code}" in str(error) for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    )
    if not full:
        return CheckpointError(f"{path} cannot be written ({error})")
    free = shutil.disk_usage(path.parent).free
    return CheckpointError(
        f"the disk is full: {path} needs {size / 2**20:.1f} MiB, {free / 2**20:.1f} MiB are free",
        hint="Free some space or choose another work folder; the job continues where it was",
    )
