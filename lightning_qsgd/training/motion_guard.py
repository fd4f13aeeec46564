"""Raises if a fit that was to be perturbed moves parameters without its perturbation."""

import warnings
from collections.abc import Sequence

from torch import Tensor
from torch.optim import Optimizer

from lightning_qsgd.optimizers import PerturbedOptimizer
from lightning_qsgd.optimizers.motion import fingerprint, moved
from lightning_qsgd.optimizers.rows import parameters_of

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
    """

    def __init__(
        self, optimizers: Sequence[PerturbedOptimizer], unheld: Sequence[Tensor] = ()
    ) -> None:
        self._optimizers = [o for o in optimizers if o.perturbation.schedule.value > 0]
        self._unheld = unheld
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
        """Raise if parameters moved in this epoch and their optimizer took no step.

        Parameters that another optimizer holds as well, which did take steps, do not count.

        Raises:
            RuntimeError: If some have moved.
        """
        unperturbed = self._unperturbed()
        if unperturbed:
            raise RuntimeError(
                f"Parameters of {type(unperturbed[0]).__name__} moved in this epoch without a step "
                f"of it, and so without their perturbation. {_LOOKS_PERTURBED} Call `step` of the "
                "optimizer that `self.optimizers()` returns, instead of other methods that move "
                "parameters, or set the strength to 0."
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
        """Return the optimizers that took no step in this epoch and whose parameters moved."""
        idle: list[PerturbedOptimizer] = []
        stepped: set[int] = set()
        for optimizer, steps in zip(self._optimizers, self._steps, strict=True):
            if optimizer.own_state.steps == steps:
                idle.append(optimizer)
            else:
                stepped.update(map(id, parameters_of(optimizer.param_groups)))
        return [
            optimizer
            for optimizer in idle
            if moved(self._before, fingerprint(parameters_of(optimizer.param_groups))) - stepped
        ]


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
