"""Perturbs the optimizers of any LightningModule, without subclassing it."""

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from torch.optim import Optimizer

from lightning_qsgd.optimizers import PerturbedOptimizer
from lightning_qsgd.perturbations import Perturbation
from lightning_qsgd.training.perturbation_monitor import PerturbationMonitor
from lightning_qsgd.training.wrapping import is_placeholder, perturb, refuse_conflict


class PerturbationCallback(PerturbationMonitor):
    """Wraps the trainer's optimizers for the duration of a fit, and logs what it does.

    Optimizers are wrapped in `on_fit_start`, before Lightning restores their state, so a resumed
    run continues exactly; they are unwrapped at the end, so that a later fit without the callback
    is not perturbed. A fit that advances without being perturbed raises.

    Args:
        perturbation: What to add to the optimizers' steps; Eq. 1 and 2 with strength 0.5 by
            default.

    Raises:
        TypeError, ValueError: At the start of the fit, if the optimizers or the strategy cannot
            be perturbed, or another perturbation is attached already.
        RuntimeError: If training advances and the perturbation was never applied.

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
        self._first_step = 0
        self._first_due = 0
        self._attached = False

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Wrap the optimizers; see `PerturbationMonitor.on_fit_start` for the rest."""
        _check_strategy(trainer)
        own = getattr(pl_module, "perturbation", None)
        if isinstance(own, Perturbation):  # a mixin's, which --optimizer bypasses
            refuse_conflict(own, self.perturbation)
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
        self._first_step = trainer.global_step
        self._first_due = sum(optimizer.own_state.due for optimizer in self.optimizers)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Raise if an optimizer moved past the wrapper; log the step otherwise."""
        advanced = trainer.global_step > self._first_step
        if advanced and self.optimizers and not any(map(_was_called, self.optimizers)):
            raise RuntimeError(
                "Training advanced, but no perturbed optimizer was stepped: this run would look "
                "perturbed and is not. Another callback or strategy replaced the optimizers after "
                "on_fit_start; remove it, or wrap the optimizer in configure_optimizers."
            )
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Raise if the perturbation was due and never applied."""
        due = sum(optimizer.own_state.due for optimizer in self.optimizers)
        applied = sum(optimizer.own_state.applied for optimizer in self.optimizers)
        skipped = sum(optimizer.own_state.skipped for optimizer in self.optimizers)
        if due > self._first_due and applied == 0 and skipped > 0:
            raise RuntimeError(
                f"The perturbation was due at {due} steps and was never applied: at {skipped} of "
                "them its circuits failed, which SkipOnFailure lets pass. This run is not "
                "perturbed; repair the backend."
            )
        if due > self._first_due and applied == 0:
            raise RuntimeError(
                f"The perturbation was due at {due} steps and was never applied: none of the "
                "tensors that hold its coordinates has a gradient. Choose other coordinates, or "
                "train those tensors."
            )

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


def _was_called(optimizer: PerturbedOptimizer) -> bool:
    return bool(getattr(optimizer, "_opt_called", False))


def _check_strategy(trainer: Trainer) -> None:
    for name in (strategy.__name__ for strategy in type(trainer.strategy).__mro__):
        if name in {"FSDPStrategy", "DeepSpeedStrategy"}:
            raise TypeError(
                f"Cannot perturb under {name}: it flattens parameters into partitions, so that "
                "the coordinates of a tensor cannot be found. Use DDPStrategy, or "
                "ModelParallelStrategy with FSDP2."
            )
