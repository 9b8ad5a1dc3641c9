"""Cells that tables share: a mean over seeds, an absence with its reason, a number, a name."""

from __future__ import annotations

from collections.abc import Sequence

from bench import metrics, stats
from reports.printing.table import Cell, Sample, Status

NOT_STATED = "not stated"
"""What stands for what nobody says of weights that were made elsewhere."""


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
    metric: str, group: Sequence[Sample], *, notes: Notes, num_expected: int, strong: bool = False
) -> Cell:
    """Return `mean ± std` over seeds; what is missing is said in the cell or in a note.

    `num_expected` is the n that the caption states; a cell with another n says so.
    """
    found = stats.summary(sample.value for sample in group if sample.value is not None)
    absent = [sample for sample in group if sample.value is None]
    if found.mean is None:
        return Cell(
            text=_absence(absent).replace("absent", "no value"),
            status=_absence(absent),
            marks=tuple(dict.fromkeys(notes.mark(_reason(sample)) for sample in absent)),
            samples=tuple(group),
        )
    marks = [notes.mark(f"n = {found.n}: {_reason(sample)}") for sample in absent]
    if not absent and found.n != num_expected:
        marks = [notes.mark(f"n = {found.n}")]
    return Cell(
        text=metrics.show_spread(metric, found.mean, found.std),
        value=found.mean,
        std=found.std,
        n=found.n,
        strong=strong,
        marks=tuple(dict.fromkeys(marks)),
        samples=tuple(group),
    )


def absent_cell(text: str = "–") -> Cell:
    """Return the cell of something the suite does not ask for."""
    return Cell(text=text, status="absent")


def stated_cell(value: float, text: str) -> Cell:
    """Return the cell of a number that nobody may have stated, which 0 stands for."""
    return number_cell(value, text) if value else absent_cell(NOT_STATED)


def images_cell(upstream: str, count: int) -> Cell:
    """Return the cell of a number of upstream images: of 0, why there is none."""
    named = text_cell(upstream) if upstream else absent_cell(NOT_STATED)
    return number_cell(count, f"{count:,}") if count else named


def _absence(absent: Sequence[Sample]) -> Status:
    """Return the gravest status met."""
    met = {sample.status for sample in absent}
    order: tuple[Status, ...] = ("failed", "skipped", "absent", "not run")
    return next((status for status in order if status in met), "not run")


def _reason(sample: Sample) -> str:
    if sample.status == "not run":
        return f"seed {sample.seed} was not run"
    verb = {"failed": "failed", "skipped": "was skipped"}.get(sample.status, "gave no value")
    return f"seed {sample.seed} {verb}: {sample.reason}"
