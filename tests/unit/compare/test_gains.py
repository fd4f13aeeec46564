"""From runs to numbers: costs to the target, identity, relative sizes, pairing."""

from dataclasses import replace
from math import inf, isnan, nan

import pytest

from lightning_qsgd.compare import FailedRun, Results, analyse
from lightning_qsgd.compare.results.gains import (
    are_equal,
    are_identical,
    cost_ratio,
    cost_to_target,
    costs_of,
    measured_apart,
    relative_size,
    unequal_seeds,
)
from lightning_qsgd.compare.results.pairing import (
    check_pairing,
    ended_apart,
    extra_parameters,
    trained_apart,
    unpaired,
)
from lightning_qsgd.tracking import tags
from lightning_qsgd.training.convergence_callback import Goal
from lightning_qsgd.training.recorded_run import FirstWeights, RecordedRun, unlike
from tests.comparison_cases import METRIC, made_curve, made_results, made_run, timed

GOAL = Goal(metric=METRIC, target=0.5)


def learning(arm, seed, values, **changes):
    return made_run(arm, seed, values[-1], curves={METRIC: made_curve(values)}, **changes)


def of_runs(*runs, target=0.5, arms=("base", "arm")):
    seeds = 1 + max(run.seed for run in runs)
    frame = made_results({name: [0.0] * seeds for name in arms}, target=target)
    return Results(frame.comparison, runs)


def test_cost_is_read_where_the_target_is_first_reached():
    run = learning("arm", 0, [0.1, 0.6, 0.4, 0.9])
    assert [cost_to_target(run, GOAL, axis) for axis in ("steps", "epochs", "seconds")] == [
        20.0,
        0.2,
        20.0,
    ]


@pytest.mark.parametrize(("values", "cost"), [([0.1, 0.2], inf), ([nan, nan], inf)])
def test_target_that_is_never_reached_costs_infinitely(values, cost):
    assert cost_to_target(learning("arm", 0, values), GOAL, "steps") == cost


def test_without_target_or_curve_the_cost_is_unknown():
    assert isnan(cost_to_target(learning("arm", 0, [0.1]), replace(GOAL, target=None), "steps"))
    assert isnan(cost_to_target(made_run("arm", 0, 0.1), GOAL, "steps"))


def test_misses_count_in_the_median_cost():
    runs = [learning("base", seed, [0.1, value]) for seed, value in enumerate([0.9, 0.1, 0.1])]
    summary = analyse(of_runs(*runs)).baseline
    assert costs_of(of_runs(*runs), "base", "steps") == [20.0, inf, inf]
    assert summary.steps_to_target == summary.epochs_to_target == summary.seconds_to_target == inf
    assert summary.reached == pytest.approx(1 / 3)


def test_identity_needs_equal_metrics_curves_and_final_weights():
    base = learning("base", 0, [0.1, 0.2])
    equal = replace(base, arm="arm")
    other_curve = replace(equal, curves={METRIC: made_curve([0.15, 0.2])})
    other_metric = replace(equal, final={METRIC: 0.3})
    more_metrics = replace(equal, final={**equal.final, "val/loss": 1.0})
    assert are_identical(of_runs(base, equal), "arm", "base")
    for different in (other_curve, other_metric, more_metrics):
        assert not are_identical(of_runs(base, different), "arm", "base")


def test_identity_is_refuted_by_final_weights_that_differ():
    base = made_run("base", 0, 0.5, checks={"final_weights": "a"})
    for weights, identical in (("a", True), ("b", False)):
        arm = made_run("arm", 0, 0.5, checks={"final_weights": weights})
        assert are_identical(of_runs(base, arm), "arm", "base") is identical


def test_runs_that_diverged_alike_are_identical_and_nothing_is_identical_to_no_run():
    base, arm = made_run("base", 0, nan), made_run("arm", 0, nan)
    assert are_identical(of_runs(base, arm), "arm", "base")
    assert not are_identical(of_runs(base), "arm", "base")


def test_relative_size_is_the_median_over_the_run():
    run = made_run("arm", 0, 0.1, curves={tags.RELATIVE_SIZE: made_curve([0.1, 0.3, nan, 0.2])})
    assert relative_size(run) == 0.2
    assert isnan(relative_size(made_run("arm", 0, 0.1)))


@pytest.mark.parametrize("unit", ["step", "epoch"])
def test_cost_is_the_median_ratio_over_pairs_with_known_times(unit):
    runs = [made_run("base", seed, 0.1, timing=timed(0.1)) for seed in range(4)]
    runs += [made_run("arm", s, 0.1, timing=timed(t)) for s, t in enumerate([0.2, 0.3, 0.9, nan])]
    assert cost_ratio(of_runs(*runs), "arm", unit) == pytest.approx(3.0)
    assert isnan(cost_ratio(of_runs(made_run("base", 0, 0.1)), "arm", unit))


def test_summary_holds_mean_sd_and_median_of_the_finite_values():
    summary = analyse(made_results({"base": [0.1, 0.2, nan, 0.6], "arm": [0.0] * 4})).baseline
    assert (summary.mean, summary.median) == pytest.approx((0.3, 0.2))
    assert summary.sd == pytest.approx(0.2645751311)
    assert summary.diverged == (2,)


def test_arm_without_runs_has_unknown_statistics():
    failures = tuple(FailedRun("arm", seed, "boom") for seed in range(3))
    results = made_results({"base": [0.1, 0.2, 0.3], "arm": [None] * 3}, failures=failures)
    challenge = analyse(results).challenges[0]
    assert all(
        isnan(x) for x in (challenge.summary.mean, challenge.summary.sd, challenge.gain.mean)
    )
    assert challenge.p_holm == 1.0


def test_pairing_counts_equal_different_and_unknown_hashes():
    def run(arm, seed, weights):
        return made_run(arm, seed, 0.1, checks={"initial_weights": weights} if weights else {})

    results = of_runs(
        *(run("base", seed, f"w{seed}") for seed in range(3)),
        *(run("arm", seed, weights) for seed, weights in enumerate(["w0", "x", None])),
    )
    weights, *others = check_pairing(results)
    assert (weights.equal, weights.different, weights.unknown) == (1, (("arm", 1),), 1)
    assert [other.check for other in others] == [
        *("data_order", "random_state", "validation_batches", "validation_data"),
    ]
    for other in others:
        assert (other.equal, other.different, other.unknown) == (0, (), 3)


def of_sizes(**models):
    runs = [
        made_run(arm, 0, 0.1, checks={"initial_weights": arm}, first_weights=first)
        for arm, first in models.items()
    ]
    return of_runs(*runs)


def test_models_that_differ_in_size_are_paired_by_what_they_share_and_their_sizes_are_known():
    circuit = FirstWeights({"head": "a", "circuit": "b"}, 20)
    results = of_sizes(base=FirstWeights({"head": "a"}, 4), arm=circuit)
    assert (check_pairing(results)[0].equal, unpaired(results)) == (1, set())
    assert extra_parameters(results) == {"arm": 16}
    turned = of_sizes(base=circuit, arm=FirstWeights({"head": "a"}, 4))
    assert extra_parameters(turned) == {"arm": -16}
    assert unpaired(turned) == set()


@pytest.mark.parametrize("hashes", [{"head": "x", "circuit": "b"}, {"tail": "a", "circuit": "b"}])
def test_models_with_other_common_values_or_other_names_are_no_pair(hashes):
    results = of_sizes(base=FirstWeights({"head": "a"}, 4), arm=FirstWeights(hashes, 20))
    assert unpaired(results) == {("arm", 0)}


@pytest.mark.parametrize(
    ("hashes", "named"),
    [
        ({"head": "a", "lazy": ""}, []),
        ({"head": "a", "lazy": "c"}, []),
        ({"head": "x", "lazy": ""}, ["head"]),
        ({"tail": "a", "lazy": ""}, ["head", "tail"]),
    ],
)
def test_weights_without_known_values_are_no_equal_ones(hashes, named):
    models = {"base": FirstWeights({"head": "a", "lazy": ""}), "arm": FirstWeights(hashes)}
    runs = [RecordedRun(arm, 0) for arm in models]
    for run in runs:
        run.note_weights(models[run.arm])
    found = check_pairing(of_runs(*runs))[0]
    expected = (0, 1, 0) if named else (0, 0, 1)
    assert (found.equal, len(found.different), found.unknown) == expected
    assert unlike(*models.values()) == named


def test_runs_without_recorded_tensors_are_paired_by_the_hash_of_the_whole():
    results = of_sizes(base=FirstWeights(), arm=FirstWeights({"head": "a"}, 4))
    assert unpaired(results) == {("arm", 0)}
    assert extra_parameters(results) == {}


def test_identity_needs_every_planned_seed_and_a_difference_needs_one():
    def runs(arm, *values):
        return [made_run(arm, seed, value) for seed, value in enumerate(values)]

    whole = of_runs(*runs("base", 0.1, 0.2, 0.3), *runs("arm", 0.1, 0.2, 0.3))
    part = of_runs(*runs("base", 0.1, 0.2, 0.3), *runs("arm", 0.1, 0.2))
    other = of_runs(*runs("base", 0.1, 0.2, 0.3), *runs("arm", 0.1, 0.25))
    for question in (are_identical, are_equal):
        assert [question(one, "arm", "base") for one in (whole, part, other)] == [
            True,
            False,
            False,
        ]
    assert [unequal_seeds(one, "arm", "base") for one in (whole, part, other)] == [[], [], [1]]


def ended_with(arm, seed, weights, value):
    return made_run(arm, seed, value, checks={"final_weights": weights} if weights else {})


@pytest.mark.parametrize(
    ("weights", "value", "is_found"),
    [
        ("w", 0.7, True),
        ("w", 0.5, False),
        ("w", 0.5 + 1e-8, False),  # rounding of a float32 metric
        ("v", 0.7, False),
        ("", 0.7, False),
        ("w", nan, False),
    ],
)
def test_equal_weights_with_another_metric_are_found(weights, value, is_found):
    results = of_runs(
        *(ended_with("base", seed, "w", 0.5) for seed in range(2)),
        ended_with("arm", 0, "w", 0.5),
        ended_with("arm", 1, weights, value),
    )
    assert measured_apart(results) == ({"arm": [1]} if is_found else {})


def test_runs_of_another_length_are_found_where_the_budget_has_one():
    whole, short = ([0.1] * number for number in (3, 2))
    results = of_runs(
        *(learning("base", seed, whole) for seed in range(3)),
        learning("arm", 0, whole),
        learning("arm", 1, short),
        made_run("arm", 2, 0.1),  # no curve is known
    )
    assert ended_apart(results) == {}  # of seconds
    of_steps = replace(results, comparison=replace(results.comparison, length=30))
    assert ended_apart(of_steps) == {"arm": [1]}


def counting(arm, seed, steps=3, **counts):
    run = learning(arm, seed, [0.1] * steps)
    return replace(run, checks={**run.checks, **counts})


@pytest.mark.parametrize(
    ("counts", "is_found"),
    [
        ({"training_batches": "3", "training_rows": "24"}, False),
        ({"training_batches": "6", "training_rows": "24"}, True),
        ({"training_batches": "3", "training_rows": "48"}, True),
        ({"training_batches": "3", "epoch_batches": "9"}, True),
        ({}, False),  # stored by an earlier version
    ],
)
def test_runs_that_took_the_same_steps_on_other_data_are_found(counts, is_found):
    known = {"training_batches": "3", "training_rows": "24", "epoch_batches": "3"}
    base = counting("base", 0, **known)
    results = of_runs(base, counting("arm", 0, **counts))
    assert list(trained_apart(results)) == (["arm"] if is_found else [])
    longer = of_runs(base, counting("arm", 0, steps=4, **counts))
    assert trained_apart(longer) == {}  # `ended_apart` has it


def test_runs_that_an_earlier_version_stored_of_another_length_are_found_beside_the_new_ones():
    whole, short = ([0.1] * number for number in (3, 2))
    results = of_runs(
        *(
            learning(arm, seed, whole if seed == 3 else short)
            for arm in ("base", "arm")
            for seed in range(4)
        )
    )
    of_steps = replace(results, comparison=replace(results.comparison, length=30))
    assert ended_apart(of_steps) == {"base": [3], "arm": [3]}
