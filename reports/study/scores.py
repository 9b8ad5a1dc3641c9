"""What tables and figures are made from: the tidy frame, grouped into scores.

Rows of the frame (`reports/study/frame.py`) that share everything but the seed are one *score*:
they have the same `Arm` (what was pre-trained, on what) and the same `Measure` (what was measured,
how).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from bench import metrics, stats
from bench.errors import UserError
from bench.plan.spec import JobGraph
from bench.specs import JobResult, PublishedResult
from reports.exchange.imports import ImportedResult
from reports.study.frame import (
    Row,
    as_frame,
    imported_rows,
    measured_rows,
    published_rows,
    status_of,
)

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

REPORTED = ("test_top1", "eval_top1", "fewshot_top1", "probe_top1", "knn_top1")
"""Metrics that tables compare; the others say how a job went."""


@dataclass(frozen=True)
class Arm:
    """One pre-trained system: what, on what, how."""

    system: str
    title: str
    family: str
    upstream: str
    upstream_examples: int
    epochs: float
    pretraining: str
    num_params: int
    exaflops: float


@dataclass(frozen=True)
class Measure:
    """One measured quantity of an arm: metric, downstream data set, setting."""

    metric: str
    dataset: str
    setting: str


@dataclass(frozen=True)
class Score:
    """One value of an arm and a measure, at one seed."""

    seed: int
    value: float | None
    n: int
    status: str
    reason: str
    job_id: str


@dataclass(frozen=True, eq=False)
class Study:
    """Everything that a report is made from; derived parts are made once."""

    graph: JobGraph
    results: Mapping[str, JobResult]
    curves: Mapping[str, list[dict[str, Any]]]
    hits: Callable[[str], np.ndarray | None] = lambda job_id: None
    """Per-image correctness (bool) of a job on the test split; None where none was recorded."""
    published: tuple[PublishedResult, ...] = ()
    """Published numbers that measured cells may answer."""
    imported: tuple[ImportedResult, ...] = ()
    """Numbers of others, read from their files."""

    @cached_property
    def rows(self) -> list[Row]:
        """The measured rows of the frame."""
        return list(measured_rows(self.graph, self.results))

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The tidy frame: measured, published and imported rows."""
        return as_frame(
            [*self.rows, *published_rows(self.published), *imported_rows(self.imported)]
        )

    @cached_property
    def scores(self) -> dict[tuple[Arm, Measure], list[Score]]:
        """The reported rows of the frame, by arm and measure, seeds in order."""
        return _grouped(self.rows)

    @cached_property
    def arms(self) -> list[Arm]:
        """Arms by upstream data set and size; within them in the suite's order."""
        found = dict.fromkeys(arm for arm, _ in self.scores)
        upstreams = list(dict.fromkeys(arm.upstream for arm in found))
        return sorted(found, key=lambda arm: (upstreams.index(arm.upstream), arm.upstream_examples))

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
        """The arms of each upstream data set and size."""
        found: dict[tuple[str, int], list[Arm]] = {}
        for arm in self.arms:
            found.setdefault((arm.upstream, arm.upstream_examples), []).append(arm)
        return found

    @cached_property
    def measures(self) -> list[Measure]:
        """Measures by data set, fine-tuning first, few-shot by shots."""
        found = dict.fromkeys(measure for _, measure in self.scores)
        datasets = list(dict.fromkeys(measure.dataset for measure in found))

        def order(measure: Measure) -> tuple[int, int, int]:
            base, _, shots = measure.metric.partition("/")
            return datasets.index(measure.dataset), REPORTED.index(base), int(shots or 0)

        return sorted(found, key=order)

    def mean(self, arm: Arm, measure: Measure) -> float | None:
        """Return the mean over the seeds that have a value; None where none has."""
        return stats.summary(values(self.scores.get((arm, measure), ()))).mean

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
        steps = f"{limit:,} step" + "s" * (limit != 1)
        return f"Limited run: training jobs stopped after at most {steps}. Not a result."

    def dataset_title(self, name: str) -> str:
        """Return the printed name of a data set."""
        card = self.graph.datasets.get(name)
        return card.title if card else name

    def measure_title(self, measure: Measure) -> str:
        """Return a measure's name, with what tells it from others of the same metric."""
        name = metrics.title(measure.metric)
        return f"{name}, {measure.setting}" if measure.setting else name

    def upstream_title(self, arm: Arm) -> str:
        """Return the name of an arm's upstream data, with its size."""
        return f"{self.dataset_title(arm.upstream)}, {arm.upstream_examples:,} images"

    def count(self, status: str) -> int:
        """Return how many jobs have a status; `not run` counts those without a result."""
        return sum(status_of(self.results.get(job.job_id)) == status for job in self.graph.jobs)


def scores(rows: pd.DataFrame) -> dict[tuple[Arm, Measure], list[Score]]:
    """Group the measured rows of a frame by arm and measure; reported metrics alone.

    Two values for one arm, measure and seed are refused: their mean would mix what differs.
    """
    return _grouped(cast("Iterable[Row]", rows.itertuples(index=False)))


def _grouped(rows: Iterable[Row]) -> dict[tuple[Arm, Measure], list[Score]]:
    found: dict[tuple[Arm, Measure], dict[int, Score]] = {}
    arms: dict[tuple[Any, ...], Arm] = {}
    for row in rows:
        if row.metric.partition("/")[0] not in REPORTED or row.origin != "measured":
            continue
        assert row.seed is not None  # measured rows have one
        named = (
            row.system, row.title, row.family, row.upstream, row.upstream_examples, row.epochs,
            row.pretraining, row.num_params, row.exaflops,
        )  # fmt: skip
        arm = arms.get(named) or arms.setdefault(named, Arm(*named))  # type: ignore[arg-type]
        value = None if math.isnan(row.value) else row.value
        known = found.setdefault((arm, Measure(row.metric, row.dataset, row.setting)), {})
        if row.seed in known:
            raise UserError(
                f"two results of {row.title} on {row.dataset} for {row.metric}, seed {row.seed}",
                hint="Give the transfer blocks of the suite different protocols or recipes",
            )
        known[row.seed] = Score(row.seed, value, row.n, row.status, row.reason, row.job_id)
    return {key: [group[seed] for seed in sorted(group)] for key, group in found.items()}


def values(group: Iterable[Score]) -> list[float]:
    """Return the values that are there."""
    return [score.value for score in group if score.value is not None]


def by_seed(group: Iterable[Score]) -> dict[int, float]:
    """Return seed -> value, for those that are there."""
    return {score.seed: score.value for score in group if score.value is not None}


def pair(first: Sequence[Score], second: Sequence[Score]) -> tuple[list[float], list[float]]:
    """Return the values of both on the seeds that both have, in the same order."""
    a, b = by_seed(first), by_seed(second)
    seeds = sorted(a.keys() & b.keys())
    return [a[seed] for seed in seeds], [b[seed] for seed in seeds]


def resolution(*groups: Sequence[Score]) -> float:
    """Return the coarsest step in which the accuracies come: one over the number of images."""
    counts = [score.n for group in groups for score in group if score.n > 0]
    return 1 / min(counts) if counts else 0.0


def bare_name(name: str) -> str:
    """Return a name without case, spaces and punctuation, for comparing spellings."""
    return "".join(c for c in name.casefold() if c.isalnum())


def digest(*parts: object) -> str:
    """Return a digest of JSON-able parts (records, mappings, texts)."""
    found = hashlib.sha256()
    for part in parts:
        found.update(json.dumps(part, sort_keys=True, separators=(",", ":"), default=str).encode())
        found.update(b"\0")
    return found.hexdigest()
