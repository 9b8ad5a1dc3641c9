"""Records in, one tidy frame out: the input of every table and figure.

A row is one measured value: a metric of one job at one seed. A cell that failed, was skipped or
was not run stays as a row, without a value and with the reason. Rows that share everything but
the seed are one *score*: they have the same `Arm` (what was pre-trained, on what) and the same
`Measure` (what was measured, how).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from bench import metrics, stats
from bench.errors import UserError
from bench.specs import JobGraph, JobResult, PlannedJob, PublishedResult

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

REASON_LIMIT = 160

COLUMNS = (
    "origin", "suite", "system", "title", "family", "upstream", "upstream_examples", "epochs",
    "pretraining", "dataset", "protocol", "setting", "metric", "seed", "value", "unit", "n",
    "samples", "status", "reason", "limited", "num_params", "exaflops", "learning_rate", "job_id",
    "source",
)  # fmt: skip
"""Columns of the frame; `exaflops` is the pre-training behind the value, `setting` tells apart
transfers of different protocol, recipe or arguments, `pretraining` the same for pre-training."""

REPORTED = ("test_top1", "fewshot_top1")
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

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The tidy frame."""
        return frame(self.graph, self.results)

    @cached_property
    def scores(self) -> dict[tuple[Arm, Measure], list[Score]]:
        """The reported rows of the frame, by arm and measure, seeds in order."""
        return scores(self.frame)

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
        return sum(_status(self.results.get(job.job_id)) == status for job in self.graph.jobs)


def frame(graph: JobGraph, results: Mapping[str, JobResult]) -> pd.DataFrame:
    """Return the tidy frame of a suite (columns: `COLUMNS`), one row a job, metric and seed.

    An absent value is NaN in `value`; `status` and `reason` say why.
    """
    import pandas as pd

    return pd.DataFrame(list(_rows(graph, results)), columns=list(COLUMNS))


def _rows(graph: JobGraph, results: Mapping[str, JobResult]) -> Iterator[dict[str, Any]]:
    jobs = {job.job_id: job for job in graph.jobs}
    reporting = [job for job in graph.jobs if job.labels.stage not in ("candidate", "select")]
    pretraining, transfer = _Settings(), _Settings()
    for job in reporting:
        if job.labels.stage == "pretrain":
            pretraining.add(_pretraining_place(job), job.labels.recipe, job)
        else:
            name = "; ".join(filter(None, (job.labels.protocol, job.labels.recipe)))
            transfer.add(_transfer_place(job), name, job)
    for job in reporting:
        upstream = jobs[job.spec.needs.get("checkpoint", job.job_id)]
        is_transfer = job.labels.stage != "pretrain"
        shared = {
            "origin": "measured",
            "suite": graph.suite.name,
            "system": job.labels.system,
            "title": job.labels.title,
            "family": job.labels.family,
            "upstream": job.labels.upstream,
            "upstream_examples": job.labels.upstream_examples,
            "epochs": upstream.train_examples / job.labels.upstream_examples,
            "pretraining": pretraining.name(_pretraining_place(upstream), upstream),
            "dataset": job.labels.downstream,
            "protocol": f"{job.spec.protocol.name}@{job.spec.protocol.version}",
            "setting": transfer.name(_transfer_place(job), job) if is_transfer else "",
            "seed": job.spec.seed,
            "limited": graph.suite.limit_steps is not None,
            "num_params": job.num_params,
            "exaflops": job.pretrain_exaflops,
            "job_id": job.job_id,
            "source": f"job {job.job_id}",
        }
        for metric in _metrics_of(job):
            yield {**shared, **_value(metric, job, jobs, results)}


def _pretraining_place(job: PlannedJob) -> tuple[Any, ...]:
    return job.labels.system, job.labels.upstream, job.labels.upstream_examples


def _transfer_place(job: PlannedJob) -> tuple[Any, ...]:
    return job.spec.kind, job.labels.downstream


class _Settings:
    """Tells apart the settings met in one place; a place with one setting needs no name."""

    def __init__(self) -> None:
        self.met: dict[tuple[Any, ...], dict[str, str]] = {}
        self.digests: dict[tuple[Any, ...], str] = {}

    def add(self, place: tuple[Any, ...], name: str, job: PlannedJob) -> None:
        self.met.setdefault(place, {}).setdefault(self._digest(job), name)

    def name(self, place: tuple[Any, ...], job: PlannedJob) -> str:
        names = self.met[place]
        digest = self._digest(job)
        if len(names) == 1:
            return ""
        name = names[digest]
        return name if list(names.values()).count(name) == 1 else f"{name} ({digest})"

    def _digest(self, job: PlannedJob) -> str:
        key = (job.spec.protocol, job.spec.recipe, tuple(sorted(job.spec.params.items())))
        if key not in self.digests:
            text = "\n".join(repr(part) for part in key)
            self.digests[key] = hashlib.sha256(text.encode()).hexdigest()[:6]
        return self.digests[key]


def _metrics_of(job: PlannedJob) -> list[str]:
    """Return the metrics that a job of this stage reports, whether or not it has run."""
    if job.labels.stage == "pretrain":
        return ["train_loss"]
    if job.labels.stage == "final":
        return ["test_top1"]
    shots = job.spec.params.get("shots", ())
    return [f"fewshot_top1/{k}" for k in (shots if isinstance(shots, tuple | list) else (shots,))]


def _status(result: JobResult | None) -> str:
    return result.status if result else "not run"


def _value(
    metric: str,
    job: PlannedJob,
    jobs: Mapping[str, PlannedJob],
    results: Mapping[str, JobResult],
) -> dict[str, Any]:
    """Return the columns that come from the result: a value, or the reason why there is none."""
    result = results.get(job.job_id)
    status, value, reason, n = _status(result), None, "", 0
    samples: tuple[float, ...] = ()
    if result is None:
        reason = "not run"
    elif result.status != "done":
        reason = result.error or "no reason given"
        if status == "skipped":
            reason = _root_cause(job, jobs, results) or reason
    elif metric not in result.metrics:
        status, reason = "absent", f"the job's record has no {metric}"
    else:
        found = result.metrics[metric]
        value, reason, n, samples = found.value, found.reason, found.n, found.samples
        if value is None or not math.isfinite(value):
            status, reason, value = "absent", reason or f"the value is {value}", None
    short = reason if len(reason) <= REASON_LIMIT else reason[: REASON_LIMIT - 1] + "…"
    return {
        "metric": metric,
        "value": math.nan if value is None else value,
        "unit": metrics.metric(metric).base_unit,
        "n": n,
        "samples": samples,
        "status": status,
        "reason": short,
        "learning_rate": _number(result.values.get("learning_rate")) if result else math.nan,
    }


def _root_cause(
    job: PlannedJob, jobs: Mapping[str, PlannedJob], results: Mapping[str, JobResult]
) -> str:
    """Return which input failed, and why; inputs of inputs are searched too."""
    for needed in job.spec.needs.values():
        result = results.get(needed)
        if result is None or needed not in jobs or result.status == "done":
            continue
        if result.status == "failed":
            return f"{jobs[needed].name} failed: {result.error or 'no reason given'}"
        return _root_cause(jobs[needed], jobs, results)
    return ""


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def scores(rows: pd.DataFrame) -> dict[tuple[Arm, Measure], list[Score]]:
    """Group the measured rows of the reported metrics by arm and measure.

    Two values for one arm, measure and seed are refused: their mean would mix what differs.
    """
    found: dict[tuple[Arm, Measure], list[Score]] = {}
    for row in cast("Iterable[Any]", rows.itertuples(index=False)):
        if row.metric.partition("/")[0] not in REPORTED or row.origin != "measured":
            continue
        arm = Arm(
            row.system, row.title, row.family, row.upstream, row.upstream_examples, row.epochs,
            row.pretraining, row.num_params, row.exaflops,
        )  # fmt: skip
        value = None if math.isnan(row.value) else row.value
        score = Score(row.seed, value, row.n, row.status, row.reason, row.job_id)
        known = found.setdefault((arm, Measure(row.metric, row.dataset, row.setting)), [])
        if any(other.seed == score.seed for other in known):
            raise UserError(
                f"two results of {row.title} on {row.dataset} for {row.metric}, seed {row.seed}",
                hint="Give the transfer blocks of the suite different protocols or recipes",
            )
        known.append(score)
    return {key: sorted(group, key=lambda score: score.seed) for key, group in found.items()}


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
