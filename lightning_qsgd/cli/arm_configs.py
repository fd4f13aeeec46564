"""Reads the configuration of every arm, before anything runs."""

import warnings
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import ArgsType, LightningArgumentParser
from lightning.pytorch.trainer.connectors.accelerator_connector import _AcceleratorConnector

from lightning_qsgd.cli.configs_command import parts_of, text_in
from lightning_qsgd.cli.job_cli import require_one_process, settings
from lightning_qsgd.cli.perturbation_cli import PerturbationCLI, check_own_values
from lightning_qsgd.cli.recipe import Recipe
from lightning_qsgd.cli.suggesting_parser import plain_config, read_yaml, says
from lightning_qsgd.compare.planning import ArmPlan, Plan, Range
from lightning_qsgd.compare.planning.job import (
    SEARCH_SPACE,
    differences,
    has_place,
    is_changed,
    is_named,
    lost_parts,
    value_at,
    what_determines,
    with_values,
)
from lightning_qsgd.compare.planning.question import FIXED, Question, is_one_change
from lightning_qsgd.compare.results.published import Published
from lightning_qsgd.compare.tuning import import_optuna
from lightning_qsgd.training.convergence_callback import Goal

Config = Mapping[str, Any]


class ParsingCLI(PerturbationCLI):
    """Parses and checks configurations of `fit`, and instantiates nothing; for `Recipe.make`."""

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse arguments or values, whatever the process' own arguments are."""
        parse = parser.parse_object if isinstance(args, dict) else parser.parse_args
        self.config = parse(args)  # type: ignore[arg-type]

    def instantiate_classes(self) -> None:
        """Check this package's own values, and leave model, data and trainer alone."""
        check_own_values(self.config["fit"])

    def after_instantiate_classes(self) -> None:
        """Leave out what a command line of the user's does with them."""

    def _set_seed(self) -> None:
        """Leave the generators alone."""

    def _run_subcommand(self, subcommand: str) -> None:
        """Run nothing."""

    def plain(self, with_links: bool = False) -> dict[str, Any]:
        """Return the configuration as plain values, every default included."""
        return plain_config(self._parser("fit"), self.config["fit"], with_links)


def read_question(
    plan: Plan, folder: Path, published: Published | None = None, recipe: Recipe | None = None
) -> Question:
    """Read the experiment and the overlays of its arms.

    Args:
        plan: What the config says.
        folder: Folder of that config, from which its paths start.
        published: Figures of others, if any are to be shown.
        recipe: The command line that trains; this package's own if None.

    Raises:
        FileNotFoundError: If a config is not there.
        ValueError: If an arm does not fit the experiment, goes on from a checkpoint, trains on
            several devices, cannot take what a search would give it or loses a line to it, goes
            around another optimizer or drops callbacks by accident, or figures are of no arm.
        ModuleNotFoundError: If arms are to be tuned, and optuna is not installed.
    """
    recipe = recipe or Recipe(PerturbationCLI)
    parts = parts_of(plan.experiment, folder, "experiment")
    _ = [text_in(part) for part in parts]  # refuses what is no text
    experiment = [str(part) for part in parts]  # files may name others, from their own folder
    base = _parse(recipe, "experiment", _naming(experiment))
    refuse_checkpoint("the experiment", base)
    goal = plan.goal.resolve(Goal(**base["goal"]))
    overlays = {  # texts: a file that changes later must not change a stored run
        name: [text_in(part) for part in parts_of(arm.overlay, folder, f"overlay of {name!r}")]
        for name, arm in plan.arms.items()
    }
    parsed = {
        name: _parse(recipe, f"arm {name!r}", _naming([*experiment, *texts]))
        for name, texts in overlays.items()
    }
    for name, config in parsed.items():
        refuse_checkpoint(f"the arm {name!r}", config)
        refuse_what_is_fixed(name, config, base)
        _refuse_processes(config["trainer"])
    plan = replace(plan, arms={n: _with_ranges(a, parsed[n]) for n, a in plan.arms.items()})
    configs = {name: _of_run(config, plan, goal) for name, config in parsed.items()}
    _refuse_lifted_links(recipe, configs[plan.baseline], base["trainer"])
    refuse_copies(plan, configs)
    refuse_dropped_parts(plan, base, configs)
    refuse_other_validation(plan, configs)
    refuse_other_base(
        plan, configs, [n for n, texts in overlays.items() if _names_optimizer(texts)]
    )
    if plan.tuning is not None and plan.tuned:
        import_optuna()  # here, and not after minutes of measuring what runs cost
    words = {name: "\n".join(text.strip() for text in texts) for name, texts in overlays.items()}
    shown = published or Published()
    name, alone = base["run"]["experiment"], _of_run(base, plan, goal)
    question = Question(name, plan, goal, configs, words, shown, alone)
    _refuse_overwritten(question, overlays)
    for name in plan.arms:
        _refuse_what_it_cannot_take(name, question, recipe)
    return question


def _refuse_what_it_cannot_take(arm: str, question: Question, recipe: Recipe) -> None:
    """Refuse a search whose values an arm's classes do not take: each of its runs would fail."""
    config = question.configs[arm]
    tried = {
        str(span.path): span.clipped((span.low + span.high) / 2)
        for span in question.space_of(arm).values()
    }
    odd = {
        place: v for place, v in tried.items() if type(value_at(config, place, arm)) is not float
    }
    if not odd:  # what is a number with a point takes another
        return
    try:
        _parse(recipe, f"values {odd}", {"fit": with_values(config, odd, arm)})
    except ValueError as error:
        raise ValueError(
            f"Expected the arm {arm!r} to take what a search may give it, such as {odd}. {error}\n"
            "Write `integer: true` in a range of whole numbers, or take the range out."
        ) from error


def _refuse_overwritten(question: Question, overlays: Mapping[str, Sequence[str]]) -> None:
    """Refuse a line that the search of another arm would replace, unless it says nothing new."""
    base, configs = question.experiment, question.configs
    for arm, config in configs.items():
        source = question.plan.searched(arm)
        if source in (None, arm):
            continue
        ours, theirs = question.space_of(arm), question.space_of(source)
        lines = [read_yaml(text) for text in overlays[arm]]
        for name in (one for one in theirs if one in ours):
            place, other = str(ours[name].path), str(theirs[name].path)
            value, first = value_at(config, place, arm), value_at(configs[source], other, "")
            is_line = any(says(one, place) for one in lines) or is_changed(base, config, place)
            is_repeated = has_place(base, place) and value_at(base, place, "") == value
            if is_line and value != first and not is_repeated:
                raise ValueError(
                    f"Expected the overlay of the arm {arm!r} to leave `{place}` to the search of "
                    f"{source!r}, got {value}: the value that is found there would take its place, "
                    "and the report would still show the line. Write `hyperparameters: tuned` or "
                    f"`given` for this arm, or take the line out; if its class asks for a value, "
                    f"write {first}, as {source!r} has it."
                )


def _refuse_processes(trainer: dict[str, Any]) -> None:
    """Refuse several devices before any run, as far as this machine and plain values tell them."""
    names = ("accelerator", "devices", "num_nodes", "strategy")
    given = {name: trainer[name] for name in names if not isinstance(trainer[name], dict)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the runs give them
        connector = _connector(given)
    if connector is not None:
        require_one_process(connector)


def _refuse_lifted_links(recipe: Recipe, config: dict[str, Any], own: dict[str, Any]) -> None:
    """Refuse a command line that hands a limit to model or data where the budget lifts it."""
    limits = [
        n
        for n in ("max_steps", "max_epochs")
        if (own.get(n) or -1) > config["trainer"].get(n) == -1
    ]
    if not limits or recipe.kind is PerturbationCLI:  # which links nothing
        return
    whole = {**config, "trainer": {**config["trainer"], **{name: own[name] for name in limits}}}
    old, new = (_parse(recipe, "budget", {"fit": one}, with_links=True) for one in (whole, config))
    places = [place for place in differences(old, new) if not place.startswith("trainer.")]
    if places:
        raise ValueError(
            f"Expected the command line to link nothing to a limit that `budget` lifts, got "
            f"{'; '.join(places)}, linked to {' and '.join(f'`trainer.{n}`' for n in limits)}: a "
            "schedule made of it would go wrong. Give `budget` the unit of that limit, or let the "
            "module ask `self.trainer` in `configure_optimizers`."
        )


def _connector(given: dict[str, Any]) -> _AcceleratorConnector | None:
    """Ask Lightning; None if only the machine of a run could tell, whose job looks again."""
    with suppress(ImportError, MisconfigurationException, RuntimeError):  # other hardware
        return _AcceleratorConnector(**given)
    devices = given["devices"]
    count = len(devices) if isinstance(devices, list) else devices
    with suppress(TypeError, ValueError):
        return _AcceleratorConnector(count, given["num_nodes"], accelerator="cpu")
    return None


def _names_optimizer(texts: list[str]) -> bool:
    """Whether lines of an overlay say which optimizer it is, not only with what arguments."""
    given = [(read_yaml(text) or {}).get("optimizer") for text in texts]
    return any(one if isinstance(one, str) else "class_path" in (one or {}) for one in given)


def _naming(configs: list[str]) -> list[str]:
    return ["fit", *(part for config in configs for part in ("--config", config))]


def _with_ranges(arm: ArmPlan, config: dict[str, Any]) -> ArmPlan:
    """Give a tuned arm the ranges that its configs bring along, behind those of the plan."""
    if arm.hyperparameters != "tuned":
        return arm
    brought = {name: Range(**span) for name, span in (config.get(SEARCH_SPACE) or {}).items()}
    return replace(arm, space={**brought, **arm.space})


def _parse(
    recipe: Recipe, what: str, args: list[str] | dict[str, Any], with_links: bool = False
) -> dict[str, Any]:
    if isinstance(args, dict):
        args = {"subcommand": "fit", **args}
    try:
        made: ParsingCLI = recipe.make(ParsingCLI, args=args, **settings(recipe))
        return made.plain(with_links)
    except Exception as error:  # whatever the parser and the classes in the config raise
        raise ValueError(f"Cannot read the {what}: {error}") from error


def _of_run(config: dict[str, Any], plan: Plan, goal: Goal) -> dict[str, Any]:
    """Keep what determines a run, with the budget and the goal of the comparison."""
    kept = what_determines(config)
    kept["trainer"] |= plan.budget.trainer_arguments
    # The target ends no run, so that one taken from the baseline leaves stored runs valid.
    kept["goal"] = {**vars(goal), "target": None}
    return kept


def refuse_what_is_fixed(arm: str, config: Config, experiment: Config) -> None:
    """Refuse an overlay whose value the comparison would silently replace.

    Args:
        arm: Name of the arm.
        config: The experiment with the arm's overlay, plain values.
        experiment: The experiment alone.

    Raises:
        ValueError: If the overlay sets the seed, the budget or the goal.

    Example:
        >>> refuse_what_is_fixed("sine", {"trainer": {"max_steps": 5}}, {"trainer": {}})
        Traceback (most recent call last):
        ...
        ValueError: Expected the arm 'sine' to leave `trainer.max_steps` alone: ...
    """
    changed = {place.split(":")[0] for place in differences(experiment, config)}
    for place, key in FIXED.items():
        if place in changed or any(name.startswith(f"{place}.") for name in changed):
            raise ValueError(
                f"Expected the arm {arm!r} to leave `{place}` alone: it is the same for all arms, "
                f"or they would not be compared with each other. Set {key} of the comparison."
            )


def refuse_checkpoint(what: str, config: Config) -> None:
    """Refuse a run that goes on from a checkpoint, which no run of a comparison does.

    Args:
        what: Whose configuration it is, for the message.
        config: Configuration of the subcommand `fit`, plain values.

    Raises:
        ValueError: If it names a checkpoint.
    """
    if config.get("ckpt_path") is not None:
        raise ValueError(
            f"Expected no `ckpt_path` in {what}, got {config['ckpt_path']!r}: it holds the step, "
            "the optimizer and the random state of one run, and a comparison starts the runs of "
            "every arm and seed anew. Leave it out, and let the module load weights in its "
            "`__init__` if all runs are to start from them."
        )


def refuse_copies(plan: Plan, configs: Mapping[str, Config]) -> None:
    """Refuse an arm that does what the baseline does, unless it is meant to.

    Args:
        plan: The arms, and where they take their hyperparameters from.
        configs: Configuration of the run by arm.

    Raises:
        ValueError: If an arm and the baseline would train alike.
    """
    own = plan.arms[plan.baseline].hyperparameters
    for name, arm in plan.arms.items():
        alike = arm.hyperparameters in (own, "of_baseline") and not arm.must_equal_baseline
        if name != plan.baseline and alike and configs[name] == configs[plan.baseline]:
            raise ValueError(
                f"Expected the arm {name!r} to differ from the baseline {plan.baseline!r}: its "
                "configuration is the same, so it would train the same. Give it an `overlay` that "
                "changes something, or add `must_equal_baseline: true` to check just that."
            )


def refuse_other_validation(plan: Plan, configs: Mapping[str, Config]) -> None:
    """Refuse an arm that is measured on more or fewer batches than the baseline.

    Args:
        plan: The arms.
        configs: Configuration of the run by arm.

    Raises:
        ValueError: If there is such an arm.
    """
    trainers = {name: config.get("trainer") or {} for name, config in configs.items()}
    expected = trainers[plan.baseline].get("limit_val_batches")
    for name in plan.arms:
        if (found := trainers[name].get("limit_val_batches")) != expected:
            raise ValueError(
                f"Expected the arm {name!r} to be measured like the baseline {plan.baseline!r}, "
                f"with `trainer.limit_val_batches` of {expected}, got {found}: a gain could be due "
                "to easier data. Set it in `experiment`, for all arms."
            )


def refuse_other_base(
    plan: Plan, configs: Mapping[str, Config], names_own: Collection[str]
) -> None:
    """Refuse a perturbed arm that goes around another optimizer than the baseline's by accident.

    The baseline's overlay may replace the experiment's optimizer, say Adam by AdamW. An arm whose
    overlay names none keeps the experiment's: its gain would be that of two changes.

    Args:
        plan: The arms, and where they take their hyperparameters from.
        configs: Configuration of the run by arm.
        names_own: Names of the arms whose overlays name an optimizer.

    Raises:
        ValueError: If there is such an arm; a reference may be one.
    """
    classes = {
        name: (own.get("optimizer") or {}).get("class_path") for name, own in configs.items()
    }
    expected = classes[plan.baseline]
    for name, arm in plan.arms.items():
        concerned = is_one_change(arm, configs[name])
        if concerned and name not in names_own and classes[name] != expected:
            raise ValueError(
                f"Expected the arm {name!r} to go around {expected}, the optimizer of the baseline "
                f"{plan.baseline!r}, got {classes[name]} of the experiment: a gain could be due to "
                "either. Add the baseline's optimizer to `experiment`, as in "
                "`[my_experiment.yaml, bases/adamw]`, or name an optimizer in the arm's overlay."
            )


def refuse_dropped_parts(plan: Plan, base: Config, configs: Mapping[str, Config]) -> None:
    """Refuse an overlay that replaces a list of the trainer's, and drops what the others keep.

    Args:
        plan: The arms, and what they are meant to go without.
        base: Configuration of the experiment.
        configs: Configuration of the run by arm.

    Raises:
        ValueError: If an arm loses a callback or a plugin that the baseline keeps, or the baseline
            one that an arm keeps; a reference may.
    """
    lost = {name: lost_parts(base, config) for name, config in configs.items()}
    for name, arm in plan.arms.items():
        peers = [plan.baseline] if name != plan.baseline else [*plan.arms]
        for place, classes in lost[name].items() if arm.kind != "reference" else ():
            for peer in peers if place.startswith("trainer.") else ():
                more = (Counter(classes) - Counter(lost[peer].get(place, ()))).elements()
                gone = [path for path in more if not is_named(path, arm.without)]
                if gone:
                    raise ValueError(_words_for_dropped(name, peer, place, gone))


def _words_for_dropped(name: str, peer: str, place: str, gone: Sequence[str]) -> str:
    classes = ", ".join(path.rpartition(".")[-1] for path in gone)
    return (
        f"Expected the arm {name!r} to keep {classes} of the experiment's `{place}`, got an "
        f"overlay that replaces the list, while {peer!r} trains with it: a gain could be due to "
        f"either. Write `{place.rpartition('.')[-1]}+` in the overlay to add to the list, or "
        f"`without: [{classes}]` in the arm if it is meant."
    )
