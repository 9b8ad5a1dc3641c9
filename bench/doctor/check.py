"""One check and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from pydantic import model_validator

from bench.errors import BenchError
from bench.specs import Record

Status = Literal["ok", "warning", "problem"]


class Check(Record):
    """One thing that was looked at: a line for a person, a record for a program."""

    topic: str
    """What was looked at, e.g. `disk` or `data cifar10`."""
    status: Status
    """`problem`: the suite would fail or its numbers be wrong; `warning`: somebody should know."""
    found: str
    """What was found, in words."""
    cure: str = ""
    """What to do about it; every problem has one."""

    @model_validator(mode="after")
    def _problems_have_a_cure(self) -> Check:
        if self.status == "problem" and not self.cure:
            raise ValueError(f"{self.topic}: a problem needs a cure")
        return self


def ok(topic: str, found: str) -> Check:
    """Return a check that found nothing wrong."""
    return Check(topic=topic, status="ok", found=found)


def warning(topic: str, found: str, cure: str = "") -> Check:
    """Return a check that found something worth knowing."""
    return Check(topic=topic, status="warning", found=found, cure=cure)


def problem(topic: str, found: str, cure: str) -> Check:
    """Return a check that found what must be fixed first."""
    return Check(topic=topic, status="problem", found=found, cure=cure)


def reported(topic: str, error: BenchError, *, cure: str = "Correct what the line names") -> Check:
    """Return an error of another part as a problem."""
    return problem(topic, error.message, error.hint or cure)


def guarded(topic: str, checks: Callable[[], list[Check]]) -> list[Check]:
    """Return the checks, or the error that ended them as a problem: the others continue."""
    try:
        return checks()
    except BenchError as error:
        return [reported(topic, error)]
