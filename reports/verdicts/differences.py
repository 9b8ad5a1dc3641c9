"""How the protocol of a run differs from the one behind a published number, field by field.

Which fields of a recipe and a protocol are compared, and under which name, stands with these fields
(`bench/specs/cards.py`); what else makes a run another one is defined here. Fields are in the
order of their known effect on accuracy, largest first; the effect is given with its source where
somebody measured it. A field that the paper leaves open is not compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import baselines
from baselines.protocols import PREPARATIONS, PROTOCOLS
from bench.facts import AVERAGES, FEWSHOT_L2, VTAB_OWN_READERS
from bench.specs import (
    UNRANKED,
    Compared,
    DatasetCard,
    DataUse,
    PlannedJob,
    Protocol,
    PublishedResult,
    Recipe,
    comparisons,
)

EFFECTS = {
    "weights": "AugReg's recipe is another one (arXiv:2106.10270)",
    "system": "the function computed differs",
    "upstream images": "the paper's main question: its Figures 3 and 4",
    "upstream epochs": "ViT-L/16 on JFT-300M: ImageNet 86.30 after 7 epochs, 87.12 after 14 "
    "(arXiv:2010.11929, Table 6)",
    "steps": "ViT-B/16 on CIFAR-100: 89.17 after 500 steps, 91.15 after 1,000 (the authors' "
    "README), 91.67 after 10,000 (arXiv:2010.11929, Table 5)",
    "image size": "ViT-B/16 on ImageNet: 81.2 at 224 px (the authors' README), 83.97 at 384 px "
    "(arXiv:2010.11929, Table 5)",
    "preparation of test images": "resize rules differ by up to 0.4 in [-1, 1] on single pixels "
    "when images shrink two- to threefold",
    "images kept as": "squares are made with antialiasing, before the protocol's own resize: see "
    "preparation of test images",
    "split": "the authors' released configurations train on 98 or 99 % of train, the paper on all",
    "learning rates": "a published number is the best of its sweep",
    "Polyak averaging": "only ImageNet in Table 2 used it",
}
"""What is known about a field's effect, with its source."""


WEIGHTS = Compared("weights", 10)
SYSTEM = Compared("system", 20)
UPSTREAM_IMAGES = Compared("upstream images", 30)
UPSTREAM_EPOCHS = Compared("upstream epochs", 40)
ORDER = Compared("order of the images", 105)
SEARCH = Compared("search", 120)
SHOTS_L2 = Compared("shots' regularization", 130)
EARLY_STOPPING = Compared("early stopping", 215)

THEIRS = "the authors'"
TUNED = "tuned"
"""What stands for a published value that was searched for and not printed."""
TFDS, TFDS_READER = "TensorFlow Datasets", "tfds-export"
"""Whose file order chooses the published images, and the reader that keeps it."""
DRAWN_READERS = (*VTAB_OWN_READERS, "imagenet")
"""Readers of owners' files, which lie class by class: the first ones are drawn with seed 0."""

_PROTOCOL, _RECIPE, _DATA = comparisons(Protocol), comparisons(Recipe), comparisons(DataUse)


@dataclass(frozen=True, kw_only=True)
class Field:
    """One field of a protocol: as run, and as published."""

    name: str
    """What it is, with its unit."""
    measured: str
    """As run."""
    published: str
    """As published; empty where the paper leaves it open."""
    differs: bool
    """Whether both are known and not the same."""
    rank: int = UNRANKED
    """Place by known effect on accuracy (`Compared.rank`)."""

    @property
    def effect(self) -> str:
        """What is known about its effect on accuracy; empty where nothing is."""
        return EFFECTS.get(self.name.removeprefix("pre-training "), "")

    def __str__(self) -> str:
        return f"{self.name} {self.measured}, published {self.published}"


def fields(
    job: PlannedJob,
    row: PublishedResult | None,
    *,
    jobs: Mapping[str, PlannedJob],
    datasets: Mapping[str, DatasetCard],
) -> tuple[Field, ...]:
    """Return every field of a reported job and of a published number, largest effect first.

    `jobs` are those of its graph, by id: the pre-training and the sweep behind it count too.
    Without a number, the fields have what was run alone.
    """
    return by_effect(_fields(job, row, jobs, datasets))


def by_effect(found: Iterable[Field]) -> tuple[Field, ...]:
    """Return fields in the order of their known effect, the largest first."""
    return tuple(sorted(found, key=lambda field: min(field.rank, UNRANKED)))


def _field(compared: Compared, measured: object, published: object) -> Field:
    """Return a field; a published None is one that the paper leaves open."""
    open_ = published is None
    texts = _text(measured), "" if open_ else _text(published)
    return Field(
        name=compared.title,
        measured=texts[0],
        published=texts[1],
        differs=not open_ and texts[0] != texts[1],
        rank=compared.rank,
    )


def _text(value: object) -> str:
    if value is None or value == ():
        return "none"
    if isinstance(value, bool | str):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Sequence):
        return "{" + ", ".join(_text(item) for item in value) + "}"
    return str(value)


def _fields(
    job: PlannedJob,
    row: PublishedResult | None,
    jobs: Mapping[str, PlannedJob],
    datasets: Mapping[str, DatasetCard],
) -> Iterator[Field]:
    behind = _chain(job, jobs)
    if row is not None:
        yield from _system(job, row)
    yield from _upstream(behind[-1], row, datasets)
    yield from _images(job, row)
    trained = next((b for b in behind[:-1] if b.spec.recipe is not None), None)
    yield from _kept(job, trained or job, row)
    yield from _order(trained or job, row, datasets)
    if trained is not None and row is not None and row.transfer_id:
        yield from _transfer(trained, row, jobs, datasets)
    if "shots" in job.spec.params:
        yield from _shots(job, row, datasets)


def _chain(job: PlannedJob, jobs: Mapping[str, PlannedJob]) -> list[PlannedJob]:
    """Return a job and those whose checkpoints it goes back to, the start of all last."""
    chain = [job]
    while "checkpoint" in chain[-1].spec.needs:
        chain.append(jobs[chain[-1].spec.needs["checkpoint"]])
    return chain


def _system(job: PlannedJob, row: PublishedResult) -> Iterator[Field]:
    """Compare the arguments of the system with those of the published one's card."""
    card = baselines.systems().get(row.system_id)
    if card is None:
        return
    published: dict[str, Any] = {**card.args, **dict(row.system_args)}
    measured = dict(job.spec.system.args)
    names = [n for n in {**published, **measured} if published.get(n) != measured.get(n)]
    yield _field(
        SYSTEM,
        ", ".join(f"{n} = {measured.get(n, 'default')}" for n in names) or card.title,
        ", ".join(f"{n} = {published.get(n, 'default')}" for n in names) or card.title,
    )


def _upstream(
    start: PlannedJob, row: PublishedResult | None, datasets: Mapping[str, DatasetCard]
) -> Iterator[Field]:
    """Compare pre-training: whose weights, on how much, how long, with which recipe."""
    if "weights" in start.spec.params or start.spec.weights_file:  # trained elsewhere
        yield _field(WEIGHTS, _release(start), "the authors' release")
        return
    card = datasets.get(start.labels.upstream)
    if card is not None:
        yield _field(UPSTREAM_IMAGES, start.labels.upstream_examples, card.num_published("train"))
    if row is None:
        return
    if row.epochs:
        epochs = start.train_examples / start.labels.upstream_examples
        near = [number for number in row.epochs if abs(number - epochs) < 0.5]
        given = " or ".join(f"{number:g}" for number in near or row.epochs)
        yield _field(UPSTREAM_EPOCHS, given if near else f"{epochs:.3g}", given)
    if start.spec.recipe is not None and row.pretraining_id:
        published = baselines.recipe(row.pretraining_id)
        for field in _recipe(
            start.spec.recipe, published, row.pretraining_unprinted, tuned=row.pretraining_tuned
        ):
            yield replace(field, name=f"pre-training {field.name}", rank=UNRANKED)
    if start.spec.data is not None and start.spec.data.squared_px is not None:
        field = _field(_DATA["squared_px"], _squares(start), "originals")
        yield replace(field, name=f"pre-training {field.name}")
    if row.early_stopping:
        yield early_stopping(row)


def early_stopping(row: PublishedResult) -> Field:
    """Return how the step that is reported was chosen: here it is always the last."""
    return _field(EARLY_STOPPING, "none", row.early_stopping)


def _release(start: PlannedJob) -> str:
    """Return whose release the weights of a job are; a file's only where its digest says so."""
    card = baselines.systems().get(start.labels.system)
    known = {source.name: source.release for source in card.weights} if card else {}
    if not start.spec.weights_file:
        return f"{known.get(str(start.spec.params['weights']), THEIRS)} release"
    whose = known.get(start.labels.recipe)  # its name, where it was found to be a release
    return f"{whose} release" if whose else "a file of one's own, unverified"


def _images(job: PlannedJob, row: PublishedResult | None) -> Iterator[Field]:
    """Compare the input size and how images are prepared."""
    protocol = job.spec.protocol
    if protocol is None:
        return  # no images are looked at
    published = PROTOCOLS.get(row.protocol_id) if row is not None else None
    size = row.image_size_px if row is not None else None
    if size is None and published is not None:
        size = published.image_size_px
    yield _field(
        _PROTOCOL["image_size_px"],
        f"{protocol.image_size_px} px",
        None if size is None else f"{size} px",
    )
    if published is None:
        return
    for name, compared in _PROTOCOL.items():
        if not compared.by_rule:
            yield _field(
                compared, _prepared(getattr(protocol, name)), _prepared(getattr(published, name))
            )
    if job.spec.recipe is not None:  # otherwise nothing is trained on the images
        yield _field(
            _PROTOCOL["train_transform"],
            _prepared(protocol.train_transform),
            _prepared(published.train_transform),
        )
    yield _field(
        _PROTOCOL["version"],
        protocol.version,
        published.version if protocol.name == published.name else None,
    )


def _prepared(value: Any) -> Any:
    """Return what a preset does to an image, in words; other values as they are."""
    return PREPARATIONS.get(value, value)


def _kept(job: PlannedJob, trained: PlannedJob, row: PublishedResult | None) -> Iterator[Field]:
    """Compare whether the protocol saw the original images, of training too."""
    published = None if row is None else "originals"
    if job.spec.data is not None:
        yield _field(_DATA["squared_px"], _squares(job), published)
    if trained is not job and _squares(trained) != _squares(job):
        field = _field(_DATA["squared_px"], _squares(trained), published)
        yield replace(field, name=f"training {field.name}")


def _squares(job: PlannedJob) -> str:
    side_px = job.spec.data.squared_px if job.spec.data else None
    return "originals" if side_px is None else f"squares of {side_px} px"


def _order(
    job: PlannedJob, row: PublishedResult | None, datasets: Mapping[str, DatasetCard]
) -> Iterator[Field]:
    """Compare which images are the first ones, where only the first ones are learned from.

    These are VTAB's 1,000, and the pool that shots are drawn from.
    """
    card = datasets.get(job.dataset)
    if card is not None and (card.name in AVERAGES["VTAB-1k"] or "pool" in job.spec.params):
        words = "the owner's files, drawn with seed 0"
        if card.reader not in DRAWN_READERS:
            words = TFDS if card.reader == TFDS_READER else f"files read by {card.reader}"
        yield _field(ORDER, words, None if row is None else TFDS)


def _pool(protocol: Protocol, card: DatasetCard) -> int | None:
    """Return how many training images of a data set shots are drawn from; None: all of them."""
    pool = protocol.fewshot_pool
    return pool if pool is not None and pool < card.splits["train"].num_examples else None


def _shots(
    job: PlannedJob, row: PublishedResult | None, datasets: Mapping[str, DatasetCard]
) -> Iterator[Field]:
    """Compare few-shot: which images shots are drawn from, and what is fitted on them."""
    card = datasets.get(job.dataset)
    published = PROTOCOLS.get(row.protocol_id) if row is not None else None
    if card is not None:
        yield _field(
            _PROTOCOL["fewshot_pool"],
            _drawn_from(job.spec.params.get("pool"), card),
            None if published is None else _drawn_from(_pool(published, card), card),
        )
    yield _field(SHOTS_L2, job.spec.params["l2"], FEWSHOT_L2)


def _drawn_from(pool: Any, card: DatasetCard) -> str:
    whole = card.splits["train"].num_examples
    return f"all {whole:,}" if pool is None else f"the first {pool:,} of {whole:,}"


def _transfer(
    job: PlannedJob,
    row: PublishedResult,
    jobs: Mapping[str, PlannedJob],
    datasets: Mapping[str, DatasetCard],
) -> Iterator[Field]:
    """Compare fine-tuning: steps, split, sweep, and everything of the recipe."""
    recipe, published = job.spec.recipe, baselines.recipe(row.transfer_id)
    assert recipe is not None
    card = datasets.get(job.dataset)
    num_train = card.splits["train"].num_examples if card else 1
    yield _field(_RECIPE["steps"], recipe.steps, published.num_steps(num_train))
    chooser = jobs.get(job.spec.needs.get("select", ""))
    held, rates = _sweep(job, chooser, jobs)
    if published.held_out is not None:
        yield _field(
            _RECIPE["held_out"],
            f"{held} held out to choose on" if held else "no part held out",
            f"{published.held_out:g} held out to choose on",
        )
    wanted = published.learning_rates or (published.base_lr,)
    yield _field(_RECIPE["learning_rates"], rates, tuple(sorted(rate for rate in wanted if rate)))
    if chooser is not None and _searched(chooser):
        yield _field(SEARCH, "stops bad rates early (ASHA)", "every rate to its end")
    yield from _recipe(recipe, published, row.transfer_unprinted)


def _searched(chooser: PlannedJob) -> tuple[float, ...]:
    """Return the rates that a search tries by itself; none where jobs of their own try them."""
    rates = chooser.spec.params.get("learning_rates", ())
    assert isinstance(rates, tuple)
    return rates


def _sweep(
    job: PlannedJob, chooser: PlannedJob | None, jobs: Mapping[str, PlannedJob]
) -> tuple[str, tuple[float, ...]]:
    """Return the held-out share and the learning rates tried, in order."""
    assert job.spec.recipe is not None
    if chooser is None:
        return "", (job.spec.recipe.base_lr,) if job.spec.recipe.base_lr else ()
    held_out = chooser.spec.data.held_out if chooser.spec.data else None
    share = "" if held_out is None else f"{held_out:g}"
    if rates := _searched(chooser):
        return share, tuple(sorted(rates))
    candidates = (jobs[needed].spec.recipe for needed in chooser.spec.needs.values())
    return share, tuple(sorted(r.base_lr for r in candidates if r is not None and r.base_lr))


def _recipe(
    recipe: Recipe, published: Recipe, unprinted: Sequence[str], *, tuned: Sequence[str] = ()
) -> Iterator[Field]:
    """Compare two recipes field by field.

    `unprinted` ones are shown, not compared; `tuned` ones, whose outcome is not printed either,
    differ where a run left them at their default.
    """
    for name, compared in _RECIPE.items():
        if not compared.by_rule:
            there = None if name in unprinted else _or_none(getattr(published, name))
            if name in tuned:
                at_default = getattr(recipe, name) == Recipe.model_fields[name].default
                there = TUNED if at_default else None
            yield _field(compared, getattr(recipe, name), there)
    if published.base_lr is not None and recipe.base_lr is not None:
        yield _field(_RECIPE["base_lr"], recipe.base_lr, published.base_lr)


def _or_none(value: Any) -> Any:
    """Return a published value; one that is absent is shown as none, which can be compared."""
    return "none" if value is None else value
