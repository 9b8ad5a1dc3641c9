"""What the numbers took, as measured: core time, wall time, speed, memory.

Timings differ between runs, so this table stands in files of its own; `joined` puts the main
columns beside the comparison for the terminal and the page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from bench import metrics
from bench.specs import Cost
from reports.printing.render import Cell, Column, Sample, Table
from reports.study.scores import Arm, Study
from reports.tables.cells import number_cell
from reports.tables.comparison import LeadColumns

STAGES = {
    "pretrain": "Pre-training",
    "choose": "Choosing rates",
    "final": "Fine-tuning",
    "fewshot": "Few-shot",
}


@dataclass
class Ledger:
    """Costs of one arm's jobs, by stage."""

    by_stage: dict[str, list[tuple[int, str, Cost]]] = field(default_factory=dict)

    def add(self, stage: str, seed: int, job_id: str, cost: Cost) -> None:
        """Enter one job."""
        self.by_stage.setdefault(stage, []).append((seed, job_id, cost))


def ledgers(study: Study) -> dict[tuple[str, str, int, float], Ledger]:
    """Return the measured costs by (system, upstream, size, pre-training exaFLOPs)."""
    found: dict[tuple[str, str, int, float], Ledger] = {}
    for job in study.graph.jobs:
        result = study.results.get(job.job_id)
        if result is None or result.cost is None:
            continue
        labels = job.labels
        key = (labels.system, labels.upstream, labels.upstream_examples, job.pretrain_exaflops)
        stage = "choose" if labels.stage in ("candidate", "select") else labels.stage
        found.setdefault(key, Ledger()).add(stage, job.spec.seed, job.job_id, result.cost)
    return found


def _ledger(study_ledgers: dict[tuple[str, str, int, float], Ledger], arm: Arm) -> Ledger:
    key = (arm.system, arm.upstream, arm.upstream_examples, arm.exaflops)
    return study_ledgers.get(key, Ledger())


def table(study: Study) -> Table:
    """Return the cost table of a suite."""
    lead = LeadColumns(study)
    names = [column for column in lead.columns if column.header]
    books = ledgers(study)
    rows = []
    for arm in study.arms:
        ledger = _ledger(books, arm)
        cells = [
            cell
            for column, cell in zip(lead.columns, lead.cells(arm), strict=True)
            if column.header
        ]
        cells += [_core_s(ledger, stage) for stage in STAGES]
        cells += [_wall_s(ledger), _speed(ledger), _memory(ledger)]
        rows.append(tuple(cells))
    unit = _time_unit(study)
    return Table(
        name="cost",
        title="Measured cost",
        caption=_caption(study),
        columns=(
            *names,
            *(
                _column(f"core_s_{stage}", title, unit, "Core time, one seed", "seconds")
                for stage, title in STAGES.items()
            ),
            _column("wall_s", "Wall time", "s", "Pre-training", "seconds"),
            _column("images_per_s", "Speed", "images/s", "Pre-training", "images per second"),
            _column("peak_memory_gib", "Peak memory", "GiB", "", "GiB"),
        ),
        rows=tuple(rows),
        warning=study.warning,
        group_by=("upstream", "upstream_examples"),
    )


def joined(study: Study, comparison: Table, cost: Table) -> Table:
    """Return the comparison with core time and speed beside it, for reading and not for diffs."""
    books = ledgers(study)
    rows = [
        (*row, _total_core_s(_ledger(books, arm)), _speed(_ledger(books, arm)))
        for row, arm in zip(comparison.rows, study.arms, strict=True)
    ]
    total = _column("core_s", "Core time", _time_unit(study), "Measured", "seconds")
    speed = _column("images_per_s", "Speed", "images/s", "Measured", "images per second")
    caption = (
        f"{comparison.caption} Core time: all jobs of one seed, and the choice of learning rates; "
        "speed: pre-training. Both are measured and differ between runs."
    )
    return replace(
        comparison,
        name="overview",
        caption=caption,
        columns=(*comparison.columns, total, speed),
        rows=tuple(rows),
    )


def _column(key: str, title: str, unit: str, group: str, base_unit: str) -> Column:
    return Column(
        key=key,
        title=title,
        unit=unit,
        base_unit=base_unit,
        group=group,
        measured=True,
        priority=3,
    )


def _time_unit(study: Study) -> str:
    kinds = {result.cost.device_kind for result in study.results.values() if result.cost}
    return "core-s" if kinds <= {"cpu"} else "device-s"


def _mean(metric: str, entries: Sequence[tuple[int, str, float | None]]) -> Cell:
    """Return the mean over seeds of one number a job."""
    there = [value for _, _, value in entries if value is not None]
    if not there:
        return Cell(text="–", status="absent")
    mean = sum(there) / len(there)
    samples = tuple(
        Sample(seed=seed, value=value, job_ids=(job_id,), reason="" if value else "not measured")
        for seed, job_id, value in entries
    )
    return Cell(text=metrics.show(metric, mean), value=mean, n=len(there), samples=samples)


def _core_s(ledger: Ledger, stage: str) -> Cell:
    entries = ledger.by_stage.get(stage, [])
    if stage != "choose":
        return _mean("core_s", [(seed, job_id, cost.core_s) for seed, job_id, cost in entries])
    if not entries:
        return Cell(text="–", status="absent")
    # The rate is chosen once for all seeds: its whole cost stands here, not a mean.
    total = sum(cost.core_s for _, _, cost in entries)
    ids = tuple(job_id for _, job_id, _ in entries)
    sample = Sample(seed=None, value=total, job_ids=ids)
    return Cell(text=metrics.show("core_s", total), value=total, n=1, samples=(sample,))


def _total_core_s(ledger: Ledger) -> Cell:
    parts = [_core_s(ledger, stage) for stage in STAGES]
    there = [part.value for part in parts if part.value is not None]
    if not there:
        return Cell(text="–", status="absent")
    return number_cell(sum(there), metrics.show("core_s", sum(there)))


def _wall_s(ledger: Ledger) -> Cell:
    entries = ledger.by_stage.get("pretrain", [])
    return _mean("wall_s", [(seed, job_id, cost.wall_s) for seed, job_id, cost in entries])


def _speed(ledger: Ledger) -> Cell:
    entries = ledger.by_stage.get("pretrain", [])
    return _mean(
        "images_per_s", [(seed, job_id, cost.images_per_s) for seed, job_id, cost in entries]
    )


def _memory(ledger: Ledger) -> Cell:
    entries = [entry for stage in ledger.by_stage.values() for entry in stage]
    if not entries:
        return Cell(text="–", status="absent")
    _, job_id, cost = max(entries, key=lambda entry: entry[2].peak_memory_gib)
    peak = cost.peak_memory_gib
    sample = Sample(seed=None, value=peak, job_ids=(job_id,))
    text = metrics.show("peak_memory_gib", peak)
    return Cell(text=text, value=peak, n=1, samples=(sample,))


def _caption(study: Study) -> str:
    costs = [result.cost for result in study.results.values() if result.cost]
    devices = sorted({cost.device for cost in costs})
    total = metrics.number(sum(cost.core_s for cost in costs))
    where = " and ".join(devices) or "no device yet"
    return (
        f"Measured on {where}: means over seeds; choosing rates counts all candidates, once; "
        f"memory is the largest peak of any job. All jobs of the suite together: {total} "
        f"{_time_unit(study)}. Timings differ between runs."
    )
