"""What the names of a suite mean; a wrong one is shown with its key and the nearest right one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import baselines
from baselines.contents import Contents, check_system, contents
from bench.errors import BenchError, SuiteError, UnknownName, UserError, suggest
from bench.kinds.base import OwnWeights
from bench.plan.spec import SuiteSpec
from bench.plan.weights_files import WeightsFile, look
from bench.specs import (
    GPU_ARITHMETIC,
    DatasetCard,
    Precision,
    Protocol,
    Recipe,
    SystemCard,
    WeightsSource,
)

Recorded = Mapping[str, str]
"""SHA-256 of public weights as a work folder recorded them, by address."""


class Names:
    """Looks up the names of one suite, and remembers which data sets it uses."""

    def __init__(
        self,
        suite: SuiteSpec,
        datasets: Mapping[str, DatasetCard],
        protocols: Mapping[str, Protocol],
        file: str,
        recorded: Recorded = MappingProxyType({}),
    ) -> None:
        self.suite = suite
        self.datasets = datasets
        self.protocols = {**protocols, **suite.protocol}
        self.file = file
        self._recorded = recorded
        self.recipes = {**baselines.recipes(), **suite.recipe}
        self.systems: dict[str, SystemCard] = {}
        for name in suite.system:
            self._define(name)
        self.used: dict[str, DatasetCard] = {}
        self._check_presets(protocols)
        for name in suite.recipe:
            if name in baselines.recipes():
                raise self.error(
                    f"recipe.{name}", "this is already the name of a recipe", "Choose another one"
                )

    def error(self, key: str, cause: str, hint: str = "") -> SuiteError:
        """Return the error to raise for what stands at `key`."""
        return SuiteError(self.file, key, cause, hint=hint)

    def system(self, name: str, key: str) -> SystemCard:
        """Return a system of the suite's own, or a card."""
        if name in self.systems:
            return self.systems[name]
        try:
            return baselines.system(name)
        except UnknownName as error:
            hint = error.hint
            if self.systems and ":" not in name:
                hint = suggest(name, [*self.systems, *baselines.systems()], kind="system")
            raise self.error(key, error.message, hint) from error
        except UserError as error:
            raise self.error(key, error.message, error.hint) from error

    def dataset(self, name: str, key: str) -> DatasetCard:
        """Return a data set card, and note that the suite uses it."""
        if name not in self.datasets:
            raise self.error(
                key, f'unknown data set "{name}"', suggest(name, self.datasets, kind="data set")
            )
        self.used[name] = self.datasets[name]
        return self.datasets[name]

    def protocol(self, name: str, key: str) -> Protocol:
        """Return a protocol, without its source: it changes no number."""
        if name not in self.protocols:
            raise self.error(
                key, f'unknown protocol "{name}"', suggest(name, self.protocols, kind="protocol")
            )
        return self.protocols[name].model_copy(update={"source": ""})

    def recipe(self, name: str, key: str) -> Recipe:
        """Return a recipe of the suite's own, or a published one."""
        if name not in self.recipes:
            raise self.error(
                key, f'unknown recipe "{name}"', suggest(name, self.recipes, kind="recipe")
            )
        found = self.recipes[name]
        self.check_arithmetic(found.precision, key)
        return found

    def weights(self, system: SystemCard, name: str, key: str) -> WeightsSource:
        """Return the weights `name` of a system, public or not."""
        known = {source.name: source for source in system.weights}
        if name not in known:
            raise self.error(
                key,
                f'{system.name} has no weights "{name}"',
                suggest(name, known, kind="weights") if known else "It has none at all",
            )
        return known[name]

    def weights_file(
        self, system: SystemCard, file: str, key: str, *, name: str, trained_on: Sequence[str]
    ) -> OwnWeights:
        """Return a weights file of the user's own, found to be of a system.

        It goes by the name of a release only where its digest is that of the release.
        """
        try:
            found = look(Path(file))
            held = contents(system, found.shapes)
            check_system(system, found.shapes)
        except BenchError as error:
            message = error.message if file in error.message else f"{file}: {error.message}"
            raise self.error(f"{key}.file", message, error.hint) from error
        stated = [
            self.dataset(dataset, f"{key}.trained_on[{index}]")
            for index, dataset in enumerate(trained_on)
        ]
        release = self._release(system, found)
        if release is not None:
            stated = self._released(release, stated, f"{key}.trained_on")
        if stated:
            self.check_splits(stated[0], ("train",), f"{key}.trained_on[0]")
            self.used[stated[0].name] = stated[0]
        return OwnWeights(
            path=str(found.path),
            sha256=found.sha256,
            name=release.name if release else f"{name or found.path.name} (unverified)",
            note=_note(system, found, name, held, release, stated),
            num_classes=held.num_classes,
            upstream=stated[0] if stated else None,
        )

    def _released(
        self, release: WeightsSource, stated: Sequence[DatasetCard], key: str
    ) -> list[DatasetCard]:
        """Return what a release was trained on; raise where the suite says something else."""
        known = [step.dataset for step in release.trained_on]
        if stated and [card.name for card in stated] != known:
            cause = f"the file is the release {release.name}, trained on {self._in_words(release)}"
            raise self.error(key, cause, "Leave trained_on out")
        return [self.datasets[name] for name in known if name in self.datasets]

    def _release(self, system: SystemCard, file: WeightsFile) -> WeightsSource | None:
        """Return the public weights that a file is, byte for byte; None where it is not known."""
        for source in system.weights:
            known = source.sha256 or self._recorded.get(source.url, "")
            if known == file.sha256:
                return source
        return None

    def trained_on(self, source: WeightsSource, key: str) -> tuple[DatasetCard, DatasetCard]:
        """Return the data sets that weights were first and last trained on."""
        steps = [step.dataset for step in source.trained_on]
        if not steps or not {steps[0], steps[-1]} <= self.datasets.keys():
            words = self._in_words(source) or "data that their card does not name"
            raise self.error(
                key,
                f'weights "{source.name}" were trained on {words}, which no suite can start from',
                "Their numbers can be shown as published ones",
            )
        first, last = self.datasets[steps[0]], self.datasets[steps[-1]]
        self.used[first.name] = first
        return first, last

    def _in_words(self, source: WeightsSource) -> str:
        """Return what weights were trained on: `ImageNet-21k, then ImageNet at 384 px`."""

        def title(name: str) -> str:
            return self.datasets[name].title if name in self.datasets else name

        return ", then ".join(
            title(step.dataset)
            + (f" at {step.image_size_px} px" if step.image_size_px else "")
            + (f", and {title(step.unlabelled)} without labels" if step.unlabelled else "")
            for step in source.trained_on
        )

    def check_splits(self, card: DatasetCard, wanted: Sequence[str], key: str) -> None:
        """Raise SuiteError where a data set lacks a split that a block needs."""
        for split in wanted:
            if split not in card.splits:
                use = "learn from" if split == "train" else "report on"
                raise self.error(
                    key,
                    f"{card.name} has no {split} split to {use}",
                    'It is for kind = "evaluate"'
                    if split == "train"
                    else "Give it one, or choose another data set; to pre-train on, it will do",
                )

    def check_arithmetic(self, precision: Precision, key: str) -> None:
        """Raise SuiteError where the suite's devices do not have an arithmetic."""
        if precision in GPU_ARITHMETIC and not self.suite.gpus:
            raise self.error(
                key,
                f"{precision} is arithmetic of GPUs, and the suite runs on "
                + ("TPUs" if self.suite.tpus else "CPUs"),
                "Compute in float32 or bfloat16, or set gpus",
            )

    def check_image(self, system: SystemCard, image_size_px: int, key: str, where: str) -> None:
        """Raise SuiteError where images of a side cannot be an input of the system."""
        try:
            baselines.sizes(system).check_image(image_size_px)
        except UserError as error:
            raise self.error(
                key, f"{error.message} ({system.name}, {where})", error.hint
            ) from error

    def check_objective(self, system: SystemCard, recipe: Recipe, key: str) -> None:
        """Raise SuiteError where a system cannot learn what the recipe asks."""
        if recipe.objective == "masked-patch" and not baselines.family_of(system).has_patches:
            raise self.error(key, f"{system.title} has no patches to mask", "Name only ViTs")

    def _check_presets(self, published: Mapping[str, Protocol]) -> None:
        """Raise SuiteError where a protocol of the suite's own names no way to prepare images.

        What the published ones use is what there is: the ways themselves need torch.
        """
        for use in ("train_transform", "eval_transform"):
            known = {getattr(protocol, use) for protocol in published.values()}
            for name, protocol in self.suite.protocol.items():
                key, asked = f"protocol.{name}.{use}", getattr(protocol, use)
                if name in published:
                    raise self.error(f"protocol.{name}", "this is already the name of a protocol")
                if asked not in known:
                    hint = suggest(asked, known, kind="transform")
                    raise self.error(key, f'unknown transform "{asked}"', hint)

    def _define(self, name: str, *, by: tuple[str, ...] = ()) -> None:
        """Make a system of the suite's own, after the one that it is like; `by` are like it."""
        if name in by:
            circle = " like ".join((*by[by.index(name) :], name))
            cure = "Let one of them be like a system of `vitbench ls systems`"
            raise self.error(f"system.{name}.like", f"{circle}: a circle", cure)
        like = self.suite.system[name].like
        if like in self.suite.system:
            self._define(like, by=(*by, name))
        if name not in self.systems:
            self.systems[name] = self._variant(name)

    def _variant(self, name: str) -> SystemCard:
        block, key = self.suite.system[name], f"system.{name}"
        if name in baselines.systems():
            raise self.error(key, "this is already the name of a system", "Choose another one")
        if block.family:
            return self._of_family(name)
        like = self.system(block.like, f"{key}.like")
        try:
            return baselines.variant(name, like=like, title=block.title or name, args=block.args)
        except UserError as error:
            raise self.error(f"{key}.args", error.message, error.hint) from error

    def _of_family(self, name: str) -> SystemCard:
        block, key = self.suite.system[name], f"system.{name}"
        if block.family not in baselines.FAMILIES:
            hint = suggest(block.family, baselines.FAMILIES, kind="family")
            raise self.error(f"{key}.family", f'unknown family "{block.family}"', hint)
        try:
            return baselines.made(name, family=block.family, title=block.title, args=block.args)
        except UserError as error:
            raise self.error(f"{key}.args", error.message, error.hint) from error


def _note(
    system: SystemCard,
    file: WeightsFile,
    name: str,
    held: Contents,
    release: WeightsSource | None,
    trained_on: Sequence[DatasetCard],
) -> str:
    """Return what a reader must know of a weights file, in one sentence."""
    whose = (
        f"the release {release.name}, by its digest"
        if release
        else "unverified: not known to be anybody's release"
    )
    classes = "no classifier" if held.num_classes is None else f"{held.num_classes:,} classes"
    data = ", then ".join(card.title for card in trained_on) or "not stated"
    called = f", called {name}" if name else ""
    return (
        f"{system.title} starts from the file {file.path.name}{called} (layout {held.layout}, "
        f"{classes}, SHA-256 {file.sha256[:12]}...), {whose}; trained on: {data}"
    )
