"""Accuracy over upstream data: the question of Figure 3 of arXiv:2010.11929.

What the paper printed for the same downstream data (its Table 5) is shown too, hollow, at the
sizes that section 4.1 prints.
"""

from __future__ import annotations

from reports.cards import FigureCard
from reports.drawing import panels, style
from reports.printing.drawing import Drawing
from reports.study import averages, known
from reports.study.known import Point
from reports.study.samples import Measure
from reports.study.study import Study

PUBLISHED_TABLES = ("Table 5",)


def figure(study: Study) -> Drawing | None:
    """Draw accuracy over upstream size; None where there is nothing to draw."""
    sizes = sorted({arm.upstream_examples for arm in study.arms} - {0})  # 0: none, or not stated
    published = {measure: _published(study, measure) for measure in averages.headline(study)}
    with style.styled():
        drawn = panels.draw(
            study,
            measures=averages.headline(study),
            x_of=lambda arm: arm.upstream_examples,
            x_label="Upstream images",
            ticks=sizes if len(sizes) <= 6 and not any(published.values()) else (),
            known=lambda measure: published[measure],
        )
        if drawn is None:
            return None
        first = averages.headline(study)[0]
        words = averages.means_in_words(
            study, first, lambda arm: f"{arm.upstream_examples:,} images"
        )
        hollow = " Hollow: as published in Table 5." if any(published.values()) else ""
        return style.finish(
            drawn,
            name="upstream_size",
            title="Accuracy over upstream data",
            caption="Top-1 accuracy on the test split over the number of upstream images (log "
            "scale). Lines join means over seeds; small points are single seeds. Panels have "
            f"their own vertical scale.{hollow}{averages.left_out(study)}",
            alt=f"Line charts of top-1 accuracy over upstream images, one line a system. "
            f"{study.measure_name(first)}: {words}",
        )


def _published(study: Study, measure: Measure) -> list[tuple[float, Point]]:
    met = known.points(study, measure, tables=PUBLISHED_TABLES)
    return [(p.upstream_images, p) for p in met if p.upstream_images is not None]


FIGURE = FigureCard(name="upstream_size", draw=figure)
