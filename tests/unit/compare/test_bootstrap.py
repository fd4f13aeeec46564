"""The BCa bootstrap, against scipy's and against plain counting."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lightning_qsgd.compare.statistics.mean_tests import BootstrapMean

samples = st.integers(0, 1000).map(
    lambda seed: np.random.default_rng(seed).gamma(2, size=3 + seed % 20) - 1.5
)


def bootstrap(sample, resamples=999, seed=0):
    return BootstrapMean(np.asarray(sample), resamples, np.random.default_rng(seed))


@given(samples, st.sampled_from([0.05, 0.01, 0.2]))
def test_interval_is_that_of_scipy_on_the_same_resamples(sample, alpha):
    theirs = stats.bootstrap(
        (sample,),
        np.mean,
        n_resamples=999,
        confidence_level=1 - alpha,
        method="BCa",
        rng=np.random.default_rng(0),
    ).confidence_interval
    ours = bootstrap(sample).interval(alpha)
    # scipy interpolates its percentiles in a way of its own, a hair apart in the tails.
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), rel=1e-6, abs=1e-6)


@given(samples)
def test_p_value_is_the_level_at_which_the_interval_meets_zero(sample):
    mean = bootstrap(sample, 9999)
    p = mean.p_value
    if 0.002 < p < 0.9:  # beyond that the interval hangs on a few resamples
        assert mean.interval(min(1.1 * p, 1.0)).excludes_zero
        assert not mean.interval(p / 1.1).excludes_zero


def test_p_value_never_falls_below_what_the_resamples_can_show():
    far = 100 + np.arange(16.0)
    assert 0 < bootstrap(far, 99).p_value < 0.05
    assert bootstrap(far, 9999).p_value < bootstrap(far, 99).p_value


def test_p_value_does_not_depend_on_sign_or_unit_of_a_symmetric_sample():
    sample = np.array([-1.0, 0.0, 1.0, 2.0, 3.0])
    assert bootstrap(-1000 * sample).p_value == pytest.approx(bootstrap(sample).p_value)


def test_same_seed_gives_the_same_bits():
    sample = np.array([0.3, 0.1, 0.7, -0.1])
    assert bootstrap(sample).interval(0.05) == bootstrap(sample).interval(0.05)
    assert bootstrap(sample).p_value == bootstrap(sample).p_value


def test_beyond_the_pole_of_the_formula_nothing_is_claimed():
    mean = bootstrap([1.0, 2.0, 4.0])
    mean.__dict__["_acceleration"] = 1.0
    assert mean.p_value == 1.0


@pytest.mark.parametrize("skew", ["normal", "gamma"])
def test_interval_of_16_seeds_covers_the_mean_nearly_as_often_as_it_says(skew):
    draw = np.random.default_rng(5)
    covered = 0
    for _ in range(400):
        sample = draw.normal(size=16) if skew == "normal" else draw.gamma(4, size=16) - 4
        interval = bootstrap(sample, 499).interval(0.05)
        covered += interval.low <= 0 <= interval.high
    # BCa of 16 values is known to be short: 92 to 93 %, which is why t must agree with it.
    assert 0.89 <= covered / 400 <= 0.97
