"""Hands scalars and hyperparameters to what a trainer logs to and watches, and reads scalars."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import fields
from functools import partial
from math import nan
from typing import Any, TypeGuard

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers.logger import Logger
from torch import Tensor

from lightning_qsgd.perturbations import Perturbation


def publish(
    trainer: Trainer, scalars: Mapping[str, float], shown_only: Collection[str] = ()
) -> None:
    """Log scalars, and show them to callbacks such as `EarlyStopping` and `ModelCheckpoint`.

    `LightningModule.log` cannot do it: Lightning forbids it in some of the hooks that need it.

    Args:
        trainer: The trainer, in the middle of a fit.
        scalars: Values by tag; NaN is not defined and left out.
        shown_only: Tags among them that are not logged.
    """
    defined = {tag: value for tag, value in scalars.items() if value == value}
    show(trainer, defined)
    step = trainer.fit_loop.epoch_loop._batches_that_stepped
    logged = {tag: value for tag, value in defined.items() if tag not in shown_only}
    for logger in trainer.loggers:
        logger.log_metrics(logged, step=step)


def show(trainer: Trainer, scalars: Mapping[str, float]) -> None:
    """Put scalars into `trainer.callback_metrics` without logging them."""
    # Lightning returns its own dictionary, and the callbacks read the same one.
    trainer.callback_metrics.update(
        {tag: torch.tensor(value, dtype=torch.float32) for tag, value in scalars.items()}
    )


def log_hyperparameters(
    trainer: Trainer, pl_module: LightningModule, values: Mapping[str, Any]
) -> None:
    """Add hyperparameters to those of the module, for every logger of a trainer.

    TensorBoard keeps the first row that a run writes, so the module's own go with them. A Trainer
    that was told not to log hyperparameters logs none.

    Args:
        trainer: The trainer, in `on_fit_start`: Lightning logs the module's own after that.
        pl_module: The module that is trained.
        values: Plain values by name.
    """
    if not getattr(trainer, "enable_autolog_hparams", True):
        return
    own = dict(pl_module.hparams_initial) if getattr(pl_module, "_log_hyperparams", False) else {}
    own.pop("_class_path", None)  # LightningCLI's
    for logger in trainer.loggers:
        logger.log_hyperparams({**own, **values})


def name_in_progress_bar(trainer: Trainer, name: str) -> None:
    """Show which run this is, instead of the last four letters of its version.

    Args:
        trainer: Its progress bar, of any kind, is changed; it may have none.
        name: What to show.
    """
    bar = trainer.progress_bar_callback
    if bar is not None:
        # The method of the class, not of the bar: that has another from now on.
        shown = partial(_named_metrics, type(bar).get_metrics, name, bar)
        bar.get_metrics = shown  # type: ignore[method-assign]


def _named_metrics(
    original: Callable[..., dict[str, Any]], name: str, *args: Any
) -> dict[str, Any]:
    found = original(*args)
    found.pop("v_num", None)
    return {"run": name, **found}


def described(perturbation: Perturbation) -> dict[str, bool | int | float | str | None]:
    """Say in plain values what a perturbation is, for tables of hyperparameters.

    Example:
        >>> said = described(Perturbation(strength=0.1))
        >>> said["strength"], said["backend"]
        (0.1, 'SineBackend(num_qubits=4)')
    """
    parts = {field.name: getattr(perturbation, field.name) for field in fields(perturbation)}
    return {name: _plain(value) for name, value in parts.items()}


def _plain(value: Any) -> bool | int | float | str | None:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    words = repr(value)
    return type(value).__name__ if " at 0x" in words else words


def is_new(value: Any, before: Tensor | None) -> TypeGuard[Tensor]:
    """Whether Lightning holds another value than before, and not the old one in a new wrapper.

    What a module logs now and then, or once per epoch, stays among `trainer.callback_metrics`.
    """
    return isinstance(value, Tensor) and (before is None or not value.is_set_to(before))


def is_logged(trainer: Trainer, pl_module: LightningModule) -> bool:
    """Whether loggers write at this step."""
    accumulating = trainer.fit_loop._should_accumulate() and pl_module.automatic_optimization
    return trainer._logger_connector.should_update_logs and not accumulating


def scalar_of(value: Any) -> Tensor | None:
    """Copy a single real number, whatever its shape; None for anything else."""
    if isinstance(value, int | float):
        value = torch.tensor(value, dtype=torch.float64)
    if not isinstance(value, Tensor) or value.numel() != 1 or value.is_complex():
        return None
    # In place of a reference: what is returned may be changed in place by a later step.
    precision = torch.float32 if value.device.type == "mps" else torch.float64
    return value.detach().reshape(()).to(precision, copy=True)


def numbers_of(scalars: list[Tensor]) -> list[float]:
    """Read scalars in one go: each reading waits for the device."""
    numbers: list[float] = torch.stack(scalars).tolist() if scalars else []
    return numbers


def mean_of(scalars: list[Tensor]) -> float:
    """Return the mean of scalars; NaN of none."""
    numbers = numbers_of(scalars)
    return sum(numbers) / len(numbers) if numbers else nan


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
