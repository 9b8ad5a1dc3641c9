"""Digests of public weights: which file stood behind a name, and that it is still the same one.

An owner can put another file at the same address, and hardly any publishes a digest. So every
digest that somebody stated is kept with where it was stated, and whatever is loaded must agree
with all of them:

    the card        `WeightsSource.sha256`, where the owner publishes it; part of a job's identity
    names           the hub keeps a file under its SHA-256; torch's files end in `-<8 digits>.pth`
    the record      WORKDIR/data/weights.json: what a work folder used first, by address
    a plan          the digest of a file of the user's own; part of a job's identity
    a result        the value `weights_sha256` of a job that loaded public weights, so bundles too

Two that disagree are one error (`check`). The record is not part of a job's identity: a
digest that is known only after the first run would give all jobs of the next one other ids.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from bench.errors import CheckpointError
from bench.files import read_json, write_text
from bench.paths import CachePaths
from bench.specs import JobResult, PlannedJob

VALUE = "weights_sha256"
"""Name of the digest among the values of a result."""

DOWNLOAD_AGAIN = (
    "Delete the file to download it again; where its owner has replaced it, start a new work "
    "folder (--workdir), since results of two files of weights do not compare"
)
"""What to do about a file that is another one than before."""
RUN_AGAIN = (
    "Download the file again on both sides to see which of the two is the owner's now, and run "
    "what starts from the other one again, in a new work folder (--workdir)"
)
"""What to do about results that start from two files of weights."""

_CARD = "the card of the weights"
_WHOLE = re.compile(r"[0-9a-f]{64}")
_TORCH = re.compile(r"-([0-9a-f]{8,64})\.pth?")


@dataclass(frozen=True)
class Stated:
    """A digest, and who says so."""

    sha256: str
    """SHA-256 of the file, in hex; of torch's names its first digits."""
    where: str
    """Where it was read, in words: `runs/data/weights.json (first used on 2026-03-01)`."""

    def agrees(self, other: Stated) -> bool:
        """Return whether both can be of one file."""
        digits = min(len(self.sha256), len(other.sha256))
        return self.sha256[:digits] == other.sha256[:digits]


@dataclass(frozen=True)
class Used:
    """Public weights that a job loaded."""

    name: str
    """Weights and system: `in21k of vit-b16`."""
    address: str
    """Where they come from."""
    sha256: str
    """Digest of the file that was loaded."""
    owners: tuple[Stated, ...]
    """Digest that their owner publishes, where one is known."""
    job_id: str
    """The job that loaded them."""
    is_own_file: bool = False
    """Whether the user named the file, and not an address."""

    def __str__(self) -> str:
        whose = "its owner's" if self.owners else "of the first use: its owner publishes none"
        if self.is_own_file:
            whose = "a file of the user's own"
        return f"weights {self.name}: sha256 {self.sha256} ({whose})"


def published(address: str, sha256: str, path: Path) -> Iterator[Stated]:
    """Yield what the owner says of a file: on the card, and by the names of address and file."""
    if sha256:
        yield Stated(sha256, _CARD)
    if address.startswith("hf-hub:"):
        blob = path.resolve().name  # the hub stores large files under their SHA-256
        if _WHOLE.fullmatch(blob):
            yield Stated(blob, "the hub's own name of the file")
        return
    digits = _TORCH.search(PurePosixPath(urlsplit(address).path).name)
    if digits is not None and not digits[1].isdecimal():  # which would be a date
        yield Stated(digits[1], "the name of the file at its address")


def check(
    name: str, address: str, found: Stated, others: Iterable[Stated], *, cure: str = DOWNLOAD_AGAIN
) -> None:
    """Raise the one error where a digest disagrees with another one of the same weights.

    It is a CheckpointError, and names the weights, both digests, where each stands, and the cure.
    """
    at = f" ({address})" if address else ""
    for other in others:
        if not found.agrees(other):
            words = (
                f'weights "{name}"{at} are not the same file everywhere: SHA-256 {found.sha256} '
                f"in {found.where}, {other.sha256} in {other.where}"
            )
            # Names may come from the bundle of somebody else: none of them steers a terminal.
            raise CheckpointError("".join(c if c.isprintable() else "?" for c in words), hint=cure)


# --- the record of a work folder ------------------------------------------------------------


def recorded(address: str, cache: CachePaths) -> Stated | None:
    """Return what a work folder recorded of an address; None where it did not use it yet.

    Raises CheckpointError where the record is damaged.
    """
    return _stated(_read(cache.weights_record).get(address), cache)


def all_recorded(cache: CachePaths) -> dict[str, str]:
    """Return the digests that a work folder recorded, by address; CheckpointError if damaged."""
    return {address: entry["sha256"] for address, entry in _read(cache.weights_record).items()}


def record(name: str, address: str, loaded: Stated, cache: CachePaths) -> None:
    """Record the digest of weights when they are used first; later ones must agree with it.

    Any number of processes may do so at once: one writes, the others compare. Raises
    CheckpointError where they disagree, or the record is damaged.
    """
    from filelock import FileLock

    known = recorded(address, cache)
    if known is None:
        path = cache.weights_record
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(cache.weights_lock):
            entries = dict(_read(path))
            known = _stated(entries.get(address), cache)
            if known is None:
                today = time.strftime("%Y-%m-%d", time.gmtime())
                entries[address] = {"sha256": loaded.sha256, "first_used": today}
                write_text(path, json.dumps(entries, indent=1, sort_keys=True) + "\n")
                return
    check(name, address, loaded, [known])


def _stated(entry: Mapping[str, str] | None, cache: CachePaths) -> Stated | None:
    if entry is None:
        return None
    return Stated(entry["sha256"], f"{cache.weights_record} (first used on {entry['first_used']})")


def _read(path: Path) -> Mapping[str, Mapping[str, str]]:
    if not path.exists():
        return {}
    found: Any = read_json(path)
    # Taken for an empty one, a damaged record would forget silently what it is there to keep.
    if not isinstance(found, dict) or not all(map(_is_entry, found.values())):
        raise CheckpointError(
            f"{path}: damaged: not a record of digests of weights",
            hint="Remove it; digests are recorded again by the next jobs that load weights",
        )
    return found


def _is_entry(entry: object) -> bool:
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("first_used"), str)
        and isinstance(entry.get("sha256"), str)
        and _WHOLE.fullmatch(entry["sha256"]) is not None
    )


# --- what results say -----------------------------------------------------------------------


def used(jobs: Iterable[PlannedJob], results: Mapping[str, JobResult]) -> Iterator[Used]:
    """Yield the public weights that jobs loaded, in order; results without a digest say nothing."""
    for job in jobs:
        result = results.get(job.job_id)
        digest = digest_of(result) if result is not None else ""
        if digest:
            params = job.spec.params
            if job.spec.weights_file:
                name = f"{job.labels.recipe} of {job.labels.system}"
                yield Used(name, "", digest, (), job.job_id, is_own_file=True)
                continue
            owners = str(params.get("sha256") or "")
            yield Used(
                name=f"{params.get('weights')} of {job.labels.system}",
                address=str(params.get("url")),
                sha256=digest,
                owners=(Stated(owners, _CARD),) if owners else (),
                job_id=job.job_id,
            )


def digest_of(result: JobResult) -> str:
    """Return the digest of the public weights that a job loaded; empty where it states none."""
    found = str(result.values.get(VALUE))
    return found if _WHOLE.fullmatch(found) else ""
