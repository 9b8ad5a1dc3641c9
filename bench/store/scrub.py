"""Records as others may see them: without paths of the machine and names of its hosts.

Specifications stay as they are, for job ids are their hashes; they hold no path.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from bench.plan.spec import JobGraph
from bench.specs import JobResult

_PART = r"[^\s/\"'<>|:;,()\[\]{}]+"
# A path of two parts or more that does not follow a word, a scheme or another path.
_PATH = re.compile(rf"(?:(?:file|sqlite):/+|(?<![\w:/.…~-])/)(?:{_PART}/)+({_PART})?")
_WHOLE = re.compile(r"/(?:[^/\0]+/)*([^/\0]*)")
_LEFT_OUT = "…/"


def text(value: str, *, roots: Iterable[str] = ()) -> str:
    """Return a text whose absolute paths are cut to their last part: `…/name`.

    `roots` are folders known to be the machine's own; they go first, whatever signs they hold.
    """
    for root in roots:
        if len(root) > 1:
            value = value.replace(f"{root}/", _LEFT_OUT).replace(root, "…")
    if whole := _WHOLE.fullmatch(value):
        return f"{_LEFT_OUT}{whole[1]}"
    return _PATH.sub(lambda found: f"{_LEFT_OUT}{found[1] or ''}", value)


def records(
    graph: JobGraph, results: Mapping[str, JobResult], *, roots: Iterable[Path] = ()
) -> tuple[JobGraph, dict[str, JobResult]]:
    """Return a graph and its results without paths; workers are numbered as they are met."""
    names = sorted({str(root) for root in (*roots, Path.home())}, key=len, reverse=True)

    def clean(value: str) -> str:
        return text(value, roots=names)

    workers: dict[str, str] = {}
    found = {}
    for job in graph.jobs:
        if job.job_id not in results:
            continue
        data = _walk(json.loads(results[job.job_id].model_dump_json()), clean)
        cost = data.get("cost")
        if cost and cost.get("worker"):
            cost["worker"] = workers.setdefault(cost["worker"], f"worker {len(workers) + 1}")
        found[job.job_id] = JobResult.model_validate(data)
    whole = json.loads(graph.model_dump_json())
    specs = [job.pop("spec") for job in whole["jobs"]]
    whole = _walk(whole, clean)
    for job, spec in zip(whole["jobs"], specs, strict=True):
        job["spec"] = spec
    return JobGraph.model_validate_json(json.dumps(whole)), found


def lines(curve: list[dict[str, Any]], *, roots: Iterable[Path] = ()) -> list[dict[str, Any]]:
    """Return a learning curve without paths."""
    names = [str(root) for root in (*roots, Path.home())]
    found: list[dict[str, Any]] = _walk(curve, lambda value: text(value, roots=names))
    return found


def _walk(data: Any, clean: Callable[[str], str]) -> Any:
    if isinstance(data, str):
        return clean(data)
    if isinstance(data, list):
        return [_walk(item, clean) for item in data]
    if isinstance(data, dict):
        return {key: _walk(value, clean) for key, value in data.items()}
    return data
