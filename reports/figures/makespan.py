"""When and where the jobs ran: a row for each worker, a bar for each job.

Shows what a suite waited for: idle workers, one long job at the end, work done twice. Bars end when
a job ended and are as long as the job took; they differ between runs, so the figure is with the
timings. Stretches in which nothing ran (the suite was stopped, or jobs came from an earlier one)
are cut out.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench import metrics
from bench.kinds import stages
from bench.kinds.base import OTHER, Work
from reports.cards import FigureCard
from reports.drawing import style
from reports.printing.drawing import Drawing
from reports.study.stages import stage_of
from reports.study.study import Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.patches import PathPatch

IDLE_SHARE = 0.05
"""Share of the working time beyond which a stretch without jobs is cut out."""
NARROW_SHARE = 0.005
"""Share of the figure's width below which bars are drawn without gaps."""
MAX_ROW_IN = 0.22


@dataclass(frozen=True)
class Bar:
    """One job on the time axis, in seconds since the first one began."""

    worker: str
    work: Work
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Schedule:
    """All jobs whose end is known."""

    bars: tuple[Bar, ...]
    cuts_s: tuple[float, ...]
    """Where stretches without jobs were cut out."""

    @property
    def workers(self) -> list[str]:
        """Workers in the order in which they began."""
        return list(dict.fromkeys(bar.worker for bar in self.bars))

    @property
    def end_s(self) -> float:
        """When the last job ended, stretches without jobs aside."""
        return max(bar.end_s for bar in self.bars)

    @property
    def busy_share(self) -> float:
        """Share of the workers' time in which they had a job."""
        busy = sum(bar.end_s - bar.start_s for bar in self.bars)
        return busy / (self.end_s * len(self.workers)) if self.end_s else 0.0


def schedule(study: Study) -> Schedule | None:
    """Return who did what when; None where no job says when it ended."""
    spans = []
    for job in study.graph.jobs:
        result = study.results.get(job.job_id)
        cost = result.cost if result else None
        if cost is not None and cost.finished_unix_s is not None:
            end = cost.finished_unix_s
            spans.append((end - cost.wall_s, end, cost.worker, stage_of(job).work))
    if not spans:
        return None
    spans.sort(key=lambda span: span[:3])
    allowed = IDLE_SHARE * sum(end - start for start, end, _, _ in spans)
    bars, cuts, shift, latest = [], [], spans[0][0], spans[0][0]
    for start, end, worker, work in spans:
        if start - latest > allowed:
            cuts.append(latest - shift)
            shift += start - latest
        latest = max(latest, end)
        bars.append(Bar(worker, work, start - shift, end - shift))
    return Schedule(tuple(bars), tuple(cuts))


def figure(study: Study) -> Drawing | None:
    """Draw jobs over workers; None where no job says when it ended."""
    found = schedule(study)
    if found is None:
        return None
    cuts = " Dotted: a stretch without jobs was cut out." if found.cuts_s else ""
    workers = len(found.workers)
    summary = (
        f"{len(found.bars):,} jobs on {workers:,} worker{'s' * (workers != 1)} took "
        f"{metrics.number(found.end_s)} s from the first to the last; workers were busy "
        f"{found.busy_share:.0%} of that time."
    )
    with style.styled():
        return style.finish(
            _draw(found),
            name="makespan",
            title="Jobs over workers",
            caption=f"Each row is a worker, each bar a job. {summary}{cuts}",
            alt=f"Gantt chart of the suite's jobs, a row for each worker. {summary}",
        )


def _draw(found: Schedule) -> Figure:
    from matplotlib.figure import Figure

    unit, name = (60.0, "min") if found.end_s >= 300 else (1.0, "s")
    rows = {worker: place for place, worker in enumerate(found.workers)}
    height = min(6.0, 0.9 + MAX_ROW_IN * len(rows))
    figure = Figure(figsize=(style.TEXT_WIDTH_IN, height), layout="constrained")
    ax = figure.subplots()
    works = _works(found)
    for work in works:
        own = [(rows[bar.worker], bar) for bar in found.bars if bar.work == work]
        boxes = [(bar.start_s / unit, bar.end_s / unit, row) for row, bar in own]
        width = statistics.median(end - start for start, end, _ in boxes) * unit
        # The gaps between bars would hide bars that are hardly wider.
        gap = 0.4 if width > NARROW_SHARE * found.end_s else 0.0
        ax.add_patch(_boxes(boxes, work.colour, gap=gap))
    ax.set_xlim(0, 1.02 * found.end_s / unit)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    for cut_s in found.cuts_s:
        ax.axvline(cut_s / unit, color=style.MUTED, linewidth=0.8, linestyle=":")
    labels = [f"worker {place + 1}" for place in rows.values()]
    every = -(-len(labels) // 24)
    ax.set_yticks(range(0, len(labels), every), labels[::every])
    ax.set_xlabel(f"Time since the first job began ({name})")
    ax.grid(axis="x")
    ax.grid(visible=False, axis="y")
    squares = {work.title: style.Look(work.colour, "s", ()) for work in works}
    style.marker_legend(figure, squares)
    return figure


def _works(found: Schedule) -> list[Work]:
    """Return the sorts of work that were done, in the order of the kinds; what has no name last."""
    known = dict.fromkeys(stage.work for stage in stages().values())
    met = {bar.work for bar in found.bars}
    return sorted((work for work in known if work in met), key=lambda work: work == OTHER)


def _boxes(boxes: list[tuple[float, float, int]], color: str, *, gap: float) -> PathPatch:
    """Return bars (start, end, row) as one shape: thousands of jobs stay a small file."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    corners = [
        [(start, row - 0.4), (end, row - 0.4), (end, row + 0.4), (start, row + 0.4), (start, row)]
        for start, end, row in boxes
    ]
    codes = [Path.MOVETO, *[Path.LINETO] * 3, Path.CLOSEPOLY] * len(boxes)
    path = Path([corner for box in corners for corner in box], codes)
    return PathPatch(path, facecolor=color, edgecolor=style.PAPER, linewidth=gap)


FIGURE = FigureCard(name="makespan", draw=figure, measured=True)
