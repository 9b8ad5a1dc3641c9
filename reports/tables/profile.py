"""Profiles: speed and memory of every system over batch and input sizes, and their figure.

Follows Figure 12 of arXiv:2010.11929: inference speed at the best batch size, and the largest batch
that fits, over input sizes. All of it is timings: it stands with them, apart from what is the same
in every run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from bench import metrics
from bench.specs import Metric
from reports.figures import style
from reports.printing.render import Cell, Column, Sample, Table
from reports.study.scores import Study
from reports.tables.cells import Notes, absent_cell, number_cell, text_cell

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WORKS = {"inference": "Inference", "train": "Training"}
"""Printed name of what was timed."""


@dataclass(frozen=True)
class Profile:
    """What one job measured of a system at one input size, in one kind of work."""

    title: str
    family: str
    work: str
    """`inference` or `train`."""
    image_size_px: int
    precision: str
    device: str
    job_id: str
    batch_sizes: tuple[int, ...]
    metrics: dict[str, Metric]
    """All metrics of the job."""

    def speed(self, batch: int) -> Metric:
        """Return images per second at a batch size."""
        return self._metric(f"images_per_s/{batch}")

    def memory(self, batch: int) -> Metric:
        """Return peak memory at a batch size."""
        return self._metric(f"memory_gib/{batch}")

    @property
    def largest_batch(self) -> Metric:
        """Return the most images that fit at once."""
        return self._metric("largest_batch")

    @property
    def fastest(self) -> int | None:
        """Return the batch size of the highest speed; None where no batch was timed."""
        timed = {b: v for b in self.batch_sizes if (v := self.speed(b).value) is not None}
        return max(timed, key=lambda batch: timed[batch], default=None)

    @property
    def best_speed(self) -> float | None:
        """Return the highest speed, in images per second."""
        return None if self.fastest is None else self.speed(self.fastest).value

    def _metric(self, name: str) -> Metric:
        known = f"{self.work}_{name}"
        absent = Metric(name=known, value=None, reason=f"the job's record has no {known}")
        return self.metrics.get(known, absent)


def profiles(study: Study) -> list[Profile]:
    """Return the profiles of a suite in its order: by system, work and input size."""
    found = []
    for job in study.graph.jobs:
        result = study.results.get(job.job_id)
        if job.labels.stage != "profile" or result is None or result.cost is None:
            continue
        batches = job.spec.params["batch_sizes"]
        found += [
            Profile(
                title=job.labels.title,
                family=job.labels.family,
                work=work,
                image_size_px=job.spec.image_size_px or 0,
                precision=str(job.spec.params["precision"]),
                device=result.cost.device,
                job_id=job.job_id,
                batch_sizes=tuple(int(b) for b in batches) if isinstance(batches, tuple) else (),
                metrics=result.metrics,
            )
            for work in WORKS
        ]
    titles, works = [profile.title for profile in found], list(WORKS)
    return sorted(
        found, key=lambda p: (titles.index(p.title), works.index(p.work), p.image_size_px)
    )


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
        caption="Images per second of one batch again and again, on the device of the row: median "
        "± half the range of the repeats. Peak memory: of tensors on an accelerator; on a CPU, "
        "what the process holds beyond its libraries. Random weights; reading images is not in it.",
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


# --- figure ---------------------------------------------------------------------------------


def drawing(study: Study) -> style.Drawing | None:
    """Draw speed and largest batch over input size; None where nothing was profiled."""
    met = [profile for profile in profiles(study) if profile.best_speed is not None]
    if not met:
        return None
    devices = " and ".join(sorted({profile.device for profile in met}))
    with style.styled():
        return style.finish(
            _draw(met),
            name="speed",
            title="Speed and largest batch over input size",
            caption="Inference at the best batch size, and the largest batch of a training step "
            "that fits the memory, over the side of the input images (log scales). "
            f"Measured on {devices}.",
            alt=f"Inference speed and largest training batch over input size. {_words(met)}",
        )


def _draw(met: Sequence[Profile]) -> Figure:
    look = style.looks((profile.title, profile.family) for profile in met)
    figure, axes = style.panels(2)
    sizes = sorted({profile.image_size_px for profile in met})
    panels = (
        ("inference", "Inference speed", "Images per second"),
        ("train", "Largest training batch", "Images"),
    )
    for ax, (work, title, label) in zip(axes, panels, strict=True):
        for name in look:
            own = [p for p in met if (p.title, p.work) == (name, work)]
            points = [
                (p.image_size_px, y)
                for p in own
                if (y := p.best_speed if work == "inference" else p.largest_batch.value)
            ]
            if points:
                x_N, y_N = zip(*points, strict=True)
                style.line(ax, x_N, y_N, look[name])
                style.points(ax, x_N, y_N, look[name])
        ax.set(title=title, xlabel="Input size (px)", ylabel=label)
        ax.set_yscale("log")
        style.log_axis(ax, sizes)
        style.plain_log_labels(ax)
    style.legend(figure, look, list(look))
    return figure


def _words(met: Sequence[Profile]) -> str:
    parts = []
    for profile in met:
        largest, speed = profile.largest_batch.value, profile.best_speed
        text = (
            f"{profile.title}, {WORKS[profile.work].lower()} at {profile.image_size_px} px: "
            f"{metrics.show('images_per_s', speed or 0.0)} images a second"
        )
        parts.append(text + (f", at most {largest:,.0f} at once" if largest else ""))
    return f"{'; '.join(parts)}."
