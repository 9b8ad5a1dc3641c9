"""The public weights of a suite: known, public, and here or to be downloaded."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import baselines
from bench import digests
from bench.doctor.check import Check, ok, problem, reported, warning
from bench.errors import BenchError, suggest
from bench.paths import CachePaths
from bench.plan.spec import SuiteSpec
from bench.plan.weights_files import look
from bench.specs import WeightsSource


def all_weights(spec: SuiteSpec, cache: CachePaths) -> list[Check]:
    """Check the weights that the suite starts from, system by system."""
    return [
        own_file(system, block.file) if block.file else one(system, block.weights, cache)
        for block in spec.weights
        if spec.runs(block)
        for system in block.systems
    ]


def own_file(system: str, path: str) -> Check:
    """Check a file of the user's own; whether it is of the system is checked with the plan."""
    topic = f"weights {system}"
    try:
        found = look(Path(path))
    except BenchError as error:
        return reported(topic, error)
    return ok(topic, f"{found.path} (sha256 {found.sha256[:12]}...)")


def one(system: str, name: str, cache: CachePaths) -> Check:
    """Check one entry of a system's card; the digest of a file is checked when it is loaded."""
    topic = f"weights {system}"
    try:
        card = baselines.system(system)
    except BenchError as error:
        return reported(topic, error)
    source = next((item for item in card.weights if item.name == name), None)
    if source is None:
        names = [item.name for item in card.weights]
        return problem(topic, f'unknown weights "{name}"', suggest(name, names, kind="weights"))
    if not source.url:
        return problem(
            topic,
            f"{name} are not public ({source.note or source.licence})",
            f"Choose others: vitbench show {system}",
        )
    place = local_file(source)
    if place is None:
        return warning(
            topic,
            f"{name} are not here yet (licence: {source.licence})",
            f"The first run downloads them from {source.url}: it needs the network",
        )
    try:
        known = digests.recorded(source.url, cache)
    except BenchError as error:
        return reported(topic, error)
    sha256 = source.sha256 or (known.sha256 if known is not None else "")
    words = f"sha256 {sha256[:12]}..." if sha256 else "its digest is recorded on its first use"
    return ok(topic, f"{name}: {place} ({words})")


def local_file(source: WeightsSource) -> Path | None:
    """Return the downloaded file, where `bench.models` keeps it; None where it is not there."""
    if source.url.startswith("hf-hub:"):
        from huggingface_hub import try_to_load_from_cache

        name, _, revision = source.url.removeprefix("hf-hub:").partition("@")
        found = try_to_load_from_cache(name, "model.safetensors", revision=revision or None)
        return Path(found) if isinstance(found, str) else None
    # torch.hub's folder, found as torch finds it: importing torch takes seconds.
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = Path(os.environ.get("TORCH_HOME") or f"{cache}/torch").expanduser()
    key = hashlib.sha256(source.url.encode()).hexdigest()[:16]
    files = sorted((home / "hub" / "checkpoints").glob(f"{key}-*"))
    return next((file for file in files if file.suffix != ".partial"), None)
