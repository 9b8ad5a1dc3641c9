"""What the kinds on frozen features share: one job for each start and data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bench.kinds.base import Planner, Start
from bench.specs import Args, DatasetCard
from bench.specs import Protocol as ImageProtocol


def once(starts: Sequence[Start]) -> list[Start]:
    """Return the starts without repetition: public weights are the same at every seed."""
    found: dict[str, Start] = {}
    for start in starts:
        seed = start.job.spec.seed
        found.setdefault(start.job.job_id, replace(start, seed=seed))
    return list(found.values())


def add(
    planner: Planner,
    kind: str,
    start: Start,
    card: DatasetCard,
    protocol: ImageProtocol,
    *,
    words: str,
    params: Args,
    held_out: float | None = None,
    num_train: int | None = None,
    least_evaluated: int = 0,
) -> None:
    """Plan one job on the features of train and test; its stage is named as its kind.

    `num_train` is the number of training images that it looks at; None: all. `least_evaluated` is
    what it needs of each split where steps are limited.
    """
    if num_train is None:
        num_train = card.splits["train"].num_examples
    planner.add(
        kind,
        stage=kind,
        name=f"{words} {start.words} to {card.name} seed {start.seed}",
        system=start.system,
        start=start.job,
        downstream=card,
        data=planner.use(card, "train", "test", held_out=held_out),
        protocol=protocol,
        params=params,
        seed=start.seed,
        needs={"checkpoint": start.job.job_id},
        labels={"protocol": protocol.name},
        num_evaluated=(num_train, card.splits["test"].num_examples),
        least_evaluated=least_evaluated,
    )
