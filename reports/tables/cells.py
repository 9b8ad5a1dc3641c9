"""Cells that several tables share: a mean over seeds, an absence with its reason, a size."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bench import metrics, stats
from reports.printing.render import Cell, Sample, Status
from reports.study.scores import Score, values


class Notes:
    """Collects a table's notes; each distinct text gets one number."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def mark(self, text: str) -> int:
        """Return the number of a note, adding it if it is new."""
        if text not in self.texts:
            self.texts.append(text)
        return self.texts.index(text) + 1


def text_cell(text: str) -> Cell:
    """Return a cell that only names something."""
    return Cell(text=text)


def number_cell(value: float, text: str) -> Cell:
    """Return a cell of one number without samples."""
    return Cell(text=text, value=value)


def mean_cell(
    metric: str, group: Sequence[Score], *, notes: Notes, num_expected: int, strong: bool = False
) -> Cell:
    """Return `mean ± std` over seeds; what is missing is said in the cell or in a note.

    `num_expected` is the n that the caption states; a cell with another n says so.
    """
    found = stats.summary(values(group))
    samples = tuple(
        Sample(seed=s.seed, value=s.value, job_ids=(s.job_id,), reason=s.reason) for s in group
    )
    absent = [score for score in group if score.value is None]
    if found.mean is None:
        return Cell(
            text=_absence(absent).replace("absent", "no value"),
            status=_absence(absent),
            marks=tuple(dict.fromkeys(notes.mark(_reason(score)) for score in absent)),
            samples=samples,
        )
    marks = [notes.mark(f"n = {found.n}: {_reason(score)}") for score in absent]
    if not absent and found.n != num_expected:
        marks = [notes.mark(f"n = {found.n}")]
    return Cell(
        text=metrics.show_spread(metric, found.mean, found.std),
        value=found.mean,
        std=found.std,
        n=found.n,
        strong=strong,
        marks=tuple(dict.fromkeys(marks)),
        samples=samples,
    )


def absent_cell(text: str = "–") -> Cell:
    """Return the cell of something the suite does not ask for."""
    return Cell(text=text, status="absent")


def _absence(absent: Sequence[Score]) -> Status:
    """Return the gravest status met."""
    met = {score.status for score in absent}
    order: tuple[Status, ...] = ("failed", "skipped", "absent", "not run")
    return next((status for status in order if status in met), "not run")


def _reason(score: Score) -> str:
    if score.status == "not run":
        return f"seed {score.seed} was not run"
    verb = {"failed": "failed", "skipped": "was skipped"}.get(score.status, "gave no value")
    return f"seed {score.seed} {verb}: {score.reason}"


def common_exponent(numbers: Sequence[float]) -> int:
    """Return the power of ten (a multiple of 3, at most 0) that makes the largest at least 1."""
    largest = max((abs(number) for number in numbers), default=0.0)
    if largest == 0 or largest >= 0.1:
        return 0
    return 3 * math.floor(math.log10(largest) / 3)


def power_unit(exponent: int, unit: str) -> str:
    """Return `10⁻⁶ exaFLOPs`; the unit alone for exponent 0."""
    if exponent == 0:
        return unit
    digits = str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"10{digits} {unit}"


def params_scale(counts: Sequence[int]) -> tuple[float, str]:
    """Return (divisor, unit) for parameter counts: thousands or millions."""
    return (1e6, "M") if max(counts, default=0) >= 1e6 else (1e3, "K")
