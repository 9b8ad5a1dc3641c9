"""Measured beside published: difference, verdict and its reasons (`reports/verdict.py`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bench import metrics
from bench.specs import PublishedResult
from reports.cells import Notes, mean_cell, number_cell, text_cell
from reports.render import Cell, Column, Table
from reports.results import Arm, Measure, Score, Study, bare_name, values
from reports.verdict import MARGIN, VERDICT_VERSION, Measured, Printed, Verdict, judge, printed

METRICS = {"test_top1": "top1", "fewshot_top1/5": "5shot_linear_top1"}
"""Our metrics by name, and theirs in `published.csv`."""


@dataclass(frozen=True)
class Counterpart:
    """A measured cell, and the published number that it answers."""

    arm: Arm
    measure: Measure
    row: PublishedResult
    printed: Printed
    verdict: Verdict


def counterparts(study: Study) -> list[Counterpart]:
    """Return every measured cell that answers a published number; names must agree in full."""
    by_names: dict[tuple[str, ...], list[PublishedResult]] = {}
    for row in study.published:
        names = (row.system, row.pretrain_dataset, row.dataset, row.metric)
        by_names.setdefault(tuple(bare_name(name) for name in names), []).append(row)
    found = []
    for (arm, measure), group in study.scores.items():
        names = (
            arm.title,
            study.dataset_title(arm.upstream),
            study.dataset_title(measure.dataset),
            METRICS.get(measure.metric, measure.metric),
        )
        for row in by_names.get(tuple(bare_name(name) for name in names), ()):
            number = _printed(row)
            if number is not None:
                verdict = judge(
                    _measured(group),
                    number,
                    differences=tuple(_differences(study, arm, group, row)),
                    confidence=study.confidence,
                )
                found.append(Counterpart(arm, measure, row, number, verdict))
    systems = list(study.arms_by_name)
    return sorted(found, key=lambda answer: systems.index(bare_name(answer.arm.title)))


def _printed(row: PublishedResult) -> Printed | None:
    try:
        return printed(row.value, row.std, unit=row.unit)
    except ValueError:
        return None  # a range, or a number nobody printed: nothing to judge by


def _measured(group: list[Score]) -> Measured:
    absent = next((score for score in group if score.value is None), None)
    there = tuple(values(group))
    if there or absent is None:
        return Measured(values=there, num_images=max(score.n for score in group))
    failed = absent.status in ("failed", "skipped", "absent")
    return Measured(status="failed" if failed else "not run", reason=absent.reason)


def _differences(study: Study, arm: Arm, group: list[Score], row: PublishedResult) -> Iterator[str]:
    """Yield how the measured protocol differs from the printed one, as far as both are known."""
    if study.graph.suite.limit_steps is not None:
        yield f"stopped after at most {study.graph.suite.limit_steps:,} steps"
    ids = {score.job_id for score in group}
    sizes = {job.spec.protocol.image_size_px for job in study.graph.jobs if job.job_id in ids}
    if row.resolution.isdigit() and sizes and sizes != {int(row.resolution)}:
        yield f"{' and '.join(map(str, sorted(sizes)))} px, published {row.resolution} px"
    card = study.graph.datasets.get(arm.upstream)
    if card is not None and arm.upstream_examples < card.splits["train"].num_examples:
        whole = card.splits["train"].num_examples
        yield f"pre-trained on {arm.upstream_examples:,} of {whole:,} images"
    epochs = row.pretrain_epochs.split("/")
    if all(text.strip().isdigit() for text in epochs) and not any(
        abs(arm.epochs - float(text)) < 0.5 for text in epochs
    ):
        yield f"{arm.epochs:.3g} epochs of pre-training, published {row.pretrain_epochs}"


def table(study: Study) -> Table:
    """Return the table; without rows where the suite answers no published number."""
    notes = Notes()
    found = counterparts(study)
    return Table(
        name="published",
        title="Measured beside published",
        caption="Top-1 accuracy in %, published as printed; difference in points. Verdicts follow "
        f"rule {VERDICT_VERSION}: a difference shown to be within {MARGIN * 100:g} points is "
        "reproduced; notes give the reasons.",
        columns=(
            Column(key="system", title="System", align="left", header=True),
            Column(key="upstream", title="Upstream", align="left", header=True),
            Column(key="dataset", title="Data", align="left", header=True),
            Column(key="measure", title="Measure", align="left", header=True),
            Column(key="source", title="Source", align="left", priority=2),
            Column(key="published", title="Published", unit="%", base_unit="fraction"),
            Column(key="measured", title="Measured", unit="%", base_unit="fraction"),
            Column(key="difference", title="Difference", unit="points", base_unit="fraction"),
            Column(key="verdict", title="Verdict", align="left"),
        ),
        rows=tuple(_row(study, counterpart, notes) for counterpart in found),
        notes=tuple(notes.texts),
        warning=study.warning,
        group_by=("system",),
    )


def _row(study: Study, answer: Counterpart, notes: Notes) -> tuple[Cell, ...]:
    arm, measure, row = answer.arm, answer.measure, answer.row
    group = study.scores[(arm, measure)]
    number, verdict = answer.printed, answer.verdict
    spread = f" ± {row.std}" if row.std else ""
    difference = (
        Cell(text="–", status="absent")
        if verdict.difference is None
        else number_cell(
            verdict.difference, metrics.show_difference(measure.metric, verdict.difference)
        )
    )
    return (
        text_cell(arm.title),
        text_cell(study.upstream_title(arm)),
        text_cell(study.dataset_title(measure.dataset)),
        text_cell(study.measure_title(measure)),
        text_cell(row.source),
        Cell(text=f"{row.value}{spread}", value=number.value, std=number.std),
        mean_cell(measure.metric, group, notes=Notes(), num_expected=len(values(group))),
        difference,
        Cell(
            text=verdict.word,
            strong=verdict.word in ("reproduced", "off"),
            marks=(notes.mark(f"{verdict.word}: {'; '.join(verdict.reasons)}"),),
        ),
    )
