"""Transfers: what is measured of every checkpoint on each downstream data set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from bench.errors import suggest
from bench.plan import finetuning
from bench.plan.graph import Builder, digest
from bench.plan.starts import Start
from bench.specs import Args, DatasetCard, DataUse, PlannedJob, Protocol, TransferBlock

KNN_TEMPERATURE = 0.07
"""Temperature of the vote of neighbours (Wu et al., arXiv:1805.01978)."""

_SPLITS = ("train", "test")
"""What a transfer learns from and reports on."""

_WORDS = {"fewshot": "few-shot", "probe": "probe", "knn": "neighbours", "evaluate": "evaluate"}


def transfer(builder: Builder, block: TransferBlock, key: str, starts: Sequence[Start]) -> None:
    """Plan one block: every start that it names, on every data set."""
    names = builder.names
    protocol = names.protocol(block.protocol, f"{key}.protocol")
    chosen = _chosen(builder, block, key, starts)
    for index, name in enumerate(block.datasets):
        where = f"{key}.datasets[{index}]"
        card = names.dataset(name, where)
        names.check_splits(card, ("test",) if block.kind == "evaluate" else _SPLITS, where)
        if card.args.get("stream"):
            raise names.error(
                where, f"{name} is streamed, which serves pre-training alone", "Leave stream out"
            )
        for start in chosen:
            names.check_size(start.system, protocol, key)
        if block.kind == "finetune":
            finetuning.finetune(builder, block, key, card, protocol, chosen)
        elif block.kind == "evaluate":
            _evaluate(builder, block, key, where, card, protocol, _once(chosen))
        else:
            _frozen(builder, block, key, card, protocol, chosen)


def _chosen(
    builder: Builder, block: TransferBlock, key: str, starts: Sequence[Start]
) -> list[Start]:
    """Return the starts of the systems that a block names; of all systems where it names none."""
    known = {start.system.name for start in starts}
    wanted = set()
    for index, name in enumerate(block.systems):
        where = f"{key}.systems[{index}]"
        system = builder.names.system(name, where)
        if system.name not in known:
            raise builder.names.error(
                where,
                f'"{name}" is neither pre-trained nor loaded in this suite',
                suggest(name, known, kind="system"),
            )
        wanted.add(system.name)
    return [start for start in starts if not wanted or start.system.name in wanted]


def _once(starts: Sequence[Start]) -> list[Start]:
    """Return the starts without repetition: public weights are the same at every seed."""
    found: dict[str, Start] = {}
    for start in starts:
        seed = start.job.spec.seed
        found.setdefault(start.job.job_id, replace(start, seed=seed))
    return list(found.values())


# --- on frozen features ---------------------------------------------------------------------


def _frozen(
    builder: Builder,
    block: TransferBlock,
    key: str,
    card: DatasetCard,
    protocol: Protocol,
    starts: Sequence[Start],
) -> None:
    """Plan few-shot accuracy, linear probe or nearest neighbours: one job for each start."""
    params, held_out = _arguments(builder, block, key, card)
    data = DataUse(
        digest=digest(card),
        num_classes=card.num_classes,
        train_split="train",
        eval_split="test",
        held_out=held_out,
    )
    # A probe holds out another part of the training images at each seed; the others draw nothing.
    for start in starts if block.kind == "probe" else _once(starts):
        job = start.job
        builder.add(
            builder.transfer_spec(
                block.kind,
                job,
                data=data,
                protocol=protocol,
                seed=start.seed,
                needs={"checkpoint": job.job_id},
                params=params,
            ),
            name=f"{_WORDS[block.kind]} {start.words} to {card.name} seed {start.seed}",
            system=start.system,
            card=card,
            labels=finetuning.labels(job, card, protocol, stage=block.kind),
            num_evaluated=sum(card.splits[name].num_examples for name in ("train", "test")),
            upstream=job,
        )


def _arguments(
    builder: Builder, block: TransferBlock, key: str, card: DatasetCard
) -> tuple[Args, float | None]:
    """Return the arguments of a kind, and the share of train that it holds out."""
    if block.kind == "fewshot":
        _check_shots(builder, block, key, card)
        return {"shots": block.shots, "draws": block.draws, "l2": block.l2}, None
    if block.kind == "knn":
        return {"neighbours": block.neighbours, "temperature": KNN_TEMPERATURE}, None
    held_out = block.held_out or finetuning.DEFAULT_HELD_OUT
    finetuning.num_held_out(builder, card, held_out, f"{key}.held_out", "regularization")
    return {"l2s": block.l2s}, held_out


def _check_shots(builder: Builder, block: TransferBlock, key: str, card: DatasetCard) -> None:
    available = card.splits["train"].num_examples
    for index, shots in enumerate(block.shots):
        if shots * card.num_classes > available:
            raise builder.names.error(
                f"{key}.shots[{index}]",
                f"{shots} images for each of {card.num_classes} classes asked of {card.name}, "
                f"whose training split has {available:,}",
                f"At most {available // card.num_classes}",
            )


# --- of classifiers -------------------------------------------------------------------------


def _evaluate(
    builder: Builder,
    block: TransferBlock,
    key: str,
    where: str,
    card: DatasetCard,
    protocol: Protocol,
    starts: Sequence[Start],
) -> None:
    """Plan the evaluation of classifiers: fine-tuned in this suite, or coming with weights."""
    for start, classifier in _classifiers(builder, block, key, starts):
        _check_classes(builder, where, card, start, classifier)
        seed = classifier.spec.seed
        spec = builder.transfer_spec(
            "evaluate",
            start.job,
            data=DataUse(
                digest=digest(card),
                num_classes=classifier.spec.data.num_classes,
                train_split="",
                eval_split="test",
            ),
            protocol=protocol,
            seed=seed,
            needs={"checkpoint": classifier.job_id},
            params={"scoring": card.scoring},
        )
        of = classifier.labels
        builder.add(
            spec,
            name=f"evaluate {start.words} of {of.downstream or of.upstream} on {card.name} "
            f"seed {seed}",
            system=start.system,
            card=card,
            labels=finetuning.labels(
                start.job, card, protocol, stage="evaluate", recipe=of.recipe, best_of=of.best_of
            ),
            num_evaluated=card.splits["test"].num_examples,
            upstream=classifier,
        )


def _check_classes(
    builder: Builder, where: str, card: DatasetCard, start: Start, classifier: PlannedJob
) -> None:
    num_classes = classifier.spec.data.num_classes
    if card.num_classes != num_classes and card.scoring != "class-subset":
        raise builder.names.error(
            where,
            f"{card.name} has {card.num_classes:,} classes, but the classifier of "
            f"{start.system.name} has {num_classes:,}",
            "Name in `of` the data set that a classifier of these classes was trained on",
        )


def _classifiers(
    builder: Builder, block: TransferBlock, key: str, starts: Sequence[Start]
) -> Iterator[tuple[Start, PlannedJob]]:
    """Yield the classifiers that a block means, each with where it started."""
    names = builder.names
    if not block.of:
        for start in starts:
            if start.job.spec.kind != "weights":
                raise names.error(
                    f"{key}.of",
                    f"missing: {start.system.name} is pre-trained here and has no classifier of "
                    "its own",
                    "Name the data set that an earlier fine-tuning block trained it on",
                )
            yield start, start.job
        return
    finals = _finals(builder, block.of)
    if not finals:
        trained = {job.labels.downstream for job in builder.jobs.values()} - {""}
        raise names.error(
            f"{key}.of",
            f'no earlier fine-tuning block trains on "{block.of}"',
            suggest(block.of, trained, kind="data set"),
        )
    for start in starts:
        for final in finals.get(start.job.job_id, ()):
            yield start, final


def _finals(builder: Builder, dataset: str) -> Mapping[str, list[PlannedJob]]:
    """Return the classifiers fine-tuned on a data set, by the checkpoint they started from."""
    found: dict[str, list[PlannedJob]] = {}
    for job in builder.jobs.values():
        if job.labels.stage == "final" and job.labels.downstream == dataset:
            found.setdefault(job.spec.needs["checkpoint"], []).append(job)
    return found
