"""Which runs are pairs, and which pairs are samples: copies, drawn buffers, runs that end early."""

from dataclasses import replace

import pytest
import torch

from lightning_qsgd.compare import (
    Arm,
    Comparison,
    FailedRun,
    Method,
    Outcome,
    Results,
    analyse,
    verdicts,
)
from lightning_qsgd.compare.report import write_report
from lightning_qsgd.compare.results.gains import gains_over
from lightning_qsgd.compare.results.pairing import agree, check_pairing, copied, unpaired
from lightning_qsgd.compare.running import Job
from lightning_qsgd.compare.running.pairing_guard import PairingGuard, refuse_unpaired
from lightning_qsgd.compare.running.stored_run import StoredRun
from lightning_qsgd.training.convergence_callback import Goal
from lightning_qsgd.training.first_weights import PairingCallback
from lightning_qsgd.training.recorded_run import FirstWeights
from tests.comparison_cases import METRIC, made_run

SEEDS = range(8)
CHECKS = ("initial_weights", "data_order", "random_state", "final_weights")


def made(name, seed, of=None, **changes):
    """A run that is of the draw `of`; the random state may change where nothing draws from it."""
    of = seed if of is None else of
    checks = {check: f"{check} {of}" for check in CHECKS}
    checks |= {"final_weights": f"{name} {of}", "random_state": f"{seed}", **changes}
    value = 0.7 + 0.01 * (of % 5) + (0.02 + 0.001 * (of % 3)) * (name == "arm")
    return made_run(name, seed, value, checks=checks)


def found_in(arms, draw_of, **changes):
    kinds = {"base": Arm("base", "baseline"), "arm": Arm("arm"), "control": Arm("control")}
    comparison = Comparison("c", Goal(metric=METRIC), tuple(kinds[a] for a in arms), tuple(SEEDS))
    runs = [made(a, seed, draw_of(a, seed), **changes) for a in arms for seed in SEEDS]
    return Results(comparison, tuple(runs))


PAIR = ("base", "arm")
DRAWS = {
    "fixed": (lambda name, seed: 42, 1),
    "seed // 2": (lambda name, seed: seed // 2, 4),
    "seed % 3": (lambda name, seed: seed % 3, 3),
    "copied files": (lambda name, seed: min(seed, 5), 6),
    "all": (lambda name, seed: seed, 8),
    "the baseline alone is the same": (lambda name, seed: 0 if name == "base" else seed, 8),
}


@pytest.mark.parametrize(("draw_of", "samples"), DRAWS.values(), ids=DRAWS)
def test_a_pair_counts_once_however_often_it_is_made(draw_of, samples):
    results = found_in(PAIR, draw_of)
    first = {}
    for seed in SEEDS:
        first.setdefault((draw_of("base", seed), draw_of("arm", seed)), seed)
    assert list(gains_over(results, "arm", "base")) == [*first.values()]
    assert len(first) == samples
    assert set(copied(results, "arm", "base")) == set(SEEDS) - set(first.values())


def test_a_verdict_over_copies_is_none(tmp_path, without_matplotlib):
    results = found_in(PAIR, lambda name, seed: 42)
    analysis = analyse(results, Method(resamples=99))
    (verdict,) = verdicts(analysis).values()
    assert verdict.outcome is Outcome.NO_CLAIM
    assert "Only 1 seeds" in verdict.reason
    assert "both repeat an earlier seed to the last bit at seeds 1, 2, 3, 4, 5, 6, 7" in (
        verdict.reason
    )
    write_report(results, tmp_path, Method(resamples=99))
    report = (tmp_path / "report.md").read_text()
    assert "**7 seeds left out as copies**" in report
    assert "`arm` and `base` repeat, to the last bit, seed 0 at seed 1, seed 0 at seed 2" in report


@pytest.mark.parametrize("lost", PAIR)
def test_an_arm_whose_only_planned_run_failed_has_no_claim(lost):
    comparison = replace(found_in(PAIR, lambda name, seed: seed).comparison, seeds=(5,))
    runs = [made(name, 5) for name in PAIR if name != lost]
    results = Results(comparison, tuple(runs), (FailedRun(lost, 5, "ValueError: bad"),))
    (verdict,) = verdicts(analyse(results)).values()
    assert verdict.outcome is Outcome.NO_CLAIM
    assert f"for {lost} failed at 1 seed" in verdict.reason
    whole = replace(results, runs=tuple(made(name, 5) for name in PAIR), failures=())
    assert verdicts(analyse(whole))["arm"].outcome is Outcome.TOO_FEW


@pytest.mark.parametrize("check", ["initial_weights", "data_order", "final_weights"])
def test_runs_that_differ_in_what_a_seed_decides_are_samples(check):
    results = found_in(PAIR, lambda name, seed: 42)
    runs = [made(run.arm, run.seed, 42, **{check: f"{run.seed}"}) for run in results.runs]
    assert copied(Results(results.comparison, tuple(runs)), "arm", "base") == {}


def test_another_metric_of_equal_weights_is_a_sample():
    results = found_in(PAIR, lambda name, seed: 42)
    for run in results.runs:  # as of a validation that draws
        run.final[METRIC] += 0.001 * run.seed
    assert copied(results, "arm", "base") == {}


@pytest.mark.parametrize("weights", [{"final_weights": "initial_weights 42"}, {}])
def test_runs_that_moved_no_weights_or_do_not_know_them_are_no_copies(weights):
    results = found_in(PAIR, lambda name, seed: 42, **weights)
    if not weights:
        for run in results.runs:
            del run.checks["final_weights"]
    assert copied(results, "arm", "base") == {}


def test_an_arm_is_held_against_a_control_that_varies():
    results = found_in((*PAIR, "control"), lambda name, seed: seed if name == "control" else 42)
    assert len(gains_over(results, "arm", "base")) == 1
    assert len(gains_over(results, "arm", "control")) == len(SEEDS)


def looked_at(runs):
    guard = PairingGuard("base", METRIC)
    for run in runs:
        guard.look(Job(run.arm, run.seed, {}), StoredRun("", {}, run))
    return guard.violations


@pytest.mark.parametrize("backwards", [False, True])
def test_the_second_seed_that_changes_nothing_is_refused(backwards):
    pairs = [[made(name, seed, 42) for name in PAIR] for seed in (0, 1)]
    runs = [run for pair in pairs for run in (reversed(pair) if backwards else pair)]
    (found,) = looked_at(runs)
    assert found.startswith("Seed 1: arm and base repeat seed 0 to the last bit, from the first")
    with pytest.raises(RuntimeError, match=r"Seed 1: .*leave out a fixed `seed_everything`"):
        refuse_unpaired(found)


@pytest.mark.parametrize("still", PAIR)
def test_a_seed_that_changes_one_of_two_arms_is_not_refused(still):
    runs = [
        made(name, seed, 42 if name == still else seed, initial_weights="w", data_order="d")
        for seed in (0, 1)
        for name in PAIR
    ]
    assert looked_at(runs) == []


def with_buffer(name, seed, value):
    run = made(name, seed)
    return replace(run, first_weights=FirstWeights({"head": f"{seed}"}, 1, {"B": value}))


BUFFERS = {
    "drawn anew in each run": (lambda name, seed: f"{name} {seed}", [0, 1]),
    "drawn anew at one seed": (lambda name, seed: f"{name if seed == 1 else seed}", [1]),
    "drawn from the seed": (lambda name, seed: f"{seed}", []),
    "set by the arm": (lambda name, seed: name, []),
    "one for all": (lambda name, seed: "b", []),
}


@pytest.mark.parametrize(("value_of", "apart"), BUFFERS.values(), ids=BUFFERS)
def test_buffers_that_were_drawn_apart_make_no_pair(value_of, apart):
    runs = [with_buffer(name, seed, value_of(name, seed)) for seed in (0, 1) for name in PAIR]
    frame = found_in(PAIR, lambda name, seed: seed)
    results = Results(frame.comparison, tuple(runs))
    assert unpaired(results) == {("arm", seed) for seed in apart}
    assert list(gains_over(results, "arm", "base", unpaired(results))) == [
        seed for seed in (0, 1) if seed not in apart
    ]
    words = ["Seed 1: arm and base differ in the buffers (B)."] if apart else []
    assert looked_at(runs) == words


def test_models_without_such_buffers_and_runs_stored_before_are_not_said_to_be_checked():
    results = found_in(PAIR, lambda name, seed: seed)
    assert "initial_buffers" not in [check.check for check in check_pairing(results)]


def seeing(name, *batches):
    """A run that saw these batches, hashed as the callback does."""
    callback = PairingCallback()
    for number, batch in enumerate(batches):
        callback.on_train_batch_start(None, None, torch.tensor([batch]), number)
    orders = {"data_order": callback.data_order, "seen_batches": callback.seen_batches}
    return made_run(name, 0, 0.5, checks=orders)


@pytest.mark.parametrize(
    ("batches", "is_pair"),
    [((1, 2, 3), True), ((1,), True), ((1, 2, 4), False), ((3, 2, 1, 0), False), ((), False)],
)
def test_a_run_that_ends_before_its_eighth_batch_is_a_pair_if_it_began_alike(batches, is_pair):
    whole, short = seeing("base", *range(1, 13)), seeing("arm", *batches)
    assert agree("data_order", short, whole) is agree("data_order", whole, short) is is_pair
    stored = replace(whole, checks={"data_order": whole.checks["data_order"]})  # by 0.2
    assert agree("data_order", short, stored) is False
    assert agree("data_order", seeing("arm", *range(1, 13)), stored) is True
