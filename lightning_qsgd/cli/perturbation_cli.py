"""LightningCLI with a perturbation, a baseline and a folder for each run."""

import os
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from itertools import chain
from math import nan
from pathlib import Path
from statistics import median
from typing import Any

from jsonargparse import ArgumentParser, Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only

from lightning_qsgd.cli.baseline import (
    RECORD,
    BaselineAsked,
    Unperturbed,
    baseline_config,
    baseline_of,
    carried_perturbation,
    find_recorded,
    refuse_ignored_scheduler,
    remove_perturbation,
    words_for_replaced,
)
from lightning_qsgd.cli.commands import FIT_OPTIONS, OWN, in_one_message, plain_console
from lightning_qsgd.cli.outcome import (
    GoalWatch,
    Outcome,
    never_logged,
    outcome_table,
    verdict,
    where_to_look,
)
from lightning_qsgd.cli.recipe import Recipe
from lightning_qsgd.cli.run_folder import (
    RunPlace,
    default_arm,
    give_back,
    hyperparameters,
    require_checkpoint,
)
from lightning_qsgd.cli.suggesting_parser import SuggestingParser, plain_config
from lightning_qsgd.compare.planning import Range
from lightning_qsgd.compare.planning.job import what_determines
from lightning_qsgd.compare.planning.search import HIGHEST_SEED
from lightning_qsgd.perturbations import Perturbation
from lightning_qsgd.training import (
    ConvergenceCallback,
    Goal,
    OptimizerModesCallback,
    PerturbationCallback,
    PerturbationMonitor,
    RandomStateCallback,
    TensorBoardCallback,
    install_safe_checkpoints,
)
from lightning_qsgd.training.checkpoints import CheckpointsElsewhere
from lightning_qsgd.training.publishing import name_in_progress_bar
from lightning_qsgd.training.recorded_run import RecordedRun, fingerprint, load_run
from lightning_qsgd.training.wrapping import callbacks_of


class PerturbationCLI(LightningCLI):
    """Trains any LightningModule on any LightningDataModule, perturbed as the config says.

    On top of LightningCLI a config may hold `perturbation` (a `Perturbation`), `baseline` (a
    `Baseline`), `goal` (a `Goal`) and `run` (a `RunPlace`). `fit` builds the arm, trains the
    baseline or reuses a stored one, claims a folder, trains the arm, and reports both. `compare`
    and the package's other commands work too: ``PerturbationCLI(Model, Data)`` in a script makes
    ``python train.py compare --config plan.yaml`` train that model.

    A class of your own may link arguments, add some, and override every hook of LightningCLI,
    with or without calling `super`.

    Without `args` it reads the command line. What this package then raises about its input ends the
    script with a message and status 2, as the package's own command does; set
    ``LIGHTNING_QSGD_DEBUG=1`` to see the traceback.

    Args:
        classes: Model class, data class and further positional arguments of LightningCLI.
        args: Arguments, as for LightningCLI.
        is_baseline: Whether this is the run of the baseline, which must not be perturbed.
        keywords: Passed on to LightningCLI.
    """

    def __init__(
        self, *classes: Any, args: ArgsType = None, is_baseline: bool = False, **keywords: Any
    ) -> None:
        # A script that reads the command line is the program; whoever gives arguments is a caller.
        with in_one_message() if args is None else nullcontext():
            self.start(*classes, args=args, is_baseline=is_baseline, **keywords)

    def start(
        self, *classes: Any, args: ArgsType = None, is_baseline: bool = False, **keywords: Any
    ) -> None:
        """Do what the constructor does; a recipe calls it where the constructor is a user's."""
        self.recipe = Recipe.of(self, classes, keywords)
        self.is_baseline = is_baseline
        self.folder: Path | None = None
        self.baseline: RecordedRun | None = None
        self.convergence: ConvergenceCallback | None = None
        given: Any = sys.argv[1:] if args is None else args
        is_typed = not isinstance(given, dict | Namespace)
        self._asked = next(iter(given), "") if is_typed else given.get("subcommand")
        if is_typed and self._asked in OWN and keywords.get("run", True):
            self.subcommand = self._asked
            OWN[self._asked].run([*given][1:], self.recipe)
            return
        keywords = {**DEFAULTS, **keywords, "args": args}
        LightningCLI.__init__(self, *classes, **keywords)

    def _add_subcommands(self, parser: LightningArgumentParser, **kwargs: Any) -> None:
        """Add the one that is asked for: four parsers take longer than many a short run."""
        every, asked = self.subcommands(), self._asked
        if asked in every:
            # A `partial` can be pickled, as for strategies that spawn processes.
            self.subcommands = partial(dict, {asked: every[asked]})  # type: ignore[method-assign]
        super()._add_subcommands(parser, **kwargs)

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add this package's groups, in front of those of LightningCLI."""
        add_own_groups(parser)
        super().add_core_arguments_to_parser(parser)

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse; a configuration that was parsed before is taken without a warning."""
        if "_ARGCOMPLETE" in os.environ and isinstance(args, list):
            # The parser of the command itself: a shell cannot look through the one around it.
            self._subcommand_parsers[args[0]].parse_args([])  # offers options to it, and exits
        if isinstance(args, Namespace):
            self.config = parser.parse_object(args)
        else:
            super().parse_arguments(parser, args)

    def _set_seed(self) -> None:
        """Seed every generator, with a seed that all of them take."""
        seed = self._get(self.config, "seed_everything")
        if not isinstance(seed, bool) and seed is not None and not 0 <= seed <= HIGHEST_SEED:
            self._parser(self.subcommand).error(
                f"Expected `seed_everything` between 0 and {HIGHEST_SEED}, got {seed}: numpy's "
                "generator takes no other. Choose a smaller one."
            )
        super()._set_seed()

    def instantiate_classes(self) -> None:
        """Instantiate; a wrong value is reported like any other wrong argument."""
        if self.subcommand not in ("fit", None):
            self.save_config_callback = None  # there is no run whose folder it would go to
        self._refusing(lambda: check_own_values(self._own_config()))
        self._refusing(super().instantiate_classes)
        if self.is_baseline:
            remove_perturbation(self.model, self.trainer)
            callbacks_of(self.trainer).insert(0, Unperturbed())

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Instantiate the trainer with this package's callbacks in front of the others.

        Model, data and optimizer exist by now: whatever is wrong in them has been said before a
        baseline is trained or a folder claimed.
        """
        config = self._own_config()
        if self.subcommand == "fit" and not config["trainer"]["fast_dev_run"]:
            self._prepare_run(config)
        if self.folder is not None:
            kwargs = {**self._writing_to(self.folder, config), **kwargs}
        trainer = super().instantiate_trainer(**kwargs)
        install_safe_checkpoints(trainer)
        if self.folder is not None:
            if words := words_for_replaced(self.model):
                rank_zero_info(words)
            if self.is_baseline:
                callbacks_of(trainer).insert(0, CheckpointsElsewhere(self.folder))
            name_in_progress_bar(trainer, f"{self.folder.parent.name}/{self.folder.name}")
        if self.subcommand in ("fit", None):
            callbacks = callbacks_of(trainer)
            callbacks[:0] = self._own_callbacks()
            callbacks.insert(0, GoalWatch(self._get(self.config_init, "goal").metric))
            if not any(isinstance(callback, PerturbationMonitor) for callback in callbacks):
                callbacks.insert(0, PerturbationMonitor())
        return trainer

    def _run_subcommand(self, subcommand: str) -> None:
        """Run the command, and report what a fit came to."""
        super()._run_subcommand(subcommand)
        if subcommand != "fit" or self.folder is None or self.convergence is None:
            return
        if not self.convergence.has_trained and (file := self.folder / RECORD).is_file():
            # Processes that the strategy has forked or spawned trained: this one has their record.
            self.convergence.run, self.convergence.has_trained = load_run(file), True
        if not self.convergence.has_trained:
            rank_zero_info(
                f"No step was taken: at step {self.trainer.global_step} this training has reached "
                "its end already. To go on, raise --trainer.max_epochs or --trainer.max_steps."
            )
            return
        if not self.is_baseline:
            self._report()
        goal, run = self.convergence.goal, self.convergence.run
        is_asked = goal.metric != Goal().metric or self.is_baseline or self.baseline is not None
        # A bare trainer logs nothing, whatever is asked for.
        if is_asked and not self.trainer.barebones and not run.curve(goal.metric).steps:
            raise ValueError(never_logged(goal.metric, self.convergence.logged))

    def _own_config(self) -> Namespace:
        config: Namespace = self.config.get(str(self.subcommand), self.config)
        return config

    def _refusing(self, build: Callable[[], None]) -> None:
        """Build something; what the config got wrong ends the command with status 2."""
        try:
            build()
        except (TypeError, ValueError, OSError, MisconfigurationException) as error:
            if self.folder is not None:
                give_back(self.folder)  # nothing was run in it
            self._parser(self.subcommand).error(str(error), error)

    def _prepare_run(self, config: Namespace) -> None:
        """Train or find the baseline, then claim the run's folder."""
        refuse_ignored_scheduler(config)
        together = config["trainer"]["accumulate_grad_batches"]
        if isinstance(together, int) and together < 1:
            raise ValueError(
                f"Expected `trainer.accumulate_grad_batches` to be at least 1, got {together}: "
                "no step would ever be taken. Leave it out to step at every batch."
            )
        perturbation = self._perturbation()
        if perturbation is not None:
            perturbation.backend.check_ready()
        seed = config["seed_everything"]
        if config["baseline"] is not None and (seed is None or seed is False):
            raise ValueError(
                f"Expected a number for `seed_everything` with `--baseline`, got {seed}: without a "
                "seed the two runs share neither data order nor dropout, and their difference "
                "would say nothing. Give a seed."
            )
        place = RunPlace(**config["run"].as_dict())
        place.require_free()
        require_checkpoint(config["ckpt_path"], place.folder_of_arm)
        if config["baseline"] is not None:
            generators = RandomStateCallback()
            generators.load_state_dict(generators.state_dict())
            self.baseline = self._provide_baseline(config)
            generators.restore()  # as if the baseline had never run
        if config["run"]["arm"] is None:
            optimizer = (config.get("optimizer") or {}).get("class_path")
            config["run"]["arm"] = default_arm(optimizer, perturbation is not None)
        if getattr(rank_zero_only, "rank", 0) != 0:  # Lightning broadcasts the folder of process 0
            self.folder = Path(config["run"]["root"])
        else:
            self.folder = RunPlace(**config["run"].as_dict()).claim(config["seed_everything"])

    def _writing_to(self, folder: Path, config: Namespace) -> dict[str, Any]:
        """Return the trainer's arguments that let it write into the run's folder."""
        given: dict[str, Any] = {}
        if config["trainer"]["default_root_dir"] is None:
            given["default_root_dir"] = str(folder)
        # Lightning refuses any logger where a trainer is to be bare.
        if config["trainer"]["logger"] in (None, True) and not config["trainer"].get("barebones"):
            given["logger"] = TensorBoardLogger(
                folder.parent, name="", version=folder.name, default_hp_metric=False
            )
        return given

    def _own_callbacks(self) -> list[Any]:
        goal = self._get(self.config_init, "goal")
        plain = plain_config(self._parser(self.subcommand), self._own_config())
        file = self.folder / RECORD if self.folder is not None else None
        self.convergence = ConvergenceCallback(
            goal, self.baseline, file, fingerprint(what_determines(plain))
        )
        drawn = None if self.is_baseline else self._perturbation()
        backend = drawn.backend if drawn is not None else None
        callbacks = [
            self.convergence,
            TensorBoardCallback(hyperparameters(plain), backend, goal),
            RandomStateCallback(),
            OptimizerModesCallback(),
        ]
        given = self._get(self.config_init, "perturbation")
        if given is not None:
            callbacks.insert(0, PerturbationCallback(given))
        return callbacks

    def _perturbation(self) -> Perturbation | None:
        """Return the perturbation of the config: its group's, or its model's or a callback's."""
        given: Perturbation | None = self._get(self.config_init, "perturbation")
        if given is not None:
            return given
        callbacks = [
            self._get(self.config_init, "trainer")["callbacks"],
            self.trainer_defaults.get("callbacks"),
            [self._get(self.config_init, k) for k in self._parser(self.subcommand).callback_keys],
        ]
        listed = [group if isinstance(group, list) else [group] for group in callbacks]
        return carried_perturbation([self.model, *chain.from_iterable(listed)])

    def _provide_baseline(self, config: Namespace) -> RecordedRun:
        parser = self._parser(self.subcommand)
        asked = baseline_of(config, parser, self.model)
        # Parsed again, so that it has every default that the baseline's own record has.
        changed = parser.parse_object(baseline_config(plain_config(parser, config), asked))
        place = RunPlace(config["run"]["root"], config["run"]["experiment"], asked.arm)
        if asked.reuse:
            wanted = fingerprint(what_determines(plain_config(parser, changed)))
            found = find_recorded(place.folder_of_arm, wanted)
            if found is not None:
                rank_zero_info(
                    f"Reusing the {asked.title} baseline in {found[0]}: same configuration. "
                    f"{found[1].optimizers}"
                )
                return replace(found[1], arm=asked.arm)
        rank_zero_info(f"Training the {asked.title} baseline first, from the same seed.")
        arguments = Namespace(subcommand="fit", fit=changed)
        trained = self.recipe.make(args=arguments, is_baseline=True)
        rank_zero_info(f"Baseline: {trained.convergence.run.optimizers}")
        run: RecordedRun = trained.convergence.run
        return replace(run, arm=asked.arm)

    @rank_zero_only
    def _report(self) -> None:
        if self.convergence is None or self.folder is None:
            return
        monitors = [c for c in callbacks_of(self.trainer) if isinstance(c, PerturbationMonitor)]
        sizes = [size for monitor in monitors for size in monitor.relative_sizes]
        model_sizes = [size for monitor in monitors for size in monitor.model_relative_sizes]
        outcome = Outcome(
            arm=self.folder.parent.name,
            run=self.convergence.run,
            baseline=self.baseline,
            goal=self.convergence.goal,
            relative_size=median(sizes) if sizes else nan,
            model_relative_size=median(model_sizes) if model_sizes else nan,
        )
        console = plain_console()
        console.print(outcome_table(outcome))
        console.print(verdict(outcome))
        for line in where_to_look(self.folder, self.trainer.loggers, outcome.goal):
            console.print(line, soft_wrap=True)


class ExperimentParser(SuggestingParser, LightningArgumentParser):
    """The parser of `fit` and its siblings."""


DEFAULTS: dict[str, Any] = {"parser_class": ExperimentParser, "seed_everything_default": 0}
"""Arguments of LightningCLI that this one sets differently."""


def add_own_groups(parser: ArgumentParser) -> None:
    """Add `perturbation`, `baseline`, `goal` and `run` to a parser."""
    kinds: dict[str, tuple[Any, Any]] = {
        "perturbation": (Perturbation | None, None),
        "baseline": (BaselineAsked, None),
        "goal": (Goal, None),  # a whole goal would say its direction of any other metric
        "run": (RunPlace, RunPlace()),
        "search_space": (dict[str, Range] | None, None),
    }
    for name, (kind, default) in kinds.items():
        parser.add_argument(f"--{name}", type=kind, default=default, help=FIT_OPTIONS[name])


def check_own_values(config: Namespace) -> None:
    """Build this package's own values once, to see whether they can be.

    With a parser that knows nothing else: one with fixed classes would build the model too.

    Raises:
        TypeError, ValueError: If a value is out of range, or a group that a run needs is null.
    """
    for name in ("goal", "run", "trainer"):
        if config.get(name, {}) is None:
            raise ValueError(
                f"Expected `{name}` to hold its settings, got null: a run needs them. Leave "
                f"`{name}` out, or write `{name}: {{}}`, to take the defaults."
            )
    parser = SuggestingParser()
    add_own_groups(parser)
    parser.instantiate_classes(Namespace({name: config[name] for name in _OWN_GROUPS}))


_OWN_GROUPS = ("perturbation", "baseline", "goal", "run", "search_space")
