"""Intervals are those of the tests that they invert, and cover what they promise."""

import itertools
import math

import numpy as np
import pytest
from scipy.stats import ttest_ind

from benchmarks.comparisons import simulations
from harmonia_lab.analysis import intervals


def p_value(d, value, score):
    """The one-sided p-value by all 2ⁿ flips, written out: the share of sums that are at least the given one."""
    scores = score(d - value)
    sums = [np.dot(signs, scores) for signs in itertools.product((1, -1), repeat=len(d))]
    return np.mean(np.array(sums) >= sums[0] - 1e-12)


def clipped(distances):
    scale = np.median(np.abs(distances))
    return np.clip(distances, -scale, scale)


@pytest.mark.parametrize(
    ("interval", "score", "n"),
    [(intervals.sign_flip_interval, lambda e: e, 6), (intervals.sign_flip_interval, lambda e: e, 8),
     (intervals.typical_interval, clipped, 8)],
)  # fmt: skip
def test_the_limits_are_where_the_test_by_all_flips_begins_to_refuse(interval, score, n):
    d = np.random.default_rng(n).normal(0.1, 0.05, n)
    low, high, level = interval(d, 0.9)
    for limit, side in ((low, 1), (high, -1)):
        inside, outside = limit + side * 1e-6, limit - side * 1e-6
        assert p_value(side * d, side * inside, score) > (1 - level) / 2
        assert p_value(side * d, side * outside, score) <= (1 - level) / 2 + 1e-12


@pytest.mark.parametrize(("n", "level"), [(5, 0.9375), (6, 1 - 2 / 64), (7, 1 - 6 / 128), (12, 1 - 204 / 4096)])
def test_the_level_is_the_nearest_that_so_many_flips_have(n, level):
    assert intervals.sign_flip_interval(np.zeros(n), 0.95)[2] == pytest.approx(level)


def test_drawn_flips_give_nearly_the_limits_of_all_and_the_same_ones_again(monkeypatch):
    d = np.random.default_rng(3).normal(0, 0.1, 12)
    whole = intervals.sign_flip_interval(d)
    monkeypatch.setattr(intervals, "ALL_FLIPS_TO", 5)
    drawn = intervals.sign_flip_interval(d)
    assert drawn == intervals.sign_flip_interval(d)
    assert np.allclose(drawn, whole, atol=0.01)
    assert drawn != intervals.sign_flip_interval(d, seed=1)


def test_differences_that_are_equal_leave_nothing_uncertain():
    for interval in (intervals.sign_flip_interval, intervals.typical_interval):
        low, high, _ = interval(np.full(11, 0.25))
        assert (low, high) == (pytest.approx(0.25), pytest.approx(0.25))
    mean, error, critical = intervals.simultaneous_limits(np.full((9, 3), 0.25), (0.95,))
    assert np.allclose(mean, 0.25)
    assert not np.isnan(critical * error).any()
    assert intervals.welch_interval(np.full(6, 1.0), np.full(7, 3.0)) == (2.0, 2.0)


def test_a_spike_moves_the_mean_and_not_the_typical_run():
    d = np.random.default_rng(4).normal(0, 0.03, 12)
    spiked = d + math.log(2) * (np.arange(12) == 5)
    assert abs(intervals.typical_value(spiked) - intervals.typical_value(d)) < 0.01
    mean, typical = intervals.sign_flip_interval(spiked), intervals.typical_interval(spiked)
    assert mean[1] - mean[0] > 3 * (typical[1] - typical[0])


def test_welch_is_the_interval_that_r_prints():
    # R: t.test(10:20, seq(20, 26, .5)), an example of a known question about Welch intervals
    low, high = intervals.welch_interval(np.arange(20, 26.5, 0.5), np.arange(10.0, 21.0))
    assert (low, high) == (pytest.approx(-10.414599391793885), pytest.approx(-5.5854006082061138))


def test_welch_is_the_interval_that_scipy_has():
    random = np.random.default_rng(9)
    a, b = random.normal(0, 0.1, (20, 6)), random.normal(0.1, 0.4, (20, 11))
    theirs = ttest_ind(b, a, axis=-1, equal_var=False).confidence_interval(0.99)
    assert np.allclose(intervals.welch_interval(a, b, 0.99), (theirs.low, theirs.high))


def test_columns_that_go_together_share_a_limit_and_independent_ones_widen_it():
    random = np.random.default_rng(5)
    one = random.normal(0, 0.1, (10, 1))
    alone, copies, fifteen = (
        intervals.simultaneous_limits(d, (0.95, 0.99))[2]
        for d in (one, np.repeat(one, 15, axis=1), np.hstack([one, random.normal(0, 0.1, (10, 14))]))
    )
    assert np.allclose(alone, copies)
    assert (fifteen > alone).all()
    assert alone[0] == pytest.approx(2.26, abs=0.25)  # Student's t with 9 degrees of freedom: 2.262
    assert alone[1] > alone[0]


def test_a_missing_value_costs_its_column_that_block_alone():
    d = np.random.default_rng(6).normal(0, 0.1, (12, 2))
    lacking = d.copy()
    lacking[[0, 5, 7], 1] = np.nan
    mean, error, _ = intervals.simultaneous_limits(lacking, (0.95,))
    whole = intervals.simultaneous_limits(d, (0.95,))
    known = d[[at for at in range(12) if at not in {0, 5, 7}], 1]
    assert (mean[0], error[0]) == (whole[0][0], whole[1][0])
    assert (mean[1], error[1]) == (pytest.approx(known.mean()), pytest.approx(known.std(ddof=1) / 3))


def test_the_primary_column_has_four_fifths_of_the_error_and_leaves_all_of_it_when_it_differs():
    assert intervals.split_level(0.95, primary_differs=False) == pytest.approx((0.96, 0.99))
    assert intervals.split_level(0.95, primary_differs=True) == pytest.approx((0.96, 0.95))


@pytest.mark.parametrize(("spread", "ratio"), [(0.1, 1.1), (0.07, 1.05)])
def test_so_many_blocks_find_the_ratio_in_nine_of_ten_studies(spread, ratio):
    n, most = intervals.blocks_needed(spread, 1e9, ratio)
    assert n == pytest.approx(10.5 * (spread / math.log(ratio)) ** 2 + 2, abs=1)
    assert most - n <= 1
    d = np.random.default_rng(7).normal(math.log(ratio), spread, (800, n))
    assert np.mean(intervals.sign_flip_interval(d)[0] > 0) == pytest.approx(0.9, abs=0.05)


def test_a_spread_that_few_blocks_told_gives_a_wide_range_of_blocks():
    few, many = intervals.blocks_needed(0.1, 9, 1.05), intervals.blocks_needed(0.1, 99, 1.05)
    assert few[0] < many[0] < many[1] < few[1]
    assert few[1] > 2 * few[0]
    assert intervals.runs_needed(0.1, 18, 1.05)[1] < few[1]


@pytest.mark.parametrize("noise", simulations.NOISES)
def test_intervals_of_equal_sides_cover_1_in_at_least_93_percent_of_1000_studies(noise):
    random = np.random.default_rng(8)
    for n in (5, 10):
        d = simulations.NOISES[noise](random, (1000, n)) - simulations.NOISES[noise](random, (1000, n))
        low, high, level = intervals.sign_flip_interval(d)
        assert np.mean((low <= 0) & (high >= 0)) >= level - 0.02
    low, high, _ = intervals.typical_interval(d)
    assert np.mean((low <= 0) & (high >= 0)) >= 0.93
    low, high = intervals.welch_interval(*simulations.NOISES[noise](random, (2, 1000, 10)))
    assert np.mean((low <= 0) & (high >= 0)) >= 0.93


def test_drawn_blocks_hold_on_a_machine_that_changes_where_one_side_after_the_other_does_not():
    rows = list(simulations.PARTS["blocks"][0](500, [10]))
    assert {row["noise"] for row in rows} == set(simulations.COURSES)
    for row in rows:
        assert (row["covered"] < 0.8) if "Welch" in row["method"] else (row["covered"] >= 0.93), row


def test_over_sixteen_equal_columns_any_false_claim_is_rare():
    [row, *_] = simulations.PARTS["columns"][0](250, [10])
    assert row["false"] <= 0.08
    assert row["false_each"] > 0.2
