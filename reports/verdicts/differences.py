"""How the protocol of a run differs from the one behind a published number, field by field.

Fields stand in the order of their known effect on accuracy, largest first; the effect is told with
its source where somebody measured it. A field that print leaves open is not compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import baselines
from baselines.printed import Setup
from baselines.protocols import PROTOCOLS
from bench.errors import UnknownName
from bench.specs import DatasetCard, PlannedJob, Protocol, Recipe

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
    "split": "the authors' released configurations train on 98 or 99 % of train, the paper on all",
    "learning rates": "a published number is the best of its sweep",
    "Polyak averaging": "only ImageNet in Table 2 used it",
}
"""What is known of a field's effect, with its source."""


@dataclass(frozen=True, kw_only=True)
class Field:
    """One field of a protocol: as run, and as published."""

    name: str
    """What it is, with its unit."""
    measured: str
    """As run."""
    published: str
    """As published; empty where print leaves it open."""
    differs: bool
    """Whether both are known and not the same."""

    @property
    def effect(self) -> str:
        """What is known of its effect on accuracy; empty where nothing is."""
        return EFFECTS.get(self.name.removeprefix("pre-training "), "")

    def __str__(self) -> str:
        return f"{self.name} {self.measured}, published {self.published}"


def fields(
    job: PlannedJob,
    setup: Setup,
    *,
    jobs: Mapping[str, PlannedJob],
    datasets: Mapping[str, DatasetCard],
) -> tuple[Field, ...]:
    """Return every field of a reported job beside its published setup, largest effect first.

    `jobs` are those of its graph, by id: the pre-training and the sweep behind it count too.
    """
    found = list(_fields(job, setup, jobs, datasets))
    return tuple(sorted(found, key=lambda field: _rank(field.name)))


_ORDER = (
    "weights", "system", "upstream images", "upstream epochs", "steps", "image size",
    "preparation of test images", "preparation of training images", "split", "split rule",
    "learning rates", "search", "shots' regularization", "Polyak averaging", "batch size",
    "optimizer", "schedule",
)  # fmt: skip


def _rank(name: str) -> int:
    return _ORDER.index(name) if name in _ORDER else len(_ORDER)


def _field(name: str, measured: object, published: object) -> Field:
    """Return a field; a published None is one that print leaves open."""
    open_ = published is None
    texts = _text(measured), "" if open_ else _text(published)
    return Field(
        name=name, measured=texts[0], published=texts[1], differs=not open_ and texts[0] != texts[1]
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
    setup: Setup,
    jobs: Mapping[str, PlannedJob],
    datasets: Mapping[str, DatasetCard],
) -> Iterator[Field]:
    trained = job
    if job.spec.kind == "evaluate":  # the classifier's own training is what counts
        trained = jobs[job.spec.needs["checkpoint"]]
    upstream = trained
    if "checkpoint" in trained.spec.needs:
        upstream = jobs[trained.spec.needs["checkpoint"]]
    yield from _system(job, setup)
    yield from _upstream(upstream, setup, datasets)
    yield from _images(job, setup)
    if trained.spec.kind == "finetune" and setup.transfer in baselines.recipes():
        yield from _transfer(trained, setup, jobs, datasets)
    if job.spec.kind == "fewshot":
        yield _field("shots' regularization", job.spec.params.get("l2"), 1024.0)


def _system(job: PlannedJob, setup: Setup) -> Iterator[Field]:
    """Compare the arguments of the system with those of the published one's card."""
    try:
        card = baselines.system(setup.system)
    except UnknownName:
        return  # print names a system that has no card
    published: dict[str, Any] = {**card.args, **setup.args}
    measured = dict(job.spec.system.args)
    names = [n for n in {**published, **measured} if published.get(n) != measured.get(n)]
    yield _field(
        "system",
        ", ".join(f"{n} = {measured.get(n, 'default')}" for n in names) or card.title,
        ", ".join(f"{n} = {published.get(n, 'default')}" for n in names) or card.title,
    )


def _upstream(
    upstream: PlannedJob, setup: Setup, datasets: Mapping[str, DatasetCard]
) -> Iterator[Field]:
    """Compare pre-training: whose weights, on how much, how long, with which recipe."""
    if upstream.spec.kind == "weights":
        name = str(upstream.spec.params.get("weights", ""))
        whose = "AugReg's" if name.startswith("augreg") else "the authors'"
        yield _field("weights", f"{whose} release", "the authors' release")
        return
    card = datasets.get(upstream.labels.upstream)
    if card is not None:
        yield _field(
            "upstream images", upstream.labels.upstream_examples, card.splits["train"].num_examples
        )
    epochs = upstream.train_examples / upstream.labels.upstream_examples
    if setup.epochs:
        near = [number for number in setup.epochs if abs(number - epochs) < 0.5]
        printed = " or ".join(f"{number:g}" for number in near or setup.epochs)
        yield _field("upstream epochs", printed if near else f"{epochs:.3g}", printed)
    recipe = upstream.spec.recipe
    if recipe is None or setup.pretraining not in baselines.recipes():
        return
    unprinted = tuple(name for name in setup.unprinted if name != "warmup_steps")  # in Table 3
    for field in _recipe(recipe, baselines.recipe(setup.pretraining), unprinted):
        yield Field(
            name=f"pre-training {field.name}", measured=field.measured, published=field.published,
            differs=field.differs,
        )  # fmt: skip


def _images(job: PlannedJob, setup: Setup) -> Iterator[Field]:
    """Compare the input size and how images are prepared."""
    protocol = job.spec.protocol
    assert protocol is not None  # what reports an accuracy looks at images
    published: Protocol | None = PROTOCOLS.get(setup.protocol)
    size = setup.image_size_px
    if size is None and published is not None:
        size = published.image_size_px
    yield _field(
        "image size", f"{protocol.image_size_px} px", None if size is None else f"{size} px"
    )
    if published is None:
        return
    yield _field("split rule", protocol.splits, published.splits)
    yield _field("preparation of test images", protocol.eval_transform, published.eval_transform)
    if job.spec.kind == "finetune":
        yield _field(
            "preparation of training images", protocol.train_transform, published.train_transform
        )
    yield _field(
        "protocol version",
        protocol.version,
        published.version if protocol.name == published.name else None,
    )


def _transfer(
    job: PlannedJob,
    setup: Setup,
    jobs: Mapping[str, PlannedJob],
    datasets: Mapping[str, DatasetCard],
) -> Iterator[Field]:
    """Compare fine-tuning: steps, split, sweep, and everything of the recipe."""
    recipe, published = job.spec.recipe, baselines.recipe(setup.transfer)
    assert recipe is not None
    card = datasets.get(job.dataset)
    num_train = card.splits["train"].num_examples if card else 1
    yield _field("steps", recipe.steps, published.num_steps(num_train))
    chooser = jobs.get(job.spec.needs.get("select", ""))
    held, rates = _sweep(job, chooser, jobs)
    if published.held_out is not None:
        yield _field("split", f"{held} held out to choose on" if held else "no part held out",
                     f"{published.held_out:g} held out to choose on")  # fmt: skip
    wanted = published.learning_rates or (published.base_lr,)
    yield _field("learning rates", rates, tuple(sorted(rate for rate in wanted if rate)))
    if chooser is not None and chooser.spec.kind == "search":
        yield _field("search", "stops bad rates early (ASHA)", "every rate to its end")
    yield from _recipe(recipe, published, setup.unprinted)


def _sweep(
    job: PlannedJob, chooser: PlannedJob | None, jobs: Mapping[str, PlannedJob]
) -> tuple[str, tuple[float, ...]]:
    """Return the held-out share and the learning rates tried, in order."""
    assert job.spec.recipe is not None
    if chooser is None:
        return "", (job.spec.recipe.base_lr,) if job.spec.recipe.base_lr else ()
    held_out = chooser.spec.data.held_out if chooser.spec.data else None
    share = "" if held_out is None else f"{held_out:g}"
    if chooser.spec.kind == "search":
        rates = chooser.spec.params.get("learning_rates", ())
        assert isinstance(rates, tuple)
        return share, tuple(sorted(rates))
    candidates = (jobs[needed].spec.recipe for needed in chooser.spec.needs.values())
    return share, tuple(sorted(r.base_lr for r in candidates if r is not None and r.base_lr))


_TITLES = {
    "batch_size": "batch size",
    "optimizer": "optimizer",
    "schedule": "schedule",
    "end_lr": "end of the schedule",
    "coupled_decay": "coupled weight decay",
    "warmup_steps": "warm-up steps",
    "weight_decay": "weight decay",
    "clip_norm": "gradient clipping",
    "dropout": "dropout",
    "loss": "loss",
    "drop_steps": "steps of decay",
    "mixup": "mixup",
    "polyak": "Polyak averaging",
    "objective": "objective",
}
"""Fields of a recipe that are compared by themselves, as printed."""


def _recipe(recipe: Recipe, published: Recipe, unprinted: Sequence[str]) -> Iterator[Field]:
    """Compare two recipes field by field; `unprinted` ones are shown, not compared."""
    for name, title in _TITLES.items():
        there = None if name in unprinted else _or_none(getattr(published, name))
        yield _field(title, getattr(recipe, name), there)
    if published.base_lr is not None and recipe.base_lr is not None:
        yield _field("peak learning rate", recipe.base_lr, published.base_lr)


def _or_none(value: Any) -> Any:
    """Return a published value; one that is absent is printed as none, which can be compared."""
    return "none" if value is None else value
