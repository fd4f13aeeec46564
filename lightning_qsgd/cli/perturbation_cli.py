"""LightningCLI with a perturbation, an AdamW baseline and a folder for each run."""

import os
import shutil
import sys
from math import nan
from pathlib import Path
from statistics import median
from typing import Any

import yaml
from jsonargparse import Namespace
from lightning.pytorch import Trainer
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only
from rich.console import Console

from lightning_qsgd.cli.baseline import (
    ARM,
    RECORD,
    Baseline,
    baseline_config,
    find_recorded,
    remove_perturbation,
)
from lightning_qsgd.cli.outcome import Outcome, outcome_table, verdict
from lightning_qsgd.cli.run_folder import RunPlace
from lightning_qsgd.cli.suggesting_parser import SuggestingParser
from lightning_qsgd.compare.planning import Range
from lightning_qsgd.compare.planning.job import what_determines
from lightning_qsgd.perturbations import Perturbation
from lightning_qsgd.training import (
    ConvergenceCallback,
    Goal,
    PerturbationCallback,
    PerturbationMonitor,
    RandomStateCallback,
    TensorBoardCallback,
)
from lightning_qsgd.training.recorded_run import RecordedRun, fingerprint
from lightning_qsgd.training.wrapping import callbacks_of


class PerturbationCLI(LightningCLI):
    """Trains any LightningModule on any LightningDataModule, perturbed as the config says.

    On top of LightningCLI a config may hold `perturbation` (a `Perturbation`), `baseline` (a
    `Baseline`), `goal` (a `Goal`) and `run` (a `RunPlace`). `fit` claims a folder, trains the
    baseline first or reuses a stored one, trains the arm, and reports both.

    Args:
        args: Arguments, as for LightningCLI.
        is_baseline: Whether this is the run of the baseline, which must not be perturbed.
        kwargs: Passed on to LightningCLI.
    """

    def __init__(self, args: ArgsType = None, is_baseline: bool = False, **kwargs: Any) -> None:
        self.is_baseline = is_baseline
        self.cli_kwargs = kwargs
        self.folder: Path | None = None
        self.baseline: RecordedRun | None = None
        self.convergence: ConvergenceCallback | None = None
        kwargs = {"parser_class": SuggestingParser, "seed_everything_default": 0, **kwargs}
        super().__init__(args=args, **kwargs)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the four groups of this package."""
        parser.add_argument(
            "--perturbation", type=Perturbation | None, default=None, help="What is added to steps."
        )
        parser.add_argument(
            "--baseline", type=Baseline | None, default=None, help="The AdamW run to compare with."
        )
        parser.add_argument("--goal", type=Goal, default=Goal(), help="What runs are judged by.")
        parser.add_argument(
            "--search_space",
            type=dict[str, Range] | None,
            default=None,
            help="Ranges in which `compare` tunes it; a fit leaves them alone.",
        )
        parser.add_argument("--run", type=RunPlace, default=RunPlace(), help="Where a run writes.")

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse; a configuration that was parsed before is taken without a warning."""
        if isinstance(args, Namespace):
            self.config = parser.parse_object(args)
        else:
            super().parse_arguments(parser, args)

    def before_instantiate_classes(self) -> None:
        """Check this package's own values, train or find the baseline, claim the run's folder."""
        config = self.config.get(str(self.subcommand))
        if self.subcommand != "fit":
            self.save_config_callback = None  # there is no run whose folder it would go to
            return
        self._check_own_values(config)
        if config["trainer"]["fast_dev_run"]:
            return
        if config["baseline"] is not None:
            self.baseline = self._provide_baseline(config)
            self._set_seed()  # as if the baseline had never run
        if config["run"]["arm"] is None:
            config["run"]["arm"] = _name_of_arm(config)
        if config["trainer"]["logger"] in (None, True):
            self.folder = self._claim(config)

    def instantiate_classes(self) -> None:
        """Instantiate; a wrong value is reported like any other wrong argument."""
        try:
            super().instantiate_classes()
        except (TypeError, ValueError) as error:
            if self.folder is not None and not any(self.folder.iterdir()):
                self.folder.rmdir()  # nothing was run in it
            self._parser(self.subcommand).error(str(error), error)
        if self.is_baseline:
            remove_perturbation(self.model, self.trainer)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Instantiate the trainer with this package's callbacks in front of the others."""
        if self.folder is not None:
            kwargs["logger"] = TensorBoardLogger(
                self.folder.parent, name="", version=self.folder.name, default_hp_metric=False
            )
        trainer = super().instantiate_trainer(**kwargs)
        if self.subcommand == "fit":
            callbacks = callbacks_of(trainer)
            callbacks[:0] = self._own_callbacks()
            if not any(isinstance(callback, PerturbationMonitor) for callback in callbacks):
                callbacks.insert(0, PerturbationMonitor())
        return trainer

    def after_fit(self) -> None:
        """Report what the run came to."""
        if not self.is_baseline and self.folder is not None:
            self._report()

    def _own_callbacks(self) -> list[Any]:
        perturbation = self._get(self.config_init, "perturbation")
        goal = self._get(self.config_init, "goal")
        plain = self._plain_config(self.config[str(self.subcommand)])
        file = self.folder / RECORD if self.folder is not None else None
        self.convergence = ConvergenceCallback(
            goal, self.baseline, file, fingerprint(what_determines(plain))
        )
        backend = perturbation.backend if perturbation is not None else None
        callbacks = [
            self.convergence,
            TensorBoardCallback(hyperparameters(plain), backend, goal),
            RandomStateCallback(),
        ]
        if perturbation is not None:
            callbacks.insert(0, PerturbationCallback(perturbation))
        return callbacks

    def _check_own_values(self, config: Namespace) -> None:
        """Refuse a wrong value now, and not after the baseline has trained."""
        parser = self._parser(self.subcommand)
        own = Namespace({name: config[name] for name in _OWN_GROUPS})
        try:
            parser.instantiate_classes(own)
        except (TypeError, ValueError) as error:
            parser.error(str(error), error)

    def _provide_baseline(self, config: Namespace) -> RecordedRun | None:
        # Parsed again, so that it has every default that the baseline's own record has.
        changed = self._parser(self.subcommand).parse_object(baseline_config(config))
        place = RunPlace(config["run"]["root"], config["run"]["experiment"], ARM)
        if config["baseline"]["reuse"]:
            found = find_recorded(
                place.folder_of_arm, fingerprint(what_determines(self._plain_config(changed)))
            )
            if found is not None:
                rank_zero_info(f"Reusing the AdamW baseline in {found[0]}: same configuration.")
                return found[1]
        rank_zero_info("Training the AdamW baseline first, from the same seed.")
        arguments = Namespace(subcommand="fit", fit=changed)
        trained = type(self)(args=arguments, is_baseline=True, **self.cli_kwargs)
        return trained.convergence.run if trained.convergence is not None else None

    def _claim(self, config: Namespace) -> Path | None:
        if getattr(rank_zero_only, "rank", 0) != 0:  # Lightning broadcasts the folder of process 0
            return Path(config["run"]["root"])
        place = RunPlace(**config["run"].as_dict())
        try:
            return place.claim(config["seed_everything"])
        except FileExistsError as error:
            self._parser(self.subcommand).error(str(error), error)

    def _plain_config(self, config: Namespace) -> dict[str, Any]:
        """Return a configuration as plain values."""
        parser = self._parser(self.subcommand)
        dumped = parser.dump(config, skip_none=False, skip_check=True, format="yaml")
        return dict(yaml.safe_load(dumped))

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
        console = Console()
        console.print(outcome_table(outcome))
        console.print(verdict(outcome))
        console.print(f"Record and event files: {self.folder}")
        command = shutil.which("tensorboard") or Path(sys.executable).with_name("tensorboard")
        console.print(
            f"See the curves: {os.path.relpath(command)} --logdir {self.folder.parent.parent}",
            soft_wrap=True,
        )


_OWN_GROUPS = ("perturbation", "baseline", "goal", "run", "search_space")


def hyperparameters(config: dict[str, Any]) -> dict[str, Any]:
    """Pick what a table of runs should show of a configuration.

    Args:
        config: The configuration as plain values.

    Returns:
        Seed, duration, and what is trained on what, by which optimizer, perturbed how.

    Example:
        >>> hyperparameters({"seed_everything": 1, "run": {"root": "runs"}, "optimizer": None})
        {'seed_everything': 1}
    """
    shown = ("seed_everything", "optimizer", "lr_scheduler", "perturbation", "model", "data")
    picked = {name: config[name] for name in shown if config.get(name) is not None}
    trainer = config.get("trainer") or {}
    return picked | {n: trainer[n] for n in ("max_epochs", "max_steps") if trainer.get(n)}


def _name_of_arm(config: Namespace) -> str:
    optimizer = config.get("optimizer")
    name = optimizer["class_path"].rsplit(".", 1)[-1].lower() if optimizer else "default"
    return f"{name}_perturbed" if config["perturbation"] is not None else name
