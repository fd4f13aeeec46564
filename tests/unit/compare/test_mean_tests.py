"""Student's t and its form for skewed samples, against scipy and by simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lightning_qsgd.compare.statistics.mean_tests import (
    skew_corrected_p_value,
    t_interval,
    t_p_value,
)

seeds = st.integers(0, 10_000)


def sample_of(seed):
    draw = np.random.default_rng(seed)
    return draw.normal(draw.normal(), 1, size=3 + seed % 30)


@given(seeds)
def test_t_is_that_of_scipy(seed):
    theirs = stats.ttest_1samp(sample_of(seed), 0.0)
    assert t_p_value(sample_of(seed)) == pytest.approx(theirs.pvalue, rel=1e-9)
    interval = theirs.confidence_interval(0.9)
    ours = t_interval(sample_of(seed), 0.1)
    assert (ours.low, ours.high) == pytest.approx((interval.low, interval.high), rel=1e-9)


@given(seeds)
def test_interval_excludes_zero_exactly_where_the_p_value_is_below_the_level(seed):
    p = t_p_value(sample_of(seed))
    assert t_interval(sample_of(seed), p * 1.001).excludes_zero
    assert not t_interval(sample_of(seed), p / 1.001).excludes_zero


@given(seeds)
def test_skew_correction_leaves_symmetric_samples_alone_and_turns_with_the_sign(seed):
    half = sample_of(seed)
    symmetric = np.concatenate([half, 2 * 0.3 - half])
    assert skew_corrected_p_value(symmetric) == pytest.approx(t_p_value(symmetric), rel=1e-6)
    skewed = np.exp(half) - 1
    assert skew_corrected_p_value(-skewed) == pytest.approx(skew_corrected_p_value(skewed))


@given(seeds)
def test_skew_correction_uses_the_skewness_of_scipy(seed):
    sample = np.exp(sample_of(seed))
    n, skew = len(sample), stats.skew(sample, bias=False)
    s = sample.mean() / sample.std()
    corrected = s + skew * s**2 / 3 + skew**2 * s**3 / 27 + skew / (6 * n)
    expected = 2 * stats.t.sf(abs(corrected) * np.sqrt(n - 1), n - 1)
    assert skew_corrected_p_value(sample) == pytest.approx(expected)


def test_t_interval_of_16_normal_seeds_covers_the_mean_in_95_of_100_samples():
    draws = np.random.default_rng(1).normal(size=(4000, 16))
    intervals = [t_interval(draw, 0.05) for draw in draws]
    covered = np.mean([interval.low <= 0 <= interval.high for interval in intervals])
    assert covered == pytest.approx(0.95, abs=0.01)


def test_skew_correction_brings_the_false_alarms_of_skewed_samples_down():
    draws = np.random.default_rng(2).exponential(size=(4000, 16)) - 1
    plain = np.mean([t_p_value(draw) <= 0.005 for draw in draws])
    corrected = np.mean([skew_corrected_p_value(draw) <= 0.005 for draw in draws])
    assert plain > 0.02
    assert corrected < 0.01
