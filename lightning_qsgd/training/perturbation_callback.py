"""Perturbs the optimizers of any LightningModule, without subclassing it."""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from operator import is_
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.optim import Optimizer

from lightning_qsgd.optimizers import PerturbedOptimizer
from lightning_qsgd.optimizers.motion import fingerprint, moved
from lightning_qsgd.optimizers.rows import parameters_of
from lightning_qsgd.perturbations import Perturbation
from lightning_qsgd.training.perturbation_monitor import PerturbationMonitor
from lightning_qsgd.training.wrapping import (
    check_strategy,
    has_modes,
    install,
    is_placeholder,
    perturb,
    refuse_conflict,
)


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

    _attached = False
    _begins = False

    def __init__(self, perturbation: Perturbation | None = None) -> None:
        super().__init__()
        self.perturbation = Perturbation() if perturbation is None else perturbation
        self.optimizers: list[PerturbedOptimizer] = []
        self._bases: list[Optimizer] = []
        self._restored: list[dict[str, int]] = []
        self._guard = MotionGuard([])
        self.belongs_to_mixin = False

    @property
    def perturbation(self) -> Perturbation:
        """What is added to the optimizers' steps; another one only between fits."""
        return self._perturbation

    @perturbation.setter
    def perturbation(self, perturbation: Perturbation) -> None:
        if self._attached:
            raise RuntimeError(_IN_FIT)
        self._perturbation = perturbation

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Wrap the optimizers; see `PerturbationMonitor.on_fit_start` for the rest."""
        own = getattr(pl_module, "perturbation", None)
        if not isinstance(own, Perturbation):
            if self.belongs_to_mixin:  # left in a trainer that now trains another module
                self.optimizers = []
                return
        else:  # a mixin's, which --optimizer bypasses
            refuse_conflict(own, self.perturbation)
        if self._is_due():
            check_strategy(trainer)
        self._bases = list(trainer.strategy.optimizers)
        wrapped = [
            optimizer if is_placeholder(optimizer) else perturb(optimizer, self.perturbation)
            for optimizer in self._bases
        ]
        self.optimizers = [o for o in wrapped if isinstance(o, PerturbedOptimizer)]
        self._restore()
        install(trainer, wrapped)
        self._attached = True
        super().on_fit_start(trainer, pl_module)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore what the optimizers' own states lacked, and remember where this fit starts.

        A checkpoint that was saved after the fit, or after an exception, holds the states of the
        bare optimizers: Lightning has loaded those after `on_fit_start`. Callbacks such as
        BackboneFinetuning have given the groups back by now.
        """
        if self._attached:
            self._restore(complete=True)
            self._guard = self._new_guard(pl_module)

    def _new_guard(self, module: LightningModule) -> "MotionGuard":
        unheld = [] if self.optimizers or not self._is_due() else list(module.parameters())
        embeddings = [m for m in module.modules() if isinstance(m, nn.Embedding | nn.EmbeddingBag)]
        forward = [each.weight for each in embeddings if each.max_norm is not None]
        return MotionGuard(self.optimizers, unheld, forward)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Watch the optimizers of this epoch.

        Raises:
            RuntimeError: If the module's perturbation was replaced in this fit.
        """
        if self._attached:
            own = getattr(pl_module, "perturbation", None)
            if isinstance(own, Perturbation) and own != self.perturbation:
                raise RuntimeError(_IN_FIT)
            self._follow(trainer, pl_module)
            self._begins = True

    def _follow(self, trainer: Trainer, module: LightningModule) -> None:
        """Watch the optimizers that a module has made anew in this fit, perturbed as the first."""
        present = [o for o in trainer.strategy.optimizers if not is_placeholder(o)]
        if all(map(is_, present, self.optimizers)) and len(present) == len(self.optimizers):
            return
        perturbed = [o for o in present if isinstance(o, PerturbedOptimizer)]
        if perturbed and len(perturbed) == len(present):
            for optimizer in perturbed:
                refuse_conflict(optimizer.perturbation, self.perturbation)
            self._bases, self.optimizers = list(trainer.strategy.optimizers), perturbed
            self._guard = self._new_guard(module)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Ask for a measurement where it is due; see `PerturbationMonitor`.

        At the first batch, remember where this epoch starts: until then modules and callbacks set
        weights, such as those of a head that starts anew.
        """
        if self._attached:
            if self._begins:
                self._guard.start_epoch()
                self._begins = False
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
            self._follow(trainer, pl_module)
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
        saved = state_dict.get("optimizers")
        if not isinstance(saved, list):
            raise ValueError(
                f"Cannot load the perturbation's state: `optimizers` is {saved!r} instead of a "
                "list. The checkpoint is damaged; load an earlier one."
            )
        self._restored = saved
        if self._attached:
            self._restore()

    def _is_due(self) -> bool:
        return not self.perturbation.is_off

    def _restore(self, complete: bool = False) -> None:
        """Hand the saved counters to the optimizers; `complete` where these have all groups."""
        if not self._restored:
            return
        if len(self._restored) != len(self.optimizers):
            raise ValueError(
                f"Cannot load the perturbation's state: it was saved for {len(self._restored)} "
                f"optimizers, and there are {len(self.optimizers)}. Return as many from "
                "configure_optimizers as when the checkpoint was saved."
            )
        loaded = [replace(optimizer.own_state) for optimizer in self.optimizers]
        for own, saved, optimizer in zip(loaded, self._restored, self.optimizers, strict=True):
            own.load(saved, optimizer.param_groups if complete else None)
        for own, optimizer in zip(loaded, self.optimizers, strict=True):
            optimizer.own_state = own
        if complete:
            self._restored = []

    def _detach(self, trainer: Trainer) -> None:
        if self._attached:
            install(trainer, self._bases)
            self._attached = False
        self._restored = []  # what a validation or test restored belongs to no later fit


_IN_FIT = (
    "Cannot replace the perturbation during a fit: its optimizers have theirs already. Set it "
    "before `fit`, or give a Strength for one that changes with the steps."
)
_LOOKS_PERTURBED = "This run would look perturbed and is not."


class MotionGuard:
    """Compares what moved with what was perturbed, optimizer by optimizer.

    Judged by the parameters and by the steps of the base, not by the trainer's counters: those
    count steps that a gradient scaler skips, and steps without gradients, which move nothing.
    A strength of 0 is never a reason to raise.

    Args:
        optimizers: The perturbed optimizers of a fit.
        unheld: Parameters that are to be perturbed, although no optimizer of the trainer holds
            them.
        forward: Parameters that a forward pass moves, as embeddings with `max_norm` do.
    """

    def __init__(
        self,
        optimizers: Sequence[PerturbedOptimizer],
        unheld: Sequence[Tensor] = (),
        forward: Sequence[Tensor] = (),
    ) -> None:
        self._forward = set(map(id, forward))
        self._optimizers = [o for o in optimizers if not o.perturbation.is_off]
        self._unheld = unheld
        self._told = False
        self._past = [optimizer.steps_past for optimizer in self._optimizers]
        self._due = [optimizer.own_state.due for optimizer in self._optimizers]
        self._at_start = self._fingerprint()
        self.start_epoch()

    def start_epoch(self) -> None:
        """Remember where an epoch starts."""
        self._steps = [optimizer.own_state.steps for optimizer in self._optimizers]
        self._before = self._fingerprint()

    def check_batch(self, present: Sequence[Optimizer]) -> None:
        """Raise if a base moved past its wrapper, or another optimizer took its place.

        Args:
            present: The trainer's optimizers now.

        Raises:
            RuntimeError: If either has happened.
        """
        for optimizer, past in zip(self._optimizers, self._past, strict=True):
            if optimizer.steps_past > past:
                raise RuntimeError(
                    "Parameters moved, but no perturbed optimizer was stepped: "
                    f"{type(optimizer.base).__name__}, or an optimizer inside it, took "
                    f"{optimizer.steps_past - past} step(s) past its wrapper. {_LOOKS_PERTURBED} "
                    "Call `step` of the optimizer that `self.optimizers()` returns. If a callback "
                    "put the bare optimizer back, remove it, or wrap the optimizer in "
                    "configure_optimizers."
                )
        replaced = any(all(o is not other for other in present) for o in self._optimizers)
        if replaced and self._unperturbed():
            raise RuntimeError(
                "Parameters moved, but no perturbed optimizer was stepped: another callback or "
                f"strategy replaced the optimizers after on_fit_start. {_LOOKS_PERTURBED} Remove "
                "it, or wrap the optimizer in configure_optimizers."
            )

    def check_epoch(self) -> None:
        """Raise if parameters moved in this epoch and no perturbed optimizer took a step.

        Where some did and others moved without one, these may have been trained past the wrapper
        or set by hand, as the average of a network that has its turn: a warning names both, once.
        Parameters that another optimizer holds as well, which did take steps, do not count.

        Raises:
            RuntimeError: If some have moved.
        """
        unperturbed = self._unperturbed()
        pairs = zip(self._optimizers, self._steps, strict=True)
        if unperturbed and any(o.own_state.steps > steps for o, steps in pairs):
            if not self._told:
                self._told = True
                warnings.warn(_MOVED_IDLE.format(_kind(unperturbed[0])), stacklevel=2)
        elif unperturbed:
            raise RuntimeError(
                f"Parameters of {_kind(unperturbed[0])} moved in this epoch without a step of it, "
                f"and so without their perturbation. {_LOOKS_PERTURBED} Call `step` of the "
                "optimizer that `self.optimizers()` returns, instead of other methods that move "
                "parameters, or set the strength to 0. Weights that you set yourself in an epoch "
                "without steps can be set before its first batch, in on_train_epoch_start."
            )
        if moved(self._before, fingerprint(self._unheld)):
            raise RuntimeError(
                "Parameters moved in this epoch, but the trainer has no optimizer that could be "
                f"perturbed. {_LOOKS_PERTURBED} Return the optimizers from configure_optimizers, "
                "or wrap them in PerturbedOptimizer and leave the callback out."
            )

    def check_fit(self) -> None:
        """Raise if an optimizer moved parameters and its perturbation was never applied.

        Raises:
            RuntimeError: If one has.
        """
        pairs = zip(self._optimizers, self._due, strict=True)
        never = [o for o, due in pairs if o.own_state.due > due and o.own_state.applied == 0]
        for optimizer in never:
            if moved(self._at_start, fingerprint(parameters_of(optimizer.param_groups))):
                raise RuntimeError(_never_applied(optimizer))
        if never and len(never) == len(self._optimizers):
            warnings.warn(
                "Nothing was perturbed in this fit, since no parameter moved. Steps without a "
                "gradient move nothing: does training_step return a loss?",
                stacklevel=2,
            )

    def _fingerprint(self) -> dict[int, Tensor]:
        held = [p for o in self._optimizers for p in parameters_of(o.param_groups)]
        return fingerprint([*held, *self._unheld])

    def _unperturbed(self) -> list[PerturbedOptimizer]:
        """Return the optimizers that took no step in this epoch and whose parameters moved.

        Those with modes are left out: switching moves their parameters.
        """
        idle: list[PerturbedOptimizer] = []
        stepped = set(self._forward)
        for optimizer, steps in zip(self._optimizers, self._steps, strict=True):
            if optimizer.own_state.steps == steps:
                idle.append(optimizer)
            else:
                stepped.update(map(id, parameters_of(optimizer.param_groups)))
        return [
            optimizer
            for optimizer in idle
            if not has_modes(optimizer)
            and moved(self._before, fingerprint(parameters_of(optimizer.param_groups))) - stepped
        ]


_MOVED_IDLE = (
    "Parameters of {} moved in this epoch without a step of it, and so without their perturbation, "
    "while another optimizer took perturbed steps. If your code sets them while their optimizer "
    "waits for its turn, such as a reset, a copy or an average of another network, nothing is "
    "wrong. If it trains them, this run looks perturbed and is not: call `step` of the optimizer "
    "that `self.optimizers()` returns, instead of other methods that move parameters."
)


def _kind(optimizer: PerturbedOptimizer) -> str:
    return type(optimizer).__name__


def _never_applied(optimizer: PerturbedOptimizer) -> str:
    state = optimizer.own_state
    start = f"The perturbation was due at {state.due} steps and was never applied:"
    if state.skipped > 0:
        return (
            f"{start} at {state.skipped} of them its circuits failed, which SkipOnFailure lets "
            "pass. This run is not perturbed; repair the backend."
        )
    return (
        f"{start} none of the tensors that hold its coordinates has a gradient. Choose other "
        "coordinates, or train those tensors."
    )
