"""One call of a perturbed optimizer's `step`: its form, its hooks, and when gradients are there.

The base gets what the caller passed in the form that it was passed. Only a closure is replaced, by
one that prepares the perturbation when it has returned for the first time.
"""

import inspect
import logging
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

from torch.optim import Optimizer
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

from lightning_qsgd.backends import SkippedStep
from lightning_qsgd.backends.evaluation import ChargedTo
from lightning_qsgd.optimizers.motion import MotionHook
from lightning_qsgd.optimizers.own_state import OwnState
from lightning_qsgd.optimizers.perturbed_step import PerturbedStep
from lightning_qsgd.optimizers.report import StepReport
from lightning_qsgd.optimizers.rows import steps_as_torch
from lightning_qsgd.optimizers.touched import EntriesCache
from lightning_qsgd.perturbations.blocks import MOVED, UNTOUCHED

Place = int | str | None
"""Where a closure stands: position, keyword, or None if there is none."""


class Call(NamedTuple):
    """The arguments of one call of `step`, without the optimizer."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def place_of_closure(self, step: Callable[..., Any]) -> Place:
        """Say where the closure stands.

        It is the argument named ``closure``. Where the step names none, the first argument that
        can be called is taken for it.

        Args:
            step: The base's step, which names its arguments.
        """
        if "closure" in self.kwargs:
            return "closure" if callable(self.kwargs["closure"]) else None
        position = _named_position(step)
        if position is not None:
            there = 0 <= position < len(self.args) and callable(self.args[position])
            return position if there else None
        places: list[Place] = [*range(len(self.args)), *self.kwargs]
        return next((place for place in places if callable(self.at(place))), None)

    def at(self, place: Place) -> Any:
        """Return the argument at a place."""
        return self.args[place] if isinstance(place, int) else self.kwargs[str(place)]

    def with_closure(self, place: Place, closure: Callable[..., Any]) -> "Call":
        """Return the same call with another closure."""
        if isinstance(place, int):
            return Call((*self.args[:place], closure, *self.args[place + 1 :]), self.kwargs)
        return Call(self.args, {**self.kwargs, str(place): closure})


def _named_position(step: Callable[..., Any]) -> int | None:
    """Return which positional argument a step calls ``closure``: -1 by name only, None for none."""
    if isinstance(step, partial):
        position = _named_position(step.func)
        is_given = "closure" in step.keywords or (position or 0) < len(step.args)
        return None if position is None else -1 if is_given else position - len(step.args)
    function = getattr(step, "__func__", None)
    return _position_in(step, False) if function is None else _position_in(function, True)


@lru_cache(maxsize=64)
def _position_in(function: Callable[..., Any], is_method: bool) -> int | None:
    """The same; `is_method` where a call of the step puts the optimizer in front by itself."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # compiled code may tell nothing
        return None
    if "closure" not in parameters:
        return None
    if parameters["closure"].kind is inspect.Parameter.KEYWORD_ONLY:
        return -1
    # A function that wraps another has its names. Around a bound method these lack the optimizer;
    # around that of a class they have it, even where the wrapper adds it, as schedulers do.
    names = list(parameters)
    inner = inspect.unwrap(function, stop=inspect.ismethod)
    counted = is_method and not inspect.ismethod(inner)
    return names.index("closure") - (counted or names[0] == "self")


def has_hooks(optimizer: Optimizer) -> bool:
    """Whether an optimizer has step hooks besides the one that watches a base."""
    own = optimizer.__dict__
    if own.get("_optimizer_step_pre_hooks"):
        return True
    after: Any = own.get("_optimizer_step_post_hooks")
    return bool(after) and not _WATCHES.issuperset(map(type, after.values()))


_WATCHES = frozenset({MotionHook})


def inside_hooks(owners: Sequence[Optimizer], call: Call, step: Callable[[Call], Any]) -> Any:
    """Take a step with the step hooks of wrapper and base around all of it.

    Around the base's part alone they would see weights that the perturbation moves again: a
    projection would be undone, an average would be of other weights. torch runs hooks by patching
    `step`, so those of a base are silent while it steps; see `inside_global_hooks` for others.

    Args:
        owners: Optimizers, from the outside to the inside; their hooks stay theirs.
        call: How the step was called.
        step: Takes it.

    Raises:
        RuntimeError: If a pre-hook returns something else than None or (args, kwargs).
    """
    if not owners:
        return step(call)
    owner, *inner = owners
    if not has_hooks(owner):
        return inside_hooks(inner, call, step)
    call = _after_pre_hooks(owner, call)
    own: list[Any] = [owner._optimizer_step_pre_hooks, owner._optimizer_step_post_hooks]
    known = [dict(hooks) for hooks in own]
    for hooks in own:  # silenced in their places, where their handles still find and remove them
        for key in [key for key, hook in hooks.items() if not isinstance(hook, MotionHook)]:
            hooks[key] = _silent
    try:
        result = inside_hooks(inner, call, step)
    finally:
        for hooks, before in zip(own, known, strict=True):
            hooks.update({key: hook for key, hook in before.items() if key in hooks})
    for key, hook in known[1].items():  # torch has called what was added during the step
        if key in own[1] and not isinstance(hook, MotionHook):
            hook(owner, (owner, *call.args), call.kwargs)
    return result


def _silent(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
    """Stand in for a hook that has run already, or will."""


def has_global_hooks(base: Optimizer) -> bool:
    """Whether torch runs hooks of all optimizers around a base's step."""
    if not (_global_optimizer_pre_hooks or _global_optimizer_post_hooks):
        return False
    replaced = vars(base).get("step")  # such as by a scheduler, which calls the one of the class
    is_called = replaced is None or hasattr(replaced, "_wrapped_by_lr_sched")
    return is_called and hasattr(type(base).step, "hooked")


def inside_global_hooks(
    base: Optimizer,
    prepared: "Preparation",
    finish: Callable[[], None],
    step: Callable[[], Any],
) -> Any:
    """Take a step of a base with torch's global hooks around all of it.

    A global hook may clip gradients or project weights. torch runs those before a step ahead of the
    optimizer's own hooks, and those after it behind them. So the perturbation enters by own ones,
    the last before the step and the first after it.

    Args:
        base: One for which `has_global_hooks` is true.
        prepared: Prepares when the global hooks have seen the gradients, where it is due then.
        finish: Applies the perturbation, once: before the global hooks see the weights.
        step: Takes the base's step.
    """
    depth = 0  # a step may call that of the class above, which runs the hooks again

    def enter(*_: Any) -> None:
        nonlocal depth
        depth += 1
        if depth == 1 and prepared.early and not prepared.evaluated:
            prepared.at_once()

    def leave(*_: Any) -> None:
        nonlocal depth
        depth -= 1
        if depth == 0:
            finish()

    handles = base.register_step_pre_hook(enter), base.register_step_post_hook(leave)
    after: Any = base._optimizer_step_post_hooks
    after.move_to_end(handles[1].id, last=False)  # before the base's own
    try:
        return step()
    finally:
        for handle in handles:
            handle.remove()


def _after_pre_hooks(owner: Optimizer, call: Call) -> Call:
    for hook in list(owner._optimizer_step_pre_hooks.values()):
        changed = hook(owner, (owner, *call.args), call.kwargs)
        if changed is None:
            continue
        if not (isinstance(changed, tuple) and len(changed) == 2):
            raise RuntimeError(
                f"A step pre-hook returned {changed!r}: the step cannot be called with it. Return "
                "None or a tuple (args, kwargs)."
            )
        call = Call(tuple(changed[0][1:]), dict(changed[1]))
    return call


class Preparation:
    """Prepares one step when its gradients are there.

    Args:
        make: Makes the step, unprepared.
        cache: Finds the touched entries.
        state: Counts circuits and skipped steps.
        early: Whether to prepare from the gradients that are there before the step, since the base
            has no closure or may ignore it.

    Attributes:
        step: The step, prepared or not.
        early: The same.
        evaluated: Whether the base has evaluated its closure.
        finished: Whether the base has moved, and the step was applied.
        report: Of the sizes, once applied, if one was asked for.
    """

    def __init__(
        self, make: Callable[[], PerturbedStep], cache: EntriesCache, state: OwnState, early: bool
    ) -> None:
        self._make = make
        self._cache = cache
        self._state = state
        self._skipped = state.skipped
        self._memory = dict(state.memory)
        self.step = make()
        self.early = early
        self.evaluated = False
        self.finished = False
        self.report: StepReport | None = None

    def at_once(self) -> None:
        """Prepare from the gradients that are there; skip the step where its backend asks for it.

        All circuits of a step are one evaluation, so a step is skipped as a whole or not at all.

        Raises:
            RuntimeError: If as many steps were skipped as the policy allows.
        """
        cache, state = self._cache, self._state
        try:
            if cache.evaluates_circuits:
                with ChargedTo(state):
                    self.step.prepare(cache, state.memory)
            else:
                self.step.prepare(cache, state.memory)
        except SkippedStep as request:
            _count_skipped(state, request, UNTOUCHED, state.steps)

    def apply(self) -> None:
        """Apply the step, once the base has moved and was counted; skip it where asked for.

        Raises:
            RuntimeError: If as many steps were skipped as the policy allows.
        """
        self.finished = True
        try:
            self.report = self.step.apply()
        except SkippedStep as request:
            self.step.let_go()
            _count_skipped(self._state, request, MOVED, self._state.steps - 1)

    def undo(self) -> None:
        """Give back what preparing has changed: the base raised before it had moved."""
        if self.finished:
            return
        self.step.restore()
        self._forget()

    def _forget(self) -> None:
        self._state.skipped = self._skipped
        self._state.memory = dict(self._memory)

    def recording(self, closure: Callable[..., Any], base: Optimizer) -> Callable[..., Any]:
        """Return a closure that prepares when it has run for the first time.

        What was prepared before, in case the base ignores its closure, is forgotten then. torch's
        own optimizers evaluate before they move; of others theta_t is kept from now on.

        Args:
            closure: Evaluates the model.
            base: Will call it; nothing has moved yet.
        """
        later = self._make() if self.early else self.step
        if not steps_as_torch(base):
            later.stand(self._cache)

        def recorded(*args: Any, **kwargs: Any) -> Any:
            self.step.restore()
            loss = closure(*args, **kwargs)
            if not self.evaluated:
                self.evaluated = True
                if self.early:
                    self._forget()
                self.step = later
                self.at_once()
            return loss

        return recorded


_LOGGER = logging.getLogger(__name__)


def _count_skipped(state: OwnState, request: SkippedStep, moved: str, step: int) -> None:
    """Count a step that goes without its perturbation, and log it.

    Args:
        state: Counts skipped steps.
        request: Of the policy, with its limit and its reason.
        moved: Where the parameters are, for the message.
        step: Number of the step, counted from 0.

    Raises:
        RuntimeError: If as many steps were skipped as the policy allows.
    """
    if state.skipped >= request.limit:
        raise RuntimeError(
            f"Cannot skip another step: the circuits failed at {state.skipped} steps before, "
            f"and the limit of SkipOnFailure is {request.limit}. The last failure is "
            f"{request.reason}. {moved}; repair the backend, or raise `limit`."
        ) from request
    state.skipped += 1
    _LOGGER.warning(
        "Step %d is taken without its perturbation (%d skipped so far): %s",
        *(step, state.skipped, request.reason),
    )
