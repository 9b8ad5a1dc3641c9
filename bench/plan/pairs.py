"""Pairs: systems that a suite compares at equal pre-training compute."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench.kinds.base import Start
from bench.plan.names import Names
from bench.specs import Pair


def check_pair(names: Names, pair: Pair, key: str, starts: Sequence[Start]) -> None:
    """Raise SuiteError unless the members are pre-trained here with nearly equal compute."""
    members = {role: names.system(name, f"{key}.{role}").name for role, name in _members(pair)}
    work: dict[tuple[str, int], dict[str, float]] = {}
    for start in starts:
        labels = start.job.labels
        if labels.stage == "pretrain":
            where = (labels.upstream, labels.upstream_examples)
            work.setdefault(where, {})[labels.system] = start.job.exaflops
    for role, name in members.items():
        if not any(name in found for found in work.values()):
            raise names.error(f"{key}.{role}", f'"{name}" is not pre-trained in this suite')
    for where, found in work.items():
        present = [found[name] for name in members.values() if name in found]
        ratio = max(present) / min(present) if present else 1.0
        if ratio > pair.max_ratio:
            raise names.error(
                key,
                f"pre-training compute on {where[0]}/{where[1]} differs by {ratio:.2f}x, "
                f"more than max_ratio {pair.max_ratio}",
                "Choose systems or recipes of equal compute, or raise max_ratio",
            )


def _members(pair: Pair) -> Iterator[tuple[str, str]]:
    yield "vit", pair.vit
    yield "bit", pair.bit
    if pair.hybrid is not None:
        yield "hybrid", pair.hybrid
