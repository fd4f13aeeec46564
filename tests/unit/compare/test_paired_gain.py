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
