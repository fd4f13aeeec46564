"""Which class carries out which injection."""

from collections.abc import Callable
from functools import partial

from torch import Tensor

from lightning_qsgd.optimizers.controlled_injectors import (
    ControlledInjector,
    ControlledRelativeInjector,
    ControlledUpdateInjector,
)
from lightning_qsgd.optimizers.entries import Entries
from lightning_qsgd.optimizers.noise_injectors import NoiseInjector, NudgeInjector
from lightning_qsgd.optimizers.plain_injectors import (
    GradientInjector,
    Injector,
    RelativeInjector,
    Scale,
    UpdateInjector,
    without_nonfinite,
)
from lightning_qsgd.perturbations import (
    GradientInjection,
    Injection,
    NoiseInjection,
    NudgeInjection,
    RelativeInjection,
    UpdateInjection,
)

__all__ = [
    "GradientInjector",
    "Injector",
    "RelativeInjector",
    "Scale",
    "UpdateInjector",
    "injector_class",
    "without_nonfinite",
]

InjectorMaker = Callable[[Entries, Tensor, Tensor, Scale], Injector]

_PLAIN: dict[type[Injection], type[Injector]] = {
    UpdateInjection: UpdateInjector,
    GradientInjection: GradientInjector,
    RelativeInjection: RelativeInjector,
}
_CONTROLLED: dict[type[Injection], type[ControlledInjector]] = {
    UpdateInjection: ControlledUpdateInjector,
    RelativeInjection: ControlledRelativeInjector,
}


def injector_class(injection: Injection) -> InjectorMaker:
    """Return the class that carries out an injection, with its settings bound if it has any.

    Raises:
        TypeError: If there is none.
    """
    plain = _PLAIN.get(type(injection))
    if plain is not None and injection.control is None:
        return plain
    return _with_settings(injection)


def _with_settings(injection: Injection) -> InjectorMaker:
    controlled = _CONTROLLED.get(type(injection))
    if controlled is not None and injection.control is not None:
        return partial(controlled, injection.control)
    if isinstance(injection, NoiseInjection):
        return partial(NoiseInjector, injection)
    if isinstance(injection, NudgeInjection):
        return partial(NudgeInjector, injection)
    raise TypeError(
        f"Unknown injection {type(injection).__name__}: the optimizer cannot carry it out. Use "
        "UpdateInjection, GradientInjection, RelativeInjection, NoiseInjection or NudgeInjection."
    )
