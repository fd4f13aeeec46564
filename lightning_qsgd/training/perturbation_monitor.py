"""What a perturbation does and costs, logged while training runs."""

from collections.abc import Sequence
from functools import partial
from math import hypot, isnan
from time import perf_counter
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from lightning_qsgd.backends import (
    Backend,
    CompiledBackend,
    ExactSampling,
    SamplerBackend,
    forecast,
)
from lightning_qsgd.backends.forecast import forecast_step, short_time
from lightning_qsgd.optimizers import PerturbedOptimizer, StepReport
from lightning_qsgd.optimizers.base_check import blocks_per_step
from lightning_qsgd.tracking import report_scalars, tags
from lightning_qsgd.training.publishing import described, log_hyperparameters, publish


def announce_costs(trainer: Trainer, optimizers: Sequence[PerturbedOptimizer]) -> None:
    """Show the forecast of each optimizer whose circuits leave this machine or are limited.

    Args:
        trainer: Knows how many steps it will take.
        optimizers: The perturbed ones.

    Raises:
        ValueError: If a forecast exceeds the limit of its backend.
    """
    for optimizer in optimizers:
        backend = optimizer.perturbation.backend
        if not isinstance(backend, SamplerBackend) or optimizer.perturbation.is_off:
            continue
        if backend.recipe.local and backend.max_circuits is None:
            continue
        steps = trainer.estimated_stepping_batches
        blocks = blocks_per_step(optimizer.param_groups, optimizer.perturbation)
        learning = optimizer.perturbation.learning
        learns_weights = learning is not None and learning.weights_rate > 0
        if optimizer.perturbation.seen.reads_once and not learns_weights:
            steps = 1  # frozen circuits become a polynomial before the first step
        expected = forecast(backend, steps, blocks, learns_weights)
        rank_zero_info(f"The perturbation will take {expected} ({type(backend.recipe).__name__}).")
        expected.check(backend.max_circuits)


SLOW_SECONDS = 0.5
"""A perturbation that takes longer per step is worth a word, in seconds."""

SLOW_SHARE = 0.5
"""And only if it takes at least this share of the step."""

FIRST_STEPS = 3


class SlowCircuits:
    """Watches the first measured steps of one optimizer.

    The first one builds and transpiles circuits, so that the second is the first to count.
    """

    def __init__(self) -> None:
        self._seen = 0
        self._said = False

    @property
    def has_seen_enough(self) -> bool:
        """Whether the first steps are over: later ones are watched where they are measured."""
        return self._seen >= FIRST_STEPS

    def see(self, report: StepReport, step_seconds: float, backend: Backend) -> str | None:
        """Take note of a measured step; say once that its circuits are slow.

        Args:
            report: The step's report.
            step_seconds: What the whole training step took, in seconds.
            backend: What evaluates the circuits.

        Returns:
            What to tell the user; None if there is nothing to tell, or it was told.
        """
        self._seen += 1
        share = min(1.0, report.seconds / step_seconds) if step_seconds > 0 else 0.0
        slow = report.seconds >= SLOW_SECONDS and share >= SLOW_SHARE
        if self._said or self._seen < 2 or not slow or report.circuits == 0:
            return None
        self._said = True
        return (
            f"{step_seconds:.2g} s per step, {share:.0%} of it in {report.circuits:,} circuits; "
            f"{_advice(backend, report.circuits)}"
        )


def _advice(backend: Backend, circuits: int) -> str:
    fewer = "perturb fewer entries, or one step in several (`every` of Strength)."
    if not isinstance(backend, SamplerBackend) or not isinstance(backend.recipe, ExactSampling):
        return fewer
    try:
        compiled = CompiledBackend(backend.circuit, backend.weight_seed)
        time = short_time(forecast_step(compiled, circuits).seconds)
    except ValueError:  # a gate that only the reference knows, or too little memory
        return fewer
    return f"CompiledBackend gives the same numbers in {time}."


MODEL_EVERY = 10
"""Whole-model sizes are estimated at most at one step in this many."""


class PerturbationMonitor(Callback):
    """Writes the reports of the trainer's perturbed optimizers to its loggers.

    For optimizers that a module or a config has wrapped already; `PerturbationCallback` wraps and
    monitors.

    Attributes:
        relative_sizes: Size of the perturbation at each logged step, relative to the base step on
            the perturbed entries; of all optimizers together, see `together`.
        model_relative_sizes: Its size relative to the whole model's base step, where estimated.

    Example:
        >>> PerturbationMonitor().relative_sizes
        []
    """

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        """Forget an earlier fit."""
        self.relative_sizes: list[float] = []
        self.model_relative_sizes: list[float] = []
        self._seen: dict[int, StepReport | None] = {}
        self._steps: dict[int, int] = {}
        self._unlogged: dict[int, tuple[StepReport, float]] = {}
        self._slow: dict[int, SlowCircuits] = {}
        self._logged = 0
        self._start = 0.0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say what circuits will cost and refuse what exceeds a limit; name the perturbation.

        Raises:
            ValueError: If the training would evaluate more circuits than its backend allows.
        """
        optimizers = perturbed_optimizers(trainer)
        announce_costs(trainer, optimizers)
        self._begin()
        log_hyperparameters(trainer, pl_module, described_perturbations(optimizers))

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Start the clock and ask for a measurement if this step will be logged."""
        logs = bool(trainer.loggers) and trainer._logger_connector.should_update_logs
        log_every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        logged_per_model = max(1, MODEL_EVERY // max(1, log_every))
        for optimizer in perturbed_optimizers(trainer):
            watched = self._slow.setdefault(id(optimizer), SlowCircuits())
            if logs:
                optimizer.measure_next(model=self._logged % logged_per_model == 0)
            elif not watched.has_seen_enough:
                optimizer.measure_next(model=False)
            self._seen[id(optimizer)] = optimizer.report
            self._steps[id(optimizer)] = optimizer.own_state.steps
        self._start = perf_counter()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """If this batch is logged, log each optimizer's newest report that was not logged yet.

        Several optimizers have a number behind their tags. The sizes of all of them together stand
        under the tags without one, which comparisons read.

        It may be of an earlier step: where one step in several is perturbed, or optimizers take
        turns, the steps that are logged need not be those that are measured.
        """
        seconds = perf_counter() - self._start
        optimizers = perturbed_optimizers(trainer)
        for optimizer in optimizers:
            report = optimizer.report
            if report is not None and report is not self._seen.get(id(optimizer)):
                self._unlogged[id(optimizer)] = report, seconds
                self._watch_for_slow_circuits(trainer, optimizer, report, seconds)
        if not trainer._logger_connector.should_update_logs:
            return
        # Of batches whose gradients are accumulated, all count as logged: the one that steps is.
        stepped = any(o.own_state.steps > self._steps.get(id(o), 0) for o in optimizers)
        scalars: dict[str, float] = {}
        new: list[StepReport] = []
        for index, optimizer in enumerate(optimizers):
            suffix = f"/{index}" if len(optimizers) > 1 else ""
            if optimizer.own_state.skipped > 0:
                scalars[f"{tags.SKIPPED}{suffix}"] = float(optimizer.own_state.skipped)
            if stepped and id(optimizer) in self._unlogged:
                report, seconds = self._unlogged.pop(id(optimizer))
                new.append(report)
                measured = report_scalars(report, seconds).items()
                scalars.update({f"{tag}{suffix}": value for tag, value in measured})
        scalars.update(self._sizes(new))
        if scalars:
            self._logged += 1
            publish(trainer, scalars)

    def _sizes(self, reports: Sequence[StepReport]) -> dict[str, float]:
        """Keep the sizes of a step, and return them under the tags of a single optimizer."""
        scalars: dict[str, float] = {}
        if reports:
            self.relative_sizes.append(together(reports).relative_size)
            scalars[tags.RELATIVE_SIZE] = self.relative_sizes[-1]
        # What a gradient injection adds has no size beside the model's step.
        known = [report for report in reports if report.base_sum is not None]
        whole = together(known) if known else None
        if whole is not None and whole.model_relative_size is not None:
            self.model_relative_sizes.append(whole.model_relative_size)
            scalars[tags.MODEL_RELATIVE_SIZE] = whole.model_relative_size
            if whole.model_relative_size_error is not None:
                scalars[tags.MODEL_RELATIVE_SIZE_ERROR] = whole.model_relative_size_error
        return {tag: value for tag, value in scalars.items() if not isnan(value)}

    def _watch_for_slow_circuits(
        self, trainer: Trainer, optimizer: PerturbedOptimizer, report: StepReport, seconds: float
    ) -> None:
        watched = self._slow.get(id(optimizer))
        if watched is not None:
            message = watched.see(report, seconds, optimizer.perturbation.backend)
            if message is not None:
                rank_zero_info(message)
                if trainer.progress_bar_callback is not None:
                    trainer.progress_bar_callback.print(message)


def together(reports: Sequence[StepReport]) -> StepReport:
    """Report on several optimizers as if they were one: their squared norms add up.

    So the size is the norm of all that was added over that of all base steps, and an optimizer
    with small steps counts for little. Entries, circuits and seconds add up as well. What is
    learned is left out: each optimizer learns its own.

    Args:
        reports: At least one.
    """
    if len(reports) == 1:
        return reports[0]
    bases = [report.base_sum for report in reports]
    errors = [float(report.base_error or 0.0) for report in reports]
    is_known = all(base is not None for base in bases)
    as_tensor = partial(torch.tensor, dtype=torch.float64)
    return StepReport(
        touched=sum(report.touched for report in reports),
        total=sum(report.total for report in reports),
        circuits=sum(report.circuits for report in reports),
        seconds=sum(report.seconds for report in reports),
        # Optimizers may be on several devices, one of which may have no float64.
        sums=torch.stack([report.sums.cpu().double() for report in reports]).sum(0),
        base_sum=as_tensor(sum(float(base or 0.0) for base in bases)) if is_known else None,
        base_error=as_tensor(hypot(*errors)) if is_known and any(errors) else None,
    )


def described_perturbations(optimizers: Sequence[PerturbedOptimizer]) -> dict[str, Any]:
    """Name the perturbation, or each where optimizers have different ones.

    Args:
        optimizers: The perturbed optimizers of a trainer.
    """
    told = [described(optimizer.perturbation) for optimizer in optimizers]
    if told and all(each == told[0] for each in told):
        return {"perturbation": told[0]}
    return {f"perturbation_{index}": each for index, each in enumerate(told)}


def perturbed_optimizers(trainer: Trainer) -> list[PerturbedOptimizer]:
    """Return those of the trainer's optimizers that are perturbed."""
    return [o for o in trainer.strategy.optimizers if isinstance(o, PerturbedOptimizer)]
