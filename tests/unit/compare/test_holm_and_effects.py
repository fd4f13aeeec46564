"""Holm's correction, effect sizes and costs to a target, against slow and obvious forms."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lightning_qsgd.compare.statistics import holm, median_cost, share_reached
from lightning_qsgd.compare.statistics.paired_gain import cohens_d, probability_of_improvement

p_values = st.lists(st.floats(0, 1), min_size=1, max_size=12)
costs = st.lists(st.integers(1, 20).map(float) | st.just(math.inf), min_size=1, max_size=20)
gains = st.lists(st.integers(-3, 3).map(float), min_size=2, max_size=12)


def slow_rejections(p_values, level):
    """Holm's procedure as it is told: go on until the first that fails."""
    rejected = set()
    for rank, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if p_values[i] * (len(p_values) - rank) > level:
            break
        rejected.add(i)
    return rejected


@given(p_values, st.floats(0.001, 0.999))
def test_adjusted_p_values_reject_what_the_procedure_rejects(p_values, level):
    adjusted = holm(p_values)
    assert {i for i, p in enumerate(adjusted) if p <= level} == slow_rejections(p_values, level)


@given(p_values)
def test_adjusted_p_values_are_never_smaller_nor_above_one(p_values):
    assert all(p <= q <= 1 for p, q in zip(p_values, holm(p_values), strict=True))


@given(p_values, st.lists(st.floats(0, 1), max_size=4))
def test_questions_whose_p_values_are_unknown_make_no_claim_easier(p_values, unknown):
    known = holm([*p_values, *unknown])[: len(p_values)]
    assert all(p >= q for p, q in zip(holm(p_values, len(unknown)), known, strict=True))
    assert holm(p_values, 2) == holm([*p_values, 1.0, 1.0])[: len(p_values)]


def test_no_question_needs_no_correction():
    assert holm([]) == []


@given(costs)
def test_median_cost_is_the_median_of_the_kaplan_meier_curve(costs):
    watched = [min(cost, 100.0) for cost in costs]
    events = [cost for cost in costs if math.isfinite(cost)]
    data = stats.CensoredData(uncensored=events, right=[c for c in watched if c == 100.0])
    survival = stats.ecdf(data).sf
    reached = [
        q
        for q, p in zip(survival.quantiles, survival.probabilities, strict=True)
        if p <= 0.5 + 1e-12 and q < 100
    ]
    assert median_cost(costs) == (min(reached) if reached else math.inf)


def test_without_runs_costs_are_unknown():
    assert math.isnan(median_cost([]))
    assert math.isnan(share_reached([]))


@given(costs)
def test_share_reached_counts_the_finite_costs(costs):
    assert share_reached(costs) == sum(c < math.inf for c in costs) / len(costs)


@given(gains)
def test_probability_of_improvement_counts_wins_and_half_of_the_ties(gains):
    counted = sum(1.0 if g > 0 else 0.5 if g == 0 else 0.0 for g in gains) / len(gains)
    assert probability_of_improvement(np.array(gains)) == pytest.approx(counted)


@given(gains.filter(lambda gains: len(set(gains)) > 1))
def test_cohens_d_is_the_t_statistic_over_the_root_of_the_pairs(gains):
    t = stats.ttest_1samp(gains, 0.0).statistic
    assert cohens_d(np.array(gains)) == pytest.approx(t / math.sqrt(len(gains)))


@pytest.mark.parametrize(("gain", "d"), [(0.0, 0.0), (0.1, math.inf), (-0.1, -math.inf)])
def test_cohens_d_of_equal_gains_is_zero_or_infinite(gain, d):
    assert cohens_d(np.full(4, gain)) == d
