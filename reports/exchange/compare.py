"""Two sets of results side by side: what differs, by how much, and what only one of them has.

The same job has the same id on every machine: values of one job are compared with each other, and
their differences, over all jobs of one metric, are paired. Jobs that only one side has are listed;
those of one name and two ids are of other versions or settings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench import digests, metrics, stats
from bench.errors import UnknownName
from bench.specs import JobResult


@dataclass(frozen=True)
class Side:
    """One set of results."""

    name: str
    """What it is called."""
    results: Mapping[str, JobResult]
    """Results of done jobs by id."""
    titles: Mapping[str, str]
    """Readable names of jobs by id, where known."""


@dataclass(frozen=True)
class Value:
    """One value that differs."""

    job: str
    job_id: str
    metric: str
    first: float | None
    second: float | None
    difference: float | None
    """Second minus first."""


@dataclass(frozen=True)
class Paired:
    """The differences of one metric over all jobs that both sides did."""

    metric: str
    n: int
    """Jobs with a value on both sides."""
    equal: int
    """Those of equal value."""
    mean: float
    """Mean difference, second minus first."""
    low: float | None
    high: float | None
    """95 % interval of the mean by Student's t over jobs; None for one job."""
    largest: float
    """Largest difference, without its sign."""


@dataclass(frozen=True)
class Comparison:
    """What two sets of results say of each other."""

    first: str
    second: str
    num_shared: int
    """Jobs that both did."""
    paired: tuple[Paired, ...]
    values: tuple[Value, ...]
    """Values that differ, largest difference first."""
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    """Names of jobs that only one side did."""
    environment: Mapping[str, tuple[str, str]]
    """Facts of the machines that differ: name -> (first, second)."""

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as JSON-able data."""
        return asdict(self)


def compare(first: Side, second: Side) -> Comparison:
    """Compare two sets of results.

    Raises CheckpointError where both start from public weights of one name and two digests: the
    jobs after them are not the same jobs.
    """
    shared = [job_id for job_id in first.results if job_id in second.results]
    _check_weights(first, second, shared)
    differences: dict[str, list[float]] = {}
    values: list[Value] = []
    for job_id in shared:
        a, b = first.results[job_id].metrics, second.results[job_id].metrics
        for metric in dict.fromkeys((*a, *b)):
            x = a[metric].value if metric in a else None
            y = b[metric].value if metric in b else None
            difference = None if x is None or y is None else y - x
            if difference is not None:
                differences.setdefault(metric, []).append(difference)
            if x != y:
                name = _title(job_id, first, second)
                values.append(Value(name, job_id, metric, x, y, difference))
    return Comparison(
        first=first.name,
        second=second.name,
        num_shared=len(shared),
        paired=tuple(_paired(metric, found) for metric, found in differences.items()),
        values=tuple(sorted(values, key=_size, reverse=True)),
        only_first=_only(first, second),
        only_second=_only(second, first),
        environment=_environments(first, second, shared),
    )


def _check_weights(first: Side, second: Side, shared: Sequence[str]) -> None:
    for job_id in shared:
        said = [
            digests.Stated(digests.digest_of(side.results[job_id]), f"job {job_id} of {side.name}")
            for side in (first, second)
        ]
        if all(stated.sha256 for stated in said):
            name = str(first.results[job_id].values.get("weights"))
            digests.check(name, "", said[0], [said[1]], cure=digests.RUN_AGAIN)


def _paired(metric: str, differences: Sequence[float]) -> Paired:
    found = stats.summary(differences)
    interval = stats.t_interval(differences)
    return Paired(
        metric=metric,
        n=len(differences),
        equal=sum(difference == 0 for difference in differences),
        mean=found.mean or 0.0,
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        largest=max(map(abs, differences)),
    )


def _size(value: Value) -> float:
    return float("inf") if value.difference is None else abs(value.difference)


def _title(job_id: str, *sides: Side) -> str:
    return next((side.titles[job_id] for side in sides if job_id in side.titles), job_id)


def _only(side: Side, other: Side) -> tuple[str, ...]:
    """Return the names of jobs that the other side lacks; what it has under another id is said."""
    there = {other.titles[job_id] for job_id in other.results if job_id in other.titles}
    found = []
    for job_id in side.results:
        if job_id not in other.results:
            name = _title(job_id, side)
            twin = " (there under another id: other versions or settings)" * (name in there)
            found.append(f"{name}{twin}")
    return tuple(found)


def _environments(first: Side, second: Side, shared: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Return the facts that differ; of several values on one side, all are given."""
    facts: list[dict[str, dict[str, None]]] = []
    for side in (first, second):
        met: dict[str, dict[str, None]] = {}
        for job_id in shared or side.results:
            for key, value in side.results[job_id].environment.items():
                met.setdefault(key, {})[value] = None
        facts.append(met)
    found = {}
    for key in dict.fromkeys((*facts[0], *facts[1])):
        a, b = (", ".join(sorted(met.get(key, {}))) for met in facts)
        if a != b:
            found[key] = (a, b)
    return found


def words(comparison: Comparison, *, limit: int = 20) -> list[str]:
    """Return the comparison in lines for a person; at most `limit` values and names each."""
    lines = [
        f"{comparison.num_shared:,} jobs done in both, {len(comparison.only_first):,} in "
        f"{comparison.first} alone, {len(comparison.only_second):,} in {comparison.second} alone"
    ]
    for row in comparison.paired:
        if row.equal == row.n:
            lines.append(f"{_metric(row.metric)}: all {row.n:,} equal")
            continue
        interval = "" if row.low is None else f" [{row.low:+.4g}, {row.high:+.4g}]"
        lines.append(
            f"{_metric(row.metric)}: {row.equal:,} of {row.n:,} equal; mean difference "
            f"{row.mean:+.4g}{interval}, largest {row.largest:.4g}"
        )
    lines += _some(
        [
            f"differs  {v.job}: {_metric(v.metric)} {_shown(v.first)} -> {_shown(v.second)}"
            + ("" if v.difference is None else f" ({v.difference:+.4g})")
            for v in comparison.values
        ],
        limit,
    )
    lines += _some([f"only in {comparison.first}: {name}" for name in comparison.only_first], limit)
    lines += _some(
        [f"only in {comparison.second}: {name}" for name in comparison.only_second], limit
    )
    for key, (a, b) in comparison.environment.items():
        lines.append(f"environment {key}: {a or 'not stated'} -> {b or 'not stated'}")
    return lines


def _metric(name: str) -> str:
    try:
        return f"{name} ({metrics.metric(name).base_unit})"
    except UnknownName:
        return name


def _shown(value: float | None) -> str:
    return "no value" if value is None else f"{value:.6g}"


def _some(lines: list[str], limit: int) -> list[str]:
    more = len(lines) - limit
    return lines if more <= 0 else [*lines[:limit], f"and {more:,} more"]
