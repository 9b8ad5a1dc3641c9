"""What was found, in a few generated sentences. They say only what the tables show.

Each data set has its own, by its first accuracy (of few-shot ones 5-shot). Nobody reads twenty: of
more than `MAX_DATASETS` data sets the first one's are given, and of the others together how often
each side leads.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from bench import metrics, stats
from reports.study import averages
from reports.study.contests import Contest, contests
from reports.study.curves import Match, Reading, levels, matches, read
from reports.study.leading import margin_of
from reports.study.samples import Measure, values
from reports.study.study import Study

MAX_DATASETS = 6
"""Data sets of which each has findings of its own."""
NO_PUBLISHED = (
    "No published counterpart: this suite is a miniature of the question, not a reproduction."
)


@dataclass(frozen=True)
class Finding:
    """What one comparison showed over the upstream sizes."""

    subject: str
    """What was compared."""
    text: str
    """What came out."""

    def __str__(self) -> str:
        return f"{self.subject}: {self.text}"


def findings(study: Study) -> list[Finding]:
    """Return a finding for each pair, rival and data set, and for whole families.

    Without any of these: the least and the most accurate system at each upstream size.
    """
    found = [*_of_pairs(study), *_families(study)]
    return found or list(_ends(study))


def _told(study: Study) -> tuple[list[Measure], list[Measure]]:
    """Return the measures with findings of their own, and those that are summed up."""
    measures = list(averages.leading(study))
    own = len(measures) if len(measures) <= MAX_DATASETS else 1
    return measures[:own], measures[own:]


def _of_pairs(study: Study) -> Iterator[Finding]:
    own, others = _told(study)
    order = {measure: place for place, measure in enumerate(own)}
    rest = len(order)  # those summed up come last, together
    met = sorted(
        (contest for contest in contests(study) if contest.measure in {*own, *others}),
        key=lambda c: (
            c.pair, c.rival, c.first.upstream, order.get(c.measure, rest),
            c.first.upstream_examples,
        ),
    )  # fmt: skip
    for (*_, place), group in groupby(
        met, key=lambda c: (c.pair, c.rival, c.first.upstream, order.get(c.measure, rest))
    ):
        contested = list(group)
        yield _finding(study, contested) if place < rest else _summed_up(contested)


def _summed_up(met: Sequence[Contest]) -> Finding:
    """Say on how many data sets each side leads at the largest upstream size."""
    size = max(contest.first.upstream_examples for contest in met)
    largest = [contest for contest in met if contest.first.upstream_examples == size]
    counts = Counter(map(_word, largest))
    first = largest[0]
    return Finding(
        f"{first.first.title} − {first.second.title}, {len(largest)} other data sets",
        f"At {size:,} upstream images "
        f"{', '.join(f'{word} on {count}' for word, count in counts.most_common())}. "
        "(The first accuracy of each, not corrected for their number; the pairs have each.)",
    )


def _word(contest: Contest) -> str:
    """Return the outcome of one comparison in words that can be counted."""
    mean = contest.difference.mean
    if mean is None:
        return "no results"
    if contest.leader in ("first", "second"):
        return f"the {contest.names[0 if contest.leader == 'first' else 1]} leads"
    if contest.leader == "unknown":
        if mean == 0:
            return "equal at one seed"
        return f"the {contest.names[0 if mean > 0 else 1]} is ahead at one seed"
    return {"tie": "a tie"}.get(contest.leader, contest.leader)


def _finding(study: Study, group: list[Contest]) -> Finding:
    first = group[0]
    measure = study.measure_title(first.measure).lower()
    dataset = study.dataset_title(first.measure.dataset)
    subject = f"{first.first.title} − {first.second.title}, {measure} on {dataset}"
    known = [contest for contest in group if contest.difference.mean is not None]
    if not known:
        return Finding(subject, "could not be compared, for want of results.")
    parts = [_outcome(contest, is_first=contest is known[0]) for contest in known]
    text = f"{_capital('; '.join(parts))}. {_trend(known)}".rstrip()
    return Finding(subject, f"{text} {_terms(study, known)}")


def _ends(study: Study) -> Iterator[Finding]:
    """Say which systems came first and last, where no pair was named; ranks say what is shown.

    Of many data sets their mean stands for all, or the first of them where they have none.
    """
    own, others = _told(study)
    mean, where = averages.average(study), ""
    if others:
        own = [mean.measure] if mean else own
        where = "; the comparison has each data set"
    for measure in own:
        for (_, size), arms in study.arms_by_size.items():
            found = [(arm, values(averages.values(study, arm, measure).values())) for arm in arms]
            means = sorted((sum(there) / len(there), arm.title) for arm, there in found if there)
            if len(means) < 2:
                continue
            n = max(len(there) for _, there in found)
            low, high = (f"{100 * mean:.1f} % ({title})" for mean, title in (means[0], means[-1]))
            terms = "one seed, no interval" if n == 1 else f"means over {n} seeds"
            yield Finding(
                study.measure_name(measure),
                f"From {low} to {high}, {len(means)} systems at {size:,} upstream images. "
                f"({_capital(terms)}; the ranks say which differences are shown{where}.)",
            )


def _families(study: Study) -> Iterator[Finding]:
    """Say how families compare at equal compute: the claim of section 4.4 of arXiv:2010.11929.

    By the mean over data sets, where there is one; else on each.
    """
    mean = averages.average(study)
    wanted = [mean.measure] if mean else _told(study)[0]
    first: dict[tuple[tuple[str, str], str, Measure], Match] = {}
    for match in matches(study):
        if match.origin == "families" and match.measure in wanted:
            first.setdefault((match.families, match.where, match.measure), match)
    for match in first.values():
        met = [read(match, x, confidence=study.confidence) for x in levels(match)]
        if met:
            name = f"{match.title}, {study.measure_name(match.measure)}"
            yield Finding(name, f"{_capital('; '.join(map(_at_equal_compute, met)))}.")


def _at_equal_compute(reading: Reading) -> str:
    found = reading.difference
    gap = _points(reading.match.measure.metric, found.mean or 0.0, found.interval)
    text = f"{gap} points at {metrics.number(reading.exaflops)} exaFLOPs"
    if reading.work_to_match is None:
        return text
    ratio = metrics.number(reading.work_to_match)
    name = reading.match.names[0]
    return f"{text} (the {name} needs {ratio} times the compute for the rival's accuracy)"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _outcome(contest: Contest, *, is_first: bool) -> str:
    found, metric = contest.difference, contest.measure.metric
    size = f"{contest.first.upstream_examples:,}" + (" upstream images" if is_first else "")
    if not contest.first.upstream:
        size = "upstream data not stated"
    gap = _points(metric, found.mean or 0.0, found.interval)
    if found.leader == "unknown":
        return f"{gap} points at {size}"
    if found.leader in ("tie", "undecided"):
        return f"{'a tie' if found.leader == 'tie' else 'undecided'} at {size} ({gap})"
    winner = contest.names[0 if found.leader == "first" else 1]
    return f"the {winner} leads at {size} ({gap})"


def _points(metric: str, mean: float, interval: stats.Interval | None) -> str:
    text = metrics.show_difference(metric, mean)
    if interval is None:
        return text
    ends = [metrics.show_difference(metric, end) for end in (interval.low, interval.high)]
    return f"{text} [{ends[0]}, {ends[1]}]"


def _trend(known: Sequence[Contest]) -> str:
    """Say how the gap changed from the smallest to the largest size, paired by seed."""
    small, large = known[0], known[-1]
    if small is large:
        return ""
    before, after = _gaps(small), _gaps(large)
    seeds = sorted(before.keys() & after.keys())
    confidence = small.difference.interval.confidence if small.difference.interval else 0.95
    change = stats.paired_difference(
        [after[seed] for seed in seeds],
        [before[seed] for seed in seeds],
        confidence=confidence,
        resolution=small.resolution + large.resolution,
        margin=margin_of(small.measure.metric),
    )
    if change.mean is None:
        return ""
    moved = _points(small.measure.metric, change.mean, change.interval)
    verdict = {
        "first": f"in the {small.names[0]}'s favour",
        "second": f"against the {small.names[0]}",
        "tie": "so it is shown to hardly move",
        "undecided": "so no change is shown",
        "unknown": "from one seed",
    }[change.leader]
    sizes = [f"{contest.first.upstream_examples:,}" for contest in (small, large)]
    return f"From {' to '.join(sizes)} images the gap moves by {moved} points, {verdict}."


def _gaps(contest: Contest) -> dict[int, float]:
    return {
        sample.seed: sample.value
        for sample in contest.samples
        if sample.seed is not None and sample.value is not None
    }


def _terms(study: Study, known: Sequence[Contest]) -> str:
    ratios = sorted(contest.ratio for contest in known if contest.ratio is not None)
    compute = ""
    if ratios:
        spread = (
            f"{ratios[0]:.2f}"
            if ratios[-1] - ratios[0] < 0.005
            else f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
        )
        compute = f"; {spread} times the rival's pre-training compute"
    n = max(contest.difference.n for contest in known)
    intervals = (
        f"{study.confidence:.0%} intervals, paired by seed, n = {n}"
        if n > 1
        else "one seed, no interval"
    )
    return f"(Points of top-1; {intervals}{compute}.)"
