"""Ranks: closed forms, ties, and how often the intervals hold the truth."""

from __future__ import annotations

import numpy as np
import pytest

from bench import stats
from bench.stats import Rank


def by_seed(*values: float) -> dict[int, float]:
    return dict(enumerate(values))


def test_clear_leads_give_clear_ranks() -> None:
    found = stats.paired_ranks(
        [by_seed(0.50, 0.51, 0.52), by_seed(0.90, 0.91, 0.92), by_seed(0.70, 0.71, 0.72)],
        resolution=1e-4,
    )
    assert found == [Rank(3, 3, 3), Rank(1, 1, 1), Rank(2, 2, 2)]
    assert not any(rank.is_tied for rank in found)


def test_systems_that_were_not_shown_to_differ_are_tied() -> None:
    found = stats.paired_ranks(
        [by_seed(0.90, 0.80, 0.85), by_seed(0.84, 0.86, 0.87), by_seed(0.10, 0.11, 0.12)],
        resolution=1e-4,
    )
    assert [(rank.best, rank.worst) for rank in found] == [(1, 2), (1, 2), (3, 3)]
    assert found[0].is_tied


def test_equal_systems_share_the_better_place() -> None:
    found = stats.paired_ranks([by_seed(0.5, 0.6), by_seed(0.5, 0.6), by_seed(0.1, 0.2)])
    assert [rank.rank for rank in found] == [1, 1, 3]
    assert found[0].is_tied


def test_one_seed_has_a_place_and_no_interval() -> None:
    assert stats.paired_ranks([{0: 0.9}, {0: 0.8}]) == [Rank(1, None, None), Rank(2, None, None)]
    assert stats.paired_ranks([{0: 0.9}]) == [Rank(1, 1, 1)]
    with pytest.raises(ValueError, match="no rank"):
        stats.paired_ranks([{}, {0: 0.8}])


def test_only_shared_seeds_are_compared() -> None:
    found = stats.paired_ranks([{0: 0.9, 1: 0.91}, {1: 0.7, 2: 0.71}])
    assert found == [Rank(1, None, None), Rank(2, None, None)]


def test_rank_intervals_hold_all_true_ranks_together() -> None:
    """With Holm's correction all four intervals are right at once as often as they say."""
    random = np.random.default_rng(3)
    truth = np.array([0.80, 0.80, 0.78, 0.70])  # the first two are equal: 1 and 2 are both true
    trials, held = 400, 0
    for _ in range(trials):
        values_KS = truth[:, None] + random.normal(0, 0.01, size=(4, 5))
        found = stats.paired_ranks([by_seed(*row) for row in values_KS], confidence=0.9)
        held += all(
            (rank.best or 0) <= low and (rank.worst or 0) >= high
            for rank, (low, high) in zip(found, [(1, 2), (1, 2), (3, 3), (4, 4)], strict=True)
        )
    assert held / trials > 0.87  # 2 standard errors of 400 trials below 0.9


def test_ranks_over_images_and_seeds() -> None:
    random = np.random.default_rng(0)
    ease_N = random.uniform(size=400)
    hits_KSN = np.stack(
        [ease_N + random.normal(0, 0.05, size=(3, 400)) < share for share in (0.9, 0.89, 0.5)]
    )
    found = stats.bootstrap_ranks(hits_KSN, generator=np.random.default_rng(1))
    assert [(rank.best, rank.worst) for rank in found] == [(1, 2), (1, 2), (3, 3)]
    again = stats.bootstrap_ranks(hits_KSN, generator=np.random.default_rng(1))
    assert found == again


def test_the_same_hits_tie_whatever_is_drawn() -> None:
    hits_SN = np.random.default_rng(2).random((3, 60)) < 0.7
    found = stats.bootstrap_ranks(
        np.stack([hits_SN, hits_SN]), generator=np.random.default_rng(0), num_resamples=200
    )
    assert found == [Rank(1, 1, 2), Rank(1, 1, 2)]


def test_bootstrap_ranks_of_two_agree_with_the_paired_bootstrap() -> None:
    random = np.random.default_rng(6)
    for share in (0.80, 0.83, 0.90):
        first, second = random.random((4, 200)) < share, random.random((4, 200)) < 0.8
        interval = stats.paired_bootstrap(first, second, generator=np.random.default_rng(0))
        found = stats.bootstrap_ranks(np.stack([first, second]), generator=np.random.default_rng(0))
        assert interval is not None
        assert found[0].is_tied == interval.holds(0.0)


def test_hits_of_another_shape_have_no_ranks() -> None:
    with pytest.raises(ValueError, match="systems, seeds and images"):
        stats.bootstrap_ranks(np.ones((2, 3), bool), generator=np.random.default_rng(0))
