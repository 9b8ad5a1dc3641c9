"""Pairs: systems that a suite sets against each other, and what they are matched on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import baselines
from bench.kinds.base import Start
from bench.plan.names import Names
from bench.specs import Pair, PlannedJob

Place = tuple[str, int]
"""Upstream data set and number of its images."""


def check_pair(
    names: Names, pair: Pair, key: str, starts: Sequence[Start], jobs: Iterable[PlannedJob]
) -> Pair:
    """Return a pair with its systems named as on their cards.

    Raises SuiteError unless the first is measured where each of the others is, and all are nearly
    equal in what they are matched on.
    """
    members = _members(names, pair, key)
    amounts: dict[Place, dict[str, list[float]]] = {}
    for start in starts:
        found = amount(start.job, pair)
        if found:
            by_system = amounts.setdefault(_place(start.job), {})
            by_system.setdefault(start.system.name, []).append(found)
    started = {start.system.name for start in starts}
    for index, name in enumerate(members):
        if not any(name in by_system for by_system in amounts.values()):
            raise _unknown_amount(names, pair, f"{key}.systems[{index}]", name, name in started)
    _check_meeting(names, members, key, jobs)
    for place, by_system in amounts.items():
        _check_ratio(names, pair, key, place, [by_system.get(name, []) for name in members])
    return pair.model_copy(update={"systems": members})


def amount(job: PlannedJob, pair: Pair) -> float | None:
    """Return what a pair is matched on, of the system that a job pre-trains or loads.

    None where nobody says: the compute behind weights, unless the suite states that of a file. 1
    where nothing is matched.
    """
    if pair.match == "exaflops":
        return job.pretrain_exaflops or None
    if pair.match == "params":
        return float(job.num_params)
    if pair.match == "forward_gflops":
        whose = job.spec.protocol or baselines.system(job.labels.system)
        return baselines.forward_flops(job.spec.system, whose.image_size_px) / 1e9
    return 1.0


def _members(names: Names, pair: Pair, key: str) -> tuple[str, ...]:
    """Return the names on the cards; raise SuiteError for two spellings of one system."""
    found: list[str] = []
    for index, written in enumerate(pair.systems):
        where = f"{key}.systems[{index}]"
        name = names.system(written, where).name
        if name in found:
            raise names.error(where, f'"{written}" is "{name}", which the pair already names')
        found.append(name)
    return tuple(found)


def _unknown_amount(names: Names, pair: Pair, key: str, name: str, is_started: bool) -> Exception:
    if is_started:
        return names.error(
            key,
            f'"{name}" starts from weights, whose pre-training compute is not known',
            'Use match = "params", "forward_gflops" or "none"; or state the exaflops of a file',
        )
    loaded = "" if pair.match == "exaflops" else ", nor are weights of it loaded"
    return names.error(key, f'"{name}" is not pre-trained in this suite{loaded}')


def _place(job: PlannedJob) -> Place:
    return job.labels.upstream, job.labels.upstream_examples


def _check_meeting(
    names: Names, members: Sequence[str], key: str, jobs: Iterable[PlannedJob]
) -> None:
    """Raise SuiteError unless something is measured of the first and of each other alike."""
    measured: dict[str, set[tuple[Place, str, str]]] = {name: set() for name in members}
    for job in jobs:
        labels = job.labels
        if labels.system in measured and labels.downstream:
            measured[labels.system].add((_place(job), labels.stage, labels.downstream))
    first = members[0]
    for index, name in enumerate(members[1:], 1):
        if not measured[first] & measured[name]:
            raise names.error(
                f"{key}.systems[{index}]",
                f'"{name}" never meets "{first}": nothing is measured for both after the same '
                "upstream images",
                "Start both from one upstream data set and size, and transfer both to one data set",
            )


def _check_ratio(
    names: Names, pair: Pair, key: str, place: Place, amounts: Sequence[Sequence[float]]
) -> None:
    """Raise SuiteError where the systems differ; of several lengths the nearest is compared."""
    first, *others = amounts
    where = f" on {place[0]}/{place[1]}" if place[0] else ""  # not stated of every file
    for reference in first:
        nearest = [
            min(group, key=lambda found: abs(found - reference)) for group in others if group
        ]
        ratio = max(reference, *nearest) / min(reference, *nearest) if nearest else 1.0
        if ratio > pair.max_ratio:
            raise names.error(
                key,
                f"{pair.matched_on}{where} differs by {ratio:.2f}x, "
                f"more than max_ratio {pair.max_ratio}",
                "Choose systems or recipes that are nearly equal in it, or raise max_ratio",
            )
