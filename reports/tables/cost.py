"""What the numbers took, as measured: core time, wall time, speed, memory.

Timings differ between runs, so this table has its own files; `overview.py` puts the main
columns next to the comparison for the terminal and the page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from bench import metrics
from bench.kinds import stages
from bench.specs import Cost, PlannedJob
from reports.cards import TableCard
from reports.printing.cells import number_cell
from reports.printing.table import Cell, Column, Sample, Table
from reports.study.samples import Arm
from reports.study.stages import is_start, stage_of, takes_time
from reports.study.study import Study, once
from reports.tables.comparison import LeadColumns

CHOICE = "choose"
"""Column of all jobs that choose: candidates, and the choice itself."""


Entry = tuple[int, str, Cost]
"""(seed, job id, cost)."""


@dataclass
class Ledger:
    """Costs of one arm's jobs."""

    by_part: dict[str, list[Entry]] = field(default_factory=dict)
    """By part of the work."""
    starts: list[Entry] = field(default_factory=list)
    """Those of its pre-training."""


@once
def parts(study: Study) -> dict[str, str]:
    """Return the parts of a suite's work and their names, in the order of the job kinds."""
    there = {job.labels.stage for job in study.graph.jobs if takes_time(job)}
    shown = [stage for name, stage in stages().items() if name in there]
    return {CHOICE if s.role == "choice" else s.name: s.title for s in shown}


def _part(job: PlannedJob) -> str:
    return CHOICE if stage_of(job).role == "choice" else job.labels.stage


@once
def ledgers(study: Study) -> dict[tuple[str, str, int, float], Ledger]:
    """Return the measured costs by (system, upstream, size, pre-training exaFLOPs)."""
    found: dict[tuple[str, str, int, float], Ledger] = {}
    for job in study.graph.jobs:
        result = study.results.get(job.job_id)
        if result is None or result.cost is None:
            continue
        labels = job.labels
        key = (labels.system, labels.upstream, labels.upstream_examples, job.pretrain_exaflops)
        entry, ledger = (job.spec.seed, job.job_id, result.cost), found.setdefault(key, Ledger())
        ledger.by_part.setdefault(_part(job), []).append(entry)
        if is_start(job) and takes_time(job):
            ledger.starts.append(entry)
    return found


def _ledger(study: Study, arm: Arm) -> Ledger:
    key = (arm.system, arm.upstream, arm.upstream_examples, arm.exaflops)
    return ledgers(study).get(key, Ledger())


def table(study: Study) -> Table:
    """Return the cost table of a suite."""
    lead = LeadColumns(study)
    names = [column for column in lead.columns if column.header]
    rows = []
    for arm in study.arms:
        ledger = _ledger(study, arm)
        cells = [
            cell
            for column, cell in zip(lead.columns, lead.cells(arm), strict=True)
            if column.header
        ]
        cells += [_core_s(ledger, part) for part in parts(study)]
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
                _column(f"core_s_{part}", title, unit, "Core time, one seed", "seconds")
                for part, title in parts(study).items()
            ),
            _column("wall_s", "Wall time", "s", "Pre-training", "seconds"),
            _column("images_per_s", "Speed", "images/s", "Pre-training", "images per second"),
            _column("peak_memory_gib", "Peak memory", "GiB", "", "GiB"),
        ),
        rows=tuple(rows),
        warning=study.warning,
        group_by=("upstream", "upstream_examples"),
    )


def summary_columns(study: Study) -> tuple[Column, Column]:
    """Return the columns shown next to the comparison: core time and speed."""
    return (
        _column("core_s", "Core time", _time_unit(study), "Measured", "seconds"),
        _column("images_per_s", "Speed", "images/s", "Measured", "images per second"),
    )


def summary_cells(study: Study) -> list[tuple[Cell, Cell]]:
    """Return the cells of `summary_columns` for each arm."""
    found = (_ledger(study, arm) for arm in study.arms)
    return [(_total_core_s(study, ledger), _speed(ledger)) for ledger in found]


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


def _core_s(ledger: Ledger, part: str) -> Cell:
    entries = ledger.by_part.get(part, [])
    if part != CHOICE:
        return _mean("core_s", [(seed, job_id, cost.core_s) for seed, job_id, cost in entries])
    if not entries:
        return Cell(text="–", status="absent")
    # The rate is chosen once for all seeds: its whole cost stands here, not a mean.
    total = sum(cost.core_s for _, _, cost in entries)
    ids = tuple(job_id for _, job_id, _ in entries)
    sample = Sample(seed=None, value=total, job_ids=ids)
    return Cell(text=metrics.show("core_s", total), value=total, n=1, samples=(sample,))


def _total_core_s(study: Study, ledger: Ledger) -> Cell:
    cells = [_core_s(ledger, part) for part in parts(study)]
    there = [cell.value for cell in cells if cell.value is not None]
    if not there:
        return Cell(text="–", status="absent")
    return number_cell(sum(there), metrics.show("core_s", sum(there)))


def _wall_s(ledger: Ledger) -> Cell:
    return _mean("wall_s", [(seed, job_id, cost.wall_s) for seed, job_id, cost in ledger.starts])


def _speed(ledger: Ledger) -> Cell:
    return _mean(
        "images_per_s", [(seed, job_id, cost.images_per_s) for seed, job_id, cost in ledger.starts]
    )


def _memory(ledger: Ledger) -> Cell:
    entries = [entry for part in ledger.by_part.values() for entry in part]
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


TABLE = TableCard(name="cost", make=table, place=300, always=True, measured=True, section="cost")
