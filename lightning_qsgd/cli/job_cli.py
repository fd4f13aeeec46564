"""The command line inside a job of a comparison."""

import hashlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from functools import update_wrapper
from math import ceil, inf
from pathlib import Path
from tempfile import gettempdir
from typing import Any, ClassVar, cast

from jsonargparse import Namespace
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, ProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser
from lightning.pytorch.loops.fit_loop import _FitLoop
from lightning.pytorch.strategies.launchers.multiprocessing import _MultiProcessingLauncher
from lightning.pytorch.trainer.connectors.accelerator_connector import _AcceleratorConnector

from lightning_qsgd.cli.perturbation_cli import PerturbationCLI
from lightning_qsgd.cli.recipe import Recipe
from lightning_qsgd.training.checkpoints import CheckpointsElsewhere
from lightning_qsgd.training.convergence_callback import steps_taken
from lightning_qsgd.training.first_weights import PairingCallback
from lightning_qsgd.training.publishing import MemoryLogger
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


def require_one_process(connector: _AcceleratorConnector) -> None:
    """Refuse what would train a run in several processes, or in another one than its job's.

    Args:
        connector: What Lightning made of `accelerator`, `devices`, `num_nodes` and `strategy`.

    Raises:
        ValueError: If there is more than one device, or the strategy forks or spawns.
    """
    devices, nodes = len(connector._parallel_devices), connector._num_nodes_flag
    strategy = connector.strategy
    if devices * nodes > 1 or isinstance(strategy.launcher, _MultiProcessingLauncher):
        raise ValueError(
            f"Expected every run of a comparison to train on one device, in the process of its "
            f"job, got `trainer.devices` for {devices} and `trainer.num_nodes` {nodes}, with "
            f"{type(strategy).__name__}: it would start the whole comparison again for each "
            "device, or train in processes that keep the results. Write `trainer: {devices: 1, "
            "num_nodes: 1, strategy: auto}` into the experiment. `processes` says how many runs "
            "are made at a time instead."
        )


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
        require_one_process(trainer._accelerator_connector)  # of the machine that the job is on
        BudgetedLoop.within(trainer)
        callbacks_of(trainer)[:0] = [
            CheckpointsElsewhere(self.scratch),
            self.pairing,
            StepBudget(),
            *self.extra,
        ]
        return trainer

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[Any]) -> Trainer:
        """Keep no checkpoints, unless a callback is there for them, and no progress bars."""
        defaults = self.trainer_defaults
        given, fixed, callbacks = (
            [part for part in _as_list(group or []) if not isinstance(part, ProgressBar)]
            for group in (config.get("callbacks"), defaults.get("callbacks"), callbacks)
        )
        config = {**config, "callbacks": given}
        if not any(isinstance(callback, Checkpoint) for callback in (*given, *fixed, *callbacks)):
            config["enable_checkpointing"] = False
        self.trainer_defaults = {**defaults, "callbacks": fixed}
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


class BudgetedLoop(_FitLoop):
    """A fit loop that tells how long a run will be where its budget has another unit.

    A budget of a comparison lifts the trainer's other limits: they are -1. Schedules ask for them.
    Under a budget of steps, `max_epochs` is told as the epochs that the steps take, the last of
    them perhaps in part. Under a budget of epochs, `trainer.max_steps` is told as the steps in
    them. What is told ends no training. It needs the number of batches: the first to ask lets the
    data be loaded, as `trainer.estimated_stepping_batches` does.

    Attributes:
        budget: Steps of the run; -1 if another unit limits it.
        few: Batches after which a run ends that is only a probe, with all its schedules made for
            the whole run; None trains to the end.
        unanswered: Limits that were asked for and are not to be told: those of a budget of seconds,
            of data without a length, or asked for before there are data.
    """

    budget: int
    few: int | None
    unanswered: set[str]
    _told: dict[str, int]
    _is_open: bool
    _is_untold: bool

    @classmethod
    def within(cls, trainer: Trainer) -> None:
        """Let a trainer that has not begun use such a loop."""
        loop: Any = trainer.fit_loop
        vars(loop).update(budget=loop.max_steps, few=None, unanswered=set(), _told={})
        vars(loop).update(_is_open=False, _is_untold=False)
        loop.__class__ = _joined(BudgetedLoop, type(loop))
        trainer.__class__ = _joined(BudgetedTrainer, type(trainer))

    def open(self) -> None:
        """Begin to tell: the data are set up."""
        self.budget, self._is_open = self.epoch_loop.max_steps, True

    @property
    def max_epochs(self) -> Any:
        """Epochs of the run, told if they are not its budget."""
        own = vars(self)["max_epochs"]
        return self.told("max_epochs") if own == -1 else own

    @max_epochs.setter
    def max_epochs(self, value: int | None) -> None:
        told = self._told.get("max_epochs")
        if told is None or value is None or value < told:
            vars(self)["max_epochs"] = value
        else:  # beyond the budget, as `StochasticWeightAveraging` sets it
            self._told["max_epochs"] = value
        if not self._is_open:  # nobody but the trainer has asked so far
            self.unanswered.clear()

    def told(self, name: str) -> int:
        """Tell a limit that the budget lifts; -1 if nothing tells it."""
        if name in self._told or self._is_untold:
            return -1 if self._is_untold else self._told[name]
        steps, epochs = self._steps_of_epoch(), vars(self)["max_epochs"]
        if steps is None or self.budget == epochs == -1:
            self.unanswered.add(name)
            return -1
        self._told[name] = ceil(self.budget / steps) if name == "max_epochs" else epochs * steps
        return self._told[name]

    def _steps_of_epoch(self) -> int | None:
        """Count the steps of an epoch; None if nothing tells their number yet."""
        if self._combined_loader is None and self._is_open:
            self._is_open = False  # while they are loaded, the data may ask as well
            try:
                self.setup_data()
            except Exception:  # whatever data raise that are not set up; the fit asks them again
                self._combined_loader = None
            self._is_open = True
        is_known = self._combined_loader is not None and 0 < self.max_batches < inf
        return ceil(self.max_batches / self.trainer.accumulate_grad_batches) if is_known else None

    @contextmanager
    def untold(self) -> Iterator[None]:
        """Show the budget's own limits alone, as training ends by them."""
        before, self._is_untold = self._is_untold, True
        try:
            yield
        finally:
            self._is_untold = before

    @property
    def done(self) -> bool:
        """Whether the budget is spent, or the epoch of a probe."""
        if self.few is not None and self.trainer.current_epoch:
            return True
        with self.untold():
            return super().done

    def _iteration_based_training(self) -> bool:
        return self.budget != -1

    def run(self) -> None:
        """Train; a probe has fewer batches, now that schedules are made."""
        if self.few is not None:
            self._shorten(self.few)
        super().run()

    def _shorten(self, batches: int) -> None:
        given = self.trainer.limit_train_batches
        if self.budget != -1:  # a schedule of fewer steps may refuse another one
            batches = min(batches, self.budget * self.trainer.accumulate_grad_batches)
        if isinstance(given, float) and given > 0:
            self.setup_data()  # as training would next: a share of them may be fewer
            self.trainer.limit_train_batches = int(min(batches, self.max_batches))
        else:
            self.trainer.limit_train_batches = min(given, batches)
        self.epoch_loop.max_steps = -1
        if self._combined_loader is not None and self._data_fetcher is not None:
            self._data_fetcher.teardown()
            self._combined_loader = None  # loaded again, up to the new limit


class BudgetedTrainer(Trainer):
    """A trainer that tells the steps of a run whose budget has another unit."""

    fit_loop: BudgetedLoop

    @property
    def max_steps(self) -> int:
        """Steps of the run, told if they are not its budget."""
        loop = self.fit_loop
        return loop.told("max_steps") if loop.budget == -1 else loop.budget

    @property
    def estimated_stepping_batches(self) -> int | float:
        """Lightning's own: a budget of steps needs no data for it."""
        with self.fit_loop.untold():
            return super().estimated_stepping_batches


def _joined(own: type, given: type) -> type:
    """Put a class in front of Lightning's, or of one of the user's that extends it."""
    return own if given in own.__bases__ else type(given.__name__, (own, given), {})


class StepBudget(Callback):
    """Ends a fit after as many steps as its record has, where Lightning counts others.

    A record counts a batch once, see `steps_taken`. Where a module steps by hand, Lightning counts
    each optimizer, and none that is stepped past it. At one `max_steps` a module with two
    optimizers would see half of the batches of one with a single optimizer, and a module that
    asks for ``self.optimizers(use_pl_optimizer=False)`` would train for ever. So the loop ends at a
    translated number, and `trainer.max_steps` stays the budget.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Let the loop tell how long the run will be."""
        if stage == "fit":
            loop_of(trainer).open()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End at the budget, whatever a search of Lightning's for a batch size has put back."""
        loop = loop_of(trainer)
        loop.epoch_loop.max_steps = loop.budget if loop.few is None else -1

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Translate what is left of the budget into Lightning's count."""
        loop = loop_of(trainer)
        if pl_module.automatic_optimization or loop.epoch_loop.max_steps == -1:
            return  # the two counts are one
        is_spent, counted = steps_taken(trainer) + 1 >= loop.budget, trainer.global_step
        loop.epoch_loop.max_steps = counted if is_spent else max(loop.budget, counted + 1)


def loop_of(trainer: Trainer) -> BudgetedLoop:
    """Return the loop of a trainer in a job."""
    return cast(BudgetedLoop, trainer.fit_loop)
