"""One perturbed step: what is computed before the base optimizer moves, and applied after."""

from dataclasses import dataclass
from time import perf_counter

import torch
from torch import Tensor

from lightning_qsgd.optimizers.entries import Entries
from lightning_qsgd.optimizers.entries_cache import EntriesCache
from lightning_qsgd.optimizers.injectors import (
    GradientInjector,
    Injector,
    RelativeInjector,
    UpdateInjector,
)
from lightning_qsgd.optimizers.report import StepReport, measure
from lightning_qsgd.optimizers.rows import ParamGroups, parameters_of, real_numel
from lightning_qsgd.optimizers.snapshot import Snapshot
from lightning_qsgd.perturbations import (
    GradientInjection,
    Perturbation,
    RelativeInjection,
    UpdateInjection,
)
from lightning_qsgd.perturbations.blocks import Blocks, modulation


@dataclass(frozen=True)
class Measured:
    """What is measured at a step: sizes on the perturbed entries, and on the whole model."""

    entries: bool
    model: bool


class PerturbedStep:
    """Carries one step's data from the gradient to the perturbed parameters.

    Args:
        perturbation: What to add.
        groups: The base optimizer's parameter groups.
        moment: Optimizer step, counted from 0, and the strength at that step.
        measured: What to measure.
    """

    def __init__(
        self,
        perturbation: Perturbation,
        groups: ParamGroups,
        moment: tuple[int, float],
        measured: Measured,
    ) -> None:
        self._perturbation = perturbation
        self._groups = groups
        self._index, self._strength = moment
        self._measured = measured
        self._injector: Injector | None = None
        self._snapshot: Snapshot | None = None

    @property
    def is_prepared(self) -> bool:
        """Whether there is anything to apply."""
        return self._injector is not None

    @torch.no_grad()
    def prepare(self, cache: EntriesCache) -> None:
        """Read theta_t and g_t and evaluate the circuits; no parameter moves.

        Raises:
            FloatingPointError: If the backend returns a readout that is not finite.
        """
        start = perf_counter()
        touched = cache.at(self._groups, self._index)
        if touched is not None:
            entries, blocks = touched
            theta = entries.read_parameters()
            u = self._modulation(theta, blocks)
            self._circuits = self._perturbation.backend.circuits_for(blocks.total)
            injector = self._make_injector(entries, theta, u)
            injector.before_base_step()
            self._injector = injector
            self._snapshot = Snapshot(self._groups) if self._measured.model else None
        self._seconds = perf_counter() - start

    @torch.no_grad()
    def abandon(self) -> None:
        """Undo what `prepare` changed, after the base optimizer raised."""
        if self._injector is not None:
            self._injector.after_failure()

    @torch.no_grad()
    def apply(self) -> StepReport | None:
        """Apply the perturbation after the base step; return a report if one was asked for."""
        injector = self._injector
        if injector is None:
            return None
        start = perf_counter()
        base_step = injector.measure_base_step() if self._measured.entries else None
        base_sum = self._snapshot.squared_distance() if self._snapshot else None
        added = injector.after_base_step(base_step)
        if base_step is None:
            return None
        sums = measure(added, base_step)
        seconds = self._seconds + perf_counter() - start
        total = sum(real_numel(parameter) for parameter in parameters_of(self._groups))
        return StepReport(len(added), total, self._circuits, seconds, sums, base_sum)

    def _modulation(self, theta: Tensor, blocks: Blocks) -> Tensor:
        backend = self._perturbation.backend
        u = modulation(backend, theta, blocks, (self._perturbation.seed, self._index))
        if backend.separable or bool(torch.isfinite(u).all()):
            return u
        raise FloatingPointError(
            f"{type(backend).__name__} returned a readout that is not finite at step "
            f"{self._index}: the circuit cannot be trusted. No parameter was changed; check the "
            "backend and its sampler."
        )

    def _make_injector(self, entries: Entries, theta: Tensor, u: Tensor) -> Injector:
        injection = self._perturbation.injection
        strength = self._strength
        match injection:
            case UpdateInjection(step_size=step_size):
                return UpdateInjector(entries, theta, u, strength, self._groups, step_size)
            case GradientInjection():
                return GradientInjector(entries, theta, u, strength)
            case RelativeInjection():
                return RelativeInjector(entries, theta, u, strength)
        raise TypeError(
            f"Unknown injection {type(injection).__name__}: the optimizer cannot carry it out. "
            "Use UpdateInjection, GradientInjection or RelativeInjection."
        )
