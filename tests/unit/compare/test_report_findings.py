"""What a report says about answers, missing runs, pairing and tuning."""

import re
from dataclasses import replace

import pytest

from lightning_qsgd.compare import (
    Arm,
    FailedRun,
    Outcome,
    TunedArm,
    TunedValue,
    Verdict,
    analyse,
    verdicts,
)
from lightning_qsgd.compare.report.answer import SENTENCES, answer, three_sentences
from lightning_qsgd.compare.report.document import to_markdown
from lightning_qsgd.compare.report.panels import TONES
from lightning_qsgd.training.recorded_run import FirstWeights
from tests.comparison_cases import (
    METHOD,
    METRIC,
    SEEDS,
    around,
    case,
    made_curve,
    made_results,
    made_run,
    written,
)


@pytest.mark.parametrize("outcome", Outcome)
def test_every_verdict_has_a_sentence_that_names_its_arms(outcome):
    results = made_results({"base": around(0.8, 0), "one": around(0.8, 1), "two": around(0.8, 2)})
    judged = {name: Verdict(name, outcome, "") for name in ("one", "two")}
    text = to_markdown(answer(results, analyse(results, METHOD), judged))
    assert re.search(r"(?m)^- \*\*.*`one`, `two`", text)
    assert TONES[outcome]


def test_a_design_that_sees_nothing_reliably_says_so_in_words():
    results = made_results({"base": [0.1, 0.2, 0.3], "arm": [0.2, 0.1, 0.3]})
    analysis = analyse(results)
    text = to_markdown(answer(results, analysis, verdicts(analysis)))
    assert "With 3 seeds, no effect of any size is sure to be seen." in text


def test_kinds_of_arms_that_are_there_are_counted_and_explained():
    values = {"base": around(0.8, 0), "arm": around(0.8, 1), "old": around(0.8, 2)}
    arms = (Arm("base", "baseline"), Arm("arm"), Arm("old", "reference"))
    for kinds, expected in ((arms, "1 arm on trial and 1 reference"), (arms[:2], "1 arm on trial")):
        results = made_results({arm.name: values[arm.name] for arm in kinds}, kinds)
        analysis = analyse(results, METHOD)
        text = to_markdown(answer(results, analysis, verdicts(analysis)))
        assert f"the baseline `base`, {expected}, each at {SEEDS} seeds." in text
        assert ("A reference is shown for orientation." in text) == (len(kinds) == 3)


@pytest.mark.parametrize(
    ("overlay", "mean", "said"), [("", 0.9, True), ("", 0.7, False), ("model: Other", 0.9, False)]
)
def test_a_baseline_that_is_better_at_other_values_is_named(overlay, mean, said):
    arms = (
        Arm("base", "baseline"),
        Arm("arm", controls=("same",)),
        Arm("same", "control", overlay=overlay),
    )
    values = {"base": around(0.8, 0), "arm": around(0.9, 1), "same": around(mean, 2)}
    results = made_results(values, arms)
    analysis = analyse(results, METHOD)
    text = to_markdown(answer(results, analysis, verdicts(analysis)))
    assert ("**The search of `base` missed better values:** `same` differs" in text) == said


def test_a_verdict_without_a_sentence_is_an_error_and_leaves_no_arm_out(monkeypatch):
    results = made_results({"base": around(0.8, 0), "arm": around(0.8, 1)})
    analysis = analyse(results, METHOD)
    monkeypatch.delitem(SENTENCES, Outcome.UNDETECTED)
    with pytest.raises(KeyError, match="no detectable effect"):
        answer(results, analysis, verdicts(analysis))


def test_failures_divergence_and_missing_runs_are_named(without_matplotlib, tmp_path):
    values = {"base": around(0.8, 0), "arm": [*around(0.8, 1)[:-3], float("nan"), None, None]}
    failure = FailedRun("arm", SEEDS - 2, "Traceback\nValueError: boom")
    _, markdown = written(made_results(values, failures=(failure,)), tmp_path)
    assert f"- `arm` diverged at seeds {SEEDS - 3}." in markdown
    assert f"- `arm`, seed {SEEDS - 1}, has not ended." in markdown
    assert f"**`arm`, seed {SEEDS - 2}, failed**\n\n```\nTraceback\nValueError: boom" in markdown
    assert "**1 run failed.**" in markdown
    assert f"**Not complete:** 1 run of {2 * SEEDS} missing." in markdown
    assert f"| arm | {SEEDS - 2} (1 diverged) |" in markdown


def test_complete_runs_are_said_to_be_complete(without_matplotlib, tmp_path):
    _, markdown = written(made_results({"base": around(0.8, 0), "arm": around(0.8, 1)}), tmp_path)
    assert "None: every planned run ended with a finite metric." in markdown
    assert f"- `initial_weights`: equal in {SEEDS} runs, different in none." in markdown


def test_pairs_that_are_none_are_named_on_the_first_page(without_matplotlib, tmp_path):
    results = made_results({"base": around(0.8, 0), "arm": around(0.8, 1)})
    alone = made_run("arm", 3, 0.8, checks={"initial_weights": "others"})
    runs = tuple(alone if (r.arm, r.seed) == ("arm", 3) else r for r in results.runs)
    _, markdown = written(replace(results, runs=runs), tmp_path)
    assert "**1 run left out** for another start or other data than the baseline's: see" in markdown
    assert "`initial_weights`: **different in 1 run**, left out: arm (seed 3)." in markdown
    assert (
        f"`data_order`: equal in {SEEDS - 1} runs, different in none; unknown in 1 run." in markdown
    )


def test_pairing_that_was_not_recorded_is_called_assumed(without_matplotlib, tmp_path):
    results = made_results({"base": around(0.8, 0), "arm": around(0.8, 1)})
    runs = tuple(replace(run, checks={}) for run in results.runs)
    _, markdown = written(replace(results, runs=runs), tmp_path)
    assert "`data_order`: not recorded, so pairing is assumed and not checked." in markdown


def test_arms_with_other_sizes_are_named_beside_the_pairing(without_matplotlib, tmp_path):
    results = made_results({"base": around(0.8, 0), "arm": around(0.8, 1)})
    sizes = {"base": FirstWeights({"w": "a"}, 1), "arm": FirstWeights({"w": "a", "c": "b"}, 35)}
    runs = tuple(replace(run, first_weights=sizes[run.arm]) for run in results.runs)
    _, markdown = written(replace(results, runs=runs), tmp_path)
    assert f"- `initial_weights`: equal in {SEEDS} runs, different in none." in markdown
    assert "- `arm` trains 35 parameters, 34 more than `base`." in markdown
    assert "models of another size are paired by what they share." in markdown
    _, markdown = written(results, tmp_path)
    assert "more than `base`" not in markdown
    assert "another size" not in markdown


def tuned(arm, best, trials=8, seeds=(90,)):
    return TunedArm(arm, trials, seeds, (TunedValue("lr", 0.0001, 0.1, best, "log"),), 0.9)


def test_what_is_tuned_for_the_baseline_and_not_for_an_arm_is_named(without_matplotlib, tmp_path):
    arms = (Arm("base", "baseline"), Arm("arm", lacks=("beta1", "adamw_lr")))
    values = {"base": around(0.8, 0), "arm": around(0.8, 1)}
    _, markdown = written(made_results(values, arms, tuning=(tuned("base", 0.01),)), tmp_path)
    assert "They lack it, or a range for it:\n\n- `arm`: beta1 and adamw_lr." in markdown


def test_tuning_warns_of_edges_unequal_trials_and_reported_seeds(without_matplotlib, tmp_path):
    tuning = (tuned("base", 0.01), tuned("better", 0.099, trials=9, seeds=(1,)))
    _, markdown = written(case(tuning=tuning), tmp_path)
    assert "**Tuning ended at the edge** of its space for `better`: see Tuning." in markdown
    assert "`better` might do better with a `lr` beyond its range" in markdown
    assert "**Unfair:** arms were tuned with different numbers of trials." in markdown
    assert "**Unfair:** the tuning seeds [1] are reported as well" in markdown


def test_fair_tuning_in_a_wide_space_has_no_warning(without_matplotlib, tmp_path):
    _, markdown = written(case(tuning=(tuned("base", 0.01), tuned("better", 0.01))), tmp_path)
    assert "Unfair" not in markdown
    assert "edge**" not in markdown
    assert "| base | 8 | 90 | lr | 0.0001 to 0.1 (log) | 0.01 | no |" in markdown


def test_no_better_arm_is_a_plain_no(without_matplotlib, tmp_path):
    results = made_results({"base": around(0.8, 0), "arm": around(0.8, 1)})
    _, markdown = written(results, tmp_path)
    assert "> **No:** of 1 arm none can be said to do better than `base`." in markdown


def test_controls_alone_are_nothing_to_recommend():
    arms = (Arm("base", "baseline"), Arm("control", "control"))
    results = made_results({"base": around(0.8, 0), "control": around(0.9, 1)}, arms)
    analysis = analyse(results, METHOD)
    answer = three_sentences(results, analysis, verdicts(analysis))
    assert answer == "Only controls were compared, so there is nothing to recommend."


def test_too_few_seeds_are_said_without_a_word_on_what_they_see():
    results = made_results({"base": around(0.8, 0)[:3], "arm": around(0.8, 1)[:3]})
    analysis = analyse(results, METHOD)
    answer = three_sentences(results, analysis, verdicts(analysis))
    assert answer.startswith("Too few seeds to tell. This is a trial run, not a comparison:")
    assert answer.endswith("Arm by arm: arm: too few seeds to tell.")


def test_gains_are_turned_where_lower_is_better(without_matplotlib, tmp_path):
    values = {"base": around(0.8, 0), "arm": around(0.5, 1)}
    _, markdown = written(made_results(values, higher_is_better=False), tmp_path)
    assert "(lower is better)" in markdown
    assert re.search(rf"\| arm \| {SEEDS} \| \+0\.\d+ \|", markdown)


def first_page(values, **fields):
    results = made_results(values, **fields)
    analysis = analyse(results, METHOD)
    judged = verdicts(analysis)
    text = to_markdown(answer(results, analysis, judged))
    return text, three_sentences(results, analysis, judged)


def cut(values, seeds):
    return values[:seeds] + [None] * (SEEDS - seeds)


def test_a_comparison_that_was_stopped_says_so_and_counts_the_pairs_that_there_are():
    text, said = first_page({"base": cut(around(0.8, 0), 5), "arm": cut(around(0.8, 1), 5)})
    assert "> **Too few seeds to tell.** 5 of the 12 seeds planned have runs of both" in text
    assert "and 8 are needed. The comparison is not finished." in text
    assert "With 5 of the 12 seeds planned, an effect of" in text
    assert "With 12 seeds" not in text + said
    _, said = first_page({"base": cut(around(0.8, 0), 9), "arm": cut(around(0.8, 1), 9)})
    assert said.startswith("No: of 1 arm none can be said to do better than base. So far:")
    assert "With 9 of the 12 seeds planned, a true gain of" in said
    _, said = first_page({"base": cut(around(0.8, 0), 9), "arm": cut(around(0.9, 1), 9)})
    assert said.startswith("Yes, 1 of 1 arm did better than base. So far: the comparison is not")


def test_a_loss_at_a_few_seeds_is_no_lack_of_seeds():
    _, said = first_page({"base": [0.8, 0.81, 0.79], "arm": [0.5, 0.51, 0.488]})
    assert said.startswith("No: of 1 arm none can be said to do better than base. With 3 seeds,")
    assert said.endswith("Arm by arm: arm: worse.")


def test_arms_without_a_claim_get_no_answer_and_no_no():
    nothing = [None] * SEEDS
    failures = tuple(FailedRun("arm", seed, "boom") for seed in range(SEEDS))
    _, said = first_page({"base": around(0.8, 0), "arm": nothing}, failures=failures)
    assert said.startswith("No answer: no claim is possible for the arm; the report's table")
    _, said = first_page({"base": nothing, "arm": nothing, "other": nothing})
    assert said.startswith("No answer: no claim is possible for any of the 2 arms;")
    assert "So far: the comparison is not finished." in said
    values = {"base": around(0.8, 0), "arm": nothing, "other": around(0.8, 1)}
    _, said = first_page(values, failures=failures)
    assert said.startswith("No: of 2 arms none can be said to do better than base. For 1 of them")


def test_the_first_page_names_the_arms_that_lost_runs():
    lost = [float("nan")] * 3 + around(0.8, 1)[3:]
    failures = (FailedRun("base", 4, "boom"),)
    base = around(0.8, 0)
    base[4] = None
    text, _ = first_page({"base": base, "arm": lost, "other": around(0.8, 2)}, failures=failures)
    assert "**Runs have no result:** `base` failed at 1 seed, `arm` diverged at 3 seeds," in text
    text, _ = first_page({"base": around(0.8, 0), "arm": around(0.8, 1)})
    assert "Runs have no result" not in text


def test_the_first_page_and_the_verdicts_see_effects_of_one_size():
    values = {"base": [0.0] * SEEDS, "arm": around(0, 1)}
    text, _ = first_page(values)
    (challenge,) = analyse(made_results(values), METHOD).challenges
    assert f"an effect of {challenge.detectable / challenge.gain.sd:.2g} standard dev" in text


def test_so_few_pairs_that_nothing_shows_are_no_equal_gains(without_matplotlib, tmp_path):
    values = {"base": around(0.8, 0)[:3], "arm": around(0.8, 1)[:3]}
    _, markdown = written(made_results(values), tmp_path)
    assert "So few pairs show no gain of any size reliably." in markdown
    assert "| none | - |" in markdown


def test_equal_weights_with_another_metric_are_said_on_the_first_page(without_matplotlib, tmp_path):
    results = made_results({"base": around(0.8, 0), "arm": around(0.8, 1)})
    runs = tuple(replace(r, checks={"final_weights": f"w{r.seed}"}) for r in results.runs)
    _, markdown = written(replace(results, runs=runs), tmp_path)
    said = f"At {SEEDS} seeds it ended with the very weights of `base`, and with another"
    assert f"**Is `arm` measured like the baseline?** {said} `{METRIC}`" in markdown
    _, markdown = written(results, tmp_path)
    assert "measured like the baseline" not in markdown


def test_runs_of_another_length_are_said_beside_the_pairing(without_matplotlib, tmp_path):
    results = made_results({"base": around(0.8, 0), "arm": around(0.8, 1)})
    points = {(r.arm, r.seed): 2 if (r.arm, r.seed) == ("arm", 3) else 3 for r in results.runs}
    runs = tuple(
        replace(r, curves={METRIC: made_curve([0.8] * points[r.arm, r.seed])}) for r in results.runs
    )
    asked = replace(results.comparison, length=30)
    _, markdown = written(replace(results, runs=runs, comparison=asked), tmp_path)
    words = "it trained for more or fewer steps than `base`, or than at its other seeds, at seed 3"
    assert f"**Another length of `arm`:** {words}, with one budget of {asked.budget}." in markdown
