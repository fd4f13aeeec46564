"""The command line inside a job of a comparison."""

import hashlib
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from functools import update_wrapper
from pathlib import Path
from tempfile import gettempdir
from typing import Any, ClassVar

from jsonargparse import Namespace
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.cli import ArgsType, LightningArgumentParser
from lightning.pytorch.loggers.logger import Logger

from lightning_qsgd.cli.perturbation_cli import PerturbationCLI
from lightning_qsgd.cli.recipe import Recipe
from lightning_qsgd.training.checkpoints import CheckpointsElsewhere
from lightning_qsgd.training.convergence_callback import steps_taken
from lightning_qsgd.training.first_weights import PairingCallback
from lightning_qsgd.training.wrapping import callbacks_of

LOG_EVERY = 10
"""Perturbations are measured at one step in this many: measuring takes time that is compared."""


def settings(recipe: Recipe) -> dict[str, Any]:
    """Return keywords for a run of a comparison: it writes no config, and raises, never exits.

    Args:
        recipe: The command line; what it gives its parsers stays.
    """
    raising = {"exit_on_error": False}
    given = dict(recipe.keywords.get("parser_kwargs") or {})
    parsers = {**given, **raising, "fit": {**given.get("fit", {}), **raising}}
    return {"save_config_callback": None, "parser_kwargs": parsers}


class JobCLI(PerturbationCLI):
    """Trains as `fit` of a command line does, and keeps everything in memory.

    A behaviour for `Recipe.make`, which needs these attributes:

    Attributes:
        pairing: What the runs of a seed must have in common.
        memory: Every scalar that was logged.
        validated: Metrics of the final weights.
        logged: Tags of what training and its validations logged.
        scratch: Folder for what the run may write; it is deleted with it.
        extra: Callbacks besides those of the configuration.
    """

    pairing: "PairingCallback"
    memory: "MemoryLogger"
    validated: dict[str, float]
    logged: list[str]
    scratch: str
    extra: Sequence[Callback]

    @classmethod
    def run(
        cls,
        recipe: Recipe,
        config: dict[str, Any],
        scratch: str,
        callbacks: Sequence[Callback] = (),
    ) -> "JobCLI":
        """Train.

        Args:
            recipe: The command line that is run.
            config: Configuration of the subcommand `fit`, plain values; not changed.
            scratch: Folder for whatever callbacks and the module may write.
            callbacks: Callbacks besides those of the configuration.
        """
        attributes: dict[str, Any] = {
            "pairing": PairingCallback(),
            "memory": MemoryLogger(scratch),
            "validated": {},
            "logged": [],
            "scratch": scratch,
            "extra": callbacks,
        }
        arguments = {"subcommand": "fit", "fit": deepcopy(config)}
        made: JobCLI = recipe.make(cls, attributes, args=arguments, **settings(recipe))
        return made

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse the values, whatever the process' own arguments are."""
        self.config = parser.parse_object(args)

    def _prepare_run(self, config: Namespace) -> None:
        """Claim nothing: a run of a comparison lives in memory."""

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Switch off what writes or draws, which changes no number, and keep what is compared."""
        quiet = {"default_root_dir": self.scratch, "log_every_n_steps": LOG_EVERY}
        quiet |= {"enable_progress_bar": False, "enable_model_summary": False}
        given = self._own_config()["trainer"]["logger"]
        more = [MemoryLogger(self.scratch) for _ in given[1:]] if isinstance(given, list) else []
        loggers = [self.memory, *more]  # as many as a module finds in `fit`
        trainer = super().instantiate_trainer(**{**quiet, **kwargs, "logger": loggers})
        callbacks_of(trainer)[:0] = [
            CheckpointsElsewhere(self.scratch),
            self.pairing,
            StepBudget(),
            *self.extra,
        ]
        return trainer

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[Any]) -> Trainer:
        """Keep no checkpoints, unless a callback is there for them."""
        given = config.get("callbacks") or []
        fixed = self.trainer_defaults.get("callbacks") or []
        listed = [part for group in (given, fixed, callbacks) for part in _as_list(group)]
        if not any(isinstance(callback, Checkpoint) for callback in listed):
            config = {**config, "enable_checkpointing": False}
        return super()._instantiate_trainer(config, callbacks)

    def _run_subcommand(self, subcommand: str) -> None:
        """Train, then measure the final weights: the last validation may lie before the end.

        Raises:
            RuntimeError: If the data cannot be validated outside of a fit.
        """
        for owner in (self.model, self.datamodule):
            if owner is not None:
                owner.prepare_data = OneAtATime(owner.prepare_data)
        super()._run_subcommand(subcommand)
        self.logged = sorted(map(str, self.trainer.callback_metrics))
        if not self.trainer.enable_validation:  # no `validation_step`, or no data for it
            return
        try:
            self.trainer.validate(self.model, self.datamodule, verbose=False)
        except Exception as error:
            raise RuntimeError(
                "Cannot measure the final weights: training ended, and `trainer.validate` after it "
                f"raised {type(error).__name__}: {error}. If it lacks the validation data, let "
                '`setup` provide them for the stage "validate" too, as for "fit".'
            ) from error
        # Not what it returns: that lacks what is hidden from loggers, and has other names for what
        # is logged per step and per epoch.
        metrics = self.trainer.callback_metrics
        self.validated |= {tag: float(value) for tag, value in metrics.items()}


def _as_list(callbacks: Any) -> list[Any]:
    return list(callbacks) if isinstance(callbacks, list | tuple) else [callbacks]


class OneAtATime:
    """A `prepare_data` that no other run of this folder is in: Lightning promises one process.

    Args:
        method: The bound method; its function stays in sight as `__wrapped__`, where Lightning
            looks.
    """

    is_held: ClassVar[bool] = False

    def __init__(self, method: Callable[[], Any]) -> None:
        update_wrapper(self, method)
        self.__wrapped__ = getattr(method, "__wrapped__", method)
        self._method = method

    def __call__(self) -> Any:
        """Wait for the others, then prepare."""
        if OneAtATime.is_held or sys.platform == "win32":  # the model's may call the data's
            return self._method()
        import fcntl

        here = hashlib.sha256(str(Path.cwd()).encode()).hexdigest()[:16]
        with Path(gettempdir(), f"lightning-qsgd-{os.getuid()}-{here}.lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            OneAtATime.is_held = True
            try:
                return self._method()
            finally:
                OneAtATime.is_held = False


class Ignored:
    """Stands for a logger's own library: every attribute, call and item of it does nothing.

    As a path it is a folder that is deleted with the run, and there is nothing in it.

    Args:
        scratch: That folder.
        is_there: Whether it counts as true; what a call returns does not, so that waiting for it
            ends.

    Example:
        >>> nothing = Ignored()
        >>> bool(nothing), bool(nothing.add_image("made", 0, global_step=3))
        (True, False)
        >>> "best" in nothing.summary, list(nothing.all_writers.values()), f"{nothing.dir}/x"
        (False, [], './x')
    """

    def __init__(self, scratch: str = ".", is_there: bool = True) -> None:
        self._scratch, self._is_there = scratch, is_there

    def __bool__(self) -> bool:
        return self._is_there

    def __str__(self) -> str:
        return self._scratch

    def __getattr__(self, name: str) -> "Ignored":
        if name.startswith("__"):  # pickle and copy ask for some
            raise AttributeError(name)
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> "Ignored":
        """Return nothing again."""
        return Ignored(self._scratch, is_there=False)

    def __getitem__(self, key: Any) -> "Ignored":
        return self

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def __contains__(self, item: Any) -> bool:
        return False

    def __fspath__(self) -> str:
        return self._scratch

    def __setitem__(self, key: Any, value: Any) -> None:
        """Do nothing."""

    def __enter__(self) -> "Ignored":
        return self

    def __exit__(self, *exception: Any) -> None:
        """Do nothing."""


class MemoryLogger(Logger):
    """Collects (step, value) by tag; a run of a comparison writes no event files of its own.

    What modules do with the library behind a logger, such as
    ``self.logger.experiment.add_image(...)``, and with methods that other loggers have, does
    nothing here.

    Args:
        scratch: Folder for modules that write beside a logger's files; it is deleted with the run.

    Attributes:
        points: Points by tag, in the order in which they were logged.

    Example:
        >>> logger = MemoryLogger()
        >>> logger.log_metrics({"loss": 0.5}, step=3)
        >>> logger.points["loss"]
        [(3, 0.5)]
        >>> drawn = logger.experiment.add_image("made", 0)
        >>> also_drawn = logger.log_image("made", [0])
    """

    def __init__(self, scratch: str = ".") -> None:
        super().__init__()
        self.points: dict[str, list[tuple[int, float]]] = defaultdict(list)
        self._scratch = scratch

    def __getattr__(self, name: str) -> Ignored:
        if name.startswith("_"):
            raise AttributeError(name)
        return Ignored(self._scratch)

    @property
    def experiment(self) -> Ignored:
        """The library behind a logger, which is none."""
        return Ignored(self._scratch)

    @property
    def name(self) -> str:
        """Name for Lightning's messages."""
        return "memory"

    @property
    def version(self) -> int:
        """There is only one."""
        return 0

    @property
    def save_dir(self) -> str:
        """Folder that is deleted with the run."""
        return self._scratch

    @property
    def root_dir(self) -> str:
        """The same folder."""
        return self._scratch

    @property
    def log_dir(self) -> str:
        """The same folder."""
        return self._scratch

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Keep scalars."""
        for tag, value in metrics.items():
            self.points[tag].append((-1 if step is None else step, float(value)))

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Ignore them: the stored configuration has them."""


class StepBudget(Callback):
    """Ends a fit after as many steps as its record has, where Lightning counts others.

    A record counts a batch once, see `steps_taken`. Where a module steps by hand, Lightning counts
    each optimizer, and none that is stepped past it. At one `max_steps` a module with two
    optimizers would see half of the batches of one with a single optimizer, and a module that
    asks for ``self.optimizers(use_pl_optimizer=False)`` would train for ever. Hooks at the end of a
    batch find the translated number in `trainer.max_steps`.

    Example:
        >>> StepBudget().on_train_start(Trainer(logger=False), LightningModule())
    """

    def __init__(self) -> None:
        self._steps = -1

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the budget."""
        self._steps = trainer.max_steps

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        """Show the budget where a module asks for `trainer.max_steps` in `training_step`."""
        trainer.fit_loop.epoch_loop.max_steps = self._steps

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Translate what is left of the budget into Lightning's count."""
        if pl_module.automatic_optimization or self._steps == -1:
            return  # the two counts are one
        is_spent, counted = steps_taken(trainer) + 1 >= self._steps, trainer.global_step
        trainer.fit_loop.epoch_loop.max_steps = (
            counted if is_spent else max(self._steps, counted + 1)
        )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the trainer as it was."""
        trainer.fit_loop.epoch_loop.max_steps = self._steps
