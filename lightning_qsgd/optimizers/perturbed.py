"""A torch optimizer that perturbs the steps of another one.

    step(closure):
        theta_t, g_t <- read when the closure has returned for the first time, or at once
        Q            <- u(theta_t) * g_t, before any parameter moves
        theta        <- base.step(closure)
        theta        <- theta - lr * strength * Q, on the chosen coordinates

Reading inside the closure is what makes it correct under Lightning, where forward, backward,
accumulation and clipping all happen there.
"""

import sys
import warnings
from collections import OrderedDict
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Self

from torch.optim import Optimizer

from lightning_qsgd.optimizers.base_check import (
    ROUNDED_AWAY,
    check_base,
    check_groups,
    has_lazy,
    has_low_precision,
    is_dry_run,
    refuse_scaled_gradients,
)
from lightning_qsgd.optimizers.calls import (
    Call,
    Place,
    Preparation,
    has_global_hooks,
    has_hooks,
    inside_global_hooks,
    inside_hooks,
)
from lightning_qsgd.optimizers.identity import StandIn, class_for, is_made, keeps, own_class
from lightning_qsgd.optimizers.learning import LearningStep
from lightning_qsgd.optimizers.motion import CopyWatch, MotionSample, MotionWatch
from lightning_qsgd.optimizers.own_state import Learned, OwnState
from lightning_qsgd.optimizers.perturbed_step import Measured, PerturbedStep
from lightning_qsgd.optimizers.report import SizeWatch, StepReport
from lightning_qsgd.optimizers.rows import steps_as_torch
from lightning_qsgd.optimizers.touched import EntriesCache
from lightning_qsgd.perturbations import Perturbation

STATE_KEY = "quantum_perturbation"
MEASURE_EVERY = 50
_KEPT = ("base", "perturbation", "own_state", "measure_every", "measure_model_every")
_FIXED = ("base", "perturbation")
_REPLACED = (
    "Cannot replace the `{}` of a wrapped {}: its schedule, the touched entries and what was "
    "learned belong to the old one. Wrap the base anew: PerturbedOptimizer(optimizer.base, "
    "perturbation); for a strength that changes, give a Strength."
)
_CLOSURE_IGNORED = (
    "{} did not evaluate its closure at this step, as it did before: this step was not perturbed. "
    "From now on the perturbation is also computed from the gradients that are there before a step."
)


class PerturbedOptimizer(StandIn):
    """Wraps any torch optimizer and perturbs its steps.

    The wrapper shares `param_groups`, `state` and `defaults` with its base, so schedulers,
    gradient scalers, clipping and checkpoints see one truth. Everything else that the base has is
    read, written and called on the base. The wrapper's class is made for the base's class: it has
    its name and is a subclass of both. A step of strength 0 is the base's own step, bit for bit.

    A subclass keeps the attributes that it annotates; others that it sets go to the base.

    Args:
        base: The optimizer to wrap.
        perturbation: What to add to its steps; Eq. 1 and 2 with strength 0.5 by default.

    Attributes:
        base: The wrapped optimizer.
        perturbation: The description of what is added.
        own_state: Counters of steps taken and perturbed, and what was learned.
        report: Sizes measured at the last measured step; None before.
        measure_every: Measure the perturbation's size at one due step in this many; 0 never does.
        measure_model_every: Likewise against the whole model's step; None where asked for.

    Raises:
        TypeError: If `base` is no complete torch optimizer, it or an optimizer inside it is
            perturbed already, or its parameters are flattened, or sharded in a way that hides
            their entries.
        ValueError: If a group has no ``lr`` although the injection needs one, or is to be
            differentiated through.

    Example:
        >>> import torch
        >>> theta = torch.nn.Parameter(torch.tensor([0.5]))
        >>> base = torch.optim.SGD([theta], lr=0.1)
        >>> optimizer = PerturbedOptimizer(base, Perturbation(strength=0.5))
        >>> theta.grad = torch.tensor([1.0])
        >>> optimizer.step()  # 0.5 - 0.1 * 1 - 0.1 * 0.5 * sin(pi / 2) * 1
        >>> round(theta.item(), 6)
        0.35
        >>> type(optimizer).__name__, isinstance(optimizer, torch.optim.SGD)
        ('SGD', True)

    References:
        arXiv:2511.01918, Eq. 1 and 2.
    """

    known_as: ClassVar[str | None] = None
    """Name of the classes that are made for bases; that of the base's class if None."""

    base: Optimizer
    perturbation: Perturbation
    own_state: OwnState
    measure_every: int
    measure_model_every: int | None
    _asked: tuple[str, ...]
    _sample: MotionSample
    report: StepReport | None
    _cache: EntriesCache
    _watch: SizeWatch
    _motion: MotionWatch
    _motion_told: int
    _copies: CopyWatch
    _heeds_closure: bool | None
    _awaits_shapes: bool
    _optimizer_step_pre_hooks: Any
    _optimizer_step_post_hooks: Any

    def __init__(self, base: Optimizer, perturbation: Perturbation | None = None) -> None:
        perturbation = Perturbation() if perturbation is None else perturbation
        if isinstance(base, PerturbedOptimizer):
            raise TypeError(
                "Cannot perturb an optimizer that is perturbed already: it would be perturbed "
                "twice per step. Pass its `base`, or keep one of the two perturbations."
            )
        check_base(base, perturbation)
        check_groups(base.param_groups, perturbation)
        if not perturbation.is_off:
            perturbation.backend.check_ready()
        self.base = base
        self._describe(perturbation)
        self.measure_every = MEASURE_EVERY
        self.measure_model_every = None
        self._start_afresh()
        self.__class__ = type(self)._class_around(type(base))
        self._warn_of_low_precision()

    @classmethod
    def _class_around(cls, base: type[Optimizer]) -> type[Self]:
        return class_for(cls, base, cls.known_as or base.__name__)

    def _describe(self, perturbation: Perturbation) -> None:
        """Set what is added from now on; counters and what is learned start anew."""
        vars(self)["perturbation"] = perturbation
        self.own_state = OwnState(learned=Learned.fresh(perturbation))

    def _start_afresh(self) -> None:
        """Set what neither checkpoints nor pickles keep."""
        self.report = None
        self._cache = EntriesCache(self.perturbation)
        self._watch = SizeWatch()
        self._asked = ()
        self._sample = MotionSample()
        self._motion = MotionWatch(self.base)
        self._motion_told = 0
        self._copies = CopyWatch(self.base, self.perturbation)
        self._heeds_closure = steps_as_torch(self.base) or None
        self._awaits_shapes = has_lazy(self.param_groups)
        self._optimizer_step_pre_hooks = OrderedDict()
        self._optimizer_step_post_hooks = OrderedDict()

    @property
    def _step_supports_amp_scaling(self) -> Any:
        # A gradient scaler leaves unscaling and skipping to optimizers that support it; the
        # perturbation would then see scaled gradients and move parameters on an inf step.
        raise AttributeError("_step_supports_amp_scaling")

    def __getattr__(self, name: str) -> Any:
        # Special methods such as __deepcopy__ would return the base alone.
        if name in _KEPT or name == "_step_supports_amp_scaling" or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.base, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _FIXED and name in vars(self):
            raise AttributeError(_REPLACED.format(name, type(self.base).__name__))
        if keeps(self, name):
            object.__setattr__(self, name, value)
        else:
            setattr(self.base, name, value)

    def __delattr__(self, name: str) -> None:
        if keeps(self, name):
            object.__delattr__(self, name)
        else:
            delattr(self.base, name)

    def step(self, *args: Any, **kwargs: Any) -> Any:
        """Take one perturbed step; called as the base's step is called.

        A closure among the arguments re-evaluates the model and returns the loss. The perturbation
        is computed when it has returned for the first time; where there is none, or the base does
        not evaluate it, from the gradients that are there.

        Args:
            args: Passed to the base, a closure replaced.
            kwargs: Passed to the base likewise.

        Returns:
            What the base's step returns.

        Raises:
            FloatingPointError: If the circuit's readout is not finite. No parameter has moved.
            RuntimeError: If more steps fail, or more circuits are needed, than the backend allows,
                or the gradients are still scaled. No parameter has moved.
        """
        self.base._opt_called = True  # type: ignore[attr-defined]
        strength = self.perturbation.schedule.at(self.own_state.steps)
        has_own = self._optimizer_step_pre_hooks or self._optimizer_step_post_hooks
        if has_own or has_hooks(self.base):
            is_bare = strength == 0 and not self.own_state.awaits_gradient
            # torch runs those of a bare step in its own order, as it does around global ones.
            owners = (self,) if is_bare or has_global_hooks(self.base) else (self, self.base)
            return inside_hooks(owners, Call(args, kwargs), partial(self._whole_step, strength))
        return self._whole_step(strength, Call(args, kwargs))

    # Schedulers count steps by patching `step`, unless it says that it counts itself; they also
    # warn when it was replaced after they were built on the base.
    step._wrapped_by_lr_sched = True  # type: ignore[attr-defined]

    def _whole_step(self, strength: float, call: Call) -> Any:
        place = call.place_of_closure(self.base.step) if call.args or call.kwargs else None
        if place is None and not getattr(self.base, "state", True) and is_dry_run(self.base):
            return self._base_step(call)
        if strength > 0 or self.own_state.awaits_gradient:
            return self._perturbed_step(strength, call, place)
        result = self._base_step(call)
        self.own_state.steps += 1
        return result

    def _perturbed_step(self, strength: float, call: Call, place: Place) -> Any:
        if getattr(self.base, "_step_supports_amp_scaling", False):
            refuse_scaled_gradients(self.base)
        if self._awaits_shapes and not has_lazy(self.param_groups):
            check_groups(self.param_groups, self.perturbation)
            self._awaits_shapes = False
        if self._motion.past > self._motion_told:
            self._warn_of_motion()
        early = place is None or not self._heeds_closure
        make = partial(self._new_step, strength)
        prepared = Preparation(make, self._cache, self.own_state, early)
        globally = has_global_hooks(self.base)
        if early and not globally:
            prepared.at_once()
        if place is not None:
            call = call.with_closure(place, prepared.recording(call.at(place), self.base))
        try:
            if globally:
                finish = partial(self._finish, prepared, strength)
                take = partial(self._base_step, call)
                result = inside_global_hooks(self.base, prepared, finish, take)
            else:
                result = self._base_step(call)
        except BaseException:
            prepared.undo()
            raise
        if place is not None:
            self._note_closure(prepared.evaluated)
        self._finish(prepared, strength)
        if prepared.report is not None:
            self.report, self._asked = prepared.report, ()
        self._watch.see(prepared.report, self.own_state, self._cache.chooses_nothing)
        return result

    def _finish(self, prepared: Preparation, strength: float) -> None:
        """Count a step whose base has moved, and apply its perturbation, once."""
        if prepared.finished:
            return
        state = self.own_state
        state.steps += 1  # whatever comes now
        state.due += strength > 0
        if self._copies.watching:
            self._copies.see(self.base)
        prepared.apply()
        state.applied += prepared.step.is_prepared
        state.learned = prepared.step.learned

    def _new_step(self, strength: float) -> PerturbedStep:
        state = self.own_state
        every = self.measure_every, self.measure_model_every
        measured = Measured.at(state.due, every, self._asked, self._sample)
        kind = LearningStep if state.learned else PerturbedStep
        return kind(self.perturbation, self.base, state, strength, measured)

    def _base_step(self, call: Call) -> Any:
        self._motion.inside = True
        try:
            return self.base.step(*call.args, **call.kwargs)
        finally:
            self._motion.inside = False

    def _note_closure(self, evaluated: bool) -> None:
        """Remember whether the base evaluates closures: until it is known to, prepare at once."""
        if self._heeds_closure and not evaluated:
            warnings.warn(_CLOSURE_IGNORED.format(type(self.base).__name__), stacklevel=5)
        known = self._heeds_closure is not None
        self._heeds_closure = evaluated and (self._heeds_closure is True or not known)

    def _warn_of_motion(self) -> None:
        self._motion_told = sys.maxsize
        warnings.warn(
            f"{self._motion.last} took a step past the wrapper, which was not perturbed. Call "
            "`step` of the wrapper instead of methods that step the optimizer inside it.",
            stacklevel=5,
        )

    @property
    def steps_past(self) -> int:
        """Steps that the base, or an optimizer inside it, took past this wrapper."""
        return self._motion.past

    def measure_next(self, model: bool = False) -> None:
        """Ask for a report of the next perturbed step, and of the `model`; none where 0 is set."""
        self._asked = ("entries", "model") if model else ("entries",)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a parameter group to the base; its entries are perturbed from then on.

        Raises:
            TypeError, ValueError: If the group cannot be perturbed; it is then not added.
        """
        before = len(self.param_groups)
        self.base.add_param_group(param_group)
        try:
            check_groups(self.param_groups, self.perturbation)
        except (TypeError, ValueError):
            del self.param_groups[before:]
            raise
        self._warn_of_low_precision()

    def _warn_of_low_precision(self) -> None:
        if not self.perturbation.is_off and has_low_precision(self.param_groups):
            warnings.warn(ROUNDED_AWAY, stacklevel=3)

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return the base's state with the perturbation's own under one extra key.

        The base, or any optimizer of its class, loads it as it is. Arguments go to the base.
        """
        return {**self.base.state_dict(*args, **kwargs), STATE_KEY: self.own_state.to_dict()}

    def load_state_dict(self, state_dict: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        """Load a state of this class or of the plain base; the latter leaves the counters alone.

        Args:
            state_dict: The state.
            args: Go to the base, as do `kwargs`.
            kwargs: Go to the base.

        Raises:
            ValueError: If the state does not fit the base, or the counters are damaged.
        """
        own = replace(self.own_state)
        own.forget_pending()
        if STATE_KEY in state_dict:
            own.load(state_dict[STATE_KEY], self.param_groups)
        plain = {key: value for key, value in state_dict.items() if key != STATE_KEY}
        self.base.load_state_dict(plain, *args, **kwargs)
        self.own_state = own

    # These two stay here, even where the base's class has its own: they run around the whole step.
    register_step_pre_hook = Optimizer.register_step_pre_hook
    register_step_post_hook = Optimizer.register_step_post_hook

    def __reduce_ex__(self, protocol: Any) -> Any:
        if not is_made(type(self)):
            return super().__reduce_ex__(protocol)
        return _unset, (own_class(self), type(self.base)), self.__getstate__()

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _KEPT}

    def __setstate__(self, state: dict[str, Any]) -> None:
        own = {name: state[name] for name in _KEPT if name in state}
        if own:
            self.__dict__.update(own)
            self._start_afresh()
        if len(own) < len(state):  # such as {"state": ...}, which resets an optimizer
            self.base.__setstate__({k: v for k, v in state.items() if k not in own})

    def __repr__(self) -> str:
        return f"{own_class(self).__name__}({self.perturbation}, base={self.base!r})"


def _unset(own: type[PerturbedOptimizer], base: type[Optimizer]) -> PerturbedOptimizer:
    """Make a wrapper without attributes, for copies and pickles to fill."""
    kind = own._class_around(base)
    return kind.__new__(kind)
