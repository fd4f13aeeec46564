"""Tuning gives every arm the same chances, and says where its best value lies."""

import builtins
import math

import pytest

from lightning_qsgd.compare.executors import attempt
from lightning_qsgd.compare.planning import Range, Search
from lightning_qsgd.compare.results.pairing import inert_values
from lightning_qsgd.compare.running.stored_run import StoredRun
from lightning_qsgd.compare.tuning import STUDY, Tuning, target_from_baseline
from lightning_qsgd.training.convergence_callback import Goal
from lightning_qsgd.training.recorded_run import RecordedCurve, RecordedRun
from tests.compare_jobs import METRIC

pytest.importorskip("optuna")

SPACE = {"lr": Range(1e-4, 1e-1), "weight_decay": Range(0.0, 1.0, "linear")}
CONFIGS = {
    arm: {"seed_everything": 0, "optimizer": {"init_args": {"lr": 0.0, "weight_decay": 0.0}}}
    for arm in ("adamw", "sine")
}


def parabola(job):
    """Best at lr 1e-2 and weight decay 0.4, whatever the seed."""
    arguments = job.config["optimizer"]["init_args"]
    error = (math.log10(arguments["lr"]) + 2) ** 2 + (arguments["weight_decay"] - 0.4) ** 2
    return RecordedRun(job.arm, job.seed, {METRIC: 1 - error + job.seed * 1e-9})


class Bench:
    """Makes runs at once, and remembers which."""

    def __init__(self, fit=parabola):
        self.fit = fit
        self.jobs = []

    def __call__(self, jobs, title):
        self.jobs += jobs
        return {job: StoredRun.of(attempt(self.fit, job)) for job in jobs}


def made_tuning(folder, trials=25, **fields):
    return Tuning(Search(SPACE, trials, seeds=[7, 8]), Goal(metric=METRIC, **fields), folder)


def settings(jobs, arm):
    used = [job.config["optimizer"]["init_args"] for job in jobs if job.arm == arm]
    return [(arguments["lr"], arguments["weight_decay"]) for arguments in used]


def stored_study(folder, arm):
    import optuna

    backend = optuna.storages.journal.JournalFileBackend(str(folder / arm / STUDY))
    return optuna.load_study(study_name=arm, storage=optuna.storages.JournalStorage(backend))


def test_tuning_finds_the_best_values_inside_the_space(tmp_path):
    tuned = made_tuning(tmp_path).run(CONFIGS, Bench())[0]["adamw"]
    values = {value.name: value for value in tuned.values}
    assert abs(math.log10(values["lr"].best) + 2) < 0.4
    assert abs(values["weight_decay"].best - 0.4) < 0.3
    assert not any(value.at_edge for value in tuned.values)
    assert (tuned.trials, tuned.seeds) == (25, (7, 8))
    assert tuned.score > 0.8


def test_what_a_killed_search_left_is_overwritten(tmp_path):
    (tmp_path / "adamw").mkdir(parents=True)
    (tmp_path / "adamw" / STUDY).write_text('{"op_code": 0, "half a li')
    (tmp_path / "adamw" / f"{STUDY}.lock").touch()

    made_tuning(tmp_path, trials=2).run(CONFIGS, Bench())

    states = [trial.state.name for trial in stored_study(tmp_path, "adamw").trials]
    assert states == ["COMPLETE"] * 2


def test_a_best_value_at_the_edge_is_flagged(tmp_path):
    def rising(job):
        return RecordedRun(job.arm, job.seed, {METRIC: job.config["optimizer"]["init_args"]["lr"]})

    tuned = made_tuning(tmp_path).run(CONFIGS, Bench(rising))[0]["sine"]
    assert {value.name: value.at_edge for value in tuned.values}["lr"]


def test_a_metric_that_should_fall_is_minimised(tmp_path):
    tuning = made_tuning(tmp_path, higher_is_better=False)
    tuned, _ = tuning.run(
        CONFIGS, Bench(lambda job: RecordedRun("a", 0, {METRIC: -parabola(job).final[METRIC]}))
    )
    assert abs(math.log10(tuned["adamw"].values[0].best) + 2) < 0.4


def test_every_arm_gets_the_same_trials_and_first_settings(tmp_path):
    bench = Bench()
    made_tuning(tmp_path).run(CONFIGS, bench)
    ours, theirs = settings(bench.jobs, "adamw"), settings(bench.jobs, "sine")
    assert len(ours) == len(theirs) == 25 * 2
    assert ours[:20] == theirs[:20]
    assert len(set(ours)) == 25
    assert {job.seed for job in bench.jobs} == {7, 8}
    assert all(job.config["seed_everything"] == job.seed for job in bench.jobs)


def test_an_interrupted_search_proposes_the_same_again(tmp_path):
    whole, again = Bench(), Bench()
    first = made_tuning(tmp_path).run(CONFIGS, whole)
    assert made_tuning(tmp_path).run(CONFIGS, again) == first
    assert again.jobs == whole.jobs
    assert len({job.key for job in whole.jobs}) == len(whole.jobs)


def test_a_best_value_at_the_edge_widens_the_range_and_is_followed_there(tmp_path):
    def far(job):
        lr = job.config["optimizer"]["init_args"]["lr"]
        return RecordedRun(job.arm, job.seed, {METRIC: -((math.log10(lr) - 0.2) ** 2)})

    bench = Bench(far)
    tuned = made_tuning(tmp_path, trials=9).run(CONFIGS, bench)[0]["adamw"]
    lr = next(value for value in tuned.values if value.name == "lr")
    assert lr.high > 0.1
    assert abs(math.log10(lr.best) - 0.2) < 0.4
    assert (tuned.trials - tuned.extra, tuned.extra in (3, 6)) == (9, True)
    assert len(settings(bench.jobs, "adamw")) == 2 * tuned.trials


def test_ranges_are_kept_where_extensions_are_switched_off(tmp_path):
    def rising(job):
        return RecordedRun(job.arm, job.seed, {METRIC: job.config["optimizer"]["init_args"]["lr"]})

    search = Search(SPACE, 9, seeds=[7], extensions=0)
    tuned = Tuning(search, Goal(metric=METRIC), tmp_path).run(CONFIGS, Bench(rising))[0]["adamw"]
    assert (tuned.trials, tuned.extra, tuned.values[0].high) == (9, 0, 0.1)


def test_the_first_trial_is_the_arm_as_it_is_configured(tmp_path):
    own = {"lr": 0.02, "weight_decay": 0.3}
    configs = {"adamw": {"seed_everything": 0, "optimizer": {"init_args": own}}}
    bench = Bench()
    made_tuning(tmp_path, trials=3).run(configs, bench)
    assert settings(bench.jobs, "adamw")[0] == pytest.approx((0.02, 0.3))


@pytest.mark.parametrize("momentum", [0.5, 0.6, 0.95, 0.98])
def test_the_first_trial_has_the_momentum_that_is_configured(momentum, tmp_path):
    own = {"lr": 0.02, "weight_decay": 0.3, "momentum": momentum}
    configs = {"muon": {"seed_everything": 0, "optimizer": {"init_args": own}}}
    bench = Bench()
    made_tuning(tmp_path, trials=1).run(configs, bench)
    assert bench.jobs[0].config["optimizer"]["init_args"]["momentum"] == pytest.approx(momentum)


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_whole_numbers_are_tried_widened_and_reported_as_such(scale, tmp_path):
    def wide(job):
        assert type(job.config["width"]) is int
        return RecordedRun(job.arm, job.seed, {METRIC: float(job.config["width"])})

    config = {"seed_everything": 0, "width": 3, **CONFIGS["adamw"]}
    space = {**SPACE, "width": Range(2.0, 16.0, scale, "width", integer=True)}
    bench, search = Bench(wide), Search(space, 9, seeds=[7], finalists=2)
    tuned = Tuning(search, Goal(metric=METRIC), tmp_path).run({"adamw": config}, bench)[0]["adamw"]
    best = next(value for value in tuned.values if value.name == "width")
    assert bench.jobs[0].config["width"] == 3
    assert (type(best.best), best.best > 16, best.best <= best.high) == (int, True, True)


def test_another_arm_changes_no_trial_of_those_that_are_there(tmp_path):
    alone, together = Bench(), Bench()
    made_tuning(tmp_path / "a", trials=9).run({"adamw": CONFIGS["adamw"]}, alone)
    made_tuning(tmp_path / "b", trials=9).run(CONFIGS, together)
    assert settings(together.jobs, "adamw") == settings(alone.jobs, "adamw")


def test_momentum_is_set_inside_the_betas(tmp_path):
    def fit(job):
        first, second = job.config["optimizer"]["init_args"]["betas"]
        assert second == 0.999
        return RecordedRun(job.arm, job.seed, {METRIC: -abs(first - 0.9)})

    arguments = {"lr": 1e-3, "weight_decay": 0.1, "betas": [0.6, 0.999]}
    configs = {"adamw": {"seed_everything": 0, "optimizer": {"init_args": arguments}}}
    tuned = made_tuning(tmp_path, trials=25).run(configs, Bench(fit))[0]["adamw"]
    momentum = next(value for value in tuned.values if value.name == "beta1")
    assert abs(momentum.best - 0.9) < 0.05
    assert (momentum.low, momentum.high, momentum.scale) == (0.5, 0.98, "complement")


def test_the_study_is_saved_for_optuna(tmp_path):
    tuned = made_tuning(tmp_path, trials=3).run(CONFIGS, Bench())[0]["adamw"]
    study = stored_study(tmp_path, "adamw")
    assert len(study.trials) == 3
    assert study.best_value == tuned.score


def test_an_interrupted_search_leaves_the_study_of_the_trials_that_ended(tmp_path):
    bench = Bench()

    def interrupted(jobs, title):
        if "trial 3" in title:
            raise KeyboardInterrupt
        return bench(jobs, title)

    with pytest.raises(KeyboardInterrupt):
        made_tuning(tmp_path).run(CONFIGS, interrupted)
    assert [len(stored_study(tmp_path, arm).trials) for arm in CONFIGS] == [2, 2]


@pytest.mark.parametrize("bad", [math.nan, math.inf, "raise"])
def test_a_setting_that_fails_at_one_seed_is_not_chosen(bad, tmp_path):
    def fit(job):
        lr = job.config["optimizer"]["init_args"]["lr"]
        if lr > 3e-3 and job.seed == 8:
            if bad == "raise":
                raise ArithmeticError("diverged")
            return RecordedRun(job.arm, job.seed, {METRIC: bad})
        return RecordedRun(job.arm, job.seed, {METRIC: lr})

    tuned = made_tuning(tmp_path).run(CONFIGS, Bench(fit))[0]["adamw"]
    assert tuned.values[0].best <= 3e-3


def test_an_arm_that_always_fails_says_why_first_and_stops_no_other(tmp_path):
    def fit(job):
        if job.arm == "sine":
            raise ArithmeticError(f"no luck in {job.block}")
        return parabola(job)

    found, reasons = made_tuning(tmp_path / "a", trials=6).run(CONFIGS, Bench(fit))
    assert reasons["sine"].startswith("Cannot tune 'sine': each of its 6 trials failed or")
    assert "no luck in tuning/trial0" in reasons["sine"]
    alone, _ = made_tuning(tmp_path / "b", trials=6).run({"adamw": CONFIGS["adamw"]}, Bench())
    assert found == alone


def test_an_arm_that_always_diverges_cannot_be_tuned(tmp_path):
    def fit(job):
        return RecordedRun(job.arm, job.seed, {METRIC: math.nan})

    found, reasons = made_tuning(tmp_path, trials=2).run(CONFIGS, Bench(fit))
    assert not found
    assert "each of its 2 trials failed or diverged" in reasons["adamw"]


def test_an_arm_without_the_hyperparameter_cannot_be_tuned(tmp_path):
    config = {"optimizer": {"init_args": {"lr": 0.1}}}
    with pytest.raises(ValueError, match=r"Cannot set `optimizer\.init_args\.weight_decay`"):
        made_tuning(tmp_path).run({"eq1": config}, Bench())


def test_tuning_says_which_extra_it_needs(tmp_path, monkeypatch):
    original = builtins.__import__

    def refuse(name, *rest):
        if name == "optuna":
            raise ModuleNotFoundError(name)
        return original(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ModuleNotFoundError, match="extra `compare`"):
        made_tuning(tmp_path).run(CONFIGS, Bench())


def made_run(values):
    points = [float(number) for number in range(len(values))]
    return RecordedRun("adamw", 0, {}, {METRIC: RecordedCurve(points, points, points, values)})


def test_target_is_the_median_at_three_quarters_of_the_budget():
    runs = [made_run([0.1, 0.2, value, 0.9]) for value in (0.5, 0.8, 0.6)]
    assert target_from_baseline(runs, METRIC) == 0.6
    assert target_from_baseline([made_run([0.3])], METRIC) == 0.3


def test_target_is_read_before_the_end_of_a_run_with_few_validations():
    assert target_from_baseline([made_run([0.1, 0.5, 0.9])], METRIC) == 0.5
    assert target_from_baseline([made_run([0.1, 0.9])], METRIC) == 0.1
    steps = [10.0, 20.0, 70.0, 76.0, 100.0]
    curve = RecordedCurve(steps, steps, steps, [0.1, 0.2, 0.3, 0.4, 0.5])
    assert target_from_baseline([RecordedRun("adamw", 0, {}, {METRIC: curve})], METRIC) == 0.4


@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4), (4, 3, 2, 1, 0), (2, 0, 4, 1, 3)])
def test_diverged_and_failed_runs_count_as_the_worst_of_a_target(order):
    runs = [made_run([0.0, 0.0, value, 0.0]) for value in (0.3, 0.5, 0.6, math.nan)]
    runs = [[*runs, None][place] for place in order]
    assert target_from_baseline(runs, METRIC, higher_is_better=True) == 0.3
    assert target_from_baseline(runs, METRIC, higher_is_better=False) == 0.6
    with pytest.raises(ValueError, match="of its 3 runs for it, 2 diverged in"):
        target_from_baseline([made_run([0.0, math.inf, 0.0]), None, made_run([0.1])], METRIC)


def test_target_needs_a_curve():
    with pytest.raises(ValueError, match="none of its runs recorded `val/f1`"):
        target_from_baseline([made_run([0.3])], "val/f1")


def lucky(job):
    """Best at lr 1e-2 at fresh seeds; at the tuning seeds 7 and 8 rates above 0.02 seem better."""
    found = parabola(job)
    rate = job.config["optimizer"]["init_args"]["lr"]
    if rate > 0.02 and job.seed in (7, 8):
        return RecordedRun(job.arm, job.seed, {METRIC: 2.0 + rate})
    return found


def final_tuning(folder, finalists=5, **fields):
    search = Search(SPACE, 12, seeds=[7, 8], finalists=finalists, final_seeds=[20, 21, 22])
    return Tuning(search, Goal(metric=METRIC, **fields), folder)


def test_finalists_are_chosen_at_fresh_seeds_where_luck_at_the_others_does_not_count(tmp_path):
    bench = Bench(lucky)
    tuned = final_tuning(tmp_path / "finals").run(CONFIGS, bench)[0]["adamw"]
    unlucky = final_tuning(tmp_path / "best", finalists=1).run(CONFIGS, Bench(lucky))[0]["adamw"]

    rate, lucky_rate = (one.values[0].best for one in (tuned, unlucky))
    assert lucky_rate > 0.02
    finals = [job for job in bench.jobs if job.seed in (20, 21, 22)]
    assert len(finals) == len(CONFIGS) * 5 * 3
    assert (tuned.final_seeds, tuned.finalists) == ((20, 21, 22), 5)
    assert (unlucky.final_seeds, unlucky.finalists) == ((), 1)
    rates = {job.config["optimizer"]["init_args"]["lr"] for job in finals if job.arm == "adamw"}
    decays = {
        settings["lr"]: settings["weight_decay"]
        for settings in (job.config["optimizer"]["init_args"] for job in finals)
    }

    def at_fresh_seeds(rate):
        return -((math.log10(rate) + 2) ** 2) - (decays[rate] - 0.4) ** 2

    assert rate == max(rates, key=at_fresh_seeds)


def test_a_finalist_that_diverges_at_a_fresh_seed_is_not_chosen(tmp_path):
    def unstable(job):
        if job.seed == 21 and job.config["optimizer"]["init_args"]["lr"] > 5e-3:
            raise ArithmeticError("diverged")
        return parabola(job)

    tuned = final_tuning(tmp_path, finalists=8).run(CONFIGS, Bench(unstable))[0]["adamw"]
    assert tuned.values[0].best <= 5e-3


def test_if_all_finalists_fail_the_best_trial_stays_and_says_so(tmp_path):
    def unstable(job):
        if job.seed == 21:
            raise ArithmeticError("diverged")
        return parabola(job)

    tuned = final_tuning(tmp_path / "a").run(CONFIGS, Bench(unstable))[0]["adamw"]
    best = final_tuning(tmp_path / "b", finalists=1).run(CONFIGS, Bench(parabola))[0]["adamw"]
    assert tuned == best


def test_finals_of_a_metric_that_should_fall_take_the_lowest(tmp_path):
    def falling(job):
        return RecordedRun(job.arm, job.seed, {METRIC: -parabola(job).final[METRIC]})

    tuning = final_tuning(tmp_path / "a", higher_is_better=False)
    other = final_tuning(tmp_path / "b")
    found, _ = tuning.run(CONFIGS, Bench(falling))
    mirrored, _ = other.run(CONFIGS, Bench(parabola))
    assert found["adamw"].values == mirrored["adamw"].values
    assert found["adamw"].score == -mirrored["adamw"].score


def test_fewer_finalists_than_one_are_refused():
    with pytest.raises(ValueError, match=r"`tuning.finalists` to be at least 1, got 0"):
        Search(finalists=0)


def trial(end: str, **values: float) -> tuple[dict[str, float], str]:
    return values, end


@pytest.mark.parametrize(
    ("trials", "inert"),
    [
        ([], ()),
        ([trial("a", lr=1, wd=1)], ()),
        ([trial("a", lr=1, wd=1), trial("b", lr=2, wd=2)], ()),
        ([trial("a", lr=1, wd=1), trial("a", lr=2, wd=2)], ("lr", "wd")),
        ([trial("a", lr=1, wd=1), trial("a", lr=1, wd=2)], ("wd",)),
        ([trial("a", lr=1, wd=1), trial("a", lr=1, wd=2), trial("b", lr=2, wd=3)], ("wd",)),
        ([trial("a", lr=1, wd=1), trial("a", lr=1, wd=2), trial("b", lr=1, wd=3)], ()),
        ([trial("a", lr=1, wd=1), trial("b", lr=1, wd=2), trial("b", lr=2, wd=2)], ("lr",)),
    ],
)
def test_a_value_is_inert_where_trials_that_differ_in_it_alone_end_alike(
    trials: list[tuple[dict[str, float], str]], inert: tuple[str, ...]
) -> None:
    assert inert_values(trials) == inert
