"""What sets an arm apart without a line that says so: schedules, callbacks, idle values."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from lightning_qsgd.compare import load_results
from lightning_qsgd.compare.report.write_report import MARKDOWN

EXPERIMENT = str(Path(__file__).parents[2] / "configs" / "experiments" / "digits.yaml")
MODULES = "tests.integration.compare_modules"
SGD = {"optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.01}}}
STEP = {
    "lr_scheduler": {"class_path": "torch.optim.lr_scheduler.StepLR", "init_args": {"step_size": 1}}
}
SHORT = {"limit_train_batches": 4, "limit_val_batches": 2}


def experiment(module: str, **more: Any) -> dict[str, Any]:
    data = {"class_path": "lightning_qsgd.data.DigitsDataModule"}
    goal = {"metric": "val/accuracy"}
    model = {"class_path": f"{MODULES}.{module}"}
    return {"model": model, "data": data, "trainer": SHORT, "goal": goal, **more}


class Compare:
    """Runs the command in an empty folder."""

    def __init__(self, command_line: Any, folder: Path) -> None:
        self.command_line, self.folder = command_line, folder

    def __call__(self, module: str, arms: dict[str, Any], *words: str, **plan: Any) -> str:
        whole = {"experiment": experiment(module), "budget": {"max_epochs": 1}, "seeds": 1}
        file = self.folder / "plan.yaml"
        file.write_text(yaml.safe_dump({**whole, "arms": arms, **plan}))
        line = ["compare", "--config", str(file), "--folder", "out", "--processes", "1", *words]
        return " ".join(str(self.command_line.main(*line)).split())

    def refused(self, *given: Any, **plan: Any) -> str:
        with pytest.raises(SystemExit) as caught:
            self(*given, **plan)
        assert caught.value.code == 2
        return " ".join(self.command_line._capsys.readouterr().err.split())

    @property
    def report(self) -> str:
        return (self.folder / "out" / MARKDOWN).read_text()


@pytest.fixture
def compare(command_line: Any, tmp_path: Path) -> Compare:
    return Compare(command_line, tmp_path)


OWN: dict[str, Any] = {"kind": "baseline"}


@pytest.mark.parametrize(
    ("module", "made"),
    [
        ("Scheduled", "SGD (lr 0.01, weight decay 0), StepLR"),
        ("Grouped", "SGD (lr 0.01, weight decay 0, 0.1), 2 groups, no schedule"),
    ],
)
def test_an_optimizer_that_takes_the_modules_schedule_or_groups_away_is_refused(
    module: str, made: str, compare: Compare
) -> None:
    said = compare.refused(module, {"own": OWN, "sgd": {"overlay": SGD}})
    assert f"`configure_optimizers` for 'own', which makes {made}, and torch.optim.SGD" in said
    assert "give the arm an `lr_scheduler`, or write `without: [configure_optimizers]`" in said
    assert not (compare.folder / "out" / "results.csv").exists()


def test_the_command_that_tests_a_claim_and_a_dry_run_refuse_it_too(compare: Compare) -> None:
    still = {"overlay": {"model": {"init_args": {"learning_rate": 0.5}}}}
    arms = {"own": OWN, "fast": still}
    said = compare.refused("Scheduled", arms, "--arm", "torch.optim.NAdam", "--dry_run")
    assert "torch.optim.NAdam in its place for 'nadam'" in said


def test_a_baseline_that_takes_the_schedule_from_itself_is_refused(compare: Compare) -> None:
    arms = {"sgd": {"kind": "baseline", "overlay": SGD}, "own": {}}
    assert "torch.optim.SGD in its place for 'sgd'" in compare.refused("Scheduled", arms)


def test_a_lost_schedule_that_is_meant_is_named_in_the_report(compare: Compare) -> None:
    sgd = {"overlay": SGD, "without": ["configure_optimizers"]}
    compare("Scheduled", {"own": OWN, "sgd": sgd})
    assert (
        "**Not the same schedule:** `own` follows StepLR every epoch, but `sgd` no schedule."
        in (compare.report)
    )
    assert "- `sgd`: SGD (lr 0.01, weight decay 0), no schedule." in compare.report


def test_a_schedule_of_the_arms_own_and_a_plain_optimizer_in_the_module_are_taken(
    compare: Compare,
) -> None:
    compare("Scheduled", {"own": OWN, "sgd": {"overlay": {**SGD, **STEP}}})
    assert "Not the same schedule" not in compare.report
    assert {run.optimizers for run in load_results(compare.folder / "out").runs} == {
        "SGD (lr 0.01, weight decay 0), StepLR"
    }


def test_an_arm_beside_a_module_with_one_plain_optimizer_is_taken(compare: Compare) -> None:
    nadam = {"overlay": {"optimizer": {"class_path": "torch.optim.NAdam"}}}
    compare("PlainOwn", {"own": OWN, "nadam": nadam})
    assert "- `own`: SGD (lr 0.01, weight decay 0.001), no schedule." in compare.report


def tuning(**more: Any) -> dict[str, Any]:
    space = {
        "lr": {"low": 0.001, "high": 0.3, "path": "model.init_args.learning_rate"},
        "weight_decay": {"low": 1e-4, "high": 0.5, "path": "model.init_args.decay"},
    }
    return {"trials": 2, "seeds": 1, "space": space, **more}


TUNED = {
    "own": {"kind": "baseline", "hyperparameters": "tuned"},
    "nadam": {
        "overlay": {"optimizer": {"class_path": "torch.optim.NAdam"}},
        "hyperparameters": "tuned",
    },
}


@pytest.mark.parametrize("source", ["tuned", "of_baseline"])
def test_tuned_values_of_the_module_that_no_optimizer_reads_are_refused(
    source: str, compare: Compare
) -> None:
    arms = {**TUNED, "nadam": {**TUNED["nadam"], "hyperparameters": source}}
    said = compare.refused("PlainOwn", arms, tuning=tuning())
    assert (
        "the arm 'nadam' to react to `model.init_args.learning_rate`, `model.init_args.decay`, "
        "got the same weights to the last bit" in said
    )
    assert "`space: {lr: {path: optimizer.init_args.lr, ...}, weight_decay: " in said


def test_values_that_the_module_hands_to_any_optimizer_are_searched(compare: Compare) -> None:
    compare("WarmsUp", TUNED, tuning=tuning())
    assert "did not react" not in compare.report


def test_a_search_whose_trials_all_end_alike_is_named(compare: Compare) -> None:
    overlay = {"optimizer": {"class_path": f"{MODULES}.DeafSGD"}}
    space = {
        "lr": {"low": 0.001, "high": 0.3, "path": "optimizer.init_args.lr"},
        "weight_decay": {"low": 0.001, "high": 0.3, "path": "optimizer.init_args.weight_decay"},
    }
    arms = {"own": TUNED["own"], "deaf": {**TUNED["nadam"], "overlay": overlay, "space": space}}
    said = compare("PlainOwn", arms, tuning=tuning())
    assert "No effect of `lr` and `weight_decay` in the search of deaf" in said
    assert "`deaf` **did not react** to `lr` and `weight_decay`" in compare.report
    assert "**Tuned values had no effect:** `deaf`: lr and weight_decay." in compare.report
    known = {tuned.arm: tuned.inert for tuned in load_results(compare.folder / "out").tuning}
    assert known == {"own": (), "deaf": ("lr", "weight_decay")}


def test_groups_that_differ_in_their_names_alone_are_no_parts_to_lose(compare: Compare) -> None:
    compare("Named", {"own": OWN, "sgd": {"overlay": SGD}})
    assert "- `own`: SGD (lr 0.01, weight decay 0), no schedule." in compare.report


@pytest.mark.parametrize(("since", "is_taken"), [(0, True), (1, False)])
def test_a_value_that_reaches_the_loss_is_searched_also_where_it_is_set_to_an_end_of_its_range(
    since: int, is_taken: bool, compare: Compare
) -> None:
    """One that acts later than in the first few steps can be declared."""
    space = {
        "weight_decay": {"low": 1e-3, "high": 0.1, "path": "model.init_args.decay"},
        "lr": {"low": 1e-3, "high": 0.1, "path": "optimizer.init_args.lr"},
    }
    asked = experiment("Penalised", **SGD)
    asked["model"]["init_args"] = {"decay": 0.1, "since": since}
    tuned = {"hyperparameters": "tuned"}
    arms = {
        "sgd": {"kind": "baseline", **tuned},
        "nadam": {**TUNED["nadam"]},
    }
    plan = {"tuning": tuning(space=space), "experiment": asked, "budget": {"max_epochs": 2}}
    if not is_taken:
        said = compare.refused("Penalised", arms, **plan)
        assert "to react to `model.init_args.decay`" in said
        assert "if the module reads the value later, `without: [configure_optimizers]`" in said
    declared = {"without": ["configure_optimizers"]}
    given = arms if is_taken else {name: {**arm, **declared} for name, arm in arms.items()}
    compare("Penalised", given, **plan)
    assert "did not react" not in compare.report


TINY: dict[str, Any] = {"perturbation": {"strength": 1e-9}}


def called(path: str, **arguments: Any) -> dict[str, Any]:
    return {"trainer": {"callbacks+": [{"class_path": path, "init_args": arguments}]}}


def test_arms_that_take_more_data_in_the_same_steps_are_named_whatever_makes_them(
    compare: Compare,
) -> None:
    """An epoch has four batches: two steps of two, or of three and one."""
    scheduled = "lightning.pytorch.callbacks.GradientAccumulationScheduler"
    arms = {
        "own": OWN,
        "tiny": {"overlay": TINY},
        "listed": {"overlay": {**TINY, **called(scheduled, scheduling={0: 2})}},
        "by_hand": {"overlay": {**TINY, **called(f"{MODULES}.Accumulates")}},
    }
    said = compare("PlainOwn", arms, budget={"max_steps": 12})
    batch = 32
    for arm, batches in {"listed": 24, "by_hand": 24}.items():
        words = (
            f"Other data for `{arm}` in the same steps:{{}} at 1 seed it trained on another amount "
            f"than `own`. At seed 0: {batches} batches, {batches * batch} rows of data; `own`: 12 "
            f"batches, {12 * batch} rows of data."
        )
        assert words.format("") in said
        assert words.format("**") in compare.report.partition("What was compared")[0]
    assert "Other data for `tiny`" not in said


def test_data_that_differ_behind_the_batches_that_are_hashed_are_named(compare: Compare) -> None:
    data = f"{MODULES}.Growing"
    arms = {
        "own": OWN,
        "more": {"overlay": {**TINY, "data": {"class_path": data, "init_args": {"late": 16}}}},
    }
    asked = {**experiment("PlainOwn"), "data": data, "trainer": {}}
    said = compare("PlainOwn", arms, experiment=asked)
    assert "At seed 0: 88 rows of data; `own`: 80 rows of data." in said
    assert "`data_order`: equal in 1 run" in compare.report


def test_a_schedule_of_the_same_name_at_another_pace_is_another_one(compare: Compare) -> None:
    said = compare("EveryStep", {"own": OWN, "sgd": {"overlay": {**SGD, **STEP}}})
    words = "`own` follows StepLR every step, but `sgd` StepLR every epoch."
    assert f"Not the same schedule: {words}" in said
    assert f"**Not the same schedule:** {words}" in compare.report
    assert {run.arm: run.optimizers for run in load_results(compare.folder / "out").runs} == {
        "own": "SGD (lr 0.001, weight decay 0), StepLR every step",
        "sgd": "SGD (lr 0.01, weight decay 0), StepLR",
    }


def test_the_way_to_keep_the_modules_pace_is_named_and_works(compare: Compare) -> None:
    said = compare.refused("EveryStep", {"own": OWN, "sgd": {"overlay": SGD}})
    assert "An `lr_scheduler` of a config steps once per epoch" in said
    assert "the arm then names the optimizer in `model.init_args.optimizer`" in said
    arms = {"own": OWN, "adam": {"overlay": made_by("Adam")}}
    assert "Not the same schedule" not in compare("EveryStep", arms)
    assert "- `adam`: Adam (lr 0.001, weight decay 0), StepLR every step." in compare.report


def made_by(name: str) -> dict[str, Any]:
    return {"model": {"init_args": {"optimizer": {"class_path": f"torch.optim.{name}"}}}}


def test_a_perturbed_arm_around_another_optimizer_of_the_module_is_refused(
    compare: Compare,
) -> None:
    asked = experiment("Made")
    asked["model"]["init_args"] = {"optimizer": {"class_path": "torch.optim.Adam"}}
    own = {"kind": "baseline", "overlay": made_by("SGD")}
    said = compare.refused("Made", {"own": own, "tiny": {"overlay": TINY}}, experiment=asked)
    assert "'tiny' to go around SGD, which trains the baseline 'own' since its overlay" in said
    assert "sets `model.init_args.optimizer`, got Adam of the experiment" in said
    assert not (compare.folder / "out" / "results.csv").exists()
    taken = {
        "own": own,
        "same": {"overlay": {**TINY, **made_by("SGD")}},
        "other": {"overlay": {**TINY, **made_by("RMSprop")}},
        "meant": {"overlay": TINY, "without": ["configure_optimizers"]},
        "adam": {"overlay": {"trainer": {"gradient_clip_val": 1.0}}},
        "old": {"overlay": TINY, "kind": "reference"},
    }
    said = compare("Made", taken, experiment=asked)
    left = "The overlay of `own` sets `model.init_args.optimizer`, which this arm has as"
    assert [arm for arm in taken if f"{arm}: {left}" in said] == ["meant", "adam"]


@pytest.mark.parametrize("checks", [0, 2])
def test_lazy_weights_are_compared_with_the_values_that_training_begins_with(
    checks: int, compare: Compare
) -> None:
    trainer = {**SHORT, "num_sanity_val_steps": checks}
    asked = {**experiment("Lazy", optimizer=SGD["optimizer"]), "trainer": trainer}
    arms = {
        "own": OWN,
        "tiny": {"overlay": TINY},
        "wide": {"overlay": {"model": {"init_args": {"width": 8}}}},
    }
    said = compare("Lazy", arms, "--unpaired", "allow", experiment=asked)
    assert "wide and own differ in the initial weights (network.1.bias, network.1.weight" in said
    assert "tiny and own" not in said
    assert "`initial_weights`: **different in 1 run**, left out: wide (seed 0)." in compare.report
    sizes = {r.arm: r.first_weights.parameters for r in load_results(compare.folder / "out").runs}
    assert sizes == {
        width: 64 * n + n + 2 * n + 10 * n + 10
        for width, n in {"own": 4, "tiny": 4, "wide": 8}.items()
    }
    more = sizes["wide"] - sizes["own"]
    assert (
        f"`wide` trains {sizes['wide']:,} parameters, {more:,} more than `own`." in compare.report
    )
