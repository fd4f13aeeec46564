"""One perturbed step: what is computed before the base optimizer moves, and applied after."""

from collections.abc import Callable, Iterator
from functools import partial
from time import perf_counter
from typing import Any, NamedTuple, TypeVar

from torch import Tensor
from torch.optim import Optimizer

from lightning_qsgd.optimizers.entries import Entries
from lightning_qsgd.optimizers.injector import DirectInjector, Injector
from lightning_qsgd.optimizers.motion import Estimate, MotionSample, Snapshot
from lightning_qsgd.optimizers.own_state import Learned, OwnState
from lightning_qsgd.optimizers.report import StepReport, measure
from lightning_qsgd.optimizers.rows import (
    parameters_of,
    real_numel,
)
from lightning_qsgd.optimizers.touched import EntriesCache, Standing
from lightning_qsgd.perturbations import Perturbation
from lightning_qsgd.perturbations.blocks import Blocks
from lightning_qsgd.perturbations.features import Reader, Seen
from lightning_qsgd.perturbations.step import ParamGroups, TouchedStep, decoupled_decay

T = TypeVar("T")


class Measured(NamedTuple):
    """What is measured at a step: sizes on the perturbed entries, and by a sample of the model."""

    entries: bool
    model: MotionSample | None

    @staticmethod
    def at(
        due: int,
        every: tuple[int, int | None],
        asked: tuple[str, ...],
        sample: MotionSample,
    ) -> "Measured":
        """Say what is measured at a step; what the user set to 0 never is, even if asked for.

        Args:
            due: Due steps before this one.
            every: Entries and model are measured at one due step in so many; None for the model
                only where it is asked for.
            asked: Of "entries" and "model", what is asked for at this step.
            sample: By which the whole model's step is estimated.
        """
        entries_every, model_every = every
        asked = asked if entries_every else ()
        model = bool(model_every and due % model_every == 0)
        model = model or ("model" in asked and model_every != 0)
        if model or "entries" in asked or (entries_every and due % entries_every == 0):
            return Measured(True, sample if model else None)
        return _NOTHING


_NOTHING = Measured(False, None)


class PerturbedStep:
    """Carries one step's data from the gradient to the perturbed parameters.

    Args:
        perturbation: What to add.
        base: The base optimizer, which holds parameter groups and state.
        state: Its counters tell which step this is.
        strength: The schedule's, at this step.
        measured: What to measure.
    """

    learned: Learned | None = None
    """What is known after this step, where something is learned."""

    is_prepared = False
    """Whether the perturbation is known, and is to be added once the base has moved."""

    _snapshot: Snapshot | None = None
    _standing: Standing | None = None
    _circuits = 0
    _evaluates = False
    _seconds = 0.0

    def __init__(
        self,
        perturbation: Perturbation,
        base: Optimizer,
        state: OwnState,
        strength: float,
        measured: Measured,
    ) -> None:
        self._perturbation = perturbation
        self._base = base
        self._groups: ParamGroups = base.param_groups
        self._step, self._due = state.steps, state.due
        self._strength = strength
        self._measured = measured
        self._injectors: list[Injector] = []

    def stand(self, cache: EntriesCache) -> None:
        """Keep theta_t until `prepare`: the base may move before it evaluates its closure.

        Sharded parameters, which all processes must read together, are read in `prepare`.
        """
        if self._strength == 0:
            return
        self._standing = cache.standing(self._groups, self._due)
        if self._measured.model is not None and self._moves_parameters:
            self._snapshot = self._measured.model.start(self._groups, expected=True)

    def prepare(self, cache: EntriesCache, memory: dict[str, Tensor]) -> None:
        """Read theta_t and g_t and evaluate the circuits; no parameter moves.

        Args:
            cache: Finds the touched entries.
            memory: What the injection keeps from step to step.

        Raises:
            FloatingPointError: If the backend returns a readout that is not finite.
        """
        start = perf_counter() if self._measured.entries else 0.0
        touched = cache.at(self._groups, self._due)
        self._without_gradients = cache.without_gradients
        if touched is not None:
            self._entries, self._blocks = entries, blocks = touched
            with self._without_gradients:
                for injector in self._new_injectors(cache, entries, blocks, memory):
                    injector.before_base_step(self._measured.entries)
                    self._injectors.append(injector)
                if self._measured.model is not None and self._moves_parameters:
                    self._snapshot = self._snapshot or self._measured.model.start(self._groups)
            self._standing = None
            self.is_prepared = True
        if self._measured.entries:
            self._seconds = perf_counter() - start

    def restore(self) -> None:
        """Undo what `prepare` changed: the base raised, or is about to evaluate again."""
        for injector in self._injectors:
            injector.restore()

    def let_go(self) -> None:
        """Add nothing, or nothing more: the circuits failed after the base had moved."""
        self._injectors.clear()
        self.is_prepared = False

    def apply(self) -> StepReport | None:
        """Apply the perturbation after the base step; return a report if one was asked for.

        Nothing here is recorded by autograd: the entries are read and written through detached
        views, and what was computed before was computed without it.
        """
        injectors = self._injectors  # each is let go of when it has ended: it holds many vectors
        if not injectors:
            return None
        with self._without_gradients:
            for injector in injectors:
                injector.entries = injector.entries.where_now()
            if not self._measured.entries:
                while injectors:
                    injectors.pop(0).after_base_step()
                return None
            start = perf_counter()
            whole = self._snapshot.squared_distance() if self._snapshot else None
            sums = _applied_and_measured(injectors.pop(0))
            while injectors:
                sums = sums + _applied_and_measured(injectors.pop(0))
            return self._report(sums, whole, self._seconds + perf_counter() - start)

    def _new_injectors(
        self, cache: EntriesCache, entries: Entries, blocks: Blocks, memory: dict[str, Tensor]
    ) -> Iterator[Injector]:
        if cache.is_direct:
            read = None if cache.is_sine else self._reader_of(cache, entries, blocks)
            theta = self._theta_of(entries)
            yield DirectInjector(entries, theta, self._groups, self._strength, read)
            return
        reader = self._reader_of(cache, entries, blocks)
        # What is computed once the base has moved exists for one part at a time.
        parts = entries.parts
        if len(parts) > 1 and not self._works_by_tensor:
            parts = (entries,)
        for part in parts:
            yield self._injector_for(part, self._seen_of(part, memory, cache.kept), reader)

    def _theta_of(self, entries: Entries) -> Tensor:
        stood = self._standing
        return entries.read_parameters() if stood is None else stood.at(entries)

    @property
    def _moves_parameters(self) -> bool:
        return self._perturbation.injection.enters == "update"

    @property
    def _works_by_tensor(self) -> bool:
        """Whether tensors can be perturbed one after the other, once the base has moved."""
        injection, features = self._perturbation.injection, self._perturbation.seen
        alone = injection.by_tensor and self._moves_parameters and features.reads_once
        return alone and self.learned is None

    def _seen_of(
        self, entries: Entries, memory: dict[str, Tensor], kept: dict[str, Any]
    ) -> TouchedStep:
        """Read what is known of the step before the base moves."""
        perturbation, injection = self._perturbation, self._perturbation.injection
        needs_base_step = injection.needs_base_step or perturbation.seen.needs_base_step
        step = TouchedStep(
            entries.rows,
            entries.sizes,
            entries.group_bounds,
            self._groups,
            self._base.state,
            self._theta_of(entries),
            (perturbation.seed, self._step),
            self._strength,
            [decoupled_decay(group) for group in self._groups] if needs_base_step else (),
            memory,
            kept=kept,
        )
        # Whatever may fail runs while theta and g are still what they were: nothing is undone then.
        if not injection.modulated:
            backend = perturbation.backend
            step.evaluated = self._together(entries, lambda: injection.evaluate(backend, step))
        return step

    def _reader_of(self, cache: EntriesCache, entries: Entries, blocks: Blocks) -> Reader:
        """Prepare the evaluation of u; what may fail does so before the base moves."""
        if not self._perturbation.injection.modulated:
            return _nothing
        weights = None if self.learned is None else self.learned.weights
        if self._perturbation.backend.separable:
            reader, self._evaluates = cache.reader(blocks, self._step, weights)
            return reader
        make = partial(cache.reader, blocks, self._step, weights)
        if self._perturbation.seen.reads_once:
            reader, self._evaluates = entries.together(make)
        else:
            read, self._evaluates = make()

            def reader(seen: Seen) -> Tensor:
                return entries.together(partial(read, seen))

        return reader

    def _injector_for(self, entries: Entries, step: TouchedStep, reader: Reader) -> Injector:
        features = self._perturbation.seen
        modulate = partial(features.modulation, reader=reader)
        return Injector(self._perturbation, entries, step, modulate)

    def _together(self, entries: Entries, evaluate: Callable[[], T]) -> T:
        """Evaluate circuits, which fail on all processes or on none; a closed form cannot fail."""
        separable = self._perturbation.backend.separable
        return evaluate() if separable else entries.together(evaluate)

    def _report(self, sums: Tensor, whole: Estimate | None, seconds: float) -> StepReport:
        total = sum(real_numel(parameter) for parameter in parameters_of(self._groups))
        backend, features = self._perturbation.backend, self._perturbation.seen
        circuits = self._circuits
        if self._evaluates:
            circuits += backend.circuits_for(features.circuits(backend, self._blocks.total))
        return StepReport(self._entries.total, total, circuits, seconds, sums, *(whole or ()))


def _applied_and_measured(injector: Injector) -> Tensor:
    base_step = injector.compared_with()
    injector.after_base_step()
    return measure(injector.added, base_step)


def _nothing(seen: Seen) -> Tensor:
    raise NotImplementedError("an injection that no circuit modulates asks for no modulation")
