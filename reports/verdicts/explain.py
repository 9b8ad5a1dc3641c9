"""Why a run answers a published number, or why it does not: both protocols side by side.

explain(study, "3f2a")                                    a job, by the start of its id
explain(study, "Table 5: ViT-B/16, ImageNet-21k, CIFAR-10")   a published cell, by its words
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import baselines
from bench import digests, metrics
from bench.errors import UserError, suggest
from bench.specs import PlannedJob, PublishedResult
from reports.printing.cells import text_cell
from reports.printing.table import Column, Table
from reports.study.made import in_words, made_with
from reports.study.study import Study, bare_name
from reports.verdicts.differences import Field, early_stopping, fields
from reports.verdicts.linking import Counterpart, counterparts, differences
from reports.verdicts.rule import VERDICT_VERSION

_JOB = re.compile(r"[0-9a-f]{4,16}")


@dataclass(frozen=True)
class Explanation:
    """One cell or job explained."""

    title: str
    """What is explained."""
    verdict: str
    """The verdict and what it follows from, in a sentence."""
    table: Table | None
    """Field by field: as run, as published; None where nothing was run that could be compared."""
    made: tuple[str, ...] = ()
    """What the results behind it were made with, and the public weights that they go back to, a
    line each; none where nothing was run."""


def explain(study: Study, what: str) -> list[Explanation]:
    """Explain a job (the start of its id) or a published cell (words of it, between commas).

    Raises UserError where nothing, or too much, is meant.
    """
    if _JOB.fullmatch(what):
        return list(_of_job(study, what))
    return list(_of_cell(study, what))


# --- a job ----------------------------------------------------------------------------------


def _of_job(study: Study, start: str) -> Iterator[Explanation]:
    found = [job for job in study.graph.jobs if job.job_id.startswith(start)]
    if len(found) != 1:
        what = "no job" if not found else f"{len(found)} jobs"
        raise UserError(
            f"{what} of {study.graph.suite.name} whose id begins with {start}",
            hint=f"Ids are in `vitbench plan {study.graph.suite.name} --json` and in the tables",
        )
    job = found[0]
    answers = [a for a in counterparts(study) if job.job_id in _behind(study, _job_ids(a))]
    for answer in answers:
        yield _explained(study, answer)
    if not answers:
        yield _alone(study, job)


def _behind(study: Study, job_ids: Iterable[str]) -> set[str]:
    """Return the ids of some jobs and of everything that they were made from."""
    needs = {planned.job_id: planned.spec.needs.values() for planned in study.graph.jobs}
    pending = list(job_ids)
    seen: set[str] = set()
    while pending:
        job_id = pending.pop()
        if job_id not in seen:
            seen.add(job_id)
            pending += needs.get(job_id, ())
    return seen


def _job_ids(answer: Counterpart) -> list[str]:
    return [job_id for sample in answer.samples for job_id in sample.job_ids]


def _made(study: Study, job_ids: Sequence[str]) -> tuple[str, ...]:
    """Return what jobs were made with, and the public weights behind them."""
    facts = made_with(study, job_ids)
    ids = _behind(study, job_ids)
    jobs = (job for job in study.graph.jobs if job.job_id in ids)
    weights = dict.fromkeys(map(str, digests.used(jobs, study.results)))
    return (*([f"made {in_words(facts)}"] if facts else []), *weights)


def _alone(study: Study, job: PlannedJob) -> Explanation:
    """Explain a job that answers nothing published: its own protocol is all there is."""
    jobs = {planned.job_id: planned for planned in study.graph.jobs}
    return Explanation(
        title=job.name,
        verdict="no published number is answered: "
        + (
            "; ".join(study.graph.parts)
            or "none is known for this system, upstream data, downstream data and metric"
        ),
        table=_protocol(job, fields(job, None, jobs=jobs, datasets=study.graph.datasets)),
        made=_made(study, [job.job_id]),
    )


# --- a published cell -----------------------------------------------------------------------


def _of_cell(study: Study, words: str) -> Iterator[Explanation]:
    parts = {bare_name(part): part.strip() for part in re.split(r"[,;:|]", words) if part.strip()}
    names = {row: _names(study, row) for row in study.published}
    bare = {row: frozenset(map(bare_name, found)) for row, found in names.items()}
    rows = [row for row in study.published if parts and bare[row].issuperset(parts)]
    if not rows:
        unknown = [part for key, part in parts.items() if not any(key in b for b in bare.values())]
        near = (
            suggest(unknown[0], {n for found in names.values() for n in found}) if unknown else ""
        )
        cell = f'"{unknown[0]}"' if unknown else f'"{words}"'
        usual = 'Separate its names by commas, e.g. "Table 5: ViT-B/16, ImageNet-21k, CIFAR-10"'
        raise UserError(
            f"no published cell matches {cell}", hint=near if near.startswith("Did") else usual
        )
    if len(rows) > 12:
        raise UserError(
            f'{len(rows)} published cells match "{words}"',
            hint=f'Be more specific, e.g. "{_name(rows[0])}"',
        )
    answers = counterparts(study)
    for row in rows:
        found = [answer for answer in answers if answer.row == row]
        for answer in found:
            yield _explained(study, answer)
        if not found:
            yield _unanswered(row)


def _names(study: Study, row: PublishedResult) -> tuple[str, ...]:
    """Return what a cell may be called by: the words of its paper, and our names and titles."""
    card = baselines.systems().get(row.system_id)
    sets = (row.upstream_id, row.dataset_id)
    titles = (study.dataset_title(name) for name in sets if name)
    names = (
        row.paper, row.table, row.system, row.system_id, card.title if card else "",
        row.pretrain_dataset, row.dataset, *sets, *titles, row.metric,
        f"{row.pretrain_epochs} epochs", f"{row.resolution} px",
    )  # fmt: skip
    return tuple(filter(None, names))


def _name(row: PublishedResult) -> str:
    parts = (row.system, row.pretrain_dataset, row.dataset)
    return f"{row.table}: {', '.join(part for part in parts if part)}"


def _unanswered(row: PublishedResult) -> Explanation:
    recipes = ", ".join(filter(None, (row.pretraining_id, row.transfer_id, row.protocol_id)))
    return Explanation(
        title=f"{_name(row)}: {row.value} {row.unit} ({row.source})",
        verdict=(
            "not run"
            if row.is_public
            else f"not public: weights and data of {row.pretrain_dataset} were never released"
        )
        + (f"; its protocol: {recipes}" if recipes else ""),
        table=_table(_name(row), [early_stopping(row)]) if row.early_stopping else None,
    )


# --- side by side ---------------------------------------------------------------------------


def _explained(study: Study, answer: Counterpart) -> Explanation:
    row, verdict = answer.row, answer.verdict
    words = differences(answer, study)
    because = "same protocol, as far as the paper says"
    if words:
        because = f"off-protocol because of {len(words)}: {'; '.join(words)}"
    return Explanation(
        title=f"{answer.arm.title}, {study.upstream_title(answer.arm)}, to "
        f"{study.dataset_title(answer.measure.dataset)} ({metrics.title(answer.measure.metric)}), "
        f"against {_name(row)}: {row.value} {row.unit}",
        verdict=f"{verdict.word} (rule {VERDICT_VERSION}); {because}"
        + ("" if words else f"; {'; '.join(verdict.reasons)}"),
        table=_table(_name(row), answer.fields),
        made=_made(study, _job_ids(answer)),
    )


def _protocol(job: PlannedJob, found: Sequence[Field]) -> Table:
    """Return a run's protocol alone, where there is no published one to compare it with."""
    rows = [(field.name, field.measured) for field in found]
    if job.spec.recipe is not None:
        recipe = job.spec.recipe.model_dump(mode="json", exclude_defaults=True, exclude={"source"})
        rows += [(key.replace("_", " "), str(value)) for key, value in recipe.items()]
    return Table(
        name="explain",
        title=job.name,
        caption="The run's own protocol; there is nothing published to compare it with.",
        columns=(
            Column(key="field", title="Field", align="left", header=True),
            Column(key="measured", title="As run", align="left"),
        ),
        rows=tuple((text_cell(name), text_cell(value)) for name, value in rows),
    )


def _table(title: str, compared: Sequence[Field]) -> Table:
    differing = [field for field in compared if field.differs]
    same = [field for field in compared if not field.differs]
    return Table(
        name="explain",
        title=title,
        caption="What differs comes first, the largest known effect on top; where the paper leaves "
        "a field open, nothing is compared.",
        columns=(
            Column(key="field", title="Field", align="left", header=True),
            Column(key="measured", title="As run", align="left"),
            Column(key="published", title="As published", align="left"),
            Column(key="state", title="", align="left"),
            Column(key="effect", title="Known effect", align="left", priority=1),
        ),
        rows=tuple(
            tuple(map(text_cell, (f.name, f.measured, f.published, _state(f), _effect(f))))
            for f in (*differing, *same)
        ),
    )  # fmt: skip


def _state(field: Field) -> str:
    if field.differs:
        return "differs"
    return "same" if field.published else "not printed"


def _effect(field: Field) -> str:
    return field.effect if field.differs else ""
