"""What one MLflow run shows of a job: parameters, metrics and tags.

Metrics keep the names of `bench/metrics.py`, without system or data set in them: so MLflow's own
comparison and charts put the same quantity of different runs on one axis.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.plan.spec import JobGraph
from bench.specs import JobResult, PlannedJob, canonical_json, content_id
from bench.tracking.database import TAG

_MAX_TAG_CHARS = 8000


def arrival_key(result: JobResult) -> str:
    """Return what tells one result of one job from every other."""
    return f"{result.job_id}:{content_id(result)}"


def params(job: PlannedJob, result: JobResult) -> dict[str, str]:
    """Return what a person filters and compares by in the UI."""
    labels, spec = job.labels, job.spec
    params: dict[str, Any] = {
        "system": labels.system,
        "family": labels.family,
        "upstream": labels.upstream,
        "upstream_examples": labels.upstream_examples or None,  # 0: not stated
        "downstream": labels.downstream,
        "kind": spec.kind,
        "stage": labels.stage,
        "protocol": labels.protocol,
        "image_size_px": spec.image_size_px,
        "seed": spec.seed,
        "recipe": labels.recipe,
        "learning_rate": result.values.get("learning_rate"),
    }
    if spec.recipe is not None:
        recipe = spec.recipe.model_dump(exclude_none=True, exclude={"source"})
        params |= {f"recipe.{name}": value for name, value in recipe.items()}
    params |= {f"params.{name}": value for name, value in spec.params.items()}
    return {name: str(value) for name, value in params.items() if value not in (None, "")}


def metrics(job: PlannedJob, result: JobResult) -> dict[str, float]:
    """Return what MLflow's tables and charts compare, in base units."""
    found = {
        name: metric.value for name, metric in result.metrics.items() if metric.value is not None
    }
    found["exaflops"] = job.exaflops
    found["num_params"] = float(job.num_params)
    if result.cost is not None:
        found["core_s"] = result.cost.core_s
        found["wall_s"] = result.cost.wall_s
        found["peak_memory_gib"] = result.cost.peak_memory_gib
        if result.cost.images_per_s is not None:
            found["images_per_s"] = result.cost.images_per_s
    return found


def tags(job: PlannedJob, result: JobResult, reused: bool) -> dict[str, str]:
    """Return what runs are searched by, and the whole record, in as many tags as it needs."""
    tags = {
        f"{TAG}role": "job",
        f"{TAG}job_id": job.job_id,
        f"{TAG}arrival": arrival_key(result),
        **_in_tags(canonical_json(result)),
        "family": job.labels.family,
        "upstream": job.labels.upstream,
        "downstream": job.labels.downstream or "(pre-training)",
        "stage": job.labels.stage,
        "protocol": job.labels.protocol,
    }
    if reused:
        tags[f"{TAG}reused"] = "done earlier in this work folder"
    for role, needed in job.spec.needs.items():
        tags[f"{TAG}input.{role}"] = needed
    if result.error:
        tags[f"{TAG}error"] = result.error
    return {name: value[:_MAX_TAG_CHARS] for name, value in tags.items()}


def suite_tags(graph: JobGraph) -> dict[str, str]:
    """Return the tags of a suite's parent run: every name that its jobs carry, given once."""
    met: dict[str, dict[str, None]] = {}
    for job in graph.jobs:
        labels = job.labels
        found = {"family": labels.family, "upstream": labels.upstream,
                 "downstream": labels.downstream, "protocol": labels.protocol}  # fmt: skip
        for name, value in found.items():
            if value:
                met.setdefault(name, {})[value] = None
    return {name: ", ".join(values)[:_MAX_TAG_CHARS] for name, values in met.items()}


def _in_tags(text: str) -> dict[str, str]:
    """Spread a record over as many tags as it needs; MLflow bounds the length of one."""
    starts = range(0, len(text), _MAX_TAG_CHARS)
    return {
        f"{TAG}result.{index}": text[start : start + _MAX_TAG_CHARS]
        for index, start in enumerate(starts)
    }


def from_tags(tags: Mapping[str, str]) -> str:
    """Return the record that `tags` spread, as JSON."""
    parts = sum(name.startswith(f"{TAG}result.") for name in tags)
    return "".join(tags[f"{TAG}result.{index}"] for index in range(parts))
