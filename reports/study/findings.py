"""What was found, in a few generated sentences. They say only what the pair table shows."""

from __future__ import annotations

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
    """Return a finding for each pair and rival, and for whole families: the first measure.

    Without any of these: the least and the most accurate system at each upstream size.
    """
    met = [contest for contest in contests(study) if contest.measure == _first(study)]
    ordered = sorted(
        met, key=lambda c: (c.pair, c.rival, c.first.upstream, c.first.upstream_examples)
    )
    groups = groupby(ordered, key=lambda c: (c.pair, c.rival, c.first.upstream))
    found = [*(_finding(study, list(group)) for _, group in groups), *_families(study)]
    return found or list(_ends(study))


def _first(study: Study) -> Measure | None:
    """Return the accuracy that findings are about: the suite's first, of few-shot ones 5-shot.

    Table 8 and Figure 4 of arXiv:2010.11929 are 5-shot accuracies.
    """
    measures = study.accuracies
    if measures and measures[0].metric.startswith("fewshot_top1"):
        usual = [m for m in measures if m.metric == "fewshot_top1/5"]
        return (usual or measures)[0]
    return measures[0] if measures else None


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
    """Say which systems came first and last, where no pair was named; ranks say what is shown."""
    measure = _first(study)
    if measure is not None:
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
                f"({_capital(terms)}; the ranks say which differences are shown.)",
            )


def _families(study: Study) -> Iterator[Finding]:
    """Say how families compare at equal compute: the claim of section 4.4 of arXiv:2010.11929."""
    families = [match for match in matches(study) if match.origin == "families"]
    first: dict[tuple[tuple[str, str], str], Match] = {}
    for match in families:
        first.setdefault((match.families, match.where), match)
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
