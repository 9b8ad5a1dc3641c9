"""What results were made with: versions, device, threads. It changes no job's identity.

Two results of one id may come from two versions of torch or two kinds of GPU, and then differ a
little. So a table whose values are of several such environments says so under it; a table of one
environment says nothing. What counts is the job of a value and every job behind it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace

from bench.kinds import KINDS
from bench.specs import JobResult, PlannedJob
from reports.printing.table import Table
from reports.study.study import Study, once

WORDS = {
    "vitbench": "with vitbench {}",
    "torch": "with torch {}",
    "timm": "with timm {}",
    "cuda": "with CUDA {}",
    "device": "on {}",
    "decoders": "with {} threads that decode images",
    "pieces": "with batches in {} pieces",
    "workers": "by {} workers",
}
"""The facts of `JobResult.environment` that can move a number or its time, in words."""
_OF_DEVICE = ("cuda", "device", "decoders", "pieces", "workers")
"""Those that say nothing where a kind does not use the device: it runs on any core."""

Facts = frozenset[tuple[str, str]]


def made_with(study: Study, job_ids: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return the values of each fact behind some jobs, in order; what is not stated is left out."""
    found: dict[str, set[str]] = {}
    for key, value in frozenset().union(*(_behind(study).get(each, ()) for each in job_ids)):
        found.setdefault(key, set()).add(value)
    return {key: tuple(sorted(found[key], key=_version)) for key in WORDS if key in found}


def in_words(facts: Mapping[str, tuple[str, ...]]) -> str:
    """Return facts as a person says them: `with torch 2.14.0 and 2.15.0, on Test CPU`."""
    return ", ".join(WORDS[key].format(_listed(values)) for key, values in facts.items())


def with_mixtures(study: Study, table: Table) -> Table:
    """Return a table that says under it of which environments its values are, where of several."""
    if not _is_mixed(study):
        return table
    job_ids = {
        job_id
        for row in table.rows
        for cell in row
        for sample in cell.samples
        for job_id in sample.job_ids
    }
    facts = made_with(study, job_ids)
    mixed = {key: values for key, values in facts.items() if len(values) > 1}
    if not mixed:
        return table
    words = f"Results were made {in_words(mixed)}."
    return replace(table, caption=" ".join(filter(None, (table.caption, words))))


@once
def _is_mixed(study: Study) -> bool:
    """Tell whether results are of several environments: mostly not, and nothing more is asked."""
    keys = tuple(WORDS)
    found = {
        tuple(map(result.environment.get, keys))
        for result in study.results.values()
        if result.environment
    }
    return len(found) > 1


@once
def _behind(study: Study) -> dict[str, Facts]:
    """Return the facts of each job together with those of all jobs behind it, by its id."""
    found: dict[str, Facts] = {}
    for job in study.graph.jobs:  # inputs come before their users
        own = _facts(job, study.results.get(job.job_id))
        behind = {found[needed] for needed in job.spec.needs.values() if needed in found}
        found[job.job_id] = own.union(*behind) if behind - {own} else own
    return found


def _facts(job: PlannedJob, result: JobResult | None) -> Facts:
    """Return what the result of one job states of how it was made."""
    if result is None:
        return frozenset()
    left_out = () if KINDS[job.spec.kind].uses_device else _OF_DEVICE
    environment = result.environment
    return frozenset(
        (key, environment[key]) for key in WORDS if environment.get(key) and key not in left_out
    )


def _listed(values: tuple[str, ...]) -> str:
    *first, last = values
    return f"{', '.join(first)} and {last}" if first else last


def _version(text: str) -> list[tuple[int, str]]:
    """Return a key that sorts versions and counts by number: 2.9 before 2.10."""
    return [
        (int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", text)
    ]
