"""The class of a wrapper: made for the class of its base, named like it, and a subclass of it.

Programs choose by class: ``isinstance(optimizer, SGD)`` in a finetuning callback, ``lr-AdamW`` in
a learning-rate monitor. A wrapper must therefore look like its base, while what it inherits from
the base's class runs on the base itself, which holds the state.
"""

from types import FunctionType, new_class
from typing import Any, TypeVar

from torch.optim import Optimizer

_OWN_NAMES = "_own_names"
_NO_COPIES = ("__copy__", "__deepcopy__")


class StandIn(Optimizer):
    """What a wrapper shares with its base, or hands on to it as it was called.

    Attributes:
        base: The wrapped optimizer.
        perturbation: The description of what is added.
    """

    base: Optimizer
    perturbation: Any

    def __init_subclass__(cls, **kwargs: Any) -> None:
        if is_made(cls):  # what a base's class does with its subclasses, it must not do with these
            return
        super().__init_subclass__(**kwargs)
        if any(map(is_made, cls.__mro__)):  # made by a trainer, for its wrapper of a wrapper
            read_from_inside(cls)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The base's parameter groups."""
        return self.base.param_groups

    @param_groups.setter
    def param_groups(self, groups: list[dict[str, Any]]) -> None:
        self.base.param_groups = groups

    @property
    def state(self) -> Any:
        """The base's state."""
        return self.base.state

    @state.setter
    def state(self, state: Any) -> None:
        self.base.state = state

    @property
    def defaults(self) -> dict[str, Any]:  # type: ignore[override]
        """The base's defaults."""
        return self.base.defaults

    def zero_grad(self, *args: Any, **kwargs: Any) -> None:
        """Clear the gradients; see the base."""
        self.base.zero_grad(*args, **kwargs)

    def register_state_dict_pre_hook(self, hook: Any, prepend: bool = False) -> Any:
        """Register the hook on the base, whose `state_dict` runs it."""
        return self.base.register_state_dict_pre_hook(hook, prepend)

    def register_state_dict_post_hook(self, hook: Any, prepend: bool = False) -> Any:
        """Register the hook on the base, whose `state_dict` runs it."""
        return self.base.register_state_dict_post_hook(hook, prepend)

    def register_load_state_dict_pre_hook(self, hook: Any, prepend: bool = False) -> Any:
        """Register the hook on the base, whose `load_state_dict` runs it."""
        return self.base.register_load_state_dict_pre_hook(hook, prepend)

    def register_load_state_dict_post_hook(self, hook: Any, prepend: bool = False) -> Any:
        """Register the hook on the base, whose `load_state_dict` runs it."""
        return self.base.register_load_state_dict_post_hook(hook, prepend)


class FromInside:
    """An attribute of a trainer's wrapper around a wrapper: it is that of the one inside.

    Lightning and Fabric copy the attributes of an optimizer once, when they wrap it. What was set
    on their copy would not arrive, and what changes inside would not show.

    Args:
        name: The attribute's name.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, outer: Any, owner: Any = None) -> Any:
        inner = None if outer is None else vars(outer).get("_optimizer")
        if inner is not None:
            return getattr(inner, self._name)
        if outer is None or self._name not in vars(outer):
            raise AttributeError(self._name)
        return vars(outer)[self._name]

    def __set__(self, outer: Any, value: Any) -> None:
        inner = vars(outer).get("_optimizer")
        if inner is None:
            vars(outer)[self._name] = value
        else:
            setattr(inner, self._name, value)


def read_from_inside(kind: type) -> None:
    """Let a trainer's class of wrappers read and write the attributes of the wrapper inside."""
    for own in kind.__mro__:
        if issubclass(own, StandIn) and not is_made(own):
            for name in vars(own).get("__annotations__", {}):
                if name not in vars(own):
                    setattr(kind, name, FromInside(name))


class Forwarded:
    """An attribute of a wrapper that is read, written and deleted on its base.

    Args:
        kind: The base's class, which answers where the wrapper's class is asked.
        name: The attribute's name.
    """

    def __init__(self, kind: type[Optimizer], name: str) -> None:
        self._kind = kind
        self._name = name

    def __get__(self, wrapper: Any, owner: Any = None) -> Any:
        return getattr(self._kind if wrapper is None else wrapper.base, self._name)

    def __set__(self, wrapper: Any, value: Any) -> None:
        setattr(wrapper.base, self._name, value)

    def __delete__(self, wrapper: Any) -> None:
        delattr(wrapper.base, self._name)


T = TypeVar("T", bound=Optimizer)


def class_for(own: type[T], base: type[Optimizer], name: str) -> type[T]:
    """Make the class of a wrapper around optimizers of a class; always the same one.

    Args:
        own: The wrapper's class, whose attributes go before those of the base.
        base: The class of the wrapped optimizer.
        name: The name of the new class.

    Returns:
        A subclass of both. Where instances of `base` keep attributes in ``__slots__``, Python
        allows a subclass of `own` only, which has the name.
    """
    key: Any = (own, base, name)
    if key not in _MADE:
        _MADE[key] = _make(own, base, name)
    made: type[T] = _MADE[key]
    return made


_MADE: dict[Any, Any] = {}


def _make(own: type, base: type[Optimizer], name: str) -> type:
    own_names = _names_until_torch(own)
    namespace: dict[str, Any] = {
        "__module__": __name__,
        # A local class has no import path: jsonargparse must not take it for one of two
        # optimizers of this name.
        "__qualname__": f"_make.<locals>.{name}",
        "__doc__": f"{base.__module__}.{base.__qualname__}, perturbed; see {own.__name__}.",
        _OWN_NAMES: own_names,
        **{key: _forwarded(base, key, raw) for key, raw in _inherited(own, base).items()},
    }
    parents = (own,) if _has_slots(base) else (own, base)
    return new_class(name, parents, exec_body=lambda body: body.update(namespace))


def own_class(wrapper: Any) -> Any:
    """Return the wrapper's class without its base's."""
    kind = type(wrapper)
    return kind.__bases__[0] if is_made(kind) else kind


def is_made(kind: type) -> bool:
    """Whether a class was made here.

    A subclass of such a class is not: Lightning and Fabric make one for their wrappers of a
    wrapper, which keep attributes and copies in their own ways.
    """
    return _OWN_NAMES in vars(kind)


def keeps(wrapper: Any, name: str) -> bool:
    """Whether an attribute that is set on a wrapper stays there, instead of going to the base."""
    own_names = vars(type(wrapper)).get(_OWN_NAMES)
    return own_names is None or name in own_names or name.startswith("__")


def _names_until_torch(own: type) -> frozenset[str]:
    """All names that a wrapper's class and its parents define or annotate, up to torch's class."""
    kinds = [kind for kind in own.__mro__ if kind not in Optimizer.__mro__]
    annotated = [vars(kind).get("__annotations__", {}) for kind in kinds]
    return frozenset().union(*map(vars, kinds), *annotated)


def _inherited(own: type, base: type) -> dict[str, Any]:
    """What a wrapper would inherit from its base's class."""
    kinds = [kind for kind in base.__mro__ if kind not in own.__mro__]
    found: dict[str, Any] = {}
    for kind in reversed(kinds):
        found.update(vars(kind))
    return {name: raw for name, raw in found.items() if _must_forward(own, name, raw)}


def _must_forward(own: type, name: str, raw: Any) -> bool:
    if name in _NO_COPIES or name == "__getattribute__":
        return True
    if name in _names_until_torch(own):
        return False
    is_special = name.startswith("__") and name.endswith("__")
    return isinstance(raw, FunctionType) if is_special else True


def _forwarded(base: type[Optimizer], name: str, raw: Any) -> Any:
    if name in _NO_COPIES:
        return None  # a copy by the base's own method would be one of the base alone
    if name == "__getattribute__":
        return object.__getattribute__
    if name == "__del__":
        return lambda wrapper: None  # the base is cleared away on its own
    if name.startswith("__") and name.endswith("__"):
        return lambda wrapper, *args, **kwargs: raw(wrapper.base, *args, **kwargs)
    return Forwarded(base, name)


def _has_slots(base: type) -> bool:
    return any(vars(kind).get("__slots__") for kind in base.__mro__)
