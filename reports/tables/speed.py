"""Speed and memory of each system, as measured: the counterpart of Figure 12 of arXiv:2010.11929.

The paper measures inference on TPUv3 cores over input sizes, and prints no numbers. Here a suite's
profiles do (`profile.py`), and besides them every job that stepped through images
reports its speed: training, or evaluation where nothing is trained. Timings differ between runs, so
the table is kept with the timings.
"""

from __future__ import annotations

from bench import metrics, stats
from reports.cards import TableCard
from reports.printing.cells import Notes, absent_cell, number_cell, text_cell
from reports.printing.table import Cell, Column, Sample, Table
from reports.study.speeds import Group, Setup, groups
from reports.study.study import Study, once
from reports.tables import profile

_STEPPING = (
    "Speed: images per second of stepping, mean ± standard deviation over jobs; training images, "
    "or evaluation images where nothing is trained. Memory: the largest peak of any job (of the "
    "process on a CPU, allocated on an accelerator). A job that shared its machine was slowed by "
    "it."
)
_PROFILED = (
    "Inference and Training: profiles at the fastest of their batch sizes, median ± half the range "
    "of the repeats; memory beyond what the process held before. Largest batch: what fits the "
    "memory, to one part in sixteen."
)


@once
def table(study: Study) -> Table:
    """Return speed and memory of every system, by what it did."""
    notes = Notes()
    profiled = profile.summary_rows(study, notes=notes)
    rows = [
        _row(setup, group, has_profiles=bool(profiled)) for setup, group in groups(study).items()
    ]
    said = [_STEPPING] * bool(rows or not profiled) + [_PROFILED] * bool(profiled)
    largest = _measured("largest_batch", "Largest batch", "images", "images")
    return Table(
        name="speed",
        title="Speed and memory",
        caption=" ".join(["As measured on the device of the row.", *said]),
        columns=(
            Column(key="system", title="System", align="left", header=True),
            Column(key="work", title="Work", align="left", header=True),
            Column(key="image_size_px", title="Images", unit="px", header=True),
            Column(key="batch_size", title="Batch", priority=1),
            _measured("images_per_s", "Speed", "images/s", "images per second"),
            _measured("peak_memory_gib", "Peak memory", "GiB", "GiB"),
            *([largest] if profiled else []),
            Column(key="num_jobs", title="Jobs", priority=2),
            Column(key="device", title="Device", align="left", priority=3, measured=True),
        ),
        rows=(*profiled, *rows),
        notes=tuple(notes.texts),
        warning=study.warning,
        group_by=("system",),
    )


def _measured(key: str, title: str, unit: str, base_unit: str) -> Column:
    return Column(key=key, title=title, unit=unit, base_unit=base_unit, measured=True)


def _row(setup: Setup, group: Group, *, has_profiles: bool) -> tuple[Cell, ...]:
    memory = group.peak_memory_gib
    batch = setup.batch_size
    return (
        text_cell(setup.title),
        text_cell(setup.work),
        number_cell(setup.image_size_px, str(setup.image_size_px)),
        Cell(text="–", status="absent") if batch is None else number_cell(batch, f"{batch:,}"),
        _speed_cell(group),
        number_cell(memory, metrics.show("peak_memory_gib", memory)),
        *([absent_cell()] if has_profiles else []),
        number_cell(len(group.jobs), f"{len(group.jobs):,}"),
        text_cell(setup.device),
    )


def _speed_cell(group: Group) -> Cell:
    found = stats.summary(group.speeds)
    if found.mean is None:
        return Cell(text="–", status="absent")
    samples = tuple(
        Sample(
            seed=seed,
            value=cost.images_per_s,
            job_ids=(job_id,),
            reason="" if cost.images_per_s else "not measured",
        )
        for seed, job_id, cost in group.jobs
    )
    text = metrics.show_spread("images_per_s", found.mean, found.std)
    return Cell(text=text, value=found.mean, std=found.std, n=found.n, samples=samples)


TABLE = TableCard(
    name="speed", make=table, place=310, comes_with="cost", measured=True, section="cost"
)
