"""Speed and memory of each system, as measured: the counterpart of Figure 12 of arXiv:2010.11929.

The paper measures inference on TPUv3 cores over input sizes, and prints no numbers. Here a suite's
profiles do (`reports/tables/profile.py`), and beside them every job that stepped through images
tells its speed: training, or evaluation where nothing is trained. Timings differ between runs, so
table and figure stand with the timings.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bench import metrics, stats
from bench.specs import Cost
from reports.figures import style
from reports.printing.render import Cell, Column, Sample, Table
from reports.study.scores import Study
from reports.tables import profile
from reports.tables.cells import Notes, absent_cell, number_cell, text_cell
from reports.tables.cost import STAGES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WORK = STAGES | {
    "candidate": "Fine-tuning",
    "final": "Fine-tuning",
    "probe": "Probe",
    "knn": "k-NN",
}
"""What a stage's speed is the speed of; candidates step like the runs that report."""


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


@dataclass(frozen=True)
class Setup:
    """What makes speeds comparable: the same work on the same device."""

    title: str
    family: str
    work: str
    image_size_px: int
    batch_size: int | None
    device: str


@dataclass
class Group:
    """Jobs of one setup."""

    jobs: list[tuple[int, str, Cost]] = field(default_factory=list)
    """(seed, job id, cost)."""

    @property
    def speeds(self) -> list[float]:
        """Images per second, of the jobs that stated it."""
        return [cost.images_per_s for _, _, cost in self.jobs if cost.images_per_s]

    @property
    def mean_speed(self) -> float:
        """Their mean; only asked where a job stated its speed."""
        return sum(self.speeds) / len(self.speeds)

    @property
    def peak_memory_gib(self) -> float:
        """Largest peak of any job."""
        return max(cost.peak_memory_gib for _, _, cost in self.jobs)


def groups(study: Study) -> dict[Setup, Group]:
    """Return the costs of a suite's jobs by setup, systems in the suite's order."""
    found: dict[Setup, Group] = {}
    for job in study.graph.jobs:
        result, work = study.results.get(job.job_id), WORK.get(job.labels.stage)
        if result is None or result.cost is None or work is None:
            continue
        recipe = job.spec.recipe
        setup = Setup(
            title=job.labels.title,
            family=job.labels.family,
            work=work,
            image_size_px=job.spec.image_size_px or 0,
            batch_size=recipe.batch_size if recipe else None,
            device=result.cost.device,
        )
        found.setdefault(setup, Group()).jobs.append((job.spec.seed, job.job_id, result.cost))
    titles, works = [setup.title for setup in found], list(dict.fromkeys(WORK.values()))
    return dict(sorted(found.items(), key=lambda item: _order(item[0], titles, works)))


def _order(setup: Setup, titles: list[str], works: list[str]) -> tuple[int, int, int]:
    return titles.index(setup.title), works.index(setup.work), setup.image_size_px


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


def figure(study: Study) -> style.Drawing | None:
    """Draw a suite's profiles, else speed and peak memory of its jobs; None without either."""
    profiled = profile.drawing(study)
    if profiled is not None:
        return profiled
    met = {setup: group for setup, group in groups(study).items() if group.speeds}
    if not met:
        return None
    with style.styled():
        return style.finish(
            _draw(met),
            name="speed",
            title="Speed and memory over input size",
            caption="Images per second (log scale), a panel for each kind of work, and largest "
            "peak memory of all, over the side of the input images. Measured on "
            f"{' and '.join(sorted({setup.device for setup in met}))}.",
            alt=f"Speed and memory over input size, a line a system. {_words(met)}",
        )


def _draw(met: dict[Setup, Group]) -> Figure:
    look = style.looks((setup.title, setup.family) for setup in met)
    works = list(dict.fromkeys(setup.work for setup in met))
    figure, (*speeds, memory) = style.panels(len(works) + 1)
    for ax, work in zip(speeds, works, strict=True):
        own = {setup: group for setup, group in met.items() if setup.work == work}
        for title in look:
            rates = [(s, g.mean_speed) for s, g in own.items() if s.title == title]
            _over_size(ax, rates, look[title])
        ax.set(title=work, ylabel="Images per second")
        _size_axis(ax, sorted({setup.image_size_px for setup in own}))
        ax.set_yscale("log")
        style.plain_log_labels(ax)
    for title in look:
        peaks = [(s, g.peak_memory_gib) for s, g in met.items() if s.title == title]
        _over_size(memory, peaks, look[title])
    memory.set(title="Memory", ylabel="Peak memory (GiB)")
    memory.set_ylim(0, 1.1 * max(group.peak_memory_gib for group in met.values()))
    _size_axis(memory, sorted({setup.image_size_px for setup in met}))
    for place, ax in enumerate((*speeds, memory)):
        if style.is_lowest(place, len(works) + 1):
            ax.set_xlabel("Input size (px)")
    style.legend(figure, look, list(look))
    return figure


def _over_size(ax: Axes, values: list[tuple[Setup, float]], look: style.Look) -> None:
    """Draw one system's values, the largest at each size."""
    largest: dict[int, float] = {}
    for setup, value in values:
        size = setup.image_size_px
        largest[size] = max(largest.get(size, 0.0), value)
    x_N = sorted(largest)
    y_N = [largest[size] for size in x_N]
    style.line(ax, x_N, y_N, look)
    style.points(ax, x_N, y_N, look)


def _size_axis(ax: Axes, sizes: list[int]) -> None:
    from matplotlib.ticker import FixedLocator

    ax.xaxis.set_major_locator(FixedLocator(sizes))
    if len(sizes) == 1:
        ax.set_xlim(sizes[0] * 0.5, sizes[0] * 1.5)


def _words(met: dict[Setup, Group]) -> str:
    parts = [
        f"{setup.title}, {setup.work.lower()} at {setup.image_size_px} px: "
        f"{metrics.show('images_per_s', group.mean_speed)} images a second"
        for setup, group in met.items()
    ]
    return f"{'; '.join(parts)}."
