"""Profiles: speed and memory of every system over batch and input sizes.

All of it is timings: it is kept with them, apart from what is the same in every run.
"""

from __future__ import annotations

from functools import partial

from bench import metrics
from bench.specs import Metric
from reports.cards import TableCard
from reports.printing.cells import Notes, absent_cell, number_cell, text_cell
from reports.printing.table import Cell, Column, Sample, Table
from reports.study.profiles import WORKS, Profile, profiles
from reports.study.study import Study


def table(study: Study) -> Table:
    """Return speed and memory at every batch size."""
    notes, measured = Notes(), partial(Column, measured=True)
    rows = [
        (
            text_cell(profile.title),
            text_cell(WORKS[profile.work]),
            number_cell(profile.image_size_px, str(profile.image_size_px)),
            number_cell(batch, f"{batch:,}"),
            speed_cell(profile, batch, notes=notes),
            metric_cell(profile, profile.memory(batch), notes=notes),
            text_cell(profile.precision),
            text_cell(profile.device),
        )
        for profile in profiles(study)
        for batch in profile.batch_sizes
    ]
    return Table(
        name="profile",
        title="Speed and memory by batch size",
        caption="Images per second of one batch, repeated, on the device of the row: median "
        "± half the range of the repeats. Peak memory: of tensors on an accelerator; on a CPU, "
        "what the process holds beyond its libraries. Random weights; reading images is not "
        "included.",
        columns=(
            Column(key="system", title="System", align="left", header=True),
            Column(key="work", title="Work", align="left", header=True),
            Column(key="image_size_px", title="Images", unit="px", header=True),
            Column(key="batch_size", title="Batch", header=True),
            measured(
                key="images_per_s", title="Speed", unit="images/s", base_unit="images per second"
            ),
            measured(key="memory_gib", title="Peak memory", unit="GiB", base_unit="GiB"),
            Column(key="precision", title="Precision", align="left", priority=2),
            measured(key="device", title="Device", align="left", priority=3),
        ),
        rows=tuple(rows),
        notes=tuple(notes.texts),
        warning=study.warning,
        group_by=("system", "work"),
    )


def speed_cell(profile: Profile, batch: int, *, notes: Notes) -> Cell:
    """Return the speed at a batch size, median ± half the range; its repeats are its samples."""
    found = profile.speed(batch)
    if found.value is None or not found.samples:
        return metric_cell(profile, found, notes=notes)
    half = (max(found.samples) - min(found.samples)) / 2
    return Cell(
        text=metrics.show_spread("images_per_s", found.value, half),
        value=found.value,
        n=len(found.samples),
        samples=tuple(
            Sample(seed=None, value=rate, job_ids=(profile.job_id,)) for rate in found.samples
        ),
    )


def metric_cell(profile: Profile, found: Metric, *, notes: Notes) -> Cell:
    """Return a metric of a profile; why it is absent, or what is to know, stands in a note."""
    marks = (notes.mark(found.reason),) if found.reason else ()
    if found.value is None:
        return Cell(text="–", status="absent", marks=marks)
    sample = Sample(seed=None, value=found.value, job_ids=(profile.job_id,))
    text = metrics.show(found.name, found.value)
    return Cell(text=text, value=found.value, n=1, marks=marks, samples=(sample,))


def summary_rows(study: Study, *, notes: Notes) -> list[tuple[Cell, ...]]:
    """Return one row of the speed table for each profile: its best speed, and the largest batch."""
    return [
        (
            text_cell(profile.title),
            text_cell(WORKS[profile.work]),
            number_cell(profile.image_size_px, str(profile.image_size_px)),
            *_at_best(profile, notes),
            metric_cell(profile, profile.largest_batch, notes=notes),
            number_cell(1, "1"),
            text_cell(profile.device),
        )
        for profile in profiles(study)
    ]


def _at_best(profile: Profile, notes: Notes) -> tuple[Cell, Cell, Cell]:
    """Return batch, speed and memory at the batch size of the highest speed."""
    batch = profile.fastest
    if batch is None:
        return absent_cell(), absent_cell(), absent_cell()
    return (
        number_cell(batch, f"{batch:,}"),
        speed_cell(profile, batch, notes=notes),
        metric_cell(profile, profile.memory(batch), notes=notes),
    )


TABLE = TableCard(
    name="profile", make=table, place=320, comes_with="cost", measured=True,
    needs=lambda study: bool(profiles(study)),
)  # fmt: skip
