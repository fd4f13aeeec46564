"""One difference between two arms, and the samples that have no spread."""

import math

import numpy as np
import pytest
from scipy import stats

from lightning_qsgd.compare.statistics import Interval, Method, paired_gain

METHOD = Method(resamples=999)


def gain_of(values):
    return paired_gain(dict(enumerate(values)), METHOD)


def test_a_claim_needs_the_largest_of_three_p_values():
    gain = gain_of([0.1, 0.5, 0.2, 0.4, -0.1])
    assert gain.p == max(gain.p_t, gain.p_skew, gain.p_bca)
    assert len({gain.p_t, gain.p_skew, gain.p_bca}) == 3


def test_mean_sd_and_t_are_those_of_the_differences():
    values = [0.1, 0.5, 0.2, 0.4, -0.1]
    gain = gain_of(values)
    assert (gain.mean, gain.sd) == pytest.approx((np.mean(values), np.std(values, ddof=1)))
    assert gain.p_t == pytest.approx(stats.ttest_1samp(values, 0).pvalue)
    assert gain.improvement == 0.8
    assert gain.effect == pytest.approx(gain.mean / gain.sd)


def test_zero_at_every_seed_is_no_effect_and_exactly_zero():
    gain = gain_of([0.0] * 16)
    assert (gain.mean, gain.sd, gain.t, gain.bca) == (0.0, 0.0, Interval(0, 0), Interval(0, 0))
    assert (gain.p, gain.effect, gain.improvement) == (1.0, 0.0, 0.5)


@pytest.mark.parametrize("value", [0.25, -0.25])
@pytest.mark.parametrize("pairs", [3, 16])
def test_equal_gains_count_as_much_as_their_signs(value, pairs):
    gain = gain_of([value] * pairs)
    flips = stats.permutation_test(
        ([value] * pairs, [0.0] * pairs),
        lambda x, y: np.mean(x) - np.mean(y),
        permutation_type="samples",
        n_resamples=math.inf,
    )
    assert gain.p == pytest.approx(flips.pvalue)
    assert gain.t == Interval(value, value)


def test_gains_that_differ_by_rounding_count_as_equal():
    assert gain_of([0.3 - 0.2, 0.2 - 0.1, 0.4 - 0.3]).p == 0.25


def test_gains_without_spread_around_zero_are_none_whatever_their_signs():
    for gains in ([1e-8, -1e-8, 2e-8, 1e-8], [0.0, 1e-8, 1e-8, 1e-8], [-1e-8] * 4):
        gain = paired_gain(dict(enumerate(gains)), METHOD, dict.fromkeys(range(4), 1e-7))
        assert (gain.p, gain.sd, gain.effect) == (1.0, 0.0, 0.0)
        assert not gain.t.excludes_zero
    agreed = paired_gain(
        {0: 0.1, 1: 0.1 + 1e-8, 2: 0.1 - 1e-8}, METHOD, dict.fromkeys(range(4), 1e-7)
    )
    assert (agreed.p, agreed.mean, agreed.effect) == (0.25, 0.1, math.inf)


@pytest.mark.parametrize("unit", [2.0**-900, 2.0**-30, 2.0**900])
def test_a_unit_changes_no_digit_of_a_gain(unit):
    values = np.random.default_rng(3).normal(1.0, 2.0, size=9)
    plain, scaled = gain_of(values), gain_of(values * unit)
    assert (plain.p_t, plain.p_skew, plain.p_bca) == (scaled.p_t, scaled.p_skew, scaled.p_bca)
    assert (plain.mean * unit, plain.sd * unit) == (scaled.mean, scaled.sd)
    for alpha in (0.05, 0.001):
        ours, theirs = plain.interval(alpha), scaled.interval(alpha)
        assert (ours.low * unit, ours.high * unit) == (theirs.low, theirs.high)


def test_a_p_value_of_the_bootstrap_is_at_least_one_in_its_resamples():
    draw = np.random.default_rng(1)
    samples = [1 + draw.gamma(0.3, size=pairs) for pairs in (4, 5, 9) for _ in range(20)]
    smallest = min(gain_of(sample).p_bca for sample in samples)
    assert smallest == pytest.approx(1 / (METHOD.resamples + 1))


def test_two_pairs_test_nothing():
    gain = gain_of([0.1, 0.2])
    assert (gain.enough, gain.p) == (False, 1.0)
    assert gain.mean == pytest.approx(0.15)
    assert math.isnan(gain.t.low)


def test_no_pair_is_unknown():
    gain = gain_of([])
    assert all(math.isnan(x) for x in (gain.mean, gain.sd, gain.effect, gain.improvement))
    assert gain.p == 1.0


@pytest.mark.parametrize("settings", [{"alpha": 0}, {"alpha": 0.9}, {"power": 1.0}])
def test_method_refuses_levels_that_decide_nothing(settings):
    with pytest.raises(ValueError, match="Expected 0 < alpha < power < 1, got alpha"):
        Method(**settings)


def test_method_refuses_a_handful_of_resamples():
    with pytest.raises(ValueError, match="Expected `resamples` to be at least 99, got 10"):
        Method(resamples=10)
