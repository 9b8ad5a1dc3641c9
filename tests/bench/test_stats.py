"""Statistics against closed forms, scipy and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as reference

from bench import stats


def test_summary_of_known_numbers() -> None:
    found = stats.summary([2.0, 4.0, 9.0])
    assert (found.n, found.mean) == (3, 5.0)
    assert found.std == pytest.approx(13**0.5)  # ((-3)^2 + (-1)^2 + 4^2) / 2


def test_one_value_has_no_spread_and_no_interval() -> None:
    assert stats.summary([0.5]) == stats.Summary(n=1, mean=0.5, std=None)
    assert stats.t_interval([0.5]) is None
    assert stats.bootstrap_interval([0.5], generator=np.random.default_rng(0)) is None
    difference = stats.paired_difference([0.5], [0.4])
    assert difference.mean == pytest.approx(0.1)
    assert difference.interval is None
    assert difference.leader == "unknown"


def test_no_value_has_no_mean() -> None:
    assert stats.summary([]) == stats.Summary(n=0, mean=None, std=None)
    assert stats.paired_difference([], []).leader == "unknown"


def test_absent_values_are_refused_and_not_averaged() -> None:
    with pytest.raises(ValueError, match="finite"):
        stats.summary([0.5, float("nan")])


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_t_interval_agrees_with_scipy(confidence: float) -> None:
    values = np.random.default_rng(0).normal(3.0, 2.0, size=7)
    expected = reference.ttest_1samp(values, 0).confidence_interval(confidence)
    found = stats.t_interval(values, confidence=confidence)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_paired_difference_agrees_with_scipy() -> None:
    random = np.random.default_rng(1)
    first, second = random.normal(0.90, 0.02, 5), random.normal(0.88, 0.02, 5)
    expected = reference.ttest_rel(first, second)
    found = stats.paired_difference(first, second, confidence=0.9)
    interval = expected.confidence_interval(0.9)
    assert found.p_value == pytest.approx(expected.pvalue)
    assert found.interval is not None
    assert (found.interval.low, found.interval.high) == pytest.approx((interval.low, interval.high))


def test_swapping_the_systems_swaps_the_answer() -> None:
    a, b = [0.91, 0.92, 0.93], [0.81, 0.80, 0.83]
    assert stats.paired_difference(a, b).leader == "first"
    assert stats.paired_difference(b, a).leader == "second"


def test_pairing_sees_what_unpaired_means_hide() -> None:
    seeds = np.array([0.70, 0.80, 0.90])  # seeds differ widely, systems by a constant and a bit
    ahead = seeds + np.array([0.010, 0.011, 0.012])
    found = stats.paired_difference(ahead, seeds)
    assert found.leader == "first"
    assert reference.ttest_ind(ahead, seeds).pvalue > 0.8


SEEDS = [0.5, 0.6, 0.7]


@pytest.mark.parametrize(
    ("first", "margin", "leader"),
    [
        (SEEDS, 0.0, "tie"),  # the same numbers: an interval of no width
        ([0.52, 0.62, 0.72], 0.0, "first"),
        ([0.501, 0.601, 0.701], 0.005, "first"),  # a lead that is shown, however small
        ([0.502, 0.599, 0.700], 0.005, "tie"),  # [-0.0035, +0.0041]
        ([0.502, 0.599, 0.700], 0.004, "undecided"),
        ([0.9, 0.2, 0.7], 0.005, "undecided"),
        ([0.5], 0.005, "unknown"),
    ],
)
def test_a_tie_is_shown_and_everything_else_undecided(
    first: list[float], margin: float, leader: str
) -> None:
    found = stats.paired_difference(first, SEEDS[: len(first)], margin=margin)
    assert found.leader == leader


def test_differences_that_agree_by_rounding_have_a_spread_of_rounding() -> None:
    """On 10 images, 0.1 apart twice may have been anything from 0 to 0.2 apart."""
    fine = stats.paired_difference([0.6, 0.7], [0.5, 0.6], resolution=1e-6)
    coarse = stats.paired_difference([0.6, 0.7], [0.5, 0.6], resolution=0.1)
    assert fine.leader == "first"
    assert coarse.leader == "undecided"
    assert coarse.p_value is not None
    assert coarse.p_value > 0.05
    spread = stats.paired_difference([0.9, 0.7], [0.5, 0.6], resolution=1e-3)
    assert spread == stats.paired_difference([0.9, 0.7], [0.5, 0.6])


def test_unequal_lengths_are_no_pairs() -> None:
    with pytest.raises(ValueError, match="equal lengths"):
        stats.paired_difference([1.0, 2.0], [1.0])


@pytest.mark.parametrize("n", [3, 5, 20])
def test_t_interval_covers_as_often_as_it_says(n: int) -> None:
    random = np.random.default_rng(n)
    draws = random.normal(1.0, 0.3, size=(2000, n))
    found = [stats.t_interval(values, confidence=0.9) for values in draws]
    covered = np.mean([interval is not None and interval.holds(1.0) for interval in found])
    assert covered == pytest.approx(0.9, abs=0.025)  # 3.7 standard errors of 2000 trials


def test_bootstrap_interval_covers_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    hits = 0
    for values in random.normal(1.0, 0.3, size=(300, 20)):
        interval = stats.bootstrap_interval(
            values, generator=random, confidence=0.9, num_resamples=500
        )
        hits += interval is not None and interval.holds(1.0)
    assert 0.82 < hits / 300 < 0.95  # known to run a little short at n = 20


def test_bootstrap_is_a_function_of_its_generator() -> None:
    values = [0.1, 0.4, 0.2, 0.8, 0.5]
    one, two = (
        stats.bootstrap_interval(values, generator=np.random.default_rng(3)) for _ in range(2)
    )
    assert one == two
    assert one is not None
    assert one.low < np.mean(values) < one.high


def test_bootstrap_of_equal_values_has_no_width() -> None:
    found = stats.bootstrap_interval([0.5, 0.5, 0.5], generator=np.random.default_rng(0))
    assert found == stats.Interval(0.5, 0.5, 0.95)


def test_holm_on_a_textbook_case() -> None:
    adjusted = stats.holm([0.01, 0.04, 0.03, 0.005])
    assert adjusted == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert stats.holm([]) == []
    assert stats.holm([0.9, 0.8]) == [1.0, 1.0]


def test_holm_keeps_false_alarms_below_alpha() -> None:
    random = np.random.default_rng(5)
    alarms = sum(min(stats.holm(list(random.uniform(size=10)))) < 0.05 for _ in range(2000))
    assert alarms / 2000 < 0.065


def test_mcnemar_agrees_with_the_binomial_test() -> None:
    random = np.random.default_rng(2)
    first, second = random.random(300) < 0.9, random.random(300) < 0.8
    found = stats.mcnemar(first, second)
    counts = (int((first & ~second).sum()), int((~first & second).sum()))
    assert (found.only_first, found.only_second) == counts
    assert found.p_value == pytest.approx(reference.binomtest(counts[0], sum(counts)).pvalue)


@pytest.mark.parametrize(
    ("only_first", "only_second", "p_value"),
    [(0, 0, 1.0), (5, 5, 1.0), (1, 0, 1.0), (6, 0, 2 * 0.5**6), (0, 10, 2 * 0.5**10)],
)
def test_mcnemar_on_known_counts(only_first: int, only_second: int, p_value: float) -> None:
    first = np.array([True] * only_first + [False] * only_second + [True] * 7)
    second = np.array([False] * only_first + [True] * only_second + [True] * 7)
    found = stats.mcnemar(first, second)
    assert (found.only_first, found.only_second) == (only_first, only_second)
    assert found.p_value == pytest.approx(p_value)


def test_hits_must_be_booleans_on_the_same_images() -> None:
    with pytest.raises(ValueError, match="booleans"):
        stats.mcnemar([0.9, 0.8], [True, False])
    with pytest.raises(ValueError, match="same images"):
        stats.mcnemar(np.ones(3, bool), np.ones(4, bool))


def test_paired_bootstrap_of_one_seed_agrees_with_scipy() -> None:
    random = np.random.default_rng(4)
    first, second = random.random(500) < 0.85, random.random(500) < 0.80
    difference = first.astype(float) - second
    expected = reference.bootstrap(
        (difference,), np.mean, method="percentile", n_resamples=4000, rng=np.random.default_rng(1)
    ).confidence_interval
    found = stats.paired_bootstrap(first, second, generator=np.random.default_rng(0))
    assert found is not None
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.004)


def test_paired_bootstrap_covers_new_images_and_new_seeds() -> None:
    """Two random effects: images differ in ease, training runs in skill; the truth is 0.05."""
    random = np.random.default_rng(8)
    num_seeds, num_images, covered, trials = 6, 150, 0, 150
    for _ in range(trials):
        ease_N = random.uniform(0.4, 0.9, size=num_images)
        skill_S1 = random.normal(0, 0.02, size=(num_seeds, 1))
        first = random.random((num_seeds, num_images)) < ease_N + 0.05 + skill_S1
        second = random.random((num_seeds, num_images)) < ease_N
        interval = stats.paired_bootstrap(
            first, second, generator=random, confidence=0.9, num_resamples=200
        )
        covered += interval is not None and interval.holds(0.05)
    assert 0.82 < covered / trials < 0.99


def test_seeds_that_disagree_widen_the_interval() -> None:
    base = np.arange(200) % 10 < 8
    steady = np.array([base] * 4)
    shaky = np.array([np.arange(200) % 10 < k for k in (6, 8, 9, 9)])
    narrow, wide = (
        stats.paired_bootstrap(hits, np.array([base] * 4), generator=np.random.default_rng(0))
        for hits in (steady, shaky)
    )
    assert narrow == stats.Interval(0.0, 0.0, 0.95)
    assert wide is not None
    assert wide.high - wide.low > 0.1


def test_reading_a_curve_between_its_points() -> None:
    x, y = [100.0, 1.0, 10.0], [0.9, 0.5, 0.7]  # in any order
    assert stats.interpolate_log(x, y, 10.0) == pytest.approx(0.7)
    assert stats.interpolate_log(x, y, 10**0.5) == pytest.approx(0.6)
    assert stats.interpolate_log(x, y, 100.1) is None
    assert stats.interpolate_log(x, y, 0.99) is None
    assert stats.interpolate_log([], [], 1.0) is None


def test_the_work_that_reaches_a_target() -> None:
    x, y = [1.0, 10.0, 100.0], [0.5, 0.7, 0.7]
    assert stats.first_reaching_log(x, y, 0.6) == pytest.approx(10**0.5)
    assert stats.first_reaching_log(x, y, 0.7) == pytest.approx(10.0)
    assert stats.first_reaching_log(x, y, 0.5) == pytest.approx(1.0)
    assert stats.first_reaching_log(x, y, 0.4) is None  # already above at the first point
    assert stats.first_reaching_log(x, y, 0.8) is None
