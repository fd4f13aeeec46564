"""Perturbs the optimizers of any LightningModule, without subclassing it."""

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from torch.optim import Optimizer

from lightning_qsgd.optimizers import PerturbedOptimizer
from lightning_qsgd.perturbations import Perturbation
from lightning_qsgd.training.motion_guard import MotionGuard
from lightning_qsgd.training.perturbation_monitor import PerturbationMonitor
from lightning_qsgd.training.wrapping import is_placeholder, perturb, refuse_conflict


class PerturbationCallback(PerturbationMonitor):
    """Wraps the trainer's optimizers for the duration of a fit, and logs what it does.

    Optimizers are wrapped in `on_fit_start`, before Lightning restores their state, so a resumed
    run continues exactly; they are unwrapped at the end, so that a later fit without the callback
    is not perturbed. A fit that advances without being perturbed raises; see `MotionGuard`.

    Args:
        perturbation: What to add to the optimizers' steps; Eq. 1 and 2 with strength 0.5 by
            default.

    Raises:
        TypeError, ValueError: At the start of the fit, if the optimizers or the strategy cannot
            be perturbed, or another perturbation is attached already.
        RuntimeError: If parameters moved and the perturbation was never applied.

    Example:
        >>> from lightning.pytorch import Trainer
        >>> callback = PerturbationCallback(Perturbation(strength=0.5))
        >>> trainer = Trainer(callbacks=[callback], logger=False, enable_checkpointing=False)
        >>> callback in trainer.callbacks
        True
    """

    def __init__(self, perturbation: Perturbation | None = None) -> None:
        super().__init__()
        self.perturbation = Perturbation() if perturbation is None else perturbation
        self.optimizers: list[PerturbedOptimizer] = []
        self._bases: list[Optimizer] = []
        self._restored: list[dict[str, int]] = []
        self._guard = MotionGuard([])
        self._attached = False
        self.belongs_to_mixin = False

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Wrap the optimizers; see `PerturbationMonitor.on_fit_start` for the rest."""
        own = getattr(pl_module, "perturbation", None)
        if not isinstance(own, Perturbation):
            if self.belongs_to_mixin:  # left in a trainer that now trains another module
                self.optimizers = []
                return
        else:  # a mixin's, which --optimizer bypasses
            refuse_conflict(own, self.perturbation)
        _check_strategy(trainer)
        self._bases = list(trainer.strategy.optimizers)
        wrapped = [
            optimizer if is_placeholder(optimizer) else perturb(optimizer, self.perturbation)
            for optimizer in self._bases
        ]
        self.optimizers = [o for o in wrapped if isinstance(o, PerturbedOptimizer)]
        self._restore()
        _install(trainer, wrapped)
        self._attached = True
        super().on_fit_start(trainer, pl_module)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember where this fit starts."""
        if self._attached:
            unheld = [] if self.optimizers or not self._is_due() else list(pl_module.parameters())
            self._guard = MotionGuard(self.optimizers, unheld)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember where this epoch starts."""
        if self._attached:
            self._guard.start_epoch()

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Ask for a measurement where it is due; see `PerturbationMonitor`."""
        if self._attached:
            super().on_train_batch_start(trainer, pl_module, batch, batch_idx)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Raise if an optimizer moved past the wrapper; log the step otherwise."""
        if self._attached:
            self._guard.check_batch(trainer.strategy.optimizers)
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Raise if parameters moved in this epoch and their optimizer took no perturbed step."""
        if self._attached:
            self._guard.check_epoch()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Raise if the perturbation was due and never applied."""
        if self._attached:
            self._guard.check_fit()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Unwrap the optimizers: after an exception Lightning skips `teardown`."""
        self._detach(trainer)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Unwrap the optimizers."""
        self._detach(trainer)

    def state_dict(self) -> dict[str, Any]:
        """Return the counters: helpers for sharded checkpoints drop them from optimizer states."""
        return {"optimizers": [optimizer.own_state.to_dict() for optimizer in self.optimizers]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Hand the saved counters to the optimizers, or keep them until those are wrapped.

        Strategies that shard a model restore callbacks after `on_fit_start`, others before.
        """
        self._restored = list(state_dict["optimizers"])
        if self._attached:
            self._restore()

    def _is_due(self) -> bool:
        return self.perturbation.schedule.value > 0

    def _restore(self) -> None:
        for optimizer, saved in zip(self.optimizers, self._restored, strict=False):
            optimizer.own_state.load(saved)

    def _detach(self, trainer: Trainer) -> None:
        if self._attached:
            _install(trainer, self._bases)
            self._attached = False
            self._restored = []


def _install(trainer: Trainer, optimizers: list[Optimizer]) -> None:
    """Give the trainer these optimizers, and its schedulers the same ones."""
    replaced = dict(zip(map(id, trainer.strategy.optimizers), optimizers, strict=False))
    trainer.strategy.optimizers = optimizers
    for config in trainer.strategy.lr_scheduler_configs:
        own = id(config.scheduler.optimizer)
        config.scheduler.optimizer = replaced.get(own, config.scheduler.optimizer)


def _check_strategy(trainer: Trainer) -> None:
    for name in (strategy.__name__ for strategy in type(trainer.strategy).__mro__):
        if name in {"FSDPStrategy", "DeepSpeedStrategy"}:
            raise TypeError(
                f"Cannot perturb under {name}: it flattens parameters into partitions, so that "
                "the coordinates of a tensor cannot be found. Use DDPStrategy, or "
                "ModelParallelStrategy with FSDP2."
            )
