"""What a number of pairs could have detected, against simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from lightning_qsgd.compare.statistics import (
    Design,
    Method,
    detectable_effect,
    paired_gain,
    pairs_needed,
    seeds_for,
    visible_effect,
)
from lightning_qsgd.compare.statistics.mean_tests import (
    skew_corrected_interval,
    skew_corrected_p_value,
)
from lightning_qsgd.compare.statistics.power import power_of_t

METHOD = Method(resamples=999)


@pytest.mark.parametrize(("pairs", "alpha"), [(16, 0.05), (16, 0.05 / 12), (4, 0.05)])
def test_detectable_effect_is_detected_as_often_as_asked(pairs, alpha):
    effect = detectable_effect(pairs, alpha, 0.8)
    draws = np.random.default_rng(0).normal(effect, 1, size=(20_000, pairs))
    tests = stats.ttest_1samp(draws, 0.0, axis=1)
    seen = np.mean((tests.pvalue <= alpha) & (tests.statistic > 0))
    assert seen == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize("effect", [0.1, 0.5, 1.0, 3.0])
def test_pairs_needed_is_the_least_number_with_enough_power(effect):
    pairs = pairs_needed(effect, 0.01, 0.8)
    assert power_of_t(effect, pairs, 0.01) >= 0.8
    assert pairs == 2 or power_of_t(effect, pairs - 1, 0.01) < 0.8


@pytest.mark.parametrize("pairs", [2, 3, 8, 16, 1000])
@pytest.mark.parametrize("alpha", [0.05, 0.05 / 40])
@pytest.mark.parametrize("effect", [0.0, 0.01, 0.3, 1.0, 5.0])
def test_power_is_the_tail_of_the_noncentral_t(pairs, alpha, effect):
    critical = stats.t.ppf(1 - alpha / 2, pairs - 1)
    tail = stats.nct.sf(critical, pairs - 1, effect * math.sqrt(pairs))
    assert power_of_t(effect, pairs, alpha) == pytest.approx(tail, abs=1e-4)


@pytest.mark.parametrize("questions", range(1, 41))
def test_detectable_effect_is_found_for_any_number_of_pairs_and_questions(questions):
    for pairs in range(3, 33):
        effect = detectable_effect(pairs, 0.05 / questions, 0.8)
        assert power_of_t(effect, pairs, 0.05 / questions) == pytest.approx(0.8, abs=1e-6)


def test_half_an_effect_needs_more_than_three_times_the_pairs():
    effect = detectable_effect(16, 0.05, 0.8)
    assert 48 <= pairs_needed(effect / 2, 0.05, 0.8) <= 64


def test_what_no_effect_could_show_is_infinite():
    assert detectable_effect(2, 1e-6, 0.8) == math.inf


def test_pairs_needed_ends_for_effects_that_nobody_could_detect():
    assert pairs_needed(1e-9, 0.05, 0.8) == 1_000_000


@pytest.mark.parametrize("questions", [1, 5, 20])
def test_a_design_that_is_a_comparison_sees_two_standard_deviations(questions):
    draw = np.random.default_rng(questions)
    method = Method(resamples=1999)
    pairs = Design(1, questions, method).seeds_needed
    assert Design(pairs, questions, method).is_comparison
    assert not Design(pairs - 1, questions, method).is_comparison
    seen = 0
    for _ in range(200):
        gain = paired_gain(dict(enumerate(draw.normal(2.0, 1.0, pairs))), method)
        seen += gain.p * questions <= method.alpha
    assert seen / 200 >= 0.76  # 0.8 but for the error of 200 draws


@pytest.mark.parametrize("arms", [1, 3, 22])
def test_no_plan_that_is_called_a_comparison_is_blind_to_a_large_effect(arms):
    for seeds in range(1, 40):
        design = Design(seeds, arms)
        if design.is_comparison:
            assert power_of_t(2.0, seeds, 0.05 / arms) >= 0.8
            assert design.visible <= 2.0
            assert design.smallest_p <= 0.05
    assert not Design(4, 22).is_comparison


def test_words_name_the_seeds_that_are_needed_or_what_can_be_seen():
    assert "not a comparison" in Design(4, 22).words()
    assert "12 seeds are needed" in Design(4, 22).words()
    said = Design(16, 22).words(spread=0.01)
    assert "an effect of 1.3 standard deviations" in said
    assert "that is a gain of 0.019 at most" in said


def test_so_many_questions_that_no_resample_could_answer_are_no_comparison():
    assert not Design(50, 100, Method(resamples=999)).is_comparison


@pytest.mark.parametrize("skew", [False, True])
def test_the_skew_corrected_interval_holds_what_its_test_does_not_reject(skew):
    draw = np.random.default_rng(4)
    for _ in range(20):
        sample = draw.exponential(size=9) if skew else draw.normal(size=9)
        interval = skew_corrected_interval(sample, 0.1)
        for end in (interval.low, interval.high):
            assert skew_corrected_p_value(sample - end) == pytest.approx(0.1, abs=1e-6)


@pytest.mark.parametrize(("pairs", "questions"), [(10, 1), (12, 22), (16, 1)])
def test_a_visible_effect_is_seen_by_all_three_tests_as_often_as_asked(pairs, questions):
    draw, method = np.random.default_rng(pairs), Method(resamples=1999)
    level = method.alpha / questions
    effect = visible_effect(pairs, level, method.power)
    assert effect == Design(pairs, questions, method).visible
    gains = [
        paired_gain(dict(enumerate(draw.normal(effect, 1, pairs))), method) for _ in range(200)
    ]
    assert 0.74 <= np.mean([gain.p <= level for gain in gains]) <= 0.95


def test_so_few_pairs_that_no_test_remains_see_no_effect_of_any_size():
    assert [visible_effect(pairs, 0.05, 0.8) for pairs in (1, 3, 4)] == [math.inf] * 3
    assert seeds_for(2.0, 0.05, 0.8) == Design(1, 1).seeds_needed


def test_no_p_value_of_the_bootstrap_is_below_what_the_words_say():
    design = Design(16, 1, Method(resamples=999))
    assert "below 0.001, unless all gains are equal" in design.words()
    draw = np.random.default_rng(0)
    gains = [paired_gain(dict(enumerate(5 + draw.normal(size=5))), METHOD) for _ in range(20)]
    assert min(gain.p for gain in gains) >= design.smallest_p
    assert paired_gain(dict.fromkeys(range(16), 5.0), METHOD).p < design.smallest_p
