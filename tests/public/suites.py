"""Suites of the public scale, derived from the packaged ones so that a CPU can run them.

What stays: every block, stage, recipe but its batch, protocol and input size. What changes: systems
larger than ViT-B/16 and ResNet50x1 give way to these, data sets to small ones of the same layout,
batches to two images, and lists of data sets, rates and sizes to their ends.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import baselines
from bench.plan import suites
from tests.public import sets
from tests.public import weights as released

NAMES = (
    "data-size", "state-of-the-art", "vtab", "scaling", "optimizer", "self-supervised",
    "fewshot-size", "speed",
)  # fmt: skip
"""Suites whose public scale is run."""

STAND_INS = {
    "vit-l16": "vit-b16",
    "vit-l32": "vit-b32",
    "bit-r101x1": "bit-r50x1",
    "bit-r50x3": "bit-r50x1",
    "bit-r152x4": "bit-r50x1",
}
"""What stands in for systems that a test has no time for."""

BATCH_SIZE, GPU_BATCH_SIZE, LIMIT_STEPS = 2, 64, 2
NUM_IMAGENET = 2000
"""Training images of the small ImageNet, in place of 1,281,167."""


def make(name: str, root: Path, *, on_gpu: bool = False) -> Path:
    """Make all that the public scale of a suite needs below `root`; return the derived suite.

    On a GPU batches are larger, and profiles seek the largest one.
    """
    pictures = sets.pictures()
    for data_set in datasets(name):
        if not (root / "data" / data_set).exists():
            sets.write(data_set, root / "data", pictures)
    suite = derived(name, root / "data", on_gpu=on_gpu)
    for system, source in _weights(suite):
        released.write(system, source, root / "torch" / "hub" / "checkpoints")
    path = root / f"{name}.toml"
    path.write_text(_dumps(suite), encoding="utf-8")
    return path


def run(suite: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a suite that `make` made at its public scale, for two steps, in `runs` next to it."""
    command = [sys.executable, "-m", "bench.cli", "run", str(suite), "--scale", "public"]
    command += ["--limit-steps", str(LIMIT_STEPS), "--workdir", str(suite.parent / "runs")]
    places = {"TORCH_HOME": str(suite.parent / "torch"), "COLUMNS": "140"}
    return subprocess.run(
        [*command, *words],
        capture_output=True, text=True, timeout=3600, check=False, env={**os.environ, **places},
    )  # fmt: skip


def derived(name: str, home: Path, *, on_gpu: bool) -> dict[str, Any]:
    """Return a suite whose public scale is small, its data sets below `home`."""
    suite = tomllib.loads(suites.locate(name).read_text(encoding="utf-8"))
    for table in ("pretrain", "weights", "transfer", "profile"):
        for block in suite.get(table, []):
            if "public" in block["scale"]:
                _shrink(block)
                if table == "profile" and not on_gpu:
                    del block["memory_gib"]
    suite["dataset"] = {
        _few(made): {"reader": sets.LAYOUTS[made], "path": str(home / _folder(made))}
        for made in datasets(name)
    }
    suite["recipe"] = suite.get("recipe", {}) | dict(
        _recipes(suite, GPU_BATCH_SIZE if on_gpu else BATCH_SIZE)
    )
    return suite


def datasets(name: str) -> list[str]:
    """Return the published data sets that the public scale of a suite reads."""
    suite = tomllib.loads(suites.locate(name).read_text(encoding="utf-8"))
    named: dict[str, None] = {}
    for table in ("pretrain", "transfer"):
        for block in suite.get(table, []):
            if "public" in block["scale"]:
                named |= dict.fromkeys([block.get("upstream", ""), *_asked(block)])
    return [known for known in sets.LAYOUTS if known in named]


def _weights(suite: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield system and name of the released weights that a derived suite starts from."""
    for block in suite.get("weights", []):
        if "public" in block["scale"] and block["weights"] != "jft":
            yield from ((system, block["weights"]) for system in block["systems"])


def _dumps(suite: Mapping[str, Any]) -> str:
    """Return a suite as TOML, one line for each table."""
    return "".join(f"{key} = {_toml(value)}\n" for key, value in suite.items())


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        pairs = (f"{json.dumps(key)} = {_toml(inner)}" for key, inner in value.items())
        return f"{{ {', '.join(pairs)} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value, ensure_ascii=False)


def _asked(block: Mapping[str, Any]) -> list[str]:
    """Return the first data set of a block; of VTAB's nineteen tasks, the first of each group."""
    names: list[str] = block.get("datasets", [])
    first: dict[str, str] = {}
    for name in names:
        first.setdefault(sets.vtab.GROUPS.get(name, ""), name)
    return [*first.values()]


def _shrink(block: dict[str, Any]) -> None:
    if "systems" in block:
        systems = (STAND_INS.get(system, system) for system in block["systems"])
        block["systems"] = [*dict.fromkeys(systems)]
    if "upstream" in block:
        block["upstream"] = _few(block["upstream"])
    if "num_examples" in block:
        sizes = _ends(block["num_examples"])
        block["num_examples"] = [num * NUM_IMAGENET // sizes[-1] for num in sizes]
        block["epochs"] = _ends(block["epochs"])
    if "datasets" in block:
        block["datasets"] = [_few(name) for name in _asked(block)]
    if "shots" in block:
        block["shots"] = [num for num in block["shots"] if num <= sets.NUM_PER_CLASS]
    if "of" in block:
        block["of"] = _few(block["of"])
    if block.get("kind") == "finetune":
        recipe = baselines.recipe(block["recipe"])
        rates = block.get("learning_rates") or recipe.learning_rates or (recipe.base_lr,)
        block["learning_rates"] = [rates[0]]
        if "best_of" in block:
            block["held_out"] = 0.5  # of two images a class: one to choose a setup on
    if "batch_sizes" in block:
        sizes_px = _ends(block["image_sizes_px"])
        block |= {"image_sizes_px": sizes_px, "batch_sizes": [1], "steps": 1, "repeats": 1}


def _ends(values: list[Any]) -> list[Any]:
    return [values[0], values[-1]]


def _recipes(suite: Mapping[str, Any], batch_size: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the published recipes of the public scale, for batches of few images."""
    for block in (*suite.get("pretrain", []), *suite.get("transfer", [])):
        if "public" in block["scale"] and "recipe" in block:
            found = baselines.recipe(block["recipe"])
            yield (
                block["recipe"],
                found.model_dump(mode="json", exclude_defaults=True) | {"batch_size": batch_size},
            )


def _few(name: str) -> str:
    return f"{name}-few"


def _folder(name: str) -> str:
    return "imagenet-1k" if name == "imagenet-1k-real" else name
