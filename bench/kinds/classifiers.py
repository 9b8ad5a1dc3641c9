"""Finished classifiers, for the kinds that score them: fine-tuned in the suite, or public ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from bench.errors import suggest
from bench.kinds import frozen, stages
from bench.kinds.base import Planner, Start, TransferBlock
from bench.specs import Args, DatasetCard, PlannedJob
from bench.specs import Protocol as ImageProtocol


class ClassifierBlock(TransferBlock):
    """Score finished classifiers on each data set."""

    of: str = ""
    """Data set that an earlier fine-tuning block trained the classifier on; empty: the classifier
    that comes with the weights."""


def plan(
    planner: Planner, block: ClassifierBlock, key: str, *, words: str, needs_all_classes: bool
) -> Iterator[tuple[Start, PlannedJob, DatasetCard, ImageProtocol, str]]:
    """Yield each start with its classifier, data set, protocol, and a job's name.

    With `needs_all_classes` a data set of some of the classes is refused.
    """
    protocol = planner.protocol(block.protocol, f"{key}.protocol")
    starts = frozen.once(planner.chosen(block, key, protocol))
    for card, where in planner.downstream(block, key, splits=("test",)):
        for start, classifier in _classifiers(planner, block, key, starts):
            _check_classes(planner, where, card, start, classifier, needs_all_classes)
            of = classifier.labels
            name = (
                f"{words} {start.words} of {of.downstream or of.upstream} on {card.name} "
                f"seed {classifier.spec.seed}"
            )
            yield start, classifier, card, protocol, name


def add(
    planner: Planner,
    kind: str,
    found: tuple[Start, PlannedJob, DatasetCard, ImageProtocol, str],
    params: Args,
) -> None:
    """Plan the scoring of one classifier by a kind; its stage is named as its kind."""
    start, classifier, card, protocol, name = found
    planner.add(
        kind,
        stage=kind,
        name=name,
        system=start.system,
        start=start.job,
        classifier=classifier,
        downstream=card,
        data=planner.use(card, "", "test", num_classes=classifier.spec.num_classes),
        protocol=protocol,
        params=params,
        seed=classifier.spec.seed,
        needs={"checkpoint": classifier.job_id},
        labels={
            "protocol": protocol.name,
            "recipe": classifier.labels.recipe,
            "best_of": classifier.labels.best_of,
        },
        num_evaluated=card.splits["test"].num_examples,
    )


def _check_classes(
    planner: Planner,
    where: str,
    card: DatasetCard,
    start: Start,
    classifier: PlannedJob,
    needs_all_classes: bool,
) -> None:
    classes = classifier.spec.num_classes
    if classes is None:
        raise planner.error(
            where,
            f"the file that {start.system.name} starts from has no classifier",
            "Name in `of` the data set that an earlier fine-tuning block trained it on",
        )
    if card.num_classes != classes and (needs_all_classes or card.scoring != "class-subset"):
        raise planner.error(
            where,
            f"{card.name} has {card.num_classes:,} classes, but the classifier of "
            f"{start.system.name} has {classes:,}",
            "Name in `of` the data set that a classifier of these classes was trained on",
        )


def _classifiers(
    planner: Planner, block: ClassifierBlock, key: str, starts: Sequence[Start]
) -> Iterator[tuple[Start, PlannedJob]]:
    """Yield the classifiers that a block means, each with where it started."""
    if not block.of:
        for start in starts:
            if start.job.spec.data is not None:  # trained here; weights come with theirs
                raise planner.error(
                    f"{key}.of",
                    f"missing: {start.system.name} is pre-trained here and has no classifier of "
                    "its own",
                    "Name the data set that an earlier fine-tuning block trained it on",
                )
            yield start, start.job
        return
    finals = _finals(planner, block.of)
    if not finals:
        trained = {job.labels.downstream for job in planner.jobs.values()} - {""}
        raise planner.error(
            f"{key}.of",
            f'no earlier fine-tuning block trains on "{block.of}"',
            suggest(block.of, trained, kind="data set"),
        )
    for start in starts:
        for final in finals.get(start.job.job_id, ()):
            yield start, final


def _finals(planner: Planner, dataset: str) -> Mapping[str, list[PlannedJob]]:
    """Return the classifiers trained on a data set, by the checkpoint they started from."""
    found: dict[str, list[PlannedJob]] = {}
    for job in planner.jobs.values():
        leaves_one = stages()[job.labels.stage].trains_classifier
        if leaves_one and job.labels.downstream == dataset:
            found.setdefault(job.spec.needs["checkpoint"], []).append(job)
    return found
