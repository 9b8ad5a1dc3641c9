"""Accuracy over pre-training compute, system by system and measure by measure."""

from __future__ import annotations

from bench import metrics
from reports.cards import FigureCard
from reports.drawing import panels, style
from reports.printing.drawing import Drawing
from reports.printing.units import common_exponent, power_unit
from reports.study import averages
from reports.study.study import Study


def figure(study: Study) -> Drawing | None:
    """Draw accuracy over pre-training exaFLOPs; None where there is nothing to draw."""
    exponent = common_exponent([arm.exaflops for arm in study.arms])
    with style.styled():
        drawn = panels.draw(
            study,
            measures=averages.headline(study),
            x_of=lambda arm: arm.exaflops,
            x_label=f"Pre-training compute ({power_unit(exponent, 'exaFLOPs')})",
            unit=10.0**exponent,
        )
        if drawn is None:
            return None
        first = averages.headline(study)[0]
        words = averages.means_in_words(
            study, first, lambda arm: f"{metrics.number(arm.exaflops)} exaFLOPs"
        )
        return style.finish(
            drawn,
            name="pretrain_compute",
            title="Accuracy over pre-training compute",
            caption="Top-1 accuracy on the test split over pre-training work (log scale; one "
            "multiply-add is 2 FLOPs, training is 3 x forward). Each line joins the upstream "
            f"sizes of one system; small points are single seeds.{averages.left_out(study)}",
            alt=f"Line charts of top-1 accuracy over pre-training exaFLOPs, one line a system. "
            f"{study.measure_name(first)}: {words}",
        )


FIGURE = FigureCard(name="pretrain_compute", draw=figure)
