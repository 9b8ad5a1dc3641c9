"""Fine-tuning: the learning rate is chosen on held-out images, and test is used once.

The protocol is the paper's (arXiv:2010.11929, appendix B.1.1): the rate is chosen on a held-out
part of the training split, then the model is trained on all of it and reported on test. VTAB-1k
chooses on 200 of its 1,000 images (arXiv:1910.04867). The choice is made once per system and
upstream, with the first seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.plan.graph import Builder, digest, part
from bench.plan.starts import Start
from bench.specs import (
    DatasetCard,
    DataUse,
    Labels,
    PlannedJob,
    Protocol,
    Recipe,
    TransferBlock,
)

DEFAULT_HELD_OUT = 0.1
"""Share of train to choose on, where neither suite nor recipe says."""


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

    builder: Builder
    block: TransferBlock
    card: DatasetCard
    protocol: Protocol
    recipe: Recipe
    rates: tuple[float, ...]
    chooses: bool
    """Whether a choice between rates, or between setups, is to be made."""
    splits: _Splits


def finetune(
    builder: Builder,
    block: TransferBlock,
    key: str,
    card: DatasetCard,
    protocol: Protocol,
    starts: Sequence[Start],
) -> None:
    """Plan the choice of a learning rate and the final runs, of every start on one data set."""
    task = _task(builder, block, key, card, protocol)
    selects: dict[str, str] = {}
    for start in starts:
        if task.chooses and start.place not in selects:
            choose = _search if block.search == "asha" else _sweep
            selects[start.place] = choose(task, start).job_id
        chosen = selects.get(start.place)
        final = builder.fixed(task.recipe, task.splits.num_train)
        _add(
            task,
            start,
            kind="finetune",
            stage="final",
            words="finetune",
            recipe=final.model_copy(update={"base_lr": None if chosen else task.rates[0]}),
            needs={"select": chosen} if chosen else {},
            num_evaluated=card.splits["test"].num_examples,
        )


def _task(
    builder: Builder, block: TransferBlock, key: str, card: DatasetCard, protocol: Protocol
) -> _Task:
    assert block.recipe is not None  # TransferBlock checked it
    recipe = builder.names.recipe(block.recipe, f"{key}.recipe")
    own = (recipe.base_lr,) if recipe.base_lr is not None else ()
    rates = block.learning_rates or recipe.learning_rates or own
    if not rates:
        raise builder.names.error(
            f"{key}.learning_rates",
            f'missing, and the recipe "{block.recipe}" has none',
            "Add a line such as learning_rates = [0.003, 0.01, 0.03]",
        )
    # Alternatives compete on validation, so that even a single rate is scored there.
    chooses = len(rates) > 1 or bool(block.best_of)
    splits = _splits(builder, block, key, card, protocol, recipe, chooses=chooses)
    return _Task(builder, block, card, protocol, recipe, rates, chooses, splits)


def labels(
    start: PlannedJob,
    card: DatasetCard,
    protocol: Protocol,
    *,
    stage: Any,
    recipe: str = "",
    learning_rate: float | None = None,
    best_of: str = "",
) -> Labels:
    """Return the names of a transfer that starts from the job `start`."""
    return start.labels.model_copy(
        update={
            "downstream": card.name,
            "protocol": protocol.name,
            "recipe": recipe,
            "learning_rate": learning_rate,
            "stage": stage,
            "best_of": best_of,
        }
    )


def num_held_out(
    builder: Builder, card: DatasetCard, held_out: float, key: str, choice: str
) -> int:
    """Return the number of held-out images; raise SuiteError where they are too few."""
    num_held = round(card.splits["train"].num_examples * held_out)
    if num_held < card.num_classes:
        raise builder.names.error(
            key,
            f"{num_held} images of {card.name} are too few to choose a {choice} for "
            f"{card.num_classes} classes",
        )
    return num_held


def _splits(
    builder: Builder,
    block: TransferBlock,
    key: str,
    card: DatasetCard,
    protocol: Protocol,
    recipe: Recipe,
    *,
    chooses: bool,
) -> _Splits:
    def use(train_split: str, eval_split: str, held_out: float | None = None) -> DataUse:
        return DataUse(
            digest=digest(card),
            num_classes=card.num_classes,
            train_split=train_split,
            eval_split=eval_split,
            held_out=held_out,
        )

    if protocol.splits == "vtab-1k":
        _check_vtab(builder, key, card, protocol)
        return _Splits(
            choose=use("train800", "val200"),
            num_choosing=part(card, "train800"),
            num_scored=part(card, "val200"),
            final=use("train800val200", "test"),
            num_train=part(card, "train800val200"),
        )
    share = block.held_out or recipe.held_out or DEFAULT_HELD_OUT
    num_train, num_held = part(card, "train"), 0
    if chooses:
        num_held = num_held_out(builder, card, share, f"{key}.held_out", "learning rate")
    return _Splits(
        choose=use("train", "held-out", share),
        num_choosing=num_train - num_held,
        num_scored=num_held,
        final=use("train", "test"),
        num_train=num_train,
    )


def _check_vtab(builder: Builder, key: str, card: DatasetCard, protocol: Protocol) -> None:
    """Raise SuiteError unless there are 1,000 images; val is cut from train where it is missing."""
    num_train = card.splits["train"].num_examples
    num_val = card.splits["val"].num_examples if "val" in card.splits else max(0, num_train - 800)
    if num_train < 800 or num_val < 200:
        raise builder.names.error(
            f"{key}.protocol",
            f"{protocol.name} takes 800 training and 200 validation images, but {card.name} has "
            f"{num_train:,} and {num_val:,}",
            "Use a protocol that holds out a share of train",
        )


def _sweep(task: _Task, start: Start) -> PlannedJob:
    """Add the candidates and their selection; return the selection."""
    splits = task.splits
    recipe = task.builder.fixed(task.recipe, splits.num_choosing)
    candidates = {
        f"candidate:{index}": _add(
            task,
            start,
            kind="finetune",
            stage="candidate",
            words=f"choose lr {rate}",
            recipe=recipe.model_copy(update={"base_lr": rate}),
            rate=rate,
            num_evaluated=splits.num_scored,
        ).job_id
        for index, rate in enumerate(task.rates)
    }
    return _add(
        task,
        start,
        kind="select",
        stage="select",
        words="select lr",
        needs=candidates,
    )


def _search(task: _Task, start: Start) -> PlannedJob:
    """Add one job that searches the rates with early stopping; its cost is an upper bound."""
    splits, num_rates = task.splits, len(task.rates)
    recipe = task.builder.fixed(task.recipe, splits.num_choosing)
    return _add(
        task,
        start,
        kind="search",
        stage="select",
        words="search lr",
        recipe=recipe.model_copy(update={"base_lr": None}),
        params={"learning_rates": task.rates},
        num_evaluated=splits.num_scored * num_rates,
        num_trainings=num_rates,
    )


def _add(
    task: _Task,
    start: Start,
    *,
    kind: str,
    stage: str,
    words: str,
    recipe: Recipe | None = None,
    rate: float | None = None,
    params: dict[str, Any] | None = None,
    needs: Mapping[str, str] | None = None,
    num_evaluated: int = 0,
    num_trainings: int = 1,
) -> PlannedJob:
    job, card, protocol = start.job, task.card, task.protocol
    checkpoint = {} if kind == "select" else {"checkpoint": job.job_id}
    spec = task.builder.transfer_spec(
        kind,
        job,
        data=task.splits.final if stage == "final" else task.splits.choose,
        protocol=protocol,
        seed=start.seed,
        needs={**checkpoint, **(needs or {})},
        recipe=recipe,
        params=params,
    )
    name = (task.block.recipe or "") if recipe else ""
    best_of = task.block.best_of
    return task.builder.add(
        spec,
        name=f"{words} {start.words} to {card.name} seed {start.seed}",
        system=start.system,
        card=card,
        labels=labels(
            job, card, protocol, stage=stage, recipe=name, learning_rate=rate, best_of=best_of
        ),
        num_evaluated=num_evaluated,
        num_trainings=num_trainings,
        upstream=job,
    )
