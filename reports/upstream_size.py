"""Accuracy over upstream data: the question of Figures 3 and 4 of arXiv:2010.11929."""

from __future__ import annotations

from reports import style
from reports.results import Study


def figure(study: Study) -> style.Drawing | None:
    """Draw accuracy over upstream size; None where there is nothing to draw."""
    sizes = sorted({arm.upstream_examples for arm in study.arms})
    with style.styled():
        drawn = style.accuracy_panels(
            study,
            x_of=lambda arm: arm.upstream_examples,
            x_label="Upstream images",
            ticks=sizes if len(sizes) <= 6 else (),
        )
        if drawn is None:
            return None
        first = study.measures[0]
        words = style.means_in_words(study, first, lambda arm: f"{arm.upstream_examples:,} images")
        return style.finish(
            drawn,
            name="upstream_size",
            title="Accuracy over upstream data",
            caption="Top-1 accuracy on the test split over the number of upstream images (log "
            "scale). Lines join means over seeds; small points are single seeds. Panels have "
            "their own vertical scale.",
            alt=f"Line charts of top-1 accuracy over upstream images, one line a system. "
            f"{style.panel_title(study, first)}: {words}",
        )
