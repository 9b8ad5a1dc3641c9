"""Few-shot accuracy over upstream size: the question of Figure 4 of arXiv:2010.11929.

The paper's figure prints no numbers, so nothing published is shown with it.
"""

from __future__ import annotations

from reports.cards import FigureCard
from reports.drawing import panels, style
from reports.printing.drawing import Drawing
from reports.study import averages
from reports.study.samples import Measure
from reports.study.study import Study


def figure(study: Study) -> Drawing | None:
    """Draw few-shot accuracy over upstream size; None where there is nothing to draw."""
    fewshot = [m for m in study.measures if m.metric.partition("/")[0] == "fewshot_top1"]
    measures = _measures(fewshot)
    sizes = sorted({arm.upstream_examples for arm in study.arms} - {0})  # 0: none, or not stated
    with style.styled():
        drawn = panels.draw(
            study,
            measures=measures,
            x_of=lambda arm: arm.upstream_examples,
            x_label="Upstream images",
            ticks=sizes if len(sizes) <= 6 else (),
        )
        if drawn is None:
            return None
        words = averages.means_in_words(
            study, measures[0], lambda arm: f"{arm.upstream_examples:,} images"
        )
        return style.finish(
            drawn,
            name="fewshot_size",
            title="Few-shot accuracy over upstream data",
            caption="Top-1 accuracy of a least-squares fit on frozen features of k images a class, "
            "over the number of upstream images (log scale). Lines join means over seeds; small "
            "points are single seeds, each the mean of its draws. Panels have their own vertical "
            f"scale.{averages.said_of(len(fewshot) - len(measures), 'measure')}",
            alt="Line charts of few-shot accuracy over upstream images, one line a system. "
            f"{study.measure_name(measures[0])}: {words}",
        )


def _measures(fewshot: list[Measure]) -> list[Measure]:
    """Return what has panels: all measures, or of too many those of 5 shots before others."""
    if len(fewshot) <= averages.MAX_SHOWN:
        return fewshot
    ordered = sorted(fewshot, key=lambda measure: measure.metric != "fewshot_top1/5")
    chosen = set(ordered[: averages.MAX_SHOWN])
    return [measure for measure in fewshot if measure in chosen]


FIGURE = FigureCard(name="fewshot_size", draw=figure)
