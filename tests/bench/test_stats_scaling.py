"""Scaling fits and envelopes against closed forms, scipy and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import curve_fit, least_squares

from bench import stats

SIZES = np.array([1e3, 4e3, 1.6e4, 6.4e4, 2.56e5, 1.024e6])


def curve(x: np.ndarray, floor: float = 0.08, scale: float = 0.2, exponent: float = 0.35) -> object:
    unit = np.exp(np.log(x).mean())
    return floor + scale * (x / unit) ** -exponent


def test_points_on_a_curve_give_that_curve() -> None:
    found = stats.fit_power_law(SIZES, curve(SIZES), generator=np.random.default_rng(0))
    assert found is not None
    assert (found.floor, found.scale, found.exponent) == pytest.approx((0.08, 0.2, 0.35), rel=1e-4)
    assert found.unit == pytest.approx(32e3)  # the geometric mean
    assert found.rms < 1e-6
    assert found.error(found.unit) == pytest.approx(0.28, rel=1e-4)
    assert max(map(abs, found.residuals)) < 1e-5


def test_the_fit_agrees_with_scipy_where_nothing_is_off() -> None:
    random = np.random.default_rng(1)
    x = np.repeat(SIZES, 3)
    y = curve(x) + random.normal(0, 0.002, size=len(x))
    found = stats.fit_power_law(x, y, generator=random)
    unit = np.exp(np.log(x).mean())
    expected, _ = curve_fit(
        lambda x, floor, scale, exponent: floor + scale * (x / unit) ** -exponent,
        x, y, p0=(0.1, 0.1, 0.5),
    )  # fmt: skip
    assert found is not None
    assert (found.floor, found.scale, found.exponent) == pytest.approx(tuple(expected), rel=0.05)
    assert found.floor_interval.holds(expected[0])
    assert found.exponent_interval.holds(expected[2])


def test_one_bad_point_does_not_bend_the_curve() -> None:
    y = np.array(curve(np.repeat(SIZES, 3)))
    y[4] += 0.3
    found = stats.fit_power_law(np.repeat(SIZES, 3), y, generator=np.random.default_rng(0))
    assert found is not None
    assert (found.floor, found.exponent) == pytest.approx((0.08, 0.35), abs=0.02)
    assert found.residuals[4] == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize("seed", range(5))
def test_the_robust_fit_agrees_with_scipys(seed: int) -> None:
    random = np.random.default_rng(seed)
    x = np.repeat(SIZES, 3)
    y = np.array(curve(x)) + random.normal(0, 0.004, size=len(x))
    y[random.integers(len(y))] += 0.05
    unit = np.exp(np.log(x).mean())
    expected = least_squares(
        lambda p: p[0] + p[1] * (x / unit) ** -p[2] - y, (0.05, 0.2, 0.4), loss="soft_l1",
        f_scale=0.1 * y.std(), bounds=((0, 0, 0), (np.inf, np.inf, 5)), xtol=1e-12, ftol=1e-12,
    ).x  # fmt: skip
    found = stats.fit_power_law(x, y, generator=random, num_resamples=5)
    assert found is not None
    assert (found.floor, found.scale, found.exponent) == pytest.approx(tuple(expected), rel=0.01)


def test_three_sizes_are_refused_however_many_seeds() -> None:
    x = np.repeat(SIZES[:3], 5)
    assert stats.fit_power_law(x, curve(x), generator=np.random.default_rng(0)) is None
    assert stats.MIN_FIT_POINTS == 4


def test_what_is_no_curve_is_refused() -> None:
    random = np.random.default_rng(0)
    with pytest.raises(ValueError, match="positive x"):
        stats.fit_power_law([0, 1, 2, 3], [1, 1, 1, 1], generator=random)
    with pytest.raises(ValueError, match="as many errors"):
        stats.fit_power_law([1, 2, 3, 4], [1, 1, 1], generator=random)
    with pytest.raises(ValueError, match="finite"):
        stats.fit_power_law([1, 2, 3, 4], [1, 1, 1, float("nan")], generator=random)


def test_errors_that_do_not_fall_have_a_flat_curve() -> None:
    found = stats.fit_power_law(SIZES, np.full(6, 0.25), generator=np.random.default_rng(0))
    assert found is not None
    assert found.error(1e3) == pytest.approx(0.25, abs=1e-3)
    assert found.error(1e9) == pytest.approx(0.25, abs=1e-3)


@pytest.mark.ordinary
def test_fit_intervals_cover_about_as_often_as_they_say() -> None:
    random = np.random.default_rng(4)
    x = np.repeat(SIZES, 3)
    trials, held = 60, np.zeros(3)
    for _ in range(trials):
        y = curve(x) + random.normal(0, 0.004, size=len(x))
        found = stats.fit_power_law(x, y, generator=random, confidence=0.9, num_resamples=100)
        assert found is not None
        intervals = (found.floor_interval, found.scale_interval, found.exponent_interval)
        held += [
            interval.holds(truth)
            for interval, truth in zip(intervals, (0.08, 0.2, 0.35), strict=True)
        ]
    assert (held / trials > 0.78).all()  # 3 standard errors of 60 trials below 0.9
    assert held.mean() / trials < 0.99


def test_the_fit_is_a_function_of_its_generator() -> None:
    y = np.array(curve(SIZES)) + np.random.default_rng(0).normal(0, 0.004, 6)
    one, two = (stats.fit_power_law(SIZES, y, generator=np.random.default_rng(9)) for _ in range(2))
    assert one == two


def test_the_envelope_holds_who_is_beaten_by_nobody_with_less() -> None:
    work = [4.0, 1.0, 2.0, 2.0, 8.0, 16.0]
    value = [0.7, 0.5, 0.4, 0.6, 0.7, 0.9]
    assert stats.upper_envelope(work, value) == [1, 3, 0, 5]
    assert stats.upper_envelope([], []) == []


def test_the_envelope_of_the_papers_table_6_shows_its_claim() -> None:
    """Section 4.4: "ViT uses approximately 2-4x less compute to attain the same performance"."""
    vit = ([55, 224, 196, 783, 1567, 4262], [92.500, 94.076, 94.272, 95.122, 95.442, 95.822])
    bit = (
        [50, 199, 96, 141, 563, 1126, 3306],
        [89.330, 92.012, 91.670, 92.406, 94.014, 94.244, 95.090],
    )
    front = stats.upper_envelope(*vit)
    x, y = ([axis[i] for i in front] for axis in vit)
    ratios = [
        work / needed
        for work, value in zip(*bit, strict=True)
        if (needed := stats.first_reaching_log(x, y, value)) is not None
    ]
    # By hand, e.g. 94.014: 563 / (55 * (196 / 55) ** ((94.014 - 92.5) / (94.272 - 92.5))).
    assert ratios == pytest.approx([3.46, 5.86, 4.45], abs=0.01)
