"""Records in, one tidy frame out: every number with its origin, protocol and source.

A row is one value: measured (a metric of one job at one seed), published, or imported from others.
A measured cell that failed, was skipped or was not run stays as a row, without a value and with
the reason.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from bench import metrics
from bench.plan.spec import JobGraph
from bench.specs import DatasetCard, JobResult, PlannedJob, PublishedResult
from reports.exchange.imports import ImportedResult
from reports.study.best_of import beaten

if TYPE_CHECKING:
    import pandas as pd

REASON_LIMIT = 160
STARTS = ("pretrain", "weights")
"""Stages that everything else of a suite goes back to."""

STARTS = ("pretrain", "weights")
"""Stages that systems start from."""
BY_STAGE = {
    "pretrain": ("train_loss",), "weights": (), "final": ("test_top1",),
    "probe": ("probe_top1",), "evaluate": ("eval_top1",), "profile": (),
}  # fmt: skip
"""Metrics by the stage that reports them; timings stand in a table of their own."""
QUALIFIED = {"fewshot": ("fewshot_top1", "shots"), "knn": ("knn_top1", "neighbours")}
"""Stages that report one metric for each of an argument's values: stage -> (metric, argument)."""


class Row(NamedTuple):
    """One row of the frame: one value, or the reason why it is absent."""

    origin: str
    """`measured`, `published` or `imported`."""
    suite: str
    system: str
    title: str
    family: str
    upstream: str
    upstream_examples: int | None
    epochs: float
    pretraining: str
    """Tells apart pre-trainings of one system on the same images."""
    dataset: str
    protocol: str
    """Protocol and version, or what is said of it in print."""
    setting: str
    """Tells apart transfers of different protocol, recipe or arguments."""
    metric: str
    seed: int | None
    value: float
    """In the base unit; NaN when absent."""
    unit: str
    n: int
    samples: tuple[float, ...]
    status: str
    reason: str
    limited: bool
    num_params: int | None
    exaflops: float
    """Pre-training behind the value, in 10^18 FLOPs."""
    learning_rate: float
    job_id: str
    source: str
    versions: str
    """Versions of kind, protocol, system and data behind the value: `finetune@1 digits@1`."""


COLUMNS = Row._fields
"""Columns of the frame."""


def frame(graph: JobGraph, results: Mapping[str, JobResult]) -> pd.DataFrame:
    """Return the measured rows of a suite (columns: `COLUMNS`), one a job, metric and seed.

    An absent value is NaN in `value`; `status` and `reason` say why.
    """
    return as_frame(measured_rows(graph, results))


def as_frame(rows: Iterable[Row]) -> pd.DataFrame:
    """Return rows as a frame; seeds and sizes are whole numbers or absent."""
    import pandas as pd

    found = pd.DataFrame.from_records(list(rows), columns=list(COLUMNS))
    whole = ("seed", "upstream_examples", "num_params")  # None in rows that nobody measured here
    return found.astype(dict.fromkeys(whole, "Int64"))


def measured_rows(graph: JobGraph, results: Mapping[str, JobResult]) -> Iterator[Row]:
    """Yield one row for each reporting job, metric and seed."""
    jobs = {job.job_id: job for job in graph.jobs}
    lost = beaten(graph, results)
    reporting = [
        job
        for job in graph.jobs
        if job.labels.stage not in ("candidate", "select") and job.job_id not in lost
    ]
    pretraining, transfer = _settings(reporting)
    limited = graph.suite.limit_steps is not None
    for job in reporting:
        start = _start(job, jobs)
        labels = job.labels
        setting = "" if labels.stage in STARTS else transfer.name(_transfer_place(job), job)
        for metric in _metrics_of(job, graph.datasets.get(labels.downstream)):
            found = _value(metric, job, jobs, results)
            yield Row(
                origin="measured",
                suite=graph.suite.name,
                system=labels.system,
                title=labels.title,
                family=labels.family,
                upstream=labels.upstream,
                upstream_examples=labels.upstream_examples,
                epochs=start.train_examples / (labels.upstream_examples or 1),
                pretraining=pretraining.name(_pretraining_place(start), start),
                dataset=labels.downstream,
                protocol=_protocol(job),
                setting=setting,
                metric=metric,
                seed=job.spec.seed,
                unit=metrics.metric(metric).base_unit,
                limited=limited,
                num_params=job.num_params,
                exaflops=job.pretrain_exaflops,
                job_id=job.job_id,
                source=f"job {job.job_id}",
                versions=versions(job, graph.datasets),
                **found._asdict(),
            )


def _settings(reporting: Iterable[PlannedJob]) -> tuple[_Settings, _Settings]:
    """Return the settings met in pre-training and in transfer."""
    pretraining, transfer = _Settings(), _Settings()
    for job in reporting:
        if job.labels.stage in STARTS:
            pretraining.add(_pretraining_place(job), job.labels.recipe, job)
        else:
            name = "; ".join(filter(None, (job.labels.protocol, job.labels.recipe)))
            transfer.add(_transfer_place(job), name, job)
    return pretraining, transfer


def _start(job: PlannedJob, jobs: Mapping[str, PlannedJob]) -> PlannedJob:
    """Return the pre-training (or the public weights) that a job goes back to."""
    while job.labels.stage not in STARTS and job.spec.needs.get("checkpoint") in jobs:
        job = jobs[job.spec.needs["checkpoint"]]
    return job


def versions(job: PlannedJob, datasets: Mapping[str, DatasetCard]) -> str:
    """Return the versions of what a job's number means: kind, protocol, system, data."""
    spec, card = job.spec, datasets.get(job.dataset)
    words = [f"{spec.kind}@{spec.kind_version}"]
    if spec.protocol is not None:
        words.append(_protocol(job))
    words.append(f"{job.labels.system}@{spec.system.version}")
    if card is not None:
        words.append(f"{card.name}@{card.version}")
    return " ".join(word.replace(" ", "_") for word in words)


def _protocol(job: PlannedJob) -> str:
    protocol = job.spec.protocol
    return f"{protocol.name}@{protocol.version}" if protocol else ""


def published_rows(published: Iterable[PublishedResult]) -> Iterator[Row]:
    """Yield one row for each published number; accuracies become fractions."""
    from reports.verdicts.rule import printed

    for row in published:
        value, unit, reason = math.nan, row.unit, ""
        try:
            value, unit = printed(row.value, row.std, unit=row.unit).value, "fraction"
        except ValueError:
            try:
                value = float(row.value)
            except ValueError:
                reason = f"printed as {row.value!r}"
        yield _foreign_row(
            "published",
            system=row.system,
            upstream=row.pretrain_dataset,
            epochs=_float(row.pretrain_epochs),
            dataset=row.dataset,
            protocol=f"{row.paper}, {row.table}",
            setting=f"{row.resolution} px" if row.resolution else "",
            metric=row.metric,
            value=value,
            unit=unit,
            status="absent" if reason else "done",
            reason=reason,
            source=row.source,
        )


def imported_rows(imported: Iterable[ImportedResult]) -> Iterator[Row]:
    """Yield one row for each number of others."""
    for row in imported:
        yield _foreign_row(
            "imported",
            system=row.system,
            upstream=row.upstream,
            dataset=row.dataset,
            protocol=row.protocol,
            setting=f"{row.resolution} px" if row.resolution else "",
            metric=row.metric,
            value=row.value,
            unit=metrics.metric(row.metric).base_unit,
            n=row.n,
            source=f"{row.source}, line {row.line}",
        )


def _foreign_row(origin: str, **known: Any) -> Row:
    """Return a row that was not measured here: what is not known of it is empty."""
    empty: dict[str, Any] = dict.fromkeys(COLUMNS, "")
    empty |= {"upstream_examples": None, "seed": None, "num_params": None, "n": 0, "samples": ()}
    empty |= dict.fromkeys(("epochs", "exaflops", "learning_rate"), math.nan)
    empty |= {"limited": False, "status": "done"}
    return Row(**{**empty, "origin": origin, "title": known["system"], **known})


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _pretraining_place(job: PlannedJob) -> tuple[Any, ...]:
    return job.labels.system, job.labels.upstream, job.labels.upstream_examples


def _transfer_place(job: PlannedJob) -> tuple[Any, ...]:
    return job.spec.kind, job.labels.downstream


class _Settings:
    """Tells apart the settings met in one place; a place with one setting needs no name."""

    def __init__(self) -> None:
        self.met: dict[tuple[Any, ...], dict[str, str]] = {}
        self.digests: dict[tuple[Any, ...], str] = {}
        self.by_job: dict[str, str] = {}

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
        if job.job_id not in self.by_job:
            self.by_job[job.job_id] = self._digest_of_spec(job)
        return self.by_job[job.job_id]

    def _digest_of_spec(self, job: PlannedJob) -> str:
        key = (job.spec.protocol, job.spec.recipe, tuple(sorted(job.spec.params.items())))
        if key not in self.digests:
            text = "\n".join(repr(part) for part in key)
            self.digests[key] = hashlib.sha256(text.encode()).hexdigest()[:6]
        return self.digests[key]


def _metrics_of(job: PlannedJob, card: DatasetCard | None) -> list[str]:
    """Return the metrics that a job of this stage reports, whether or not it has run."""
    stage = job.labels.stage
    if stage in QUALIFIED:
        name, argument = QUALIFIED[stage]
        found = job.spec.params.get(argument, ())
        return [f"{name}/{k}" for k in (found if isinstance(found, tuple | list) else (found,))]
    if stage == "evaluate" and card is not None and card.scoring == "corruption":
        return ["eval_top1", "mce"]
    return list(BY_STAGE[stage])


def status_of(result: JobResult | None) -> str:
    """Return the status of a job; `not run` where there is no result."""
    return result.status if result else "not run"


class _Value(NamedTuple):
    """The columns that come from the result: a value, or the reason why there is none."""

    value: float
    n: int
    samples: tuple[float, ...]
    status: str
    reason: str
    learning_rate: float


def _value(
    metric: str,
    job: PlannedJob,
    jobs: Mapping[str, PlannedJob],
    results: Mapping[str, JobResult],
) -> _Value:
    result = results.get(job.job_id)
    if result is None:
        reason = job.refused or "not run"
        return _Value(math.nan, 0, (), "not run", _short(reason), math.nan)
    rate = _number(result.values.get("learning_rate"))
    if result.status != "done":
        reason = result.error or "no reason given"
        if result.status == "skipped":
            reason = _root_cause(job, jobs, results) or reason
        return _Value(math.nan, 0, (), result.status, _short(reason), rate)
    if metric not in result.metrics:
        reason = f"the job's record has no {metric}"
        return _Value(math.nan, 0, (), "absent", _short(reason), rate)
    found = result.metrics[metric]
    if found.value is None or not math.isfinite(found.value):
        reason = found.reason or f"the value is {found.value}"
        return _Value(math.nan, found.n, found.samples, "absent", _short(reason), rate)
    return _Value(found.value, found.n, found.samples, "done", _short(found.reason), rate)


def _short(reason: str) -> str:
    return reason if len(reason) <= REASON_LIMIT else reason[: REASON_LIMIT - 1] + "…"


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
