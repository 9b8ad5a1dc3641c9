"""Fine-tuning: the learning rate is chosen on held-out images, and test is used once.

The protocol is the paper's (arXiv:2010.11929, appendix B.1.1): the rate is chosen on a held-out
part of the training split, then the model is trained on all of it and reported on test. VTAB-1k
chooses on 200 of its 1,000 images (arXiv:1910.04867). The choice is made once per system and
upstream, with the first seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field, field_validator

from bench.facts import VTAB_SPLITS, VTAB_TRAIN, VTAB_VAL
from bench.kinds.base import (
    CHOOSING,
    FINE_TUNING,
    KindCard,
    Planner,
    Stage,
    Start,
    TransferBlock,
    metric,
)
from bench.kinds.held_out import DEFAULT_HELD_OUT, num_held_out
from bench.paths import HITS, WEIGHTS
from bench.specs import DatasetCard, DataUse, MetricCard, PlannedJob, Recipe
from bench.specs import Protocol as ImageProtocol

NUM_SCORES = 20
"""Scores of a candidate that may stop early: one after each twentieth of its steps."""


class FinetuneBlock(TransferBlock):
    """Fine-tune every weight on each downstream data set."""

    kind: Literal["finetune"]
    """Job kind."""
    recipe: str
    """Name of a recipe."""
    learning_rates: tuple[float, ...] = ()
    """Candidates, chosen on the held-out part of the training split; empty: the recipe's."""
    search: Literal["grid", "asha"] = "grid"
    """`grid` trains every candidate to its end, as the paper; `asha` stops bad ones early in one
    Ray Tune job, and marks its numbers off-protocol."""
    best_of: str = ""
    """Blocks of one name are alternatives; the better on validation is reported."""
    held_out: float | None = Field(default=None, gt=0, lt=1)
    """Share of train held out to choose on; None: the recipe's, or a tenth."""

    @field_validator("learning_rates")
    @classmethod
    def _sane(cls, rates: tuple[float, ...]) -> tuple[float, ...]:
        if any(not 0 < rate < 100 for rate in rates):
            raise ValueError("learning_rates must lie between 0 and 100")
        return rates


@dataclass(frozen=True)
class _Splits:
    """Which images a rate is chosen on, and which the final run uses."""

    choose: DataUse
    """Trained and scored on by candidates."""
    num_choosing: int
    """Images that candidates train on."""
    num_scored: int
    """Images that candidates are scored on."""
    final: DataUse
    """Trained and tested on by final runs."""
    num_train: int
    """Images that final runs train on."""


@dataclass(frozen=True)
class _Task:
    """One data set of a fine-tuning block."""

    planner: Planner
    block: FinetuneBlock
    card: DatasetCard
    protocol: ImageProtocol
    recipe: Recipe
    rates: tuple[float, ...]
    chooses: bool
    """Whether a choice between rates, or between setups, is to be made."""
    splits: _Splits


def plan(planner: Planner, block: FinetuneBlock, key: str) -> None:
    """Plan the choice of a learning rate and the final runs, of every start on each data set."""
    protocol = planner.protocol(block.protocol, f"{key}.protocol")
    chosen = planner.chosen(block, key, protocol)
    for card, _ in planner.downstream(block, key, splits=("train", "test")):
        task = _task(planner, block, key, card, protocol)
        selects: dict[str, str] = {}
        for start in chosen:
            if task.chooses and start.place not in selects:
                choose = _search if block.search == "asha" else _sweep
                selects[start.place] = choose(task, start).job_id
            _final(task, start, selects.get(start.place))


def _task(
    planner: Planner, block: FinetuneBlock, key: str, card: DatasetCard, protocol: ImageProtocol
) -> _Task:
    recipe = planner.recipe(block.recipe, f"{key}.recipe")
    own = (recipe.base_lr,) if recipe.base_lr is not None else ()
    rates = block.learning_rates or recipe.learning_rates or own
    if not rates:
        raise planner.error(
            f"{key}.learning_rates",
            f'missing, and the recipe "{block.recipe}" has none',
            "Add a line such as learning_rates = [0.003, 0.01, 0.03]",
        )
    if recipe.patience and block.search == "asha":
        raise planner.error(
            f"{key}.search",
            f'"asha" stops candidates by each other, and the recipe "{block.recipe}" by themselves',
            'Use search = "grid", or a recipe without patience',
        )
    # Alternatives compete on validation, so that even a single rate is scored there.
    chooses = len(rates) > 1 or bool(block.best_of) or recipe.patience is not None
    if protocol.splits == "vtab-1k":
        splits = _vtab_splits(planner, key, card, protocol)
    else:
        share = block.held_out or recipe.held_out or DEFAULT_HELD_OUT
        splits = _splits(planner, key, card, share, chooses=chooses)
    return _Task(planner, block, card, protocol, recipe, rates, chooses, splits)


def _splits(
    planner: Planner, key: str, card: DatasetCard, share: float, *, chooses: bool
) -> _Splits:
    num_train, num_held = _part(card, "train"), 0
    if chooses:
        num_held = num_held_out(planner, card, share, f"{key}.held_out", "learning rate")
    return _Splits(
        choose=planner.use(card, "train", "held-out", held_out=share),
        num_choosing=num_train - num_held,
        num_scored=num_held,
        final=planner.use(card, "train", "test"),
        num_train=num_train,
    )


def _vtab_splits(planner: Planner, key: str, card: DatasetCard, protocol: ImageProtocol) -> _Splits:
    """Return VTAB-1k's splits; raise SuiteError unless there are 1,000 images.

    Validation is cut from train where the data set has none.
    """
    num_train = card.splits["train"].num_examples
    num_val = (
        card.splits["val"].num_examples if "val" in card.splits else max(0, num_train - VTAB_TRAIN)
    )
    if num_train < VTAB_TRAIN or num_val < VTAB_VAL:
        raise planner.error(
            f"{key}.protocol",
            f"{protocol.name} takes {VTAB_TRAIN} training and {VTAB_VAL} validation images, but "
            f"{card.name} has {num_train:,} and {num_val:,}",
            "Use a protocol that holds out a share of train",
        )
    return _Splits(
        choose=planner.use(card, "train800", "val200"),
        num_choosing=_part(card, "train800"),
        num_scored=_part(card, "val200"),
        final=planner.use(card, "train800val200", "test"),
        num_train=_part(card, "train800val200"),
    )


def _part(card: DatasetCard, split: str) -> int:
    """Return the number of images of a split, VTAB-1k's small ones included."""
    return card.splits[split].num_examples if split in card.splits else VTAB_SPLITS[split]


def _sweep(task: _Task, start: Start) -> PlannedJob:
    """Add the candidates and their selection; return the selection."""
    splits = task.splits
    recipe = task.planner.fixed(task.recipe, splits.num_choosing)
    candidates = {
        f"candidate:{index}": _add(
            task,
            start,
            kind="finetune",
            stage="candidate",
            words=f"choose lr {rate}",
            recipe=recipe.model_copy(update={"base_lr": rate}),
            rate=rate,
            needs={"checkpoint": start.job.job_id},
            num_evaluated=(splits.num_scored,) * (NUM_SCORES if recipe.patience else 1),
        ).job_id
        for index, rate in enumerate(task.rates)
    }
    return _add(task, start, kind="select", stage="select", words="select lr", needs=candidates)


def _search(task: _Task, start: Start) -> PlannedJob:
    """Add one job that searches the rates with early stopping; its cost is an upper bound."""
    splits, num_rates = task.splits, len(task.rates)
    recipe = task.planner.fixed(task.recipe, splits.num_choosing)
    return _add(
        task,
        start,
        kind="search",
        stage="select",
        words="search lr",
        recipe=recipe.model_copy(update={"base_lr": None}),
        params={"learning_rates": task.rates},
        needs={"checkpoint": start.job.job_id},
        num_evaluated=(splits.num_scored,) * num_rates,
        num_trainings=num_rates,
    )


def _final(task: _Task, start: Start, chosen: str | None) -> None:
    recipe = task.planner.fixed(task.recipe, task.splits.num_train)
    needs = {"checkpoint": start.job.job_id}
    _add(
        task,
        start,
        kind="finetune",
        stage="final",
        words="finetune",
        recipe=recipe.model_copy(update={"base_lr": None if chosen else task.rates[0]}),
        needs={**needs, "select": chosen} if chosen else needs,
        num_evaluated=task.card.splits["test"].num_examples,
    )


def _add(
    task: _Task,
    start: Start,
    *,
    kind: str,
    stage: str,
    words: str,
    needs: Mapping[str, str],
    recipe: Recipe | None = None,
    rate: float | None = None,
    params: dict[str, Any] | None = None,
    num_evaluated: int | Sequence[int] = 0,
    num_trainings: int = 1,
) -> PlannedJob:
    card, protocol = task.card, task.protocol
    return task.planner.add(
        kind,
        stage=stage,
        name=f"{words} {start.words} to {card.name} seed {start.seed}",
        system=start.system,
        start=start.job,
        downstream=card,
        data=task.splits.final if stage == "final" else task.splits.choose,
        protocol=protocol,
        recipe=recipe,
        params=params,
        seed=start.seed,
        needs=needs,
        labels={
            "protocol": protocol.name,
            "recipe": task.block.recipe if recipe else "",
            "learning_rate": rate,
            "best_of": task.block.best_of,
        },
        num_evaluated=num_evaluated,
        num_trainings=num_trainings,
    )


CARD = KindCard(
    name="finetune",
    title="Fine-tuning",
    place=30,
    run="bench.jobs.finetune:run",
    shares_batches=True,
    stages=(
        Stage(
            name="candidate",
            title="Choosing rates",
            role="choice",
            work=CHOOSING,
            metrics=metric("val_top1"),
            speed_of="Fine-tuning",
        ),
        Stage(
            name="final",
            title="Fine-tuning",
            role="result",
            work=FINE_TUNING,
            metrics=metric("test_top1"),
            trains_classifier=True,
        ),
    ),
    table="transfer",
    block=FinetuneBlock,
    plan=plan,
    leaves=(WEIGHTS, HITS),
    metrics=(
        MetricCard(
            name="test_top1",
            title="Fine-tuned",
            unit="%",
            base_unit="fraction",
            direction="higher",
            scale=100,
            decimals=1,
            help="top-1 accuracy on the test split after fine-tuning all weights",
        ),
    ),
)
