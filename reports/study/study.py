"""The one input of every report: the records of a suite, and what follows from them.

What is derived is made once a study: parts of `Study` are cached properties, and a function of a
study that others ask again is marked `once`. Both are kept with the study, and go with it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from bench import metrics, stats
from bench.plan.spec import JobGraph
from bench.specs import JobResult, PublishedResult
from reports.exchange.imports import ImportedResult
from reports.printing.cells import NOT_STATED
from reports.study.samples import Arm, Measure, Samples, in_order, reported, status_of, values

if TYPE_CHECKING:
    import numpy as np

Made = TypeVar("Made")


@dataclass(frozen=True, eq=False)
class Study:
    """Everything that a report is made from."""

    graph: JobGraph
    results: Mapping[str, JobResult]
    """Outcomes of jobs by id; those not run are not there."""
    curves: Mapping[str, list[dict[str, Any]]]
    """Progress lines of training jobs by id."""
    hits: Callable[[str], np.ndarray | None] = lambda job_id: None
    """Per-image correctness (bool) of a job on the test split; None where none was recorded."""
    published: tuple[PublishedResult, ...] = ()
    """Published numbers that measured cells may answer."""
    imported: tuple[ImportedResult, ...] = ()
    """Numbers of others, read from their files."""
    open_file: Callable[[str, str], Path | None] = lambda job_id, name: None
    """File that a job left in its folder, by the job's id and the file's name; None where it is
    not at hand."""
    answers: Callable[[str], Mapping[str, np.ndarray]] = lambda job_id: {}
    """The `labels` of a job's test images, and under `classes/<metric>` what it took them for."""
    notes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """What is odd in a data set (copies, images in two splits, empty classes), by its name."""

    @cached_property
    def samples(self) -> Samples:
        """What the jobs reported, by arm and measure, seeds in order."""
        return reported(self.graph, self.results)

    @cached_property
    def arms(self) -> list[Arm]:
        """Arms by upstream data set and size; within them in the suite's order."""
        found = dict.fromkeys(arm for arm, _ in self.samples)
        upstreams = list(dict.fromkeys(arm.upstream for arm in found))
        return sorted(found, key=lambda arm: (upstreams.index(arm.upstream), arm.upstream_examples))

    @cached_property
    def upstreams(self) -> list[str]:
        """The upstream data sets that arms learned from; what is not stated, arms do not share."""
        return list(dict.fromkeys(arm.upstream for arm in self.arms if arm.upstream_examples))

    @cached_property
    def arms_by_name(self) -> dict[str, list[Arm]]:
        """The arms of each system, by its bare name and its bare title."""
        found: dict[str, list[Arm]] = {}
        for arm in self.arms:
            for name in {bare_name(arm.system), bare_name(arm.title)}:
                found.setdefault(name, []).append(arm)
        return found

    @cached_property
    def arms_by_size(self) -> dict[tuple[str, int], list[Arm]]:
        """The arms of each upstream data set and size; those of unknown data are like no other."""
        found: dict[tuple[str, int], list[Arm]] = {}
        for arm in filter(lambda arm: arm.upstream, self.arms):
            found.setdefault((arm.upstream, arm.upstream_examples), []).append(arm)
        return found

    @cached_property
    def measures(self) -> list[Measure]:
        """Measures by data set, then in the order of the job kinds, few-shot by shots."""
        return in_order(dict.fromkeys(measure for _, measure in self.samples), self.graph.jobs)

    @cached_property
    def accuracies(self) -> list[Measure]:
        """The measures that are accuracies: what averages, ranks, fits and curves are made of."""
        return [m for m in self.measures if metrics.metric(m.metric).is_accuracy]

    def mean(self, arm: Arm, measure: Measure) -> float | None:
        """Return the mean over the seeds that have a value; None where none has."""
        return stats.summary(values(self.samples.get((arm, measure), ()))).mean

    @property
    def confidence(self) -> float:
        """Confidence level of the suite's intervals."""
        return self.graph.suite.report.confidence

    @property
    def warning(self) -> str:
        """What a reader must know before any number; empty when all is as planned."""
        limit = self.graph.suite.limit_steps
        if limit is None:
            return ""
        steps, images = f"{limit:,} step" + "s" * (limit != 1), self.graph.most_evaluated
        scored = f", and at most {images:,} images of a split were scored" if images else ""
        limited = f"Limited run: training jobs stopped after at most {steps}{scored}."
        return " ".join((limited, "Not a result.", *(f"{words}." for words in self.graph.parts)))

    def dataset_title(self, name: str) -> str:
        """Return the printed name of a data set."""
        card = self.graph.datasets.get(name)
        return card.title if card else name or NOT_STATED

    def measure_title(self, measure: Measure) -> str:
        """Return a measure's name, with what tells it from others of the same metric."""
        name = metrics.title(measure.metric)
        return f"{name}, {measure.setting}" if measure.setting else name

    def measure_name(self, measure: Measure) -> str:
        """Return a measure's name, with its data set where the suite has several."""
        name = self.measure_title(measure)
        several = len({other.dataset for other in self.measures}) > 1
        return f"{self.dataset_title(measure.dataset)}: {name}" if several else name

    def upstream_title(self, arm: Arm) -> str:
        """Return the name of an arm's upstream data, with its size."""
        title, count = self.dataset_title(arm.upstream), arm.upstream_examples
        return f"{title}, {count:,} images" if count else title

    def count(self, status: str) -> int:
        """Return how many jobs have a status; `not run` counts those without a result."""
        return sum(status_of(self.results.get(job.job_id)) == status for job in self.graph.jobs)

    @cached_property
    def _parts(self) -> dict[object, Any]:
        """What `once` keeps."""
        return {}


def once(make: Callable[[Study], Made]) -> Callable[[Study], Made]:
    """Make a part of a study the first time that it is asked for, and keep it with the study."""

    @functools.wraps(make)
    def part(study: Study) -> Made:
        if make not in study._parts:
            study._parts[make] = make(study)
        found: Made = study._parts[make]
        return found

    return part


def bare_name(name: str) -> str:
    """Return a name without case, spaces and punctuation, for comparing spellings."""
    return "".join(c for c in name.casefold() if c.isalnum())
