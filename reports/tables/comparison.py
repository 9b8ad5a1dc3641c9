"""The suite's main table: every system at every upstream size, fine-tuned and few-shot.

Holds deterministic content only, so that the same results give the same bytes; timings stand in
`reports/tables/cost.py`. Follows the layout of Table 2 and Figures 3 and 4 of arXiv:2010.11929.
"""

from __future__ import annotations

from collections.abc import Sequence

from bench import metrics, stats
from reports.printing.render import Cell, Column, Table
from reports.study.scores import Arm, Measure, Study, pair, resolution, values
from reports.tables.cells import (
    Notes,
    absent_cell,
    common_exponent,
    mean_cell,
    number_cell,
    params_scale,
    power_unit,
    text_cell,
)


def table(study: Study) -> Table:
    """Return the comparison table of a suite."""
    arms, measures = study.arms, study.measures
    lead, leaders = LeadColumns(study), _leaders(study)
    notes = Notes()
    n = max((len(values(group)) for group in study.scores.values()), default=0)
    rows = []
    for arm in arms:
        cells = list(lead.cells(arm))
        for measure in measures:
            group = study.scores.get((arm, measure))
            cells.append(
                mean_cell(
                    measure.metric,
                    group,
                    notes=notes,
                    num_expected=n,
                    strong=(arm, measure) in leaders,
                )
                if group
                else absent_cell()
            )
        rows.append(tuple(cells))
    return Table(
        name="comparison",
        title=study.graph.suite.title,
        caption=_caption(study, n),
        columns=(*lead.columns, *(_column(study, measure) for measure in measures)),
        rows=tuple(rows),
        notes=tuple(notes.texts),
        warning=study.warning,
        group_by=("upstream", "upstream_examples"),
    )


def _column(study: Study, measure: Measure) -> Column:
    return Column(
        key="_".join(filter(None, (measure.dataset, measure.metric, measure.setting))),
        title=study.measure_title(measure),
        unit=metrics.metric(measure.metric).unit,
        base_unit=metrics.metric(measure.metric).base_unit,
        group=study.dataset_title(measure.dataset),
    )


def _caption(study: Study, n: int) -> str:
    spread = f"mean ± standard deviation over n = {n} seeds" if n > 1 else "one seed, no spread"
    parts = [
        f"Top-1 accuracy on the test split, in %: {spread}.",
        "k-shot: least-squares fit on frozen features of k images a class, each seed the mean of "
        "its draws."
        if any(m.metric.startswith("fewshot") for m in study.measures)
        else "",
        "Bold: ahead of every other system at the same upstream size by more than the "
        f"{study.confidence:.0%} interval of the difference paired by seed."
        if n > 1
        else "",
    ]
    return " ".join(filter(None, parts))


def _leaders(study: Study) -> set[tuple[Arm, Measure]]:
    """Return who beats all others of an upstream size beyond the paired interval."""
    found = set()
    for arms in study.arms_by_size.values():
        for measure in study.measures:
            means = {arm: study.mean(arm, measure) for arm in arms}
            known = {arm: mean for arm, mean in means.items() if mean is not None}
            best = max(known, key=lambda arm: known[arm], default=None)
            if best is not None and len(arms) > 1 and _beats_all(study, best, arms, measure):
                found.add((best, measure))
    return found


def _beats_all(study: Study, best: Arm, arms: Sequence[Arm], measure: Measure) -> bool:
    own = study.scores.get((best, measure), [])
    rivals = (study.scores.get((arm, measure), []) for arm in arms if arm != best)
    return all(
        stats.paired_difference(
            *pair(own, rival), confidence=study.confidence, resolution=resolution(own, rival)
        ).leader
        == "first"
        for rival in rivals
    )


class LeadColumns:
    """The columns that name an arm and state its size; only what varies is shown."""

    def __init__(self, study: Study) -> None:
        self.study = study
        arms = study.arms
        self.exponent = common_exponent([arm.exaflops for arm in arms])
        self.divisor, params_unit = params_scale([arm.num_params for arm in arms])
        several = len({arm.upstream for arm in arms}) > 1
        recipes = any(arm.pretraining for arm in arms)
        shown = [
            (several, Column(key="upstream", title="Upstream", align="left", header=True)),
            (True, Column(key="upstream_examples", title="Upstream", unit="images", header=True)),
            (True, Column(key="system", title="System", align="left", header=True)),
            (recipes, Column(key="pretraining", title="Recipe", align="left", header=True)),
            (
                True,
                Column(
                    key="num_params",
                    title="Params",
                    unit=params_unit,
                    base_unit="parameters",
                    priority=2,
                ),
            ),
            (
                True,
                Column(
                    key="exaflops",
                    title="Pre-training",
                    unit=power_unit(self.exponent, "exaFLOPs"),
                    base_unit="exaFLOPs",
                    priority=1,
                ),
            ),
        ]
        self.columns = tuple(column for wanted, column in shown if wanted)

    def cells(self, arm: Arm) -> tuple[Cell, ...]:
        """Return an arm's cells in these columns."""
        found = {
            "upstream": text_cell(self.study.dataset_title(arm.upstream)),
            "upstream_examples": number_cell(arm.upstream_examples, f"{arm.upstream_examples:,}"),
            "system": text_cell(arm.title),
            "pretraining": text_cell(arm.pretraining),
            "num_params": number_cell(
                arm.num_params, metrics.number(arm.num_params / self.divisor)
            ),
            "exaflops": number_cell(
                arm.exaflops, metrics.number(arm.exaflops / 10.0**self.exponent)
            ),
        }
        return tuple(found[column.key] for column in self.columns)
