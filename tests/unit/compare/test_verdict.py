"""Verdicts on planted truths."""

import numpy as np
import pytest

from lightning_qsgd.compare import (
    Arm,
    FailedRun,
    Method,
    Outcome,
    analyse,
    verdicts,
)
from lightning_qsgd.compare.statistics import Design, holm
from tests.comparison_cases import made_results, made_run, noise

METHOD = Method(resamples=1999)
SEEDS = 16


def judged(results, method=METHOD):
    return verdicts(analyse(results, method))


def around(mean, seed, spread=0.01):
    return (mean + spread * noise(seed, SEEDS)).tolist()


def planted(**means):
    """A baseline at 0.8, a control at its level, and arms at the means given."""
    values = {"base": around(0.8, 0), "control": around(0.8, 1)}
    values |= {name: around(mean, 10 + i) for i, (name, mean) in enumerate(means.items())}
    arms = (
        Arm("base", "baseline"),
        Arm("control", "control"),
        *(Arm(name, controls=("control",)) for name in means),
    )
    return values, arms


@pytest.mark.parametrize("higher_is_better", [True, False])
def test_better_worse_and_equal_arms_are_told_apart(higher_is_better):
    values, arms = planted(high=0.85, low=0.75, same=0.8)
    results = made_results(values, arms, higher_is_better=higher_is_better)
    found = {name: verdict.outcome for name, verdict in judged(results).items()}
    up, down = (Outcome.BETTER, Outcome.WORSE)[:: 1 if higher_is_better else -1]
    assert found == {
        "control": Outcome.UNDETECTED,
        "high": up,
        "low": down,
        "same": Outcome.UNDETECTED,
    }


def test_reason_names_gain_interval_p_value_and_control():
    values, arms = planted(high=0.85)
    reason = judged(made_results(values, arms))["high"].reason
    differences = np.array(values["high"]) - np.array(values["base"])
    assert f"{differences.mean():+.3g} (95 % interval" in reason
    assert "over base, p = " in reason
    assert "It also beats control." in reason


def test_arm_without_a_control_is_better_and_says_that_nothing_was_matched():
    values = {"base": around(0.8, 0), "arm": around(0.85, 1)}
    verdict = judged(made_results(values))["arm"]
    assert verdict.outcome is Outcome.BETTER
    assert verdict.reason.endswith("No control was matched to it.")


def with_control(control, arm=0.85):
    values = {"base": around(0.8, 0), "arm": around(arm, 1), "control": around(control, 2)}
    arms = (Arm("base", "baseline"), Arm("arm", controls=("control",)), Arm("control", "control"))
    return made_results(values, arms)


def test_arm_that_gains_no_more_than_its_control_is_matched_by_it():
    found = judged(with_control(0.85))
    assert found["arm"].outcome is Outcome.MATCHED
    assert found["control"].outcome is Outcome.BETTER
    assert "but over its control control: " in found["arm"].reason


def test_arm_whose_control_gains_more_is_beaten_by_it():
    assert judged(with_control(0.9))["arm"].outcome is Outcome.BEATEN


def test_arm_a_little_behind_its_control_is_matched_and_not_beaten():
    results = with_control(0.853)
    challenge = analyse(results, METHOD).challenges[0]
    assert challenge.over_controls["control"].mean < 0
    assert challenge.p_over_controls["control"] > METHOD.alpha
    assert judged(results)["arm"].outcome is Outcome.MATCHED


def test_gains_over_controls_are_corrected_for_their_number():
    values = {name: around(0.8 + 0.004 * i, i) for i, name in enumerate("bacd")}
    arms = (
        Arm("b", "baseline"),
        Arm("a", controls=("c", "d")),
        Arm("c", "control"),
        Arm("d", "control"),
    )
    challenge = analyse(made_results(values, arms), METHOD).challenges[0]
    plain = [challenge.over_controls[name].p for name in "cd"]
    assert [challenge.p_over_controls[name] for name in "cd"] == holm(plain)
    assert min(challenge.p_over_controls.values()) > min(plain)


def test_one_control_that_keeps_up_is_enough_to_take_the_claim_away():
    values = {"base": 0.8, "arm": 0.85, "weak": 0.8, "strong": 0.85}
    values = {name: around(mean, i) for i, (name, mean) in enumerate(values.items())}
    arms = (
        Arm("base", "baseline"),
        Arm("arm", controls=("weak", "strong")),
        Arm("weak", "control"),
        Arm("strong", "control"),
    )
    verdict = judged(made_results(values, arms))["arm"]
    assert verdict.outcome is Outcome.MATCHED
    assert "over its control strong: " in verdict.reason


def test_undetected_effect_comes_with_what_could_have_been_detected():
    values = {"base": around(0.8, 0), "arm": around(0.8, 1)}
    results = made_results(values)
    challenge = analyse(results, METHOD).challenges[0]
    verdict = judged(results)["arm"]
    assert verdict.outcome is Outcome.UNDETECTED
    assert f"A true gain of {challenge.detectable:.3g} would have shown in 80%" in verdict.reason
    assert "if gains are normal" in verdict.reason
    assert challenge.detectable == pytest.approx(Design(SEEDS, 1).visible * challenge.gain.sd)
    assert f"half of it needs {challenge.pairs_for_half} seeds" in verdict.reason
    assert challenge.pairs_for_half > 3 * SEEDS


def test_detectable_gain_is_detected_about_as_often_as_it_says():
    challenge = analyse(made_results({"base": around(0, 0), "arm": around(0, 1)}), METHOD)
    detectable = challenge.challenges[0].detectable / challenge.challenges[0].gain.sd
    draw = np.random.default_rng(3)
    seen = 0
    for _ in range(200):
        values = {"base": [0.0] * SEEDS, "arm": draw.normal(detectable, 1, SEEDS).tolist()}
        seen += judged(made_results(values))["arm"].outcome is Outcome.BETTER
    assert 0.76 <= seen / 200 <= 0.9  # 0.8 but for the error of 200 draws, and a little more


def test_equal_numbers_at_every_seed_are_identical():
    values = {"base": around(0.8, 0), "zero": around(0.8, 0), "arm": around(0.8, 1)}
    verdict = judged(made_results(values))["zero"]
    assert verdict.outcome is Outcome.IDENTICAL
    assert verdict.reason == "Every number equals that of base, to the last bit."


def test_two_seeds_allow_no_claim():
    values = {"base": [0.5, 0.6], "arm": [0.9, 0.9]}
    verdict = judged(made_results(values))["arm"]
    assert verdict.outcome is Outcome.TOO_FEW
    assert verdict.reason == "Only 2 seeds have a final metric of both; 3 are needed."


def test_arm_that_always_diverges_is_said_to():
    values = {"base": around(0.8, 0), "arm": [float("nan")] * SEEDS}
    verdict = judged(made_results(values))["arm"]
    assert verdict.outcome is Outcome.NO_CLAIM
    assert verdict.reason == (
        f"Only 0 seeds have a final metric of both, for arm diverged at {SEEDS} seeds; "
        "3 are needed."
    )


def test_three_equal_gains_are_too_few_to_claim():
    values = {"base": [0.25, 0.5, 0.5], "arm": [0.5, 0.75, 0.75]}
    verdict = judged(made_results(values))["arm"]
    assert verdict.outcome is Outcome.TOO_FEW
    assert "All gains are equal" in verdict.reason


def test_arm_that_diverges_at_some_seeds_is_never_called_better():
    values = {"base": around(0.8, 0), "arm": around(0.85, 1)}
    values["arm"][3] = float("nan")
    verdict = judged(made_results(values))["arm"]
    assert verdict.outcome is Outcome.NO_CLAIM
    assert "arm diverged at 1 seed:" in verdict.reason


def test_arm_that_diverges_may_still_be_worse():
    values = {"base": around(0.8, 0), "arm": around(0.75, 1)}
    values["arm"][3] = float("inf")
    assert judged(made_results(values))["arm"].outcome is Outcome.WORSE


def test_arm_whose_control_has_no_runs_is_not_called_better():
    values = {"base": around(0.8, 0), "arm": around(0.85, 1), "control": [None] * SEEDS}
    arms = (Arm("base", "baseline"), Arm("arm", controls=("control",)), Arm("control", "control"))
    verdict = judged(made_results(values, arms))["arm"]
    assert verdict.outcome is Outcome.NO_CLAIM
    assert "a control of it has too few finished runs" in verdict.reason


def test_more_arms_ask_for_more_certainty():
    values = {"base": around(0.8, 0), "arm": around(0.808, 1)}
    alone = analyse(made_results(values), METHOD).challenges[0]
    values |= {f"other{i}": around(0.8, 10 + i) for i in range(10)}
    among = analyse(made_results(values), METHOD).challenges[0]
    assert alone.gain == among.gain
    assert among.p_holm > alone.p_holm
    assert among.detectable > alone.detectable


def test_order_of_the_runs_changes_nothing():
    values, arms = planted(high=0.85, low=0.75)
    results = made_results(values, arms)
    turned = type(results)(results.comparison, results.runs[::-1])
    assert judged(turned) == judged(results)
    assert analyse(turned, METHOD) == analyse(results, METHOD)


def test_seeds_without_a_pair_are_left_out_on_both_sides():
    values = {"base": [0.1, 0.2, None, 0.4, 0.5], "arm": [0.2, 0.4, 0.9, None, 0.9]}
    gain = analyse(made_results(values), METHOD).challenges[0].gain
    assert gain.gains == pytest.approx({0: 0.1, 1: 0.2, 4: 0.4})


def test_runs_that_did_not_start_alike_are_no_pair():
    results = made_results({"base": around(0.8, 0), "arm": around(0.85, 1)})
    stranger = made_run("arm", 5, 0.9, checks={"initial_weights": "others"})
    runs = tuple(stranger if (r.arm, r.seed) == ("arm", 5) else r for r in results.runs)
    gain = analyse(type(results)(results.comparison, runs), METHOD).challenges[0].gain
    assert gain.gains.keys() == set(range(SEEDS)) - {5}


def test_claims_of_one_arm_do_not_hang_on_the_controls_of_another():
    # A control just inside the level after Holm's second step, behind an arm that its own control
    # matches: its claim stands on the comparison with the baseline alone.
    base = [0.0] * SEEDS
    small = (0.62 + noise(4, SEEDS)).tolist()
    values = {"base": base, "arm": around(0.5, 1), "control": around(0.5, 2), "lone": small}
    arms = (
        Arm("base", "baseline"),
        Arm("arm", controls=("control",)),
        Arm("control", "control"),
        Arm("lone"),
    )
    analysis = analyse(made_results(values, arms), METHOD)
    for challenge in analysis.challenges:
        claimed = verdicts(analysis)[challenge.arm.name].outcome is not Outcome.UNDETECTED
        assert claimed == (challenge.p_holm <= METHOD.alpha)


def test_many_arms_and_few_seeds_cannot_tell_and_say_how_many_seeds_could():
    values = {"base": [0.8, 0.81, 0.79, 0.8]}
    values |= {f"arm{i}": (0.8 + 0.2 * noise(i, 4)).tolist() for i in range(22)}
    found = judged(made_results(values))
    assert {verdict.outcome for verdict in found.values()} == {Outcome.TOO_FEW}
    assert "12 are needed" in found["arm0"].reason


@pytest.mark.parametrize("seeds", [3, 4, 6, 16])
def test_an_interval_without_zero_never_stands_beside_no_detectable_effect(seeds):
    for seed in range(10):
        draw = np.random.default_rng(100 * seeds + seed)
        values = {f"arm{i}": draw.normal(0.7 * (i % 3), size=seeds).tolist() for i in range(7)}
        analysis = analyse(made_results({"base": [0.0] * seeds, **values}), METHOD)
        found = verdicts(analysis)
        for one in analysis.challenges:
            claimed = found[one.arm.name].outcome in (Outcome.BETTER, Outcome.WORSE)
            inside = one.interval.low < 0 < one.interval.high
            assert claimed != inside or (not claimed and not one.interval.excludes_zero)


def test_intervals_hold_together():
    draw, missed = np.random.default_rng(8), 0
    for _ in range(100):
        truth = draw.normal(size=6)
        values = {f"arm{i}": (truth[i] + draw.normal(size=12)).tolist() for i in range(6)}
        analysis = analyse(made_results({"base": [0.0] * 12, **values}), Method(resamples=999))
        ends = [(one.interval.low, one.interval.high) for one in analysis.challenges]
        missed += any(not low <= m <= high for m, (low, high) in zip(truth, ends, strict=True))
    assert missed <= 9  # 5 expected


def test_controls_and_references_are_no_questions():
    values = {"base": around(0.8, 0), "arm": around(0.81, 1)}
    values |= {f"other{i}": around(0.8, 10 + i) for i in range(6)}
    arms = (Arm("base", "baseline"), Arm("arm"))
    more = tuple(Arm(f"other{i}", "control" if i % 2 else "reference") for i in range(6))
    alone = made_results({name: values[name] for name in ("base", "arm")}, arms)
    together = made_results(values, arms + more)
    (first,) = analyse(alone, METHOD).challenges
    assert analyse(together, METHOD).challenges[0] == first
    assert analyse(together, METHOD).design.questions == 1
    as_arms = analyse(made_results(values), METHOD).challenges[0]
    assert as_arms.p_holm > first.p_holm


def test_differences_by_rounding_are_called_equal():
    values = {"base": around(0.8, 0), "arm": [x * (1 + 1e-10) for x in around(0.8, 0)]}
    verdict = judged(made_results(values))["arm"]
    assert verdict.outcome is Outcome.EQUAL
    assert "to rounding" in verdict.reason
    values["arm"] = [x * (1 + 1e-6) for x in values["base"]]
    assert judged(made_results(values))["arm"].outcome is Outcome.BETTER


def with_lost(values, arm, how, count, arms=None):
    """The results without the first runs of an arm, which diverged, failed or are still missing."""
    values = {**values, arm: [*values[arm]]}
    values[arm][:count] = [float("nan") if how == "diverged" else None] * count
    failures = [FailedRun(arm, seed, "loss is NaN") for seed in range(count)]
    return made_results(values, arms, failures=tuple(failures if how == "failed" else ()))


@pytest.mark.parametrize("how", ["diverged", "failed"])
@pytest.mark.parametrize("count", [1, 7, 12])
@pytest.mark.parametrize(
    ("mean", "of_arm", "of_baseline"),
    [
        (0.9, Outcome.NO_CLAIM, Outcome.BETTER),
        (0.8, Outcome.NO_CLAIM, Outcome.NO_CLAIM),
        (0.7, Outcome.WORSE, Outcome.NO_CLAIM),
    ],
)
def test_lost_runs_flatter_who_lost_them_so_only_the_opposite_may_be_said(
    how, count, mean, of_arm, of_baseline
):
    values = {"base": around(0.8, 0), "arm": around(mean, 3)}
    for loser, expected in (("arm", of_arm), ("base", of_baseline)):
        verdict = judged(with_lost(values, loser, how, count))["arm"]
        assert verdict.outcome is expected
        if expected is Outcome.NO_CLAIM:
            assert f"{loser} {how} at {count} seed" in verdict.reason


def test_runs_that_are_only_missing_take_no_verdict_away():
    for mean, expected in ((0.9, Outcome.BETTER), (0.7, Outcome.WORSE), (0.8, Outcome.UNDETECTED)):
        values = {"base": around(0.8, 0), "arm": around(mean, 1)}
        assert judged(with_lost(values, "arm", "missing", 6))["arm"].outcome is expected


@pytest.mark.parametrize("how", ["diverged", "failed", "missing"])
def test_a_control_that_lost_runs_matches_an_arm_and_beats_none(how):
    values = {"base": around(0.8, 0), "arm": around(0.85, 1), "control": around(0.9, 2)}
    arms = (Arm("base", "baseline"), Arm("arm", controls=("control",)), Arm("control", "control"))
    verdict = judged(with_lost(values, "control", how, 2, arms))["arm"]
    assert verdict.outcome is (Outcome.BEATEN if how == "missing" else Outcome.MATCHED)
    assert ("(control" in verdict.reason) == (how != "missing")


@pytest.mark.parametrize("how", ["failed", "missing"])
def test_nothing_is_identical_or_equal_before_every_planned_seed_is(how):
    base = around(0.8, 0)
    for arm in (base, [value * (1 + 1e-9) for value in base]):
        values = {"base": base, "arm": arm}
        whole = judged(made_results(values))["arm"].outcome
        assert whole in (Outcome.IDENTICAL, Outcome.EQUAL)
        for count in (12, 15):
            part = judged(with_lost(values, "arm", how, count))["arm"].outcome
            assert part in (Outcome.NO_CLAIM, Outcome.TOO_FEW)


def test_equal_gains_in_float32_are_as_few_as_in_float64():
    base = [0.75, 0.8, 0.9, 0.85]
    for kind in (np.float32, np.float64):
        values = {"base": base, "arm": [value + 0.05 for value in base]}
        values = {name: [float(kind(value)) for value in own] for name, own in values.items()}
        verdict = judged(made_results(values))["arm"]
        assert verdict.outcome is Outcome.TOO_FEW
        assert "p = 0.12." in verdict.reason


def test_a_gain_within_the_rounding_of_float32_is_none_although_all_signs_agree():
    base = np.linspace(0.7, 0.9, SEEDS, dtype=np.float32)
    values = {"base": base.tolist(), "arm": np.nextafter(base, np.float32(1)).tolist()}
    verdict = judged(made_results(values))["arm"]
    assert verdict.outcome is Outcome.UNDETECTED
    assert "p = 1. All gains are equal but for rounding" in verdict.reason


@pytest.mark.parametrize("size", [1e-300, 1e-110, 1e110, 1e200, 1e300])
def test_verdicts_hang_on_no_unit_and_one_value_far_out_crashes_nothing(size):
    values = {"base": around(0.8, 0), "arm": around(0.85, 1), "same": around(0.8, 2)}
    scaled = {name: [value * size for value in own] for name, own in values.items()}
    found = {name: verdict.outcome for name, verdict in judged(made_results(scaled)).items()}
    assert found == {"arm": Outcome.BETTER, "same": Outcome.UNDETECTED}
    values["same"][3] = size
    judged(made_results(values, higher_is_better=False))


def test_one_large_value_of_both_runs_hides_no_gain_at_the_other_seeds():
    draw = np.random.default_rng(0)
    base = 20 + 0.01 * draw.normal(size=16)
    arm = base - 0.2 + 0.01 * draw.normal(size=16)
    base[5], arm[5] = 1e6, 1e6 - 0.2
    made = made_results({"base": base.tolist(), "arm": arm.tolist()}, higher_is_better=False)
    (verdict,) = verdicts(analyse(made, METHOD)).values()
    assert verdict.outcome is Outcome.BETTER
