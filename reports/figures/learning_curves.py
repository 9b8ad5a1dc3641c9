"""Pre-training loss over steps: a panel for each upstream size, a line for each system."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from bench import metrics
from reports.cards import FigureCard
from reports.drawing import style
from reports.printing.drawing import Drawing
from reports.study.stages import is_start
from reports.study.study import Study

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def figure(study: Study) -> Drawing | None:
    """Draw pre-training loss over steps; None where no curve was recorded."""
    data = points(study)
    if data.empty:
        return None
    with style.styled():
        drawn = _draw(study, data)
        words = "; ".join(
            f"{title} ends at {metrics.show('train_loss', loss)} ({panel})"
            for panel, title, loss in _ends(data)
        )
        return style.finish(
            drawn,
            name="learning_curves",
            title="Learning curves of pre-training",
            caption="Training loss over optimizer steps. Thin lines are single seeds, thick lines "
            f"their mean.{_objectives(study)}",
            alt=f"Line charts of pre-training loss over steps, a panel for each upstream size. "
            f"{words}.",
        )


def _objectives(study: Study) -> str:
    """Return a sentence where systems were pre-trained to lower different losses."""
    met = {
        job.spec.recipe.objective
        for job in study.graph.jobs
        if is_start(job) and job.spec.recipe is not None
    }
    return " Losses of different objectives are not comparable." if len(met) > 1 else ""


def points(study: Study) -> pd.DataFrame:
    """Return panel, title, seed, step and loss of every pre-training job, each step once.

    A step repeated after a restart keeps the value of its latest attempt; values that are not
    finite are left out.
    """
    import pandas as pd

    rows = []
    several = len({arm.upstream for arm in study.arms if not arm.is_untrained}) > 1
    for job in study.graph.jobs:
        if not is_start(job):
            continue
        labels = job.labels
        panel = f"{labels.upstream_examples:,} upstream images"
        if several:
            panel = f"{study.dataset_title(labels.upstream)}: {panel}"
        by_step: dict[int, tuple[int, float]] = {}
        for line in study.curves.get(job.job_id, ()):
            step, loss, attempt = line.get("step"), line.get("loss"), line.get("attempt", 1)
            if isinstance(step, int) and isinstance(loss, int | float) and math.isfinite(loss):
                by_step[step] = max(by_step.get(step, (0, loss)), (int(attempt), float(loss)))
        rows += [
            (
                labels.upstream,
                labels.upstream_examples,
                panel,
                labels.title,
                job.spec.seed,
                step,
                loss,
            )
            for step, (_, loss) in sorted(by_step.items())
        ]
    columns = ["upstream", "size", "panel", "title", "seed", "step", "loss"]
    return pd.DataFrame(rows, columns=columns)


def _ends(data: pd.DataFrame) -> list[tuple[str, str, float]]:
    """Return panel, title and the mean loss over seeds at the last step."""
    last = data[data["step"] == data.groupby(["panel", "title"])["step"].transform("max")]
    means = last.groupby(["panel", "title"], sort=False, as_index=False)["loss"].mean()
    return list(zip(means["panel"], means["title"], means["loss"], strict=True))


def _shared_steps(data: pd.DataFrame) -> pd.DataFrame:
    """Return the rows at steps that every seed of a line has: a mean over fewer would jump."""
    seeds = data.groupby(["panel", "title", "step"])["seed"].transform("nunique")
    whole = data.groupby(["panel", "title"])["seed"].transform("nunique")
    return data[seeds == whole]


def _draw(study: Study, data: pd.DataFrame) -> Figure:
    import seaborn as sns

    look = style.looks((arm.title, arm.family) for arm in study.arms)
    sizes = data[["upstream", "size", "panel"]].drop_duplicates().sort_values(["upstream", "size"])
    panels = list(sizes["panel"])
    figure, axes = style.panels(len(panels), columns=3, sharey=True)
    for panel, ax in zip(panels, axes, strict=True):
        part = data[data["panel"] == panel]
        shown = [title for title in look if title in set(part["title"])]
        common = {
            "x": "step", "y": "loss", "hue": "title", "hue_order": shown,
            "palette": {title: look[title].color for title in shown}, "style": "title",
            "dashes": {title: look[title].dashes for title in shown}, "style_order": shown,
            "errorbar": None, "legend": False, "ax": ax,
        }  # fmt: skip
        sns.lineplot(part, **common, units="seed", estimator=None, linewidth=0.6, alpha=0.4)
        sns.lineplot(_shared_steps(part), **common, estimator="mean", linewidth=1.7)
        ax.set(
            title=style.escape_math(panel).replace(": ", ":\n"),
            xlabel="Step",
            ylabel="Training loss",
        )
        ax.set_xlim(left=0)
    style.legend(figure, look, [title for title in look if title in set(data["title"])])
    return figure


FIGURE = FigureCard(name="learning_curves", draw=figure)
