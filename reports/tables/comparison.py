"""The suite's main table: every system at every upstream size, fine-tuned and few-shot.

Holds deterministic content only, so that the same results give the same bytes; timings are in
`reports/tables/cost.py`. Follows the layout of Table 2 and Figures 3 and 4 of arXiv:2010.11929.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench import metrics
from reports.cards import TableCard
from reports.printing.cells import (
    Notes,
    absent_cell,
    images_cell,
    mean_cell,
    number_cell,
    stated_cell,
    text_cell,
)
from reports.printing.table import Cell, Column, Table
from reports.printing.units import common_exponent, params_scale, power_unit
from reports.study.floors import floors
from reports.study.leading import difference, is_lower_better, leader
from reports.study.samples import Arm, Measure, values
from reports.study.stages import is_reported, reported_metrics
from reports.study.study import Study, once


@once
def table(study: Study) -> Table:
    """Return the comparison table of a suite."""
    arms, measures = study.arms, study.measures
    lead, leaders = LeadColumns(study), _leaders(study)
    notes = Notes()
    n = max((len(values(group)) for group in study.samples.values()), default=0)
    rows = []
    for arm in arms:
        cells = list(lead.cells(arm))
        for measure in measures:
            group = study.samples.get((arm, measure))
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
    rows += _floors(study, lead)
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
        *_others(study),
        _sizes(study),
        "Majority class: always the most frequent class of training; chance: each class alike."
        if floors(study)
        else "",
        "Bold: ahead of every other system at the same upstream size by more than the "
        f"{study.confidence:.0%} interval of the difference paired by seed."
        if n > 1
        else "",
        *(f"{note}." for note in dict.fromkeys(job.note for job in study.graph.jobs) if note),
    ]
    return " ".join(filter(None, parts))


def _others(study: Study) -> list[str]:
    """Say what is shown next to accuracies, each metric once."""
    others = [metrics.metric(m.metric) for m in study.measures if m not in study.accuracies]
    words = {"higher": "higher is better", "lower": "lower is better", "neither": ""}
    return [
        f"{card.title}: {'; '.join(filter(None, (card.help, words[card.direction])))}."
        for card in dict.fromkeys(others)
    ]


def _sizes(study: Study) -> str:
    """Say at which size images are seen, by what was measured."""
    seen: dict[tuple[int, ...], list[str]] = {}
    for title, sizes_px in _sizes_by_title(study).items():
        seen.setdefault(tuple(sorted(sizes_px)), []).append(title)
    if not seen:
        return ""
    parts = [" and ".join(map(str, sizes_px)) + " px" for sizes_px in seen]
    if len(seen) > 1:
        parts = [
            f"{part} ({', '.join(titles)})"
            for part, titles in zip(parts, seen.values(), strict=True)
        ]
    return f"Images are seen at {', '.join(parts)}."


def _sizes_by_title(study: Study) -> dict[str, set[int]]:
    """Return metric title -> sides, in pixels, of the images that it was measured on."""
    found: dict[str, set[int]] = {}
    for job in study.graph.jobs:
        if is_reported(job) and job.spec.protocol is not None:
            for metric in reported_metrics(job):
                sizes = found.setdefault(metrics.title(metric).lower(), set())
                sizes.add(job.spec.protocol.image_size_px)
    return found


def _leaders(study: Study) -> set[tuple[Arm, Measure]]:
    """Return who beats all others of an upstream size beyond the paired interval."""
    found = set()
    for arms in study.arms_by_size.values():
        for measure in study.measures:
            means = {arm: study.mean(arm, measure) for arm in arms}
            known = {arm: mean for arm, mean in means.items() if mean is not None}
            best = _best(known, measure.metric)
            if best is not None and len(arms) > 1 and _beats_all(study, best, arms, measure):
                found.add((best, measure))
    return found


def _best(means: Mapping[Arm, float], metric: str) -> Arm | None:
    """Return who has the best mean; None where no direction is better, or nobody has one."""
    if metrics.metric(metric).direction == "neither":
        return None
    choose = min if is_lower_better(metric) else max
    return choose(means, key=lambda arm: means[arm], default=None)


def _beats_all(study: Study, best: Arm, arms: Sequence[Arm], measure: Measure) -> bool:
    own = study.samples.get((best, measure), [])
    rivals = (study.samples.get((arm, measure), []) for arm in arms if arm != best)
    metric = measure.metric
    return all(
        leader(difference(own, rival, metric, confidence=study.confidence), metric) == "first"
        for rival in rivals
    )


def _floors(study: Study, lead: LeadColumns) -> list[tuple[Cell, ...]]:
    """Return the rows of who looks at no image."""
    titles = dict.fromkeys(title for known in floors(study).values() for title in known)
    return [
        (
            *(text_cell(title if column.key == "system" else "") for column in lead.columns),
            *(_floor(study, measure, title) for measure in study.measures),
        )
        for title in titles
    ]


def _floor(study: Study, measure: Measure, title: str) -> Cell:
    value = floors(study).get(measure.dataset, {}).get(title)
    if value is None or measure not in study.accuracies:
        return absent_cell()
    return number_cell(value, metrics.show(measure.metric, value))


class LeadColumns:
    """The columns that name an arm and state its size; only what varies is shown."""

    def __init__(self, study: Study) -> None:
        self.study = study
        arms = study.arms
        self.exponent = common_exponent([arm.exaflops for arm in arms])
        self.divisor, params_unit = params_scale([arm.num_params for arm in arms])
        several = len({arm.upstream for arm in arms if not arm.is_untrained}) > 1
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
            "upstream_examples": images_cell(arm.upstream, arm.upstream_examples),
            "system": text_cell(arm.title),
            "pretraining": text_cell(arm.pretraining),
            "num_params": number_cell(
                arm.num_params, metrics.number(arm.num_params / self.divisor)
            ),
            "exaflops": absent_cell()
            if arm.is_untrained
            else stated_cell(arm.exaflops, metrics.number(arm.exaflops / 10.0**self.exponent)),
        }
        return tuple(found[column.key] for column in self.columns)


TABLE = TableCard(name="comparison", make=table, place=100, always=True, section="none")
