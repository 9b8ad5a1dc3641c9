"""The verdicts of a study counted, and how its protocols differ from the published ones."""

from __future__ import annotations

from dataclasses import dataclass

from bench.facts import MARGIN
from reports.printing.cells import number_cell, text_cell
from reports.printing.table import Column, Table
from reports.study.study import Study
from reports.verdicts.differences import Field
from reports.verdicts.linking import counterparts
from reports.verdicts.rule import VERDICT_VERSION

NO_PUBLISHED = (
    "No published counterpart: this suite is a miniature of the question, not a reproduction."
)
IN_PART = "No published number is answered: the suite was rehearsed on a part of its data."
MEANINGS = {
    "reproduced": f"shown to lie within {MARGIN * 100:g} points of the published value",
    "within noise": "no difference shown, but too much noise to call it reproduced",
    "undecided": "may be nearer than that or farther: more seeds would tell",
    "off": f"shown to lie farther than {MARGIN * 100:g} points from the published value",
    "off-protocol": "measured, but not under the published protocol",
    "not public": "weights or data were never released",
    "not run": "no job has run",
    "failed": "the job, or an input of it, failed",
}
"""Verdicts in the order in which they are shown, each with what it means."""
KINDS = {"reproduced": "good", "off": "bad", "failed": "bad"}


@dataclass(frozen=True)
class VerdictCount:
    """How many published numbers got a verdict."""

    word: str
    meaning: str
    count: int
    kind: str
    """`good`, `bad` or empty."""


def verdicts(study: Study) -> list[VerdictCount]:
    """Return the verdicts that were given, best known ones first."""
    words = [answer.verdict.word for answer in counterparts(study)]
    return [
        VerdictCount(word, meaning, words.count(word), KINDS.get(word, ""))
        for word, meaning in MEANINGS.items()
        if word in words
    ]


def no_published(study: Study) -> str:
    """Say why no published number is answered."""
    return IN_PART if study.graph.parts else NO_PUBLISHED


def differences(study: Study) -> Table:
    """Return every difference to a published protocol once, with how many cells it concerns."""
    count: dict[Field, int] = {}
    for answer in counterparts(study):
        for field in answer.fields:
            if field.differs:
                count[field] = count.get(field, 0) + 1
    return Table(
        name="protocol_differences",
        title="Protocol differences",
        caption="How the runs differ from what was published, each difference once; cells: "
        f"published numbers that it concerns. Verdict rule {VERDICT_VERSION}.",
        columns=(
            Column(key="field", title="Field", align="left", header=True),
            Column(key="measured", title="As run", align="left"),
            Column(key="published", title="As published", align="left"),
            Column(key="cells", title="Cells"),
            Column(key="effect", title="Known effect", align="left", priority=1),
        ),
        rows=tuple(
            (
                text_cell(field.name),
                text_cell(field.measured),
                text_cell(field.published),
                number_cell(cells, str(cells)),
                text_cell(field.effect or "–"),
            )
            for field, cells in count.items()
        ),
        warning=study.warning,
    )
