"""Speed and memory over input size: the counterpart of Figure 12 of arXiv:2010.11929.

The paper shows inference speed at the best batch size, and the largest batch that fits. A suite's
profiles are drawn so; without them, what its jobs report of their speed and memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bench import metrics
from reports.cards import FigureCard
from reports.drawing import style
from reports.printing.drawing import Drawing
from reports.study.profiles import WORKS, Profile, profiles
from reports.study.speeds import Group, Setup, groups
from reports.study.study import Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def figure(study: Study) -> Drawing | None:
    """Draw a suite's profiles, else speed and peak memory of its jobs; None without either."""
    profiled = _of_profiles(study)
    if profiled is not None:
        return profiled
    met = {setup: group for setup, group in groups(study).items() if group.speeds}
    if not met:
        return None
    with style.styled():
        return style.finish(
            _draw_jobs(met),
            name="speed",
            title="Speed and memory over input size",
            caption="Images per second (log scale), a panel for each kind of work, and largest "
            "peak memory of all, over the side of the input images. Measured on "
            f"{' and '.join(sorted({setup.device for setup in met}))}.",
            alt=f"Speed and memory over input size, a line a system. {_job_words(met)}",
        )


def _draw_jobs(met: dict[Setup, Group]) -> Figure:
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


def _job_words(met: dict[Setup, Group]) -> str:
    parts = [
        f"{setup.title}, {setup.work.lower()} at {setup.image_size_px} px: "
        f"{metrics.show('images_per_s', group.mean_speed)} images a second"
        for setup, group in met.items()
    ]
    return f"{'; '.join(parts)}."


# --- profiles -------------------------------------------------------------------------------


def _of_profiles(study: Study) -> Drawing | None:
    """Draw speed and largest batch over input size; None where nothing was profiled."""
    met = [profile for profile in profiles(study) if profile.best_speed is not None]
    if not met:
        return None
    devices = " and ".join(sorted({profile.device for profile in met}))
    with style.styled():
        return style.finish(
            _draw_profiles(met),
            name="speed",
            title="Speed and largest batch over input size",
            caption="Inference at the best batch size, and the largest batch of a training step "
            "that fits the memory, over the side of the input images (log scales). "
            f"Measured on {devices}.",
            alt="Inference speed and largest training batch over input size. "
            f"{_profile_words(met)}",
        )


def _draw_profiles(met: Sequence[Profile]) -> Figure:
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


def _profile_words(met: Sequence[Profile]) -> str:
    parts = []
    for profile in met:
        largest, speed = profile.largest_batch.value, profile.best_speed
        text = (
            f"{profile.title}, {WORKS[profile.work].lower()} at {profile.image_size_px} px: "
            f"{metrics.show('images_per_s', speed or 0.0)} images a second"
        )
        parts.append(text + (f", at most {largest:,.0f} at once" if largest else ""))
    return f"{'; '.join(parts)}."


FIGURE = FigureCard(name="speed", draw=figure, measured=True)
