"""What `compare` refuses when it reads the experiment and its arms, before any run."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from lightning_qsgd.cli import PerturbationCLI
from lightning_qsgd.cli.arm_configs import read_question
from lightning_qsgd.cli.compare_command import _understood
from lightning_qsgd.cli.recipe import Recipe
from lightning_qsgd.compare.planning import ArmPlan, Budget, Plan, Range, Search
from lightning_qsgd.compare.planning.question import Question

EXPERIMENT = str(Path(__file__).parents[2] / "configs" / "experiments" / "digits.yaml")
ADAMW = {"optimizer": {"class_path": "torch.optim.AdamW"}}
NADAM = {"optimizer": {"class_path": "torch.optim.NAdam"}}
SINE = {"perturbation": {"strength": 0.5}}


def read(arms: dict[str, ArmPlan], *lines: dict[str, Any], space: Any = None) -> Question:
    tuning = None if space is None else Search({**Search().space, **space})
    return read_question(
        Plan([EXPERIMENT, *lines], arms, Budget(max_steps=1), tuning=tuning), Path()
    )


@pytest.mark.parametrize("place", ["the experiment", "the arm 'nadam'"])
def test_a_comparison_does_not_go_on_from_a_checkpoint(place: str) -> None:
    lines = {"ckpt_path": "trained.ckpt"}
    in_arm = "arm" in place
    overlay = [NADAM, lines] if in_arm else NADAM
    arms = {"adamw": ArmPlan(kind="baseline"), "nadam": ArmPlan(overlay)}
    with pytest.raises(ValueError, match=rf"no `ckpt_path` in {place}, got 'trained.ckpt'.* Leave"):
        read(arms, *([] if in_arm else [lines]))


def understood(folder: Path, quoted: str, *more: str) -> Question:
    arms = {"adamw": {"kind": "baseline"}, "nadam": {"overlay": NADAM}, "sine": {"overlay": SINE}}
    published = {"source": "a paper", "figures": {quoted: {"gain": "+1"}}}
    plan = {"experiment": EXPERIMENT, "budget": {"max_steps": 1}, "arms": arms}
    file = folder / "plan.yaml"
    file.write_text(yaml.safe_dump({**plan, "published": published}))
    question: Question = _understood(["--config", str(file), *more], Recipe(PerturbationCLI))[-1]
    return question


@pytest.mark.parametrize(("choice", "left"), [("--skip", []), ("--only", ["nadam"])])
def test_figures_of_an_arm_that_is_left_out_go_with_it(
    choice: str, left: list[str], tmp_path: Path
) -> None:
    assert list(understood(tmp_path, "nadam", choice, "nadam").published.figures) == left


def test_figures_of_no_arm_are_refused_whatever_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        understood(tmp_path, "nadma", "--skip", "nadam")
    assert "got 'nadma': nothing measured would stand beside it. Did you mean 'nadam'?" in " ".join(
        capsys.readouterr().err.split()
    )


def searched(**own: Any) -> Question:
    span = Range(1, 6, "linear", "trainer.accumulate_grad_batches", **own)
    arms = {
        "adamw": ArmPlan(ADAMW, kind="baseline", hyperparameters="tuned"),
        "nadam": ArmPlan(NADAM, hyperparameters="of_baseline"),
    }
    return read(arms, space={"together": span})


def test_a_range_of_numbers_that_the_class_does_not_take_is_refused() -> None:
    message = r"(?s)'adamw' to take .* \{'trainer.accumulate_grad_batches': 3.5\}.*Write `integer"
    with pytest.raises(ValueError, match=message):
        searched()


def test_a_range_of_whole_numbers_is_taken_by_a_class_that_takes_nothing_else() -> None:
    assert searched(integer=True).space_of("nadam")["together"].integer


def test_a_perturbed_arm_goes_around_the_optimizer_of_the_baseline() -> None:
    arms = {"nadam": ArmPlan(NADAM, kind="baseline"), "sine": ArmPlan(SINE)}
    with pytest.raises(ValueError, match=r"'sine' to go around torch\.optim\.NAdam.*`\[my_exp"):
        read(arms)
    faster = {"optimizer": {"init_args": {"lr": 0.1}}}  # names no optimizer
    with pytest.raises(ValueError, match="'sine' to go around"):
        read({**arms, "sine": ArmPlan([faster, SINE])})
    read(arms, NADAM)
    read({**arms, "sine": ArmPlan([ADAMW, SINE])})
    read({**arms, "sine": ArmPlan([{"optimizer": "torch.optim.AdamW"}, SINE])})
    read({**arms, "sine": ArmPlan(SINE, kind="reference")})


def test_an_arm_at_the_values_of_the_baseline_has_its_optimizer() -> None:
    loss = {"model": {"init_args": {"num_classes": 11}}}
    arms = {"nadam": ArmPlan(NADAM, kind="baseline", hyperparameters="tuned")}
    with pytest.raises(ValueError, match="'loss' to go around"):
        read({**arms, "loss": ArmPlan(loss, hyperparameters="of_baseline")}, space={})


SHARED = {
    "trainer.max_steps": "`budget`",
    "trainer.max_epochs": "`budget`",
    "trainer.limit_val_batches": "it in `experiment`",
    "seed_everything": "`seeds`",
}


@pytest.mark.parametrize("place", SHARED)
@pytest.mark.parametrize("where", ["plan", "arm", "config"])
def test_a_search_sets_nothing_that_all_arms_share(place: str, where: str) -> None:
    span = Range(8, 12, "linear", place, integer=True)
    written = {"path": place, "low": 8, "high": 12, "scale": "linear", "integer": True}
    nadam = [NADAM, {"search_space": {"longer": written}}] if where == "config" else NADAM
    own = {"longer": span} if where == "arm" else {}
    arms = {
        "adamw": ArmPlan(ADAMW, kind="baseline", hyperparameters="tuned"),
        "nadam": ArmPlan(nadam, hyperparameters="tuned", space=own),
    }
    arm = "adamw" if where == "plan" else "nadam"
    message = rf"range 'longer' of the arm '{arm}' to leave `{place}` alone.* set {SHARED[place]}"
    with pytest.raises(ValueError, match=message):
        read(arms, space={"longer": span} if where == "plan" else {})


@pytest.mark.parametrize("place", ["goal.target", "trainer.min_steps", "trainer.min_epochs"])
def test_an_arm_of_a_question_searches_no_goal_and_no_least_length(place: str) -> None:
    arms = {
        "adamw": ArmPlan(ADAMW, kind="baseline", hyperparameters="tuned"),
        "nadam": ArmPlan(NADAM, hyperparameters="of_baseline"),
    }
    with pytest.raises(ValueError, match=f"range 'x' of the arm 'adamw' to leave `{place}` alone"):
        read(arms, space={"x": Range(1, 2, "linear", place)})


@pytest.mark.parametrize("name", ["min_steps", "min_epochs"])
def test_an_arm_does_not_outlast_a_budget_of_seconds(name: str) -> None:
    arms = {"adamw": ArmPlan(kind="baseline"), "long": ArmPlan({"trainer": {name: 10}})}
    with pytest.raises(ValueError, match=f"'long' to leave `trainer.{name}` .* `experiment`"):
        read(arms)
    read({**arms, "long": ArmPlan(SINE)}, {"trainer": {name: 1}})


def test_an_arm_of_its_own_does_not_choose_how_much_data_a_step_takes() -> None:
    span = Range(1, 6, "linear", "trainer.accumulate_grad_batches", integer=True)
    arms = {
        "adamw": ArmPlan(ADAMW, kind="baseline", hyperparameters="tuned"),
        "nadam": ArmPlan(NADAM, hyperparameters="tuned", space={"together": span}),
    }
    with pytest.raises(ValueError, match=r"'nadam' to leave `trainer\.accumulate_grad_batches`"):
        read(arms, space={})


def test_a_range_that_all_arms_share_may_be_of_how_much_data_a_step_takes() -> None:
    span = Range(1, 6, "linear", "trainer.accumulate_grad_batches", integer=True)
    arms = {
        "adamw": ArmPlan(ADAMW, kind="baseline", hyperparameters="tuned"),
        "nadam": ArmPlan(NADAM, hyperparameters="tuned"),
    }
    question = read(arms, space={"together": span})
    assert "together" in question.space_of("nadam")


def test_an_arm_that_sees_more_data_at_the_same_budget_says_so() -> None:
    arms = {
        "adamw": ArmPlan(kind="baseline"),
        "four": ArmPlan({"trainer": {"accumulate_grad_batches": 4}}),
    }
    question = read(arms)
    assert question.remarks("adamw") == ()
    assert question.remarks("four") == (
        "Its `trainer.accumulate_grad_batches` is 4, that of `adamw` 1: at the same budget it may "
        "see more of the data, or less.",
    )


@pytest.mark.parametrize(
    ("name", "value", "usual"), [("val_check_interval", 1, None), ("check_val_every_n_epoch", 2, 1)]
)
def test_an_arm_that_is_judged_at_other_moments_says_so(name: str, value: int, usual: Any) -> None:
    arms = {"adamw": ArmPlan(kind="baseline"), "often": ArmPlan([SINE, {"trainer": {name: value}}])}
    (said,) = read(arms).remarks("often")
    assert said.startswith(f"Its `trainer.{name}` is {value}, that of `adamw` {usual}: steps, ")
    assert "epochs and seconds to the target and the best value are read at other moments" in said


RATE = {"optimizer": {"init_args": {"lr": 0.5}}, "trainer": {"gradient_clip_val": 1.0}}


@pytest.mark.parametrize(
    ("overlay", "left"),
    [
        (SINE, "`optimizer.init_args.lr`, `trainer.gradient_clip_val`"),
        ([SINE, {"optimizer": {"init_args": {"lr": 0.1}}}], "`trainer.gradient_clip_val`"),
        ([NADAM, {"trainer": {"gradient_clip_val": 2.0}}], ""),
        ([SINE, RATE], ""),
    ],
)
def test_what_the_baselines_overlay_sets_and_an_arm_leaves_is_named(
    overlay: Any, left: str
) -> None:
    arms = {"base": ArmPlan(RATE, kind="baseline"), "arm": ArmPlan(overlay)}
    said = read(arms, ADAMW).remarks("arm")
    words = f"The overlay of `base` sets {left}, which this arm has as the experiment does: "
    assert said == ((f"{words}a difference may be due to that.",) if left else ())


def test_what_is_tuned_for_an_arm_is_not_left_behind() -> None:
    tuned = ArmPlan([ADAMW, {"optimizer": {"init_args": {"lr": 0.5}}}], "baseline")
    arms = {
        "base": replace(tuned, hyperparameters="tuned"),
        "arm": ArmPlan([ADAMW, SINE], hyperparameters="of_baseline"),
        "given": ArmPlan([ADAMW, SINE]),
    }
    question = read(arms, ADAMW, space={})
    assert question.remarks("arm") == ()
    assert "`optimizer.init_args.lr`" in question.remarks("given")[0]


def callbacks(*names: str, add: str = "") -> dict[str, Any]:
    parts = [{"class_path": f"lightning.pytorch.callbacks.{name}"} for name in names]
    for part in parts:
        if part["class_path"].endswith("StochasticWeightAveraging"):
            part["init_args"] = {"swa_lrs": 0.01}
        if part["class_path"].endswith("EarlyStopping"):
            part["init_args"] = {"monitor": "val/loss"}
    return {"trainer": {f"callbacks{add}": parts}}


SWA, STOP, SHOWS = "StochasticWeightAveraging", "EarlyStopping", "LearningRateMonitor"


OUR_CALLBACKS = {
    "trainer": {
        "callbacks": [
            {"class_path": f"lightning_qsgd.training.{name}"}
            for name in ("TensorBoardCallback", "RandomStateCallback")
        ]
    }
}


@pytest.mark.filterwarnings("ignore:.*Unable to serialize instance")
@pytest.mark.parametrize("replacing", [callbacks(STOP), {"trainer": {"callbacks": None}}])
def test_an_overlay_that_drops_callbacks_of_the_experiment_is_refused(replacing: Any) -> None:
    base, arms = callbacks(SWA, SHOWS), {"adamw": ArmPlan(kind="baseline")}
    sine = [SINE, replacing]
    message = rf"'sine' to keep {SWA} of .* while 'adamw' .* Write `callbacks\+` .*\[{SWA}\]"
    with pytest.raises(ValueError, match=message):
        read({**arms, "sine": ArmPlan(sine)}, base)
    read({**arms, "sine": ArmPlan(sine, kind="reference")}, base)
    meant = read({**arms, "sine": ArmPlan(sine, without=[SWA])}, base)
    assert meant.remarks("sine") == (
        f"It goes without `lightning.pytorch.callbacks.{SWA}` in `trainer.callbacks`, which "
        "`adamw` has.",
    )


@pytest.mark.filterwarnings("ignore:.*Unable to serialize instance")
def test_a_baseline_that_drops_callbacks_of_the_experiment_is_refused() -> None:
    base = callbacks(SWA)
    arms = {"adamw": ArmPlan(callbacks(STOP), kind="baseline"), "sine": ArmPlan(SINE)}
    with pytest.raises(ValueError, match=f"'adamw' to keep {SWA} .* while 'sine' trains with it"):
        read(arms, base)
    arms["sine"] = ArmPlan([SINE, callbacks(STOP)])
    assert read(arms, base).remarks("sine") == ()


@pytest.mark.filterwarnings("ignore:.*Unable to serialize instance")
@pytest.mark.parametrize(
    ("base", "overlay"),
    [
        (callbacks(SWA), callbacks(STOP, add="+")),
        (callbacks(SWA), callbacks(STOP, SWA)),
        (callbacks(SHOWS), callbacks(STOP)),
        (OUR_CALLBACKS, callbacks(STOP)),
        ({}, callbacks(STOP)),
    ],
)
def test_an_overlay_that_keeps_what_changes_numbers_is_taken(base: Any, overlay: Any) -> None:
    arms = {"adamw": ArmPlan(kind="baseline"), "sine": ArmPlan([SINE, overlay])}
    assert read(arms, base).remarks("sine") == ()


def test_a_dropped_plugin_is_refused_too() -> None:
    base = {"trainer": {"plugins": {"class_path": "lightning_qsgd.training.SafeCheckpointIO"}}}
    other = {"class_path": "lightning.pytorch.plugins.io.TorchCheckpointIO"}
    arms = {"adamw": ArmPlan(kind="baseline"), "x": ArmPlan({"trainer": {"plugins": [other]}})}
    with pytest.raises(ValueError, match=r"'x' to keep SafeCheckpointIO of .*Write `plugins\+`"):
        read(arms, base)


def of_other(source: str, overlay: Any, base: Any = None) -> Question:
    """An arm that takes the values of the baseline, or of an arm whose strength is searched."""
    span = {"strength": Range(0.2, 1.0, "linear", "perturbation.strength")}
    taking: Any = {"kind": "control", "control_of": ["sine"]} if source == "sine" else {}
    arms = {
        "sgd": ArmPlan(base, kind="baseline", hyperparameters="tuned"),
        "sine": ArmPlan(SINE, hyperparameters="tuned", space=span),
        "taker": ArmPlan(
            overlay, hyperparameters="of_arm" if source == "sine" else "of_baseline", **taking
        ),
    }
    sgd = {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.02, "momentum": 0.9}}
    return read(arms, {"optimizer": sgd}, space={})


def of_optimizer(**arguments: Any) -> dict[str, Any]:
    return {"optimizer": {"init_args": arguments}}


ADAM = {"class_path": "torch.optim.Adam"}


@pytest.mark.parametrize(
    ("overlay", "place", "value", "first"),
    [
        (of_optimizer(momentum=0.0), "momentum", 0.0, 0.9),
        (of_optimizer(lr=1e-6, nesterov=True), "lr", 1e-06, 0.02),
        ({"optimizer.init_args.momentum": 0.5}, "momentum", 0.5, 0.9),
        ([SINE, of_optimizer(weight_decay=0.5)], "weight_decay", 0.5, 0.0),
        ({"optimizer": {**ADAM, "init_args": {"lr": 0.5}}}, "lr", 0.5, 0.02),
        ({"optimizer": {**ADAM, "init_args": {"betas": [0.5, 0.9]}}}, "betas.0", 0.5, 0.9),
    ],
)
@pytest.mark.parametrize("source", ["sgd", "sine"])
def test_a_line_that_the_search_of_another_arm_would_replace_is_refused(
    source: str, overlay: Any, place: str, value: float, first: float
) -> None:
    message = (
        rf"arm 'taker' to leave `optimizer\.init_args\.{place}` to the search of '{source}', got "
        rf"{value}: .* Write `hyperparameters: tuned` or `given` .* write {first}, as '{source}'"
    )
    with pytest.raises(ValueError, match=message):
        of_other(source, overlay)


def test_a_line_in_a_file_that_an_overlay_names_is_refused_too(tmp_path: Path) -> None:
    file = tmp_path / "sgd.yaml"
    file.write_text("class_path: torch.optim.SGD\ninit_args: {momentum: 0.5}")
    with pytest.raises(ValueError, match=r"init_args\.momentum` to the search of 'sgd', got 0.5"):
        of_other("sgd", {"optimizer": str(file)})


def test_a_strength_that_the_search_of_an_arm_would_replace_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"`perturbation\.strength` to the search of 'sine'.* 0.1:"
    ):
        of_other("sine", {"perturbation": {"strength": 0.1}})
    of_other("sgd", {"perturbation": {"strength": 0.1}})  # of which the baseline finds nothing


@pytest.mark.parametrize("source", ["sgd", "sine"])
@pytest.mark.parametrize(
    "overlay",
    [
        of_optimizer(nesterov=True),
        of_optimizer(nesterov=True, momentum=0.9),  # as the experiment
        {"optimizer": ADAM},  # whose own rate stands in no line
        {"optimizer": {**ADAM, "init_args": {"lr": 0.02, "amsgrad": True}}},
    ],
)
def test_lines_that_say_nothing_against_a_search_are_welcome(source: str, overlay: Any) -> None:
    assert "lr" in of_other(source, overlay).space_of("taker")


def test_a_line_as_the_arm_that_is_searched_has_it_is_welcome() -> None:
    of_other("sine", SINE)
    of_other("sgd", [SINE, of_optimizer(lr=0.1)], of_optimizer(lr=0.1))


def test_a_default_and_a_repeated_value_of_the_experiment_are_no_lines_of_an_arms_own() -> None:
    base = of_optimizer(momentum=0.8)
    of_other("sgd", {"optimizer": ADAM}, base)  # whose first beta is 0.9 by itself
    of_other("sgd", of_optimizer(momentum=0.9, nesterov=True), base)


def test_values_of_ones_own_are_lines_of_ones_own() -> None:
    arms = {
        "base": ArmPlan(ADAMW, kind="baseline", hyperparameters="tuned"),
        "tuned": ArmPlan([ADAMW, of_optimizer(lr=0.5)], hyperparameters="tuned"),
        "given": ArmPlan([ADAMW, of_optimizer(lr=0.5)]),
    }
    assert read(arms, space={}).configs["given"]["optimizer"]["init_args"]["lr"] == 0.5
