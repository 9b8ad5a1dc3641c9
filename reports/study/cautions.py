"""What weakens a suite's numbers, in sentences: what a careful reader would find by himself.

Five signs are looked for, each by closed rules over means of seeds. A system on a data set gets one
line for each sign, that of its worst case, however many upstream sizes and recipes show it:

    chance     its accuracy is not above that of guessing
    beaten     its best accuracy is behind raw pixels, or behind the same system untrained
    trails     fine-tuning is behind the same features left frozen
    falling    the training loss was still falling when fine-tuning ended
    edge       the chosen learning rate is the least or the greatest of those that were tried
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bench import metrics
from bench.facts import MARGIN
from bench.kinds.base import FROZEN, Stage
from bench.kinds.weights import UNTRAINED
from bench.specs import PlannedJob
from reports.printing.table import Sample
from reports.study.floors import MAJORITY_CLASS, floors
from reports.study.samples import Arm, Measure
from reports.study.stages import is_reported, reported_metrics, stage_of
from reports.study.study import Study, once

STANDARD_ERRORS = 2
"""Above guessing by fewer is not above it."""
FALLING_SHARE, FALLING_NATS = 0.9, 0.02
"""A loss falls where its last fifth is below this share of the fifth before, and by more nats."""
BEYOND = 3
"""How far beyond the edge of its grid a further learning rate is proposed."""


@dataclass(frozen=True)
class Caution:
    """One sign that numbers of a system on a data set are weaker than they look."""

    subject: str
    """System and data set."""
    text: str
    """What was seen, with its numbers, and what it means."""

    def __str__(self) -> str:
        return f"{self.subject}: {self.text}"


@dataclass(frozen=True)
class _Sign:
    """A sign as it was met, in one arm by one measure."""

    arm: Arm
    measure: Measure
    gravity: float
    """Of several in one line the gravest is told."""
    text: str


def cautions(study: Study) -> list[Caution]:
    """Return a line for each sign, system and data set; the gravest kind of sign first."""
    return [
        caution
        for kind in (_at_chance, _beaten, _trailing, _falling, _at_edges)
        for caution in _told(study, kind(study))
    ]


def _told(study: Study, signs: Iterator[_Sign]) -> Iterator[Caution]:
    """Yield one line for all signs of a system on a data set."""
    groups: dict[tuple[str, str], list[_Sign]] = {}
    for sign in signs:
        groups.setdefault((sign.arm.title, sign.measure.dataset), []).append(sign)
    for (title, dataset), group in groups.items():
        worst = max(group, key=lambda sign: sign.gravity)
        subject = f"{title} on {study.dataset_title(dataset)}"
        if len({(arm.upstream, arm.upstream_examples) for arm in study.arms}) > 1:
            subject += f", {_start(study, worst.arm)}"
        others = len(group) - 1
        again = f" The same in {others} more of its settings." if others else ""
        yield Caution(subject, worst.text + again)


def _start(study: Study, arm: Arm) -> str:
    """Return what a system started from, in words."""
    if arm.is_untrained:
        return UNTRAINED
    return f"after {study.upstream_title(arm)}" if arm.upstream else "upstream data not stated"


# --- chance ---------------------------------------------------------------------------------


def _at_chance(study: Study) -> Iterator[_Sign]:
    """Yield who is within two standard errors of guessing, or below."""
    for arm in study.arms:
        by_guess: dict[tuple[str, str, float], list[Measure]] = {}
        for measure in study.accuracies:
            if _is_at_chance(study, arm, measure):
                guess = (measure.dataset, *_guess(study, measure))
                by_guess.setdefault(guess, []).append(measure)
        for (_, how, share), measures in by_guess.items():
            shown = ", ".join(_shown(study, arm, measure) for measure in measures)
            n = min(_num_images(study, arm, measure) for measure in measures)
            yield _Sign(
                arm,
                measures[0],
                gravity=len(measures),
                text=f"no better than guessing {how} "
                f"({metrics.show(measures[0].metric, share)} %): {shown}, within "
                f"{STANDARD_ERRORS} standard errors on {n:,} test images. Nothing was learned "
                "that this test can show.",
            )


def _is_at_chance(study: Study, arm: Arm, measure: Measure) -> bool:
    mean, card = study.mean(arm, measure), study.graph.datasets.get(measure.dataset)
    n = _num_images(study, arm, measure)
    if mean is None or card is None or card.num_classes < 2 or not n:
        return False
    _, share = _guess(study, measure)
    return mean <= share + STANDARD_ERRORS * math.sqrt(share * (1 - share) / n)


def _guess(study: Study, measure: Measure) -> tuple[str, float]:
    """Return how one guesses best without looking at an image, and how often that is right.

    Few-shot classifiers learn from as many images of every class, and know no frequent one.
    """
    classes = study.graph.datasets[measure.dataset].num_classes
    majority = floors(study).get(measure.dataset, {}).get(MAJORITY_CLASS, 0.0)
    if majority > 1 / classes and not measure.metric.startswith("fewshot"):
        return "the most frequent class of training", majority
    return f"one of {classes:,} classes", 1 / classes


def _num_images(study: Study, arm: Arm, measure: Measure) -> int:
    return int(min((s.n for s in _there(study, arm, measure)), default=0))


# --- what has to be beaten ------------------------------------------------------------------


def _beaten(study: Study) -> Iterator[_Sign]:
    """Yield who was pre-trained, and is behind raw pixels or behind itself untrained."""
    for arm in (arm for arm in study.arms if not arm.is_untrained):
        for dataset in dict.fromkeys(measure.dataset for measure in study.accuracies):
            own = [measure for measure in study.accuracies if measure.dataset == dataset]
            best = _best(study, arm, own)
            met = [(rival, _best(study, rival, own)) for rival in _to_be_beaten(study, arm)]
            there = [(rival, measure) for rival, measure in met if measure is not None]
            if best is None or not there:
                continue
            rival, theirs = max(there, key=lambda found: study.mean(*found) or 0.0)
            behind = (study.mean(rival, theirs) or 0.0) - (study.mean(arm, best) or 0.0)
            if behind > MARGIN:
                who = "the same system untrained" if rival.num_params else "raw pixels"
                yield _Sign(
                    arm,
                    best,
                    behind,
                    f"at its best ({_shown(study, arm, best)}) behind {who} at theirs "
                    f"({_shown(study, rival, theirs)}): what it learned is of no use here.",
                )


def _to_be_beaten(study: Study, arm: Arm) -> list[Arm]:
    """Return raw pixels, and a system's own untrained self."""
    return [
        other
        for other in study.arms
        if other.is_untrained and (other.system == arm.system or not other.num_params)
    ]


# --- fine-tuning against frozen features ----------------------------------------------------


def _trailing(study: Study) -> Iterator[_Sign]:
    """Yield where fine-tuning is behind a classifier on the same features left frozen.

    All weights can move in fine-tuning, the frozen solution among them: where it is behind, the
    recipe was not up to it.
    """
    tuned, frozen = _tuned(study), _of_stages(study, lambda stage: stage.work is FROZEN)
    for arm in study.arms:
        for dataset in dict.fromkeys(measure.dataset for measure in study.accuracies):
            own = [m for m in study.accuracies if m.dataset == dataset]
            best = _best(study, arm, [m for m in own if m.metric in tuned])
            rival = _best(study, arm, [m for m in own if m.metric in frozen])
            if best is None or rival is None:
                continue
            behind = (study.mean(arm, rival) or 0.0) - (study.mean(arm, best) or 0.0)
            if behind > MARGIN:
                yield _Sign(arm, best, behind, _trails(study, arm, best, rival))


def _trails(study: Study, arm: Arm, best: Measure, rival: Measure) -> str:
    tuned, frozen = (study.mean(arm, measure) or 0.0 for measure in (best, rival))
    sizes = [_size_px(study, arm, measure) for measure in (best, rival)]
    apart = (
        f" (Images have {sizes[0]} px in fine-tuning and {sizes[1]} px there.)"
        if sizes[0] != sizes[1]
        else ""
    )
    return (
        f"fine-tuning ({metrics.show(best.metric, tuned)} %) trails the same features left frozen "
        f"({study.measure_title(rival)}, {metrics.show(rival.metric, frozen)} %): the recipe is "
        "too short, or its rates do not fit; comparisons of the fine-tuned compare recipes, not "
        f"systems.{apart}"
    )


def _best(study: Study, arm: Arm, measures: list[Measure]) -> Measure | None:
    """Return the measure by which a system does best; None where it has none."""
    known = {m: mean for m in measures if (mean := study.mean(arm, m)) is not None}
    return max(known, key=lambda m: known[m], default=None)


def _size_px(study: Study, arm: Arm, measure: Measure) -> int | None:
    samples = _there(study, arm, measure)
    return _jobs(study)[samples[0].job_ids[0]].spec.image_size_px if samples else None


# --- training -------------------------------------------------------------------------------


def _falling(study: Study) -> Iterator[_Sign]:
    """Yield where the loss still fell from the fourth fifth of fine-tuning to the last."""
    for arm, measure, group in _fine_tuned(study):
        before = _mean_value(study, group, "loss_before_end")
        at_end = _mean_value(study, group, "loss_at_end")
        if before is None or at_end is None:
            continue
        if at_end < FALLING_SHARE * before and before - at_end > FALLING_NATS:
            yield _Sign(
                arm,
                measure,
                gravity=before - at_end,
                text="the training loss was still falling when fine-tuning ended (from "
                f"{metrics.number(before)} over the fourth fifth of the steps to "
                f"{metrics.number(at_end)} over the last): more steps may raise its accuracy.",
            )


def _mean_value(study: Study, group: list[Sample], name: str) -> float | None:
    """Return the mean over seeds of what jobs left as a value; None where any lacks it."""
    found = [study.results[sample.job_ids[0]].values.get(name) for sample in group]
    numbers = [float(value) for value in found if isinstance(value, int | float)]
    return sum(numbers) / len(numbers) if numbers and len(numbers) == len(found) else None


def _at_edges(study: Study) -> Iterator[_Sign]:
    """Yield where a chosen rate is at an end of its grid: the best may lie beyond."""
    for arm, measure, group in _fine_tuned(study):
        edges = dict.fromkeys(filter(None, (_edge(study, sample) for sample in group)))
        if edges:
            yield _Sign(arm, measure, gravity=len(edges), text=" ".join(edges))


def _edge(study: Study, sample: Sample) -> str:
    job = _jobs(study)[sample.job_ids[0]]
    chosen = study.results[job.job_id].values.get("learning_rate")
    rates = sorted(_tried(study, job))
    if len(rates) < 2 or not isinstance(chosen, int | float):
        return ""
    if math.isclose(chosen, rates[-1], rel_tol=1e-9):
        word, beyond = "greatest", chosen * BEYOND
    elif math.isclose(chosen, rates[0], rel_tol=1e-9):
        word, beyond = "least", chosen / BEYOND
    else:
        return ""
    tried = ", ".join(f"{rate:g}" for rate in rates)
    return (
        f"the chosen learning rate is the {word} of those tried ({tried}), and the best may lie "
        f"beyond: add {float(f'{beyond:.1g}'):g}."
    )


def _tried(study: Study, job: PlannedJob) -> set[float]:
    """Return the rates among which that of a job was chosen: of candidates, or of a search."""
    chooser = _jobs(study).get(job.spec.needs.get("select", ""))
    if chooser is None:
        return set()
    searched = chooser.spec.params.get("learning_rates", ())
    found = {float(rate) for rate in searched} if isinstance(searched, tuple | list) else set()
    for needed in chooser.spec.needs.values():
        candidate = _jobs(study).get(needed)
        recipe = candidate.spec.recipe if candidate is not None else None
        if recipe is not None and recipe.base_lr is not None and candidate is not None:
            found |= {recipe.base_lr} if stage_of(candidate).role == "choice" else set()
    return found


# --- what they share ------------------------------------------------------------------------


@once
def _jobs(study: Study) -> dict[str, PlannedJob]:
    return {job.job_id: job for job in study.graph.jobs}


def _of_stages(study: Study, wanted: Callable[[Stage], bool]) -> set[str]:
    """Return the metrics that jobs of some stages report."""
    return {
        metric
        for job in study.graph.jobs
        if is_reported(job) and wanted(stage_of(job))
        for metric in reported_metrics(job)
    }


def _tuned(study: Study) -> set[str]:
    return _of_stages(study, lambda stage: stage.trains_classifier)


def _fine_tuned(study: Study) -> Iterator[tuple[Arm, Measure, list[Sample]]]:
    """Yield the fine-tuned accuracies of every arm, of the seeds that have one."""
    tuned = _tuned(study)
    for arm in study.arms:
        for measure in study.measures:
            if measure.metric in tuned and (there := _there(study, arm, measure)):
                yield arm, measure, there


def _there(study: Study, arm: Arm, measure: Measure) -> list[Sample]:
    return [s for s in study.samples.get((arm, measure), ()) if s.value is not None]


def _shown(study: Study, arm: Arm, measure: Measure) -> str:
    value = metrics.show(measure.metric, study.mean(arm, measure) or 0.0)
    return f"{study.measure_title(measure)} {value} %"
