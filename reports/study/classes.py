"""Which classes systems tell apart: what they took each test image for, counted by class.

Jobs leave the label of every test image and the class that they took it for; nothing here needs the
data. A data set stands by the accuracy that stands for it elsewhere, or by the first of which there
are answers, and each system by its largest upstream size. Of few-shot draws a seed is the mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.paths import CLASSES, LABELS
from reports.printing.table import Sample
from reports.study import averages
from reports.study.samples import Arm, Measure
from reports.study.study import Study, once

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Mistake:
    """Test images of one class that were taken for another."""

    label: int
    taken_for: int
    by_seed: tuple[Sample, ...]
    """Their number at each seed."""

    @property
    def mean(self) -> float:
        """Their number, mean over seeds."""
        return sum(sample.value or 0.0 for sample in self.by_seed) / len(self.by_seed)


@dataclass(frozen=True)
class Told:
    """How one system told the classes of a data set apart."""

    arm: Arm
    samples: tuple[Sample, ...]
    """Its accuracies on the whole data set, of seeds without answers too."""
    counts: Mapping[int, Mapping[tuple[int, int], float]]
    """Seed -> (label, taken for) -> test images; right answers are among them."""

    def accuracies(self, label: int, num_images: int) -> list[Sample]:
        """Return the share of right answers on one class, by seed."""
        return [
            sample
            if (counts := self._of(sample)) is None
            else Sample(
                seed=sample.seed,
                value=counts.get((label, label), 0.0) / num_images,
                job_ids=sample.job_ids,
                n=num_images,
            )
            for sample in self.samples
            if sample.value is None or self._of(sample) is not None
        ]

    def mistakes(self) -> list[Mistake]:
        """Return what was taken for what, the most frequent first, then in the order of classes."""
        pairs = {pair for counts in self.counts.values() for pair in counts if pair[0] != pair[1]}
        found = [Mistake(*pair, tuple(self._numbers(pair))) for pair in pairs]
        return sorted(found, key=lambda each: (-each.mean, each.label, each.taken_for))

    def _numbers(self, pair: tuple[int, int]) -> Iterator[Sample]:
        for sample in self.samples:
            counts = self._of(sample)
            if counts is not None:
                number = counts.get(pair, 0.0)
                yield Sample(seed=sample.seed, value=number, job_ids=sample.job_ids)

    def _of(self, sample: Sample) -> Mapping[tuple[int, int], float] | None:
        return None if sample.seed is None else self.counts.get(sample.seed)

    def share(self, label: int, taken_for: int, num_images: int) -> float:
        """Return the share of a class's images that were taken for one, mean over seeds."""
        total = sum(counts.get((label, taken_for), 0.0) for counts in self.counts.values())
        return total / len(self.counts) / num_images


@dataclass(frozen=True)
class Classes:
    """A data set of which systems left answers."""

    dataset: str
    measure: Measure
    names: tuple[str, ...]
    num_images: tuple[int, ...]
    """Test images of each class."""
    systems: tuple[Told, ...]


def shown(study: Study, *, asked: bool) -> list[Classes]:
    """Return the data sets with answers: all of them where asked for, else the suite's own."""
    datasets = dict.fromkeys(measure.dataset for measure in study.accuracies)
    wanted = [name for name in datasets if asked or name in study.graph.suite.dataset]
    return [found for name in wanted if (found := _classes(study, name)) is not None]


def has_own_data(study: Study) -> bool:
    """Tell whether a suite has data sets of its user's own."""
    return bool(study.graph.suite.dataset)


def arm_titles(study: Study, arms: Sequence[Arm]) -> list[str]:
    """Return names of systems, with upstream data and recipe where those tell them apart."""
    titles = [arm.title for arm in arms]
    wheres = [(arm.title, study.dataset_title(arm.upstream)) for arm in arms]
    found = []
    for arm, where in zip(arms, wheres, strict=True):
        name = arm.title if titles.count(arm.title) == 1 else ", ".join(where)
        found.append(name if wheres.count(where) == 1 else f"{name}, {arm.pretraining}")
    return found


@once
def _known(study: Study) -> dict[str, Classes | None]:
    """Return what was counted so far: answers are read for the data sets that are shown."""
    return {}


def _classes(study: Study, dataset: str) -> Classes | None:
    known = _known(study)
    if dataset not in known:
        known[dataset] = _counted(study, dataset)
    return known[dataset]


def _counted(study: Study, dataset: str) -> Classes | None:
    card = study.graph.datasets.get(dataset)
    usual = averages.leading(study)
    own = [measure for measure in study.accuracies if measure.dataset == dataset]
    for measure in sorted(own, key=lambda measure: measure not in usual):
        counted = _Counted(study, measure, card.num_classes if card else 0)
        systems = tuple(filter(None, (counted.told(arm) for arm in _largest(study, measure))))
        if card is not None and systems:
            names = dict(enumerate(card.class_names))
            return Classes(
                dataset=dataset,
                measure=measure,
                names=tuple(names.get(k) or f"class {k}" for k in range(card.num_classes)),
                num_images=counted.num_images,
                systems=systems,
            )
    return None


def _largest(study: Study, measure: Measure) -> Iterator[Arm]:
    """Yield the arms that have a measure, each system and recipe at its largest upstream size."""
    largest: dict[tuple[str, str, str], Arm] = {}
    for arm in study.arms:  # by rising upstream size
        if (arm, measure) in study.samples:
            largest[arm.system, arm.upstream, arm.pretraining] = arm
    yield from (arm for arm in study.arms if arm in largest.values())


class _Counted:
    """Answers to the test images of one data set, counted as they are read."""

    def __init__(self, study: Study, measure: Measure, num_classes: int) -> None:
        self._study = study
        self._measure = measure
        self._num_classes = num_classes
        self._labels_N: np.ndarray | None = None

    @property
    def num_images(self) -> tuple[int, ...]:
        """Test images of each class."""
        import numpy as np

        assert self._labels_N is not None
        return tuple(np.bincount(self._labels_N, minlength=self._num_classes).tolist())

    def told(self, arm: Arm) -> Told | None:
        """Return how a system told the classes apart; None where no seed left answers."""
        samples = tuple(self._study.samples[arm, self._measure])
        counts = {}
        for sample in samples:
            found = self._counts(sample) if sample.value is not None else None
            if found is not None and sample.seed is not None:
                counts[sample.seed] = found
        return Told(arm, samples, counts) if counts else None

    def _counts(self, sample: Sample) -> dict[tuple[int, int], float] | None:
        """Return (label, taken for) -> images; None where answers are missing or do not fit."""
        import numpy as np

        arrays = self._study.answers(sample.job_ids[0])
        labels_N = arrays.get(LABELS)
        classes_DN = arrays.get(f"{CLASSES}/{self._measure.metric}")
        if labels_N is None or classes_DN is None:
            return None
        classes_DN = np.atleast_2d(classes_DN)
        if not (self._fits(labels_N) and self._fits(classes_DN)):
            return None
        if labels_N.ndim != 1 or classes_DN.shape[1:] != labels_N.shape:
            return None
        if self._labels_N is None:
            self._labels_N = labels_N
        elif not np.array_equal(self._labels_N, labels_N):
            return None  # other images: their classes cannot be compared
        codes_DN = labels_N.astype(np.int64) * self._num_classes + classes_DN
        codes, numbers = np.unique(codes_DN, return_counts=True)
        return {
            divmod(code, self._num_classes): number / len(classes_DN)
            for code, number in zip(codes.tolist(), numbers.tolist(), strict=True)
        }

    def _fits(self, array: np.ndarray) -> bool:
        """Tell whether an array holds classes of the data set: files may come from others."""
        is_whole = array.dtype.kind in "iu" and array.size > 0
        return is_whole and bool(array.min() >= 0 and array.max() < self._num_classes)
